"""The tables against the runtime, one operation at a time and in graphs that fall apart."""

from collections import Counter
from functools import partial

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from converters import delegates
from converters.graph import (
    FILE_IDENTIFIER,
    Graph,
    Op,
    Quantization,
    Tensor,
    activation,
    constant,
    options,
    padding,
    schema_module,
)

SIZES = dict.fromkeys(("strideW", "strideH", "dilationWFactor", "dilationHFactor"), 1)
NUMPY = {"FLOAT32": np.float32, "FLOAT16": np.float16, "INT8": np.int8, "UINT8": np.uint8, "INT32": np.int32}


@pytest.fixture(autouse=True)
def clean_state():
    """No Keras model here."""


def scaled(dtype, scale=0.1, zero_point=0):
    if dtype not in ("INT8", "UINT8"):
        return None
    return Quantization(np.array([scale], np.float32), np.array([zero_point], np.int64))


def new_graph(shape=(1, 8, 8, 4), dtype="FLOAT32", inputs=1, **quantization):
    """A graph without operations."""
    schema = schema_module()
    model, subgraph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.operatorCodes, model.subgraphs = 3, [schema.BufferT()], [], [subgraph]
    subgraph.tensors = subgraph.inputs = subgraph.outputs = subgraph.operators = []
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    graph = Graph(bytes(builder.Output()))
    graph.inputs = [
        Tensor(f"in{i}", shape, dtype, None, scaled(dtype, **quantization)) for i in range(inputs)
    ]
    graph.outputs = list(graph.inputs)
    return graph


def add(graph, kind, inputs, shape, opts=None, dtype=None, outputs=1, **quantization):
    """Append an operation; its output becomes the graph's."""
    dtype = dtype or next(t.dtype for t in inputs if not t.is_constant)
    made = [
        Tensor(f"{kind}_{len(graph.ops)}_{i}", shape, dtype, None, scaled(dtype, **quantization))
        for i in range(outputs)
    ]
    graph.ops.append(Op(kind, list(inputs), made, opts))
    graph.outputs = made
    return made[0]


def ints(*values):
    return constant(f"ints{values}", np.array(values, np.int32))


def unary(graph, kind, **kwargs):
    return add(graph, kind, graph.outputs, graph.outputs[0].shape, **kwargs)


