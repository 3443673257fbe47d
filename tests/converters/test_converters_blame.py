import json
import math
import subprocess
import sys
from functools import cache

import flatbuffers
import numpy as np
import pytest
from graph_builder import Build

from converters.blame import (
    LayerError,
    Measured,
    Sensitivity,
    _Judge,
    choose_float_layers,
    in_words,
    island,
    layer_errors,
    readable,
    sensitivity,
)
from converters.errors import ConversionError
from converters.graph import Graph, Op, Tensor, activation, constant, options, padding, schema_module
from converters.recipes import Tolerance
from converters.runners import TFLiteRunner

SAMPLES = np.random.default_rng(0).uniform(-1, 1, (8, 8, 8, 4)).astype(np.float32)
LAYERS = ("stem", "wide", "narrow", "tail")
# TensorFlow's quantizer prints, leaks, and takes seconds to import: one process for all tests.
SERVER = """
import json, os, sys
answers = os.fdopen(os.dup(1), "w", buffering=1); os.dup2(2, 1)
import tensorflow as tf
from tensorflow.lite.python.convert import mlir_quantize
for line in sys.stdin:
    source, target, nodes = json.loads(line)
    content = mlir_quantize(open(source, "rb").read(), fully_quantize=True, input_data_type=tf.int8,
                            output_data_type=tf.int8, denylisted_nodes=set(nodes))
    open(target, "wb").write(content)
    print("done", file=answers)
os._exit(0)
"""


@pytest.fixture(autouse=True)
def clean_state():
    """No Keras model is made here."""


@pytest.fixture(scope="module")
def quantizer(tmp_path_factory):
    """Content with ranges, nodes that stay float -> int8 content, by TensorFlow."""
    folder = tmp_path_factory.mktemp("blame")
    source, target = folder / "in.tflite", folder / "out.tflite"
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:

        def quantize(content, nodes=()):
            source.write_bytes(content)
            print(json.dumps([str(source), str(target), sorted(nodes)]), file=process.stdin, flush=True)
            assert process.stdout.readline() == "done\n"
            return target.read_bytes()

        yield quantize
        process.stdin.close()


@pytest.fixture(scope="module")
def planted(quantizer):
    """The network with an outlier channel, and its int8 version."""
    content = network(factor=50)
    return content, quantizer(content)


def empty():
    schema = schema_module()
    model, graph = schema.ModelT(), schema.SubGraphT()
    graph.tensors, model.operatorCodes = [], []
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return Graph(bytes(builder.Output()))


def conv(graph, name, x, kernel, bias):
    depthwise = len(kernel) == 1
    out = Tensor(f"net/{name}/convolution", (*x.shape[:3], len(bias)), "FLOAT32")
    fields = {"strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1} | (
        {"depthMultiplier": 1} if depthwise else {}
    )
    chosen = options(
        "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions",
        padding=padding("SAME"),
        fusedActivationFunction=activation("RELU"),
        **fields,
    )
    inputs = [x, constant(f"net/{name}/kernel", kernel), constant(f"net/{name}/bias", bias)]
    graph.ops.append(Op("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", inputs, [out], chosen))
    return out


@cache
def network(factor=1.0, depthwise=False, spoilt=None, offset=0.0):
    """Four convolutions; channel 3 of `wide` is `factor` times too large, which `narrow` divides out."""
    rng = np.random.default_rng(1)
    graph = empty()
    x = image = Tensor("image", (1, 8, 8, 4), "FLOAT32")
    for name in LAYERS:
        kernel = rng.normal(0, (2 / 9 / x.shape[3]) ** 0.5, (16, 3, 3, x.shape[3])).astype(np.float32)
        bias = rng.normal(0, 0.1, 16).astype(np.float32)
        if name == "wide":
            kernel[3] *= factor
            bias[3] *= factor
        if name == "narrow":
            kernel = 4 * kernel[:1] if depthwise else kernel
            kernel[..., 3] /= factor
        if name == spoilt:
            kernel = kernel + np.random.default_rng(2).normal(0, 0.01, kernel.shape).astype(np.float32)
        x = conv(graph, name, x, kernel, bias)
    mean = Tensor("net/pool/Mean", (1, 16), "FLOAT32")
    axes = constant("net/pool/axes", np.int32([1, 2]))
    graph.ops.append(Op("MEAN", [x, axes], [mean], options("ReducerOptions", keepDims=False)))
    head = constant("net/head/MatMul", rng.normal(0, 1, (10, 16)).astype(np.float32))
    bias = constant("net/head/bias", np.full(10, offset, np.float32))
    logits = Tensor("logits", (1, 10), "FLOAT32")
    graph.ops.append(Op("FULLY_CONNECTED", [mean, head, bias], [logits], options("FullyConnectedOptions")))
    graph.inputs, graph.outputs = [image], [logits]
    return with_ranges(graph)


