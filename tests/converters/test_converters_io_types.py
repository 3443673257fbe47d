import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from graph_builder import Build, partitions, quantized, run

from converters.graph import Graph, Op, Quantization, constant, options
from converters.io_types import set_input_type, set_output_type
from converters.untrusted import check_tflite

SCALE, ZERO_POINT = 0.5, -7


@pytest.fixture(autouse=True)
def clean_state():
    """No Keras here."""


@pytest.fixture
def int8():
    """An int8 pool, with a signature."""
    build = Build((1, 4, 4, 2))
    end = build.pool("MAX", build.image)
    graph = Graph(build.finish(end))
    (image,), (end,) = graph.inputs, graph.outputs
    quantized(image, SCALE, ZERO_POINT)
    quantized(end, SCALE, ZERO_POINT)
    return with_signature(graph)


def with_signature(graph):
    """The graph read again, with `image` and `scores` in a signature."""
    from converters.graph import schema_module

    schema = schema_module()
    raw = schema.SignatureDefT()
    raw.signatureKey = "serving_default"
    graph._signatures = [(raw, {"image": graph.inputs[0]}, {"scores": graph.outputs[0]})]
    return Graph(graph.to_bytes())


def integers():
    return np.random.default_rng(0).integers(-128, 128, (1, 4, 4, 2)).astype(np.int8)


def as_type(values, dtype):
    """int8 numbers as a client has them."""
    if dtype == "uint8":
        return (values.astype(np.int16) + 128).astype(np.uint8)
    return values if dtype == "int8" else ((values.astype(np.float32) - ZERO_POINT) * SCALE)


@pytest.mark.parametrize("given", ["int8", "uint8", "float32"])
@pytest.mark.parametrize("taken", ["int8", "uint8", "float32"])
def test_the_results_are_those_of_the_int8_model(int8, given, taken):
    names = [int8.inputs[0].name, int8.outputs[0].name]
    expected = run(int8.to_bytes(), integers())[0][0]
    set_input_type(int8, given)
    set_output_type(int8, taken)
    content = int8.to_bytes()
    check_tflite(content, "it")
    graph = Graph(content)
    ends = [*graph.inputs, *graph.outputs]
    assert [end.dtype for end in ends] == [given.upper(), taken.upper()]
    assert [end.name for end in ends] == names
    tensors = [tensor.name for tensor in graph.tensors()]
    assert len(set(tensors)) == len(tensors)
    for delegate in (True, False):
        (got,) = run(content, as_type(integers(), given), delegate=delegate)[0]
        np.testing.assert_array_equal(got, as_type(expected, taken))
    assert partitions(content) == 1


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_signature_names_the_new_tensors(int8, dtype):
    expected = run(int8.to_bytes(), integers())[0][0]
    set_input_type(int8, dtype)
    set_output_type(int8, dtype)
    runner = Interpreter(model_content=int8.to_bytes()).get_signature_runner("serving_default")
    got = runner(image=as_type(integers(), dtype))["scores"]
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, as_type(expected, dtype))


def test_uint8_has_the_same_scale_and_a_zero_point_128_higher(int8):
    set_input_type(int8, "uint8")
    set_output_type(int8, "uint8")
    for end in (*int8.inputs, *int8.outputs):
        assert end.quantization == Quantization(np.float32([SCALE]), np.array([ZERO_POINT + 128]))


def test_int8_ends_change_nothing(int8):
    before = int8.to_bytes()
    set_input_type(int8, "int8")
    set_output_type(int8, "int8")
    assert int8.to_bytes() == before


def test_every_output_is_converted_and_what_reads_it_inside_stays_int8():
    build = Build((1, 4, 4, 2))
    first = build.pool("MAX", build.image)
    second = build.pool("MAX", first)
    graph = Graph(build.finish(second, first))
    for tensor in graph.tensors():
        quantized(tensor, SCALE, ZERO_POINT)
    expected = run(graph.to_bytes(), integers())[0]
    set_output_type(graph, "float32")
    got = run(graph.to_bytes(), integers())[0]
    for value, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(value, as_type(other, "float32"))


def test_a_float_read_of_the_image_is_possible_next_to_an_int8_one(int8):
    """Mixed precision: a layer in float reads the int8 image through its own DEQUANTIZE."""
    image = int8.inputs[0]
    real = Op("DEQUANTIZE", [image], [build_float(image)], options("DequantizeOptions"), 2)
    half = Op("MUL", [real.output, constant("half", np.float32([0.5]))], [build_float(image)],
              options("MulOptions"))  # fmt: skip
    half.output.name = "halved"
    int8.ops += [real, half]
    int8.outputs.append(half.output)
    set_input_type(int8, "uint8")
    got = run(int8.to_bytes(), as_type(integers(), "uint8"))[0][1]
    np.testing.assert_array_equal(got, as_type(integers(), "float32") / 2)


def build_float(like):
    tensor = quantized(Build(like.shape).image, 1, 0)
    tensor.name, tensor.dtype, tensor.quantization = "real", "FLOAT32", None
    return tensor


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_image_may_be_a_result_and_a_result_have_two_names(dtype):
    build = Build((1, 4, 4, 2))
    end = build.pool("MAX", build.image)
    graph = Graph(build.finish(build.image, end, end))
    for tensor in graph.tensors():
        quantized(tensor, SCALE, ZERO_POINT)
    set_input_type(graph, dtype)
    set_output_type(graph, dtype)
    assert len(graph.ops) == 4  # The pool, and a step for the image and for each of the two results.
    image = as_type(integers(), dtype)
    got = Interpreter(model_content=graph.to_bytes()).get_signature_runner("serving_default")(image=image)
    np.testing.assert_array_equal(got["output_0"], image)
    assert got["output_1"].dtype == dtype
    np.testing.assert_array_equal(got["output_1"], got["output_2"])