def pool(graph, kind, window, stride=1, fused="NONE"):
    n, h, w, c = graph.outputs[0].shape
    opts = options(
        "Pool2DOptions", padding=padding("SAME"), filterWidth=window, filterHeight=window, strideW=stride,
        strideH=stride, fusedActivationFunction=activation(fused),
    )  # fmt: skip
    return add(graph, kind, graph.outputs, (n, -(-h // stride), -(-w // stride), c), opts)


def conv(graph, channels=4, groups=1, weights=None, scales=None, axis=0, zero_point=0):
    """A convolution of 3x3 on integers when its image has them; weights of another type on request."""
    image = graph.outputs[0]
    weights = weights or image.dtype
    number = scales or channels
    q = Quantization(np.full(number, 0.01, np.float32), np.full(number, zero_point, np.int64), axis)
    shape, integer = (channels, 3, 3, image.shape[-1] // groups), image.dtype in ("INT8", "UINT8")
    filters = constant("weights", np.ones(shape, NUMPY[weights]), q if weights in ("INT8", "UINT8") else None)
    bias = constant(
        "bias",
        np.zeros(channels, np.int32 if integer else np.float32),
        Quantization(q.scale * np.float32(0.1), np.zeros(number, np.int64)) if integer else None,
    )
    if weights == "FLOAT16":
        filters = add(graph, "DEQUANTIZE", [filters], shape, options("DequantizeOptions"), dtype="FLOAT32")
    return add(graph, "CONV_2D", [image, filters, bias], (*image.shape[:3], channels), convolving())


def depthwise(graph, weights=None, axis=3):
    image = graph.outputs[0]
    n, h, w, c = image.shape
    weights = weights or image.dtype
    q = Quantization(np.full(c, 0.01, np.float32), np.zeros(c, np.int64), axis)
    filters = constant("weights", np.ones((1, 3, 3, c), NUMPY[weights]), q if weights == "INT8" else None)
    bias = constant("bias", np.zeros(c, np.int32 if image.dtype == "INT8" else np.float32))
    if image.dtype == "INT8":
        bias.quantization = Quantization(q.scale * np.float32(0.1), np.zeros(c, np.int64))
    opts = options("DepthwiseConv2DOptions", **SIZES, padding=padding("SAME"), depthMultiplier=1)
    return add(graph, "DEPTHWISE_CONV_2D", [image, filters, bias], (n, h, w, c), opts)


def dense(graph, units=3, weights=None, scales=1, bias=True, constant_weights=True):
    image = graph.outputs[0]
    weights = weights or image.dtype
    q = Quantization(np.full(scales, 0.01, np.float32), np.zeros(scales, np.int64), 0)
    matrix = constant(
        "weights", np.ones((units, image.shape[-1]), NUMPY[weights]), q if weights == "INT8" else None
    )
    if not constant_weights:
        matrix = Tensor("matrix", matrix.shape, weights)
        graph.inputs.append(matrix)
    integer = image.dtype == "INT8"
    offsets = constant("bias", np.zeros(units, np.int32 if integer else np.float32))
    if integer:
        offsets.quantization = Quantization(q.scale * np.float32(0.1), q.zero_point)
    inputs = [image, matrix, offsets] if bias else [image, matrix]
    return add(graph, "FULLY_CONNECTED", inputs, (1, units), options("FullyConnectedOptions"))


def leaky(graph, alpha=0.2):
    return unary(graph, "LEAKY_RELU", opts=options("LeakyReluOptions", alpha=alpha))


def resize(graph):
    n, h, w, c = graph.outputs[0].shape
    sizes = ints(2 * h, 2 * w)
    opts = options("ResizeBilinearOptions")
    return add(graph, "RESIZE_BILINEAR", [graph.outputs[0], sizes], (n, 2 * h, 2 * w, c), opts)


def convolving():
    return options("Conv2DOptions", padding=padding("SAME"), **SIZES)


def binary(graph, kind, scale=0.1, fused="NONE"):
    opts = options(f"{kind.capitalize()}Options", fusedActivationFunction=activation(fused))
    return add(graph, kind, graph.inputs, graph.inputs[0].shape, opts, scale=scale)


def mean(graph, keep_dims=False, axes=(1, 2)):
    opts = options("ReducerOptions", keepDims=keep_dims)
    n, _, _, c = graph.outputs[0].shape
    return add(graph, "MEAN", [graph.outputs[0], ints(*axes)], (n, 1, 1, c) if keep_dims else (n, c), opts)


def concat(graph):
    n, h, w, c = graph.inputs[0].shape
    opts = options("ConcatenationOptions", axis=3)
    return add(graph, "CONCATENATION", graph.inputs, (n, h, w, c * len(graph.inputs)), opts)


def reshape(graph, scale=0.1):
    shape = (1, int(np.prod(graph.outputs[0].shape)))
    return add(
        graph, "RESHAPE", [graph.outputs[0], ints(*shape)], shape, options("ReshapeOptions"), scale=scale
    )


def pad(graph):
    n, h, w, c = graph.outputs[0].shape
    amounts = constant("amounts", np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    return add(graph, "PAD", [graph.outputs[0], amounts], (n, h + 2, w + 2, c), options("PadOptions"))


def strided_slice(graph, step=1):
    n, h, w, c = graph.outputs[0].shape
    inputs = [graph.outputs[0], ints(0, 0, 0, 0), ints(n, h, w, c), ints(1, step, step, 1)]
    return add(graph, "STRIDED_SLICE", inputs, (n, h // step, w // step, c), options("StridedSliceOptions"))


def split(graph, number):
    n, h, w, c = graph.outputs[0].shape
    opts = options("SplitOptions", numSplits=number)
    axis = constant("axis", np.array(3, np.int32))
    return add(graph, "SPLIT", [axis, graph.outputs[0]], (n, h, w, c // number), opts, outputs=number)


def softmax(graph, beta=1.0):
    opts = options("SoftmaxOptions", beta=beta)
    return add(graph, "SOFTMAX", graph.outputs, graph.outputs[0].shape, opts, scale=1 / 256, zero_point=-128)


def at_runtime(graph):
    """Partitions in the runtime, and the kinds of the operations that it runs itself."""
    interpreter = Interpreter(model_content=graph.to_bytes(), num_threads=1)
    interpreter.allocate_tensors()
    ops = interpreter._get_ops_details()
    real = [op for op in ops if op["op_name"] != "DELEGATE"]
    makers = {tensor: i for i, op in enumerate(real) for tensor in op["outputs"]}
    covered = set()
    for delegate in [op for op in ops if op["op_name"] == "DELEGATE"]:
        waiting, known = list(delegate["outputs"]), set(delegate["inputs"])
        while waiting:
            tensor = waiting.pop()
            if tensor not in known and tensor in makers and makers[tensor] not in covered:
                covered.add(makers[tensor])
                waiting += list(real[makers[tensor]]["inputs"])
    left = Counter(op["op_name"] for i, op in enumerate(real) if i not in covered)
    return len(ops) - len(real), left


def by_table(graph, delegate="xnnpack"):
    found = delegates.partitions(graph, delegate)
    left = Counter()
    for row in found.refused:
        left[row.kind] += row.ops
    assert found.taken + sum(left.values()) == found.total == len(graph.ops)
    return found.partitions, left


I8, U8 = {"dtype": "INT8"}, {"dtype": "UINT8"}
UNARY = (
    "ABS CEIL COS ELU EXP FLOOR HARD_SWISH LOGISTIC NEG RELU RELU6 RELU_N1_TO_1 ROUND RSQRT "
    "SIN SQRT SQUARE TANH"
)
# The graph's input, what is done to it, whether XNNPACK takes it.
CASES = {
    "float conv": ({}, conv, True),
    "grouped conv": ({}, partial(conv, groups=2), True),
    "int8 conv, a scale a channel": (I8, conv, True),
    "int8 conv, one scale": (I8, partial(conv, scales=1), True),
    "uint8 conv": (U8, partial(conv, scales=1), True),
    "int8 weights, float image": ({}, partial(conv, weights="INT8"), True),
    "int8 weights of one scale, float image": ({}, partial(conv, weights="INT8", scales=1), True),
    "float depthwise": ({}, depthwise, True),
    "int8 depthwise": (I8, depthwise, True),
    "depthwise, int8 weights, float image": ({}, partial(depthwise, weights="INT8"), False),
    "float dense": ({"shape": (1, 6)}, dense, True),
    "float dense without bias": ({"shape": (1, 6)}, partial(dense, bias=False), True),
    "float dense of two inputs": ({"shape": (1, 6)}, partial(dense, constant_weights=False), False),
    "int8 dense, one scale": ({"shape": (1, 6), **I8}, dense, True),
    "int8 dense, a scale a channel": ({"shape": (1, 6), **I8}, partial(dense, scales=3), True),
    "dense, int8 weights, float image": ({"shape": (1, 6)}, partial(dense, weights="INT8"), True),
    "float resize": ({}, resize, True),
    "int8 resize": (I8, resize, True),
    "float max pool": ({}, partial(pool, kind="MAX_POOL_2D", window=3, stride=2), True),
    "int8 max pool": (I8, partial(pool, kind="MAX_POOL_2D", window=3, stride=2), True),
    "max pool 1x1 stride 2": ({}, partial(pool, kind="MAX_POOL_2D", window=1, stride=2), False),
    "max pool 1x1 stride 1": (I8, partial(pool, kind="MAX_POOL_2D", window=1), True),
    "max pool 2x2 stride 3": (I8, partial(pool, kind="MAX_POOL_2D", window=2, stride=3), False),
    "float average pool": ({}, partial(pool, kind="AVERAGE_POOL_2D", window=3), True),
    "float average pool, RELU6": ({}, partial(pool, kind="AVERAGE_POOL_2D", window=3, fused="RELU6"), True),
    "int8 average pool": (I8, partial(pool, kind="AVERAGE_POOL_2D", window=3), False),
    "float softmax": ({"shape": (1, 10)}, softmax, True),
    "float softmax, beta": ({"shape": (1, 10)}, partial(softmax, beta=2.0), False),
    "int8 softmax": ({"shape": (1, 10), **I8}, softmax, False),
    "int8 add": ({"inputs": 2, **I8}, partial(binary, kind="ADD", fused="RELU"), True),
    "int8 add, just inside": ({"inputs": 2, **I8}, partial(binary, kind="ADD", scale=0.1 * 1023), True),
    "int8 add, just outside": ({"inputs": 2, **I8}, partial(binary, kind="ADD", scale=0.1 * 1025), False),
    "int8 sub": ({"inputs": 2, **I8}, partial(binary, kind="SUB"), True),
    "int8 mul": ({"inputs": 2, **I8}, partial(binary, kind="MUL"), True),
    "int8 mul, far apart": ({"inputs": 2, **I8}, partial(binary, kind="MUL", scale=700.0), False),
    "int8 mul, less far apart": ({"inputs": 2, **I8}, partial(binary, kind="MUL", scale=600.0), True),
    "float div": ({"inputs": 2}, partial(binary, kind="DIV"), True),
    "int8 maximum": ({"inputs": 2, **I8}, lambda g: add(g, "MAXIMUM", g.inputs, (1, 8, 8, 4)), False),
    "int8 concat of 5": ({"inputs": 5, **I8}, concat, True),
    "int8 concat of 6": ({"inputs": 6, **I8}, concat, False),
    "float concat of 6": ({"inputs": 6}, concat, False),
    "int8 mean": (I8, mean, True),
    "int8 mean, keep_dims": (I8, partial(mean, keep_dims=True), True),
    "int8 reshape": (I8, reshape, True),
    "int8 pad": (I8, pad, True),
    "strided slice of step 1": (I8, strided_slice, True),
    "strided slice of step 2": (I8, partial(strided_slice, step=2), False),
    "split in 4": (I8, partial(split, number=4), True),
    "split in 2": ({}, partial(split, number=2), True),
    "float quantize": ({}, partial(unary, kind="QUANTIZE", dtype="INT8"), True),
    "uint8 to int8": (U8, partial(unary, kind="QUANTIZE", dtype="INT8"), False),
    "int8 to int8": (I8, partial(unary, kind="QUANTIZE", dtype="INT8", scale=0.2), True),
    "int8 to int8, far apart": (I8, partial(unary, kind="QUANTIZE", dtype="INT8", scale=30.0), False),
    "dequantize": (I8, partial(unary, kind="DEQUANTIZE", dtype="FLOAT32"), True),
    **{f"float {kind}": ({}, partial(unary, kind=kind), True) for kind in UNARY.split()},
    "int8 leaky relu": (I8, leaky, True),
    "int8 leaky relu, tiny slope": (I8, partial(leaky, alpha=1e-3), False),
    "float leaky relu": ({}, leaky, True),
    "float log": ({}, partial(unary, kind="LOG"), True),
    "float log softmax": ({}, partial(unary, kind="LOG_SOFTMAX"), False),
    "int8 relu": (I8, partial(unary, kind="RELU"), False),
    "int8 logistic": (I8, partial(unary, kind="LOGISTIC", scale=1 / 256, zero_point=-128), True),
    "int8 tanh": (I8, partial(unary, kind="TANH", scale=1 / 128), True),
    "int8 elu": (I8, partial(unary, kind="ELU"), True),
    "int8 hard swish": (I8, partial(unary, kind="HARD_SWISH"), False),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_xnnpack_takes_what_the_runtime_takes(name):
    given, change, taken = CASES[name]
    graph = new_graph(**given)
    change(graph)
    kind = graph.ops[0].kind
    expected = (1, Counter()) if taken else (0, Counter({kind: 1}))
    assert at_runtime(graph) == expected
    assert by_table(graph) == expected


def test_weights_in_float16_are_unpacked_by_the_delegate():
    graph = new_graph()
    conv(graph, weights="FLOAT16")
    assert [op.kind for op in graph.ops] == ["DEQUANTIZE", "CONV_2D"]
    assert at_runtime(graph) == by_table(graph) == (1, Counter())


def test_weights_that_the_cpu_reads_too_are_unpacked_on_the_cpu():
    graph = new_graph()
    result = conv(graph, weights="FLOAT16")
    unpacked = graph.ops[0].output
    graph.outputs = [result, add(graph, "LOG_SOFTMAX", [unpacked], unpacked.shape)]
    assert at_runtime(graph) == by_table(graph) == (1, Counter(["DEQUANTIZE", "LOG_SOFTMAX"]))


def tangled(seed, binary="ADD"):
    """Operations that XNNPACK takes and refuses, each of one or two earlier results."""
    rng = np.random.default_rng(seed)
    graph = new_graph((1, 2, 2, 2))
    made = list(graph.inputs)
    for _ in range(rng.integers(5, 30)):
        kind = rng.choice(["ABS", "NEG", "LOG_SOFTMAX", binary], p=[0.25, 0.25, 0.2, 0.3])
        sources = [
            made[i] for i in rng.integers(max(0, len(made) - 6), len(made), 2 if kind == binary else 1)
        ]
        made.append(add(graph, kind, sources, (1, 2, 2, 2)))
    graph.outputs = [tensor for tensor in made[1:] if not graph.consumers(tensor)]
    return graph


@pytest.mark.parametrize("seed", range(20))
def test_partitions_are_those_of_the_runtime(seed):
    graph = tangled(seed)
    assert at_runtime(graph) == by_table(graph)


def test_partitions_are_not_runs_in_the_list():
    # Two branches, written one after the other: the greedy search passes over what is refused in each.
    graph = new_graph()
    image = graph.inputs[0]
    ends = []
    for _ in range(2):
        for kind in ("ABS", "LOG_SOFTMAX", "NEG"):
            graph.outputs = [add(graph, kind, [image if kind == "ABS" else graph.outputs[0]], image.shape)]
        ends += graph.outputs
    graph.outputs = ends
    assert at_runtime(graph) == by_table(graph) == (2, Counter(LOG_SOFTMAX=2))


def test_gpu_takes_the_largest_partition_only():
    graph = new_graph()
    for kind in ("ABS", "CEIL", "NEG", "SQRT"):
        unary(graph, kind)
    found = delegates.partitions(graph, "gpu")
    assert (found.taken, found.partitions, found.whole) == (2, 1, False)
    assert found.refused == (
        ("CEIL", "there is no kernel for it", 1),
        ("ABS", "not in the largest partition, the only one taken", 1),
    )


def test_gpu_takes_quantized_operations_and_means():
    graph = new_graph(dtype="INT8")
    conv(graph)
    mean(graph)
    assert delegates.partitions(graph, "gpu").whole


def test_coreml_wants_a_mean_that_keeps_its_dimensions():
    for keep_dims, left in ((True, ()), (False, (("MEAN", "takes keep_dims only", 1),))):
        graph = new_graph()
        conv(graph)
        unary(graph, "RELU")
        mean(graph, keep_dims)
        found = delegates.partitions(graph, "coreml")
        assert (found.partitions, found.refused) == (1, left)


def test_coreml_takes_no_integers_and_no_lonely_operation():
    graph = new_graph(dtype="INT8")
    conv(graph)
    assert delegates.partitions(graph, "coreml").refused == (("CONV_2D", "takes float32, not int8", 1),)
    graph = new_graph()
    conv(graph)
    assert delegates.partitions(graph, "coreml").refused == (
        ("CONV_2D", "alone between operations that are refused", 1),
    )


def test_edgetpu_stops_at_the_first_refusal():
    graph = new_graph(dtype="INT8")
    conv(graph)
    unary(graph, "ELU")
    conv(graph)
    found = delegates.partitions(graph, "edgetpu")
    assert (found.taken, found.partitions) == (1, 1)
    assert found.refused == (
        ("ELU", "there is no kernel for it", 1),
        ("CONV_2D", "after an operation that is refused", 1),
    )


def test_edgetpu_pools_have_no_fused_activation_and_batches_are_one():
    graph = new_graph(dtype="INT8")
    pool(graph, "MAX_POOL_2D", 2, fused="RELU")
    assert delegates.partitions(graph, "edgetpu").refused == (("MAX_POOL_2D", "another fused activation", 1),)
    graph = new_graph((2, 8, 8, 4), dtype="INT8")
    conv(graph)
    assert delegates.partitions(graph, "edgetpu").refused == (
        ("CONV_2D", "only the last three axes may be longer than 1", 1),
    )


def test_micro_has_the_operations_of_our_networks_but_no_mixed_ones():
    graph = new_graph(dtype="INT8")
    for change in (conv, depthwise, partial(pool, kind="AVERAGE_POOL_2D", window=3), pad, mean):
        change(graph)
    assert delegates.partitions(graph, "micro").whole
    graph = new_graph()
    conv(graph, weights="INT8")
    assert delegates.partitions(graph, "micro").refused == (
        ("CONV_2D", "integer weights with float images", 1),
    )


@pytest.mark.parametrize("delegate", delegates.list_delegates())
def test_custom_operations_are_refused_by_all(delegate):
    graph = new_graph()
    unary(graph, "CUSTOM FlexErf")
    assert delegates.partitions(graph, delegate).refused == (
        ("CUSTOM FlexErf", "there is no kernel for it", 1),
    )


@pytest.mark.parametrize("delegate", delegates.list_delegates())
def test_tables_name_operations_of_the_schema(delegate):
    known = set(vars(schema_module().BuiltinOperator))
    assert delegates.DELEGATES[delegate].rules.keys() <= known


def test_unknown_delegate_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"delegate='xnnpak' is not accepted\. Did you mean 'xnnpack'"):
        delegates.partitions(new_graph(), "xnnpak")