def with_ranges(graph):
    for tensor in graph.tensors():
        if not tensor.is_constant:
            values = values_of(tensor, graph)
            tensor.range = float(values.min()), float(values.max())
    return graph.to_bytes()


def values_of(tensor, graph):
    """What a tensor holds for all samples."""
    if tensor in graph.inputs:
        return SAMPLES
    outputs, graph.outputs = graph.outputs, [tensor]
    content = graph.to_bytes()
    graph.outputs = outputs
    return TFLiteRunner(content, 1).run(SAMPLES)[0]


def sqnr_db(expected, got):
    return 10 * np.log10(np.sum(expected**2) / np.sum((expected - got) ** 2))


def logits(content):
    return TFLiteRunner(content, 1).run(SAMPLES)[0]


def node(name):
    return f"net/{name}/convolution"


def test_the_planted_layer_is_blamed_first(quantizer):
    content = network(factor=50, depthwise=True)
    errors = layer_errors(content, quantizer(content), SAMPLES)
    first = errors[0]
    assert (first.name, first.kind, first.index, first.shape) == ("wide", "CONV_2D", 1, (1, 8, 8, 16))
    assert first.logits_sqnr_db < errors[1].logits_sqnr_db - 5
    # The large channel hides the loss of all others from the ratio of the whole tensor.
    assert first.own_sqnr_db > 30
    assert first.channel_sqnr_db < first.own_sqnr_db - 15
    assert len(errors) == 6
    assert in_words(errors)[0].startswith("wide (CONV_2D, 8x8x16) has ")
    assert "its channels differ in size" in in_words(errors)[0]
    assert "its error comes from the layers before" in in_words(errors)[1]


def test_where_a_convolution_divides_the_channel_out_its_weights_are_blamed_too(planted):
    errors = layer_errors(*planted, SAMPLES)
    narrow, wide = errors[:2]
    assert (narrow.name, wide.name) == ("narrow", "wide")
    # A sixteenth of its input is 50 times as large, and its weights for that are that much rougher.
    assert narrow.excess_db > 15
    assert abs(wide.excess_db) < 3
    assert "its weights lose" in in_words(errors)[0]
    assert "its channels differ in size" in in_words(errors)[1]


def test_nothing_is_blamed_in_a_network_without(quantizer):
    content = network()
    errors = layer_errors(content, quantizer(content), SAMPLES)
    assert min(error.logits_sqnr_db for error in errors) > 45
    assert all(line.endswith("nothing to repair.") for line in in_words(errors, most=2))


def test_keeping_the_planted_layer_in_float_restores_the_logits(planted, quantizer):
    content, int8 = planted
    errors = layer_errors(content, int8, SAMPLES)
    stages = []
    ranking = sensitivity(
        content,
        errors,
        SAMPLES,
        lambda nodes: quantizer(content, nodes),
        2,
        lambda *stage: stages.append(stage),
    )
    assert ranking[0].layer.name == "wide"
    assert ranking[0].nodes == {node("wide"), node("narrow")}
    before, after = sqnr_db(logits(content), logits(int8)), ranking[0].measured.sqnr_db
    assert ranking[0].gain_db == pytest.approx(after - before, abs=0.01)
    healthy = network()
    assert after > sqnr_db(logits(healthy), logits(quantizer(healthy))) - 1 > before + 10
    assert [stage[1:] for stage in stages] == [(0, 2), (0, 2), (1, 2)]


