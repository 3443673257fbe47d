import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from graph_builder import Build, run

from converters.artifact import TFLITE
from converters.graph import Graph, constant, options
from converters.weights import halve_weights, quantize_weights, store_weights, to_int8

# What TensorFlow's converter stores, for comparison: the SavedModel's folder, then the files to write.
STOCK = """
import sys
import keras, tensorflow as tf
from converters.saved_model import export_saved_model
model, folder = keras.models.load_model(sys.argv[1]), sys.argv[2]
export_saved_model(model, (8, 8, 1), 1, folder)
for path, types in ((sys.argv[3], []), (sys.argv[4], [tf.float16])):
    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = types
    open(path, "wb").write(converter.convert())
"""


@pytest.fixture(autouse=True)
def clean_state():
    """No Keras layers are made here."""


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def signal_to_noise(expected, got):
    """In dB."""
    return 10 * np.log10(np.sum(expected**2) / np.sum((expected - got) ** 2))


def net():
    """A convolution, a depthwise one and a small one, and their outputs."""
    build = Build((1, 12, 12, 8))
    x = build.conv(build.image, 32, act="RELU")
    x = build.depthwise(x, (7, 7), act="RELU6")
    return build, build.conv(x, 4, (1, 1))


def compared(content, change):
    """The signal to noise ratio of what `change` makes of a graph, and the graph."""
    graph = Graph(content)
    assert change(graph)
    images = [random(*graph.inputs[0].shape, seed=seed) for seed in range(3)]
    changed = graph.to_bytes()
    expected, got = (np.array([result[0] for result in run(c, *images)]) for c in (content, changed))
    for alone, with_delegate in zip(run(changed, *images, delegate=False), got, strict=True):
        np.testing.assert_allclose(alone[0], with_delegate, atol=0.05 * np.ptp(expected))
    return signal_to_noise(expected, got), Graph(changed)


def test_halves_are_near_and_half_as_large():
    build, end = net()
    content = build.finish(end)
    ratio, graph = compared(content, halve_weights)
    assert ratio > 60
    stored = [t for t in graph.tensors() if t.is_constant]
    assert {tensor.dtype for tensor in stored} == {"FLOAT16"}
    assert len(stored) == 6
    assert all(op.inputs[0].is_constant for op in graph.of_kind("DEQUANTIZE"))
    assert len(graph.to_bytes()) < 0.75 * len(content)


def test_int8_weights_are_near_and_small_ones_stay_float():
    build, end = net()
    ratio, graph = compared(build.finish(end), quantize_weights)
    assert ratio > 30
    one, depthwise, small = (conv.inputs[1] for conv in graph.of_kind("CONV_2D", "DEPTHWISE_CONV_2D"))
    # 32 * 9 * 8, 49 * 32 and 4 * 32 numbers; XNNPACK computes a depthwise convolution in float.
    (stored,) = (op.inputs[0] for op in graph.of_kind("DEQUANTIZE"))
    assert graph.producer(depthwise).inputs[0] is stored
    assert small.is_constant
    assert [kernel.dtype for kernel in (one, stored, small)] == ["INT8", "INT8", "FLOAT32"]
    assert [len(kernel.quantization.scale) for kernel in (one, stored)] == [32, 32]
    assert [kernel.quantization.axis for kernel in (one, stored)] == [0, 3]


@pytest.mark.parametrize(("bits", "least", "most"), [(8, 40, 60), (4, 14, 25)])
def test_stored_weights_are_as_near_as_their_bits_allow(bits, least, most):
    build, end = net()
    ratio, graph = compared(build.finish(end), partial(store_weights, bits=bits))
    assert least < ratio < most
    stored = [op.inputs[0] for op in graph.of_kind("DEQUANTIZE")]
    assert sorted(tensor.dtype for tensor in stored) == sorted([f"INT{bits}", "INT8"])


def test_dense_layers_take_asymmetric_activations():
    build = Build((1, 4, 4, 8))
    flat = build._add("RESHAPE", [build.image, constant("flat", np.int32([1, 128]))], (1, 128),
                      options("ReshapeOptions"))  # fmt: skip
    weights = constant("weights", random(10, 128))
    dense = build._add("FULLY_CONNECTED", [flat, weights, None], (1, 10), options("FullyConnectedOptions"), 1)
    ratio, graph = compared(build.finish(dense), quantize_weights)
    assert ratio > 30
    (dense,) = graph.of_kind("FULLY_CONNECTED")
    assert dense.options.asymmetricQuantizeInputs
    assert (dense.version, dense.inputs[1].dtype) == (12, "INT8")


