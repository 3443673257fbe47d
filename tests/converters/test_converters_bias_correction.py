import numpy as np
import pytest
from small_graphs import Net, images, means, quantize, run

from converters.bias_correction import correct_biases
from converters.graph import Graph, Quantization, constant


@pytest.fixture(autouse=True)
def clean_state():
    """No Keras model is made here."""


LAYERS = {
    "same": lambda net, x: net.layer(x, act="NONE"),
    "same, stride 2": lambda net, x: net.layer(x, stride=2, act="NONE"),
    "valid": lambda net, x: net.layer(x, pad="VALID", act="NONE"),
    "dilated": lambda net, x: net.layer(x, dilation=2, act="NONE"),
    "even kernel": lambda net, x: net.layer(x, kernel=4, act="NONE"),
    "grouped": lambda net, x: net.layer(x, weights=net.constant(6, 3, 3, 2), act="NONE"),
    "depthwise": lambda net, x: net.depthwise(x, 2),
    "depthwise, stride 2": lambda net, x: net.depthwise(x, stride=2),
    "dense": lambda net, x: net.head(x),
}
BIAS_STEP = 1e-4


def coarse(graph):
    """The graph with the last layer's weights as integers of few steps and its bias as int32."""
    copy = Graph(graph.to_bytes())
    op = copy.ops[-1]
    axis = 3 if op.kind == "DEPTHWISE_CONV_2D" else 0
    channels = op.inputs[1].shape[axis]
    scale, zero = np.linspace(0.1, 0.5, channels).astype(np.float32), np.zeros(channels, np.int64)
    shape = [1] * len(op.inputs[1].shape)
    shape[axis] = -1
    integers = np.rint(op.constant(1) / scale.reshape(shape)).astype(np.int8)
    op.inputs[1] = constant("weights", integers, Quantization(scale, zero, axis))
    steps = np.full(channels, BIAS_STEP, np.float32)
    bias = np.rint(op.constant(2) / steps).astype(np.int32)
    op.inputs[2] = constant("bias", bias, Quantization(steps, zero))
    return copy


def as_float(graph):
    op = graph.ops[-1]
    quantization = op.inputs[1].quantization
    shape = [1] * len(op.inputs[1].shape)
    shape[quantization.axis] = -1
    weights = op.constant(1) * quantization.scale.reshape(shape)
    op.inputs[1] = constant("weights", weights.astype(np.float32))
    op.inputs[2] = constant("bias", (op.constant(2) * BIAS_STEP).astype(np.float32))
    return graph


def centered(graph, count=20):
    """Images whose mean is the same in every pixel: each comes with its mirror image around 1, 2, 3..."""
    middle = np.arange(1, 1 + graph.inputs[0].shape[-1], dtype=np.float32)
    noise = images(graph, count)
    return np.concatenate([middle + noise, middle - noise])


@pytest.mark.parametrize("kind", LAYERS)
def test_the_mean_of_every_output_channel_is_that_of_the_float_layer(kind):
    net = Net(shape=(1, 7, 6, 4))
    last = LAYERS[kind](net, net.input)
    graph = net.done(last)
    samples = centered(graph)
    exact, quantized = means(graph, samples), coarse(graph)
    bad = means(as_float(coarse(graph)), samples)[last.name]
    assert np.abs(bad - exact[last.name]).max() > 100 * BIAS_STEP
    assert correct_biases(quantized, graph, exact) == 1
    good = means(as_float(quantized), samples)[last.name]
    np.testing.assert_allclose(good, exact[last.name], atol=BIAS_STEP)


def test_int8_outputs_keep_their_mean():
    net = Net(1, (1, 8, 8, 3))
    x = net.layer(net.depthwise(net.layer(net.input, 16), act="RELU"), 16, 1)
    graph = net.done(net.head(net.layer(x, 16)))
    samples = images(graph, 60)
    quantized = Graph(quantize(graph, samples))
    exact, before = (run(g.to_bytes(), samples)[0] for g in (graph, quantized))
    assert correct_biases(quantized, graph, means(graph, samples)) == 5
    after = run(quantized.to_bytes(), samples)[0]
    assert np.abs((after - exact).mean(0)).max() < 0.5 * np.abs((before - exact).mean(0)).max()


def test_a_second_reader_of_the_bias_keeps_it():
    net = Net()
    first, second = net.layer(net.input), net.layer(net.input)
    graph = net.done(first, second)
    quantized = coarse(graph)
    shared = quantized.ops[1].inputs[2]
    quantized.ops[0].inputs[2] = shared
    assert correct_biases(quantized, graph, means(graph, images(graph))) == 1
    assert quantized.ops[0].inputs[2] is shared
    assert quantized.ops[1].inputs[2].name not in (shared.name, quantized.ops[0].inputs[1].name)


def test_biases_stay_int32():
    net = Net()
    graph = net.done(net.layer(net.input))
    quantized = coarse(graph)
    bias = quantized.ops[0].inputs[2]
    quantized.ops[0].inputs[2] = constant("bias", np.full(4, 2**31 - 1, np.int32), bias.quantization)
    huge = {"input": np.array([1e9, -1e9, 1e9])}
    assert correct_biases(quantized, graph, huge) == 1
    corrected = quantized.ops[0].inputs[2]
    assert corrected.dtype == "INT32"
    assert set(np.sign(corrected.data)) <= {-1, 1}
    assert (corrected.data == 2**31 - 1).any()


def test_layers_without_partner_or_integers_stay():
    net = Net()
    graph = net.done(net.layer(net.input))
    known = means(graph, images(graph))
    assert correct_biases(Graph(graph.to_bytes()), graph, known) == 0
    packed = coarse(graph)
    packed.ops[0].inputs[1].dtype = "INT4"
    assert correct_biases(packed, graph, known) == 0
    quantized = coarse(graph)
    quantized.ops[0].output.name = "other"
    content = quantized.to_bytes()
    assert correct_biases(quantized, graph, known) == 0
    assert quantized.to_bytes() == content


def test_lacking_and_misshapen_means_are_named():
    net = Net()
    graph = net.done(net.layer(net.input))
    with pytest.raises(ValueError, match="means lacks tensor 'input'"):
        correct_biases(coarse(graph), graph, {})
    with pytest.raises(ValueError, match=r"has shape \(1,\); \(3,\) is accepted"):
        correct_biases(coarse(graph), graph, {"input": np.zeros(1)})