def test_mixed_precision_meets_the_tolerance_with_few_float_operations(planted, quantizer):
    content, int8 = planted
    errors = layer_errors(content, int8, SAMPLES)
    ranking = sensitivity(content, errors, SAMPLES, lambda nodes: quantizer(content, nodes), 3)
    choice = choose_float_layers(
        content, ranking, SAMPLES, lambda nodes: quantizer(content, nodes), Tolerance(min_sqnr_db=35)
    )
    assert choice.nodes == {node("wide"), node("narrow")}
    assert choice.measured.sqnr_db == pytest.approx(
        sqnr_db(logits(content), logits(choice.content)), abs=0.01
    )
    assert choice.measured.sqnr_db >= 35 > choice.int8.sqnr_db
    made = {op.output.name: op.output.dtype for op in Graph(choice.content).of_kind("CONV_2D")}
    assert made == {
        node("stem"): "INT8",
        node("wide"): "FLOAT32",
        node("narrow"): "FLOAT32",
        node("tail"): "INT8",
    }
    assert "2 operations stay in float (narrow, wide)" in in_words(errors, choice)[-1]
    with pytest.raises(
        ConversionError, match=r"min_sqnr_db=200 not met .* up to 6 layers .*best was SQNR \d+"
    ):
        choose_float_layers(
            content, ranking, SAMPLES, lambda nodes: quantizer(content, nodes), Tolerance(min_sqnr_db=200)
        )


def test_the_other_layers_follow_in_the_order_of_blame(planted, quantizer):
    content, int8 = planted
    errors = layer_errors(content, int8, SAMPLES)
    ranking = sensitivity(content, errors, SAMPLES, lambda nodes: quantizer(content, nodes), 2)
    assert [one.layer.name for one in ranking[2:]] == [error.name for error in errors[2:]]
    assert [one.measured is None for one in ranking] == [False, False, *[True] * (len(errors) - 2)]


def test_two_classes_of_a_sigmoid_agree_or_not():
    build = Build((1, 4, 4, 1))
    scores = build._add("LOGISTIC", [build.image], build.image.shape)
    judge = _Judge(build.finish(scores), np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 4, 4, 1))
    build.graph.ops[0].inputs[0] = build.with_constant("ADD", build.image, values=[0.07])
    build.graph.ops.reverse()
    measured = judge.measure(build.graph.to_bytes())
    assert measured.agreement == 1 - 1 / 32
    assert not measured.meets(Tolerance(min_agreement=0.97))


def test_an_error_is_that_of_the_layer_that_adds_it():
    exact, spoilt = network(), network(spoilt="narrow")
    by_name = {error.name: error for error in layer_errors(exact, spoilt, SAMPLES)}
    assert by_name["stem"].sqnr_db == by_name["wide"].sqnr_db == math.inf
    assert by_name["narrow"].input_sqnr_db == math.inf
    assert by_name["narrow"].own_sqnr_db == pytest.approx(by_name["narrow"].sqnr_db, abs=1e-3)
    assert by_name["tail"].sqnr_db < 60 < by_name["tail"].own_sqnr_db
    assert by_name["tail"].input_sqnr_db == by_name["narrow"].sqnr_db
    # No other layer adds an error, so the logits have what this one makes of them.
    two = layer_errors(exact, spoilt, SAMPLES[:2])[0]
    assert two.name == "narrow"
    expected = sqnr_db(logits(exact)[:2], logits(spoilt)[:2])
    assert two.logits_sqnr_db == pytest.approx(expected, abs=0.01)


def with_sum(content):
    """The same network with an operation that adds up what `wide` and `narrow` give."""
    graph = Graph(content)
    both = [graph.ops[1].output, graph.ops[2].output]
    total = Tensor("net/both/Add", both[0].shape, "FLOAT32")
    graph.ops.append(Op("ADD", both, [total], options("AddOptions")))
    return graph.to_bytes()


def test_the_input_of_a_layer_is_its_worst():
    errors = layer_errors(with_sum(network()), with_sum(network(spoilt="narrow")), SAMPLES[:1])
    by_name = {error.name: error for error in errors}
    assert by_name["wide"].sqnr_db == math.inf
    assert by_name["both"].input_sqnr_db == by_name["narrow"].sqnr_db < 60