@pytest.mark.parametrize("change", [halve_weights, quantize_weights])
def test_a_shared_constant_is_stored_once(change):
    build = Build((1, 6, 6, 16))
    first = build.conv(build.image, 16)
    second = build.conv(first, 16)
    one, other = list(build.graph.of_kind("CONV_2D"))
    other.inputs[1:] = one.inputs[1:]
    graph = Graph(build.finish(second))
    assert change(graph) == (2 if change is halve_weights else 1)
    again = Graph(graph.to_bytes())
    one, other = list(again.of_kind("CONV_2D"))
    assert one.inputs[1] is other.inputs[1]
    assert sum(tensor.dtype in ("INT8", "FLOAT16") for tensor in again.tensors()) == change(
        Graph(build.finish(second))
    )


def test_what_float16_cannot_hold_becomes_its_greatest():
    build = Build((1, 2, 2, 4))
    end = build.with_constant("MUL", build.image, values=[1e6, -1e6, 1e-9, 1.5])
    graph = Graph(build.finish(end))
    halve_weights(graph)
    (got,) = run(graph.to_bytes(), np.ones((1, 2, 2, 4), np.float32))[0]
    np.testing.assert_array_equal(got[0, 0, 0], [65504, -65504, 0, 1.5])


@pytest.mark.parametrize("axis", [0, 3])
def test_each_channel_has_its_own_scale(axis):
    values = random(5, 3, 3, 5) * np.float32(10.0 ** np.arange(-2, 3)).reshape(
        [-1 if i == axis else 1 for i in range(4)]
    )
    stored = to_int8(constant("kernel", values), axis)
    others = tuple(i for i in range(4) if i != axis)
    assert (stored.name, stored.dtype, stored.shape) == ("kernel", "INT8", values.shape)
    np.testing.assert_array_equal(np.abs(stored.data).max(others), 127)
    np.testing.assert_array_equal(stored.quantization.zero_point, 0)
    assert stored.quantization.axis == axis
    scale = stored.quantization.scale.reshape([-1 if i == axis else 1 for i in range(4)])
    assert np.all(np.abs(stored.data * scale - values) <= 0.5001 * scale)


def test_a_channel_of_zeros_stays_zero():
    values = random(3, 1, 1, 400)
    values[1] = 0
    stored = to_int8(constant("kernel", values), 0)
    assert not stored.data[1].any()
    assert np.all(stored.quantization.scale > 0)


def test_halves_round_away_from_zero_as_tensorflow_does():
    stored = to_int8(constant("kernel", np.float32([[127, 0.5, 1.5, -0.5, -2.5, 0.49]])), 0)
    np.testing.assert_array_equal(stored.data, [[127, 1, 2, -1, -3, 0]])


@pytest.fixture(scope="module")
def stock(tmp_path_factory, shared):
    """TensorFlow's own dynamic range and float16 models of the trained network."""
    import converters_helpers

    converters_helpers.trained(shared)  # So that its file is there.
    folder = tmp_path_factory.mktemp("stock")
    paths = [folder / "dynamic.tflite", folder / "float16.tflite"]
    command = [sys.executable, "-c", STOCK, shared / "trained.keras", folder / "saved", *paths]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"})
    return [Graph(path.read_bytes()) for path in paths]


def stored_as(graph, dtype):
    """The constants of a type, in the order of the operations that read them."""
    return [tensor for tensor in graph.tensors() if tensor.is_constant and tensor.dtype == dtype]


def test_the_integers_are_those_of_tensorflow(stock, converted):
    ours, theirs = Graph(converted("dynamic_int8").files[TFLITE]), stock[0]
    integers = [stored_as(graph, "INT8") for graph in (ours, theirs)]
    assert len(integers[0]) == len(integers[1]) == 1
    for one, other in zip(*integers, strict=True):
        np.testing.assert_array_equal(one.data, other.data)
        assert one.quantization == other.quantization
    assert [op.kind for op in ours.ops] == [op.kind for op in theirs.ops]
    reading = [graph.consumers(tensor)[0] for graph, (tensor,) in zip((ours, theirs), integers, strict=True)]
    assert reading[0].version == reading[1].version
    assert vars(reading[0].options) == vars(reading[1].options)


def test_the_halves_are_those_of_tensorflow(stock, converted):
    ours, theirs = Graph(converted("float16").files[TFLITE]), stock[1]
    halves = [
        sorted((t.shape, t.data.tobytes()) for t in stored_as(graph, "FLOAT16")) for graph in (ours, theirs)
    ]
    assert len(halves[0]) > 5
    assert halves[0] == halves[1]
    assert len(stored_as(ours, "FLOAT32")) == len(stored_as(theirs, "FLOAT32"))