def test_clipped_values_and_unused_range_are_counted(quantizer):
    graph = Graph(network())
    wide, narrow = (op.output for op in graph.ops[1:3])
    values = values_of(wide, graph)
    high = float(np.quantile(values, 0.9))
    wide.range, narrow.range = (0.0, high), (0.0, 4 * narrow.range[1])
    content = graph.to_bytes()
    errors = {error.name: error for error in layer_errors(content, quantizer(content), SAMPLES)}
    assert errors["wide"].scale == pytest.approx(high / 255)
    assert errors["wide"].clipped == pytest.approx(np.mean(values > high + high / 510))
    assert errors["wide"].spread == pytest.approx(np.ptp(values) / values.std(), rel=1e-3)
    assert errors["wide"].range_used == pytest.approx(1)
    assert errors["narrow"].range_used < 0.3
    assert errors["stem"].clipped == 0
    words = " ".join(in_words(errors.values(), most=6))
    assert f"{errors['wide'].clipped:.1%} of its values lie outside of its range" in words


class Pretended:
    """A quantizer whose models differ from the float model by what each int8 node is said to cost."""

    def __init__(self, costs):
        self.costs, self.asked = costs, []

    def __call__(self, nodes):
        self.asked.append(nodes)
        return network(offset=sum(cost for name, cost in self.costs.items() if name not in nodes))


def ranked(*nodes):
    return [Sensitivity(None, frozenset(names.split()), None, 0.0) for names in nodes]


@pytest.mark.parametrize("needed", range(1, 9))
def test_the_shortest_start_of_the_ranking_is_found_in_few_trials(needed):
    quantize = Pretended({f"n{i}": 1.0 for i in range(needed)})
    ranking = ranked(*(f"n{i}" for i in range(8)))
    choice = choose_float_layers(network(), ranking, SAMPLES, quantize, Tolerance(max_relative_error=1e-3))
    assert choice.nodes == {f"n{i}" for i in range(needed)}
    assert choice.content == network()
    # int8, doubling, bisection, and one for each that might be given back; none is made twice.
    assert len(quantize.asked) == len(set(quantize.asked)) == choice.trials <= 1 + 4 + 2 + needed


def test_the_search_doubles_then_bisects():
    quantize = Pretended({f"n{i}": 1.0 for i in range(5)})
    ranking = ranked(*(f"n{i}" for i in range(8)))
    choose_float_layers(network(), ranking, SAMPLES, quantize, Tolerance(max_relative_error=1e-3))
    assert [len(nodes) for nodes in quantize.asked[:7]] == [0, 1, 2, 4, 8, 6, 5]


def test_needless_operations_are_given_back_to_int8():
    quantize = Pretended({"a": 1.0, "d": 1.0})
    ranking = ranked("a b", "c", "d e")
    choice = choose_float_layers(network(), ranking, SAMPLES, quantize, Tolerance(max_relative_error=1e-3))
    assert choice.nodes == {"a", "d"}


def test_nothing_is_kept_in_float_when_int8_is_good_enough():
    quantize = Pretended({})
    choice = choose_float_layers(network(), ranked("a"), SAMPLES, quantize, Tolerance(min_agreement=1.0))
    assert (choice.nodes, choice.trials, quantize.asked) == (frozenset(), 1, [frozenset()])
    assert in_words([], choice) == [f"No layer has to stay in float: {choice.measured}."]


def test_the_best_of_a_failure_is_named():
    quantize = Pretended({"a": 1.0, "b": 0.1, "never": 1e-3})
    with pytest.raises(ConversionError, match=r"max_relative_error=1e-06.*with 2 operations in float, int8"):
        choose_float_layers(
            network(), ranked("a", "b"), SAMPLES, quantize, Tolerance(max_relative_error=1e-6)
        )


@pytest.mark.parametrize(
    ("limits", "met"),
    [
        ({}, True),
        ({"min_sqnr_db": 20}, True),
        ({"min_sqnr_db": 21}, False),
        ({"min_agreement": 0.9}, True),
        ({"min_agreement": 0.91}, False),
        ({"max_relative_error": 0.1}, True),
        ({"max_relative_error": 0.09}, False),
        ({"min_sqnr_db": 20, "min_agreement": 0.91}, False),
    ],
)
def test_every_limit_of_the_tolerance_counts(limits, met):
    assert Measured(20.0, 0.9, 0.1).meets(Tolerance(**limits)) is met


def test_nan_meets_no_limit():
    assert not Measured(math.nan, None, 0.0).meets(Tolerance(min_sqnr_db=-100))
    assert not Measured(0.0, None, math.nan).meets(Tolerance(max_relative_error=100))


def test_an_island_looks_through_what_passes_values_on():
    graph = Graph(network())
    stem, wide = graph.ops[:2]
    pooled = Tensor("pooled", stem.output.shape, "FLOAT32")
    pool = Op("MAX_POOL_2D", [stem.output], [pooled], options("Pool2DOptions"))
    wide.inputs[0] = pooled
    graph.insert(pool, wide)
    assert island(graph, node("stem")) == {node("stem"), "pooled", node("wide")}
    assert island(graph, node("wide")) == {node("wide"), node("narrow")}
    assert island(graph, "logits") == {"logits"}


@pytest.mark.parametrize(
    ("output", "constants", "name"),
    [
        (
            "m_1/a_relu_1/Relu;m_1/a_bn_1/batchnorm/add_1;m_1/a_1/convolution;m_1/a_bn_1/batchnorm/sub1",
            "",
            "a",
        ),
        ("m_1/b_act_1/Relu;m_1/a_bn_1/batchnorm/add_1;m_1/a_1/separable_conv2d;m_1/a_bn_1/x/sub1", "", "a"),
        ("m_1/b2_sepconv1_1/separable_conv2d/depthwise1", "", "b2_sepconv1"),
        ("m_1/conv2_block1_out_1/Relu;m_1/conv2_block1_add_1/Add", "", "conv2_block1_out"),
        ("m_1/bn_1/batchnorm/mul_1", "", "bn"),
        ("outer_1/inner_1/conv_1/convolution", "", "conv"),
        ("net/stem_7/convolution", "", "stem_7"),
        ("StatefulPartitionedCall_1:0", "m_1/predictions_1/MatMul1", "predictions"),
        ("StatefulPartitionedCall_1:0", "", "StatefulPartitionedCall_1:0"),
    ],
)
def test_layers_have_the_names_that_keras_users_gave_them(output, constants, name):
    inputs = [constant(constants, np.zeros(1, np.float32))] if constants else []
    assert readable(Op("CONV_2D", inputs, [Tensor(output, (1,), "FLOAT32")])) == name


def error(**changes):
    fields = {
        "name": "a", "tensor": "a", "kind": "CONV_2D", "index": 0, "shape": (1, 4, 4, 8), "sqnr_db": 14.2,
        "input_sqnr_db": 25.2, "own_sqnr_db": 15.0, "channel_sqnr_db": 14.0, "worst_channel": 3,
        "worst_channel_sqnr_db": 2.0, "excess_db": 0.0, "logits_sqnr_db": 12.0, "scale": 0.1, "clipped": 0.0,
        "range_used": 1.0, "spread": 8.0,
    }  # fmt: skip
    return LayerError(**fields | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spread": 40.0}, "its range is 40 times its standard deviation; try ranges='percentile'"),
        ({"channel_sqnr_db": 3.0}, "the middle one has 12 dB less than the whole, channel 3 has 2.0 dB"),
        ({"excess_db": 9.0}, "its weights lose 9 dB more than the rounding of its output"),
        ({"range_used": 0.3}, "these samples use 30% of its range"),
        ({"logits_sqnr_db": 41.0, "own_sqnr_db": 30.0}, "from the layers before, its own has 30.0 dB"),
        ({"kind": "CONCATENATION"}, "its inputs share one range"),
        ({"kind": "LOGISTIC"}, "fixes its step at 1/256"),
        ({"kind": "SOFTMAX", "logits_sqnr_db": 60.0}, "fixes its step at 1/256"),
        ({"scale": math.nan}, "it computes in float"),
        ({"logits_sqnr_db": 41.0}, "nothing to repair"),
        ({}, "its step is too coarse, its own error has 15.0 dB"),
    ],
)
def test_each_cause_is_said(changes, words):
    (line,) = in_words([error(**changes)])
    assert line.startswith("a (")
    assert "4x4x8) has 14.2 dB, 11 dB under its input and alone" in line
    assert words in line


def test_what_cannot_be_compared_is_refused(planted):
    content, int8 = planted
    with pytest.raises(ValueError, match="samples is empty"):
        layer_errors(content, int8, SAMPLES[:0])
    graph = Graph(content)
    for tensor in graph.tensors():
        tensor.name = "other/" + tensor.name
    with pytest.raises(ValueError, match="of another model"):
        layer_errors(content, graph.to_bytes(), SAMPLES)
