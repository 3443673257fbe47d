"""Float graphs with random weights, made without a converter, and what is measured on them."""

import flatbuffers
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from converters.graph import Graph, Op, Tensor, activation, constant, options, padding, schema_module


def empty_graph():
    schema = schema_module()
    model = schema.ModelT()
    model.version, model.subgraphs, model.buffers = 3, [schema.SubGraphT()], [schema.BufferT()]
    model.operatorCodes, model.subgraphs[0].tensors = [], []
    builder = flatbuffers.Builder(64)
    builder.Finish(model.Pack(builder), b"TFL3")
    return Graph(bytes(builder.Output()))


class Net:
    """Grows a graph; every method takes tensors and gives the new one."""

    def __init__(self, seed=0, shape=(1, 6, 6, 3)):
        self.random = np.random.default_rng(seed)
        self.graph = empty_graph()
        self.input = Tensor("input", shape, "FLOAT32")
        self.graph.inputs = [self.input]

    def op(self, kind, inputs, shape, options=None):
        output = Tensor(f"{kind.lower()}_{len(self.graph.ops)}", tuple(map(int, shape)), "FLOAT32")
        self.graph.ops.append(Op(kind, inputs, [output], options))
        return output

    def constant(self, *shape):
        return self.named(self.random.normal(size=shape).astype(np.float32))

    def named(self, value):
        return constant(f"constant_{len(self.graph.ops)}_{value.size}_{self.random.integers(1 << 40)}", value)

    def layer(self, x, filters=4, kernel=3, stride=1, pad="SAME", act="RELU", weights=None, dilation=1):
        weights = weights or self.constant(filters, kernel, kernel, x.shape[-1])
        fields = {"padding": padding(pad), "strideH": stride, "strideW": stride}
        fields |= {"dilationHFactor": dilation, "dilationWFactor": dilation}
        made = options("Conv2DOptions", fusedActivationFunction=activation(act), **fields)
        shape = (1, *self.sides(x, 1 + (kernel - 1) * dilation, stride, pad), len(weights.data))
        return self.op("CONV_2D", [x, weights, self.constant(len(weights.data))], shape, made)

    def depthwise(self, x, multiplier=1, kernel=3, stride=1, pad="SAME", act="NONE"):
        channels = x.shape[-1] * multiplier
        fields = {
            "padding": padding(pad),
            "strideH": stride,
            "strideW": stride,
            "depthMultiplier": multiplier,
        }
        made = options("DepthwiseConv2DOptions", fusedActivationFunction=activation(act), **fields)
        inputs = [x, self.constant(1, kernel, kernel, channels), self.constant(channels)]
        return self.op("DEPTHWISE_CONV_2D", inputs, (1, *self.sides(x, kernel, stride, pad), channels), made)

    def pool(self, x, kind="MAX_POOL_2D", act="NONE"):
        fields = {"filterHeight": 2, "filterWidth": 2, "strideH": 1, "strideW": 1, "padding": padding("SAME")}
        made = options("Pool2DOptions", fusedActivationFunction=activation(act), **fields)
        return self.op(kind, [x], x.shape, made)

    def pad(self, x, value=None):
        sizes = self.named(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
        shape = (1, x.shape[1] + 2, x.shape[2] + 2, x.shape[3])
        if value is None:
            return self.op("PAD", [x, sizes], shape, options("PadOptions"))
        return self.op("PADV2", [x, sizes, self.named(np.float32([value]))], shape, options("PadV2Options"))

    def relu(self, x):
        return self.op("RELU", [x], x.shape)

    def add(self, x, y):
        return self.op("ADD", [x, y], x.shape, options("AddOptions"))

    def concat(self, x, y):
        shape = (*x.shape[:3], x.shape[3] + y.shape[3])
        return self.op("CONCATENATION", [x, y], shape, options("ConcatenationOptions", axis=3))

    def head(self, x, classes=5):
        axes = self.named(np.array([1, 2], np.int32))
        mean = self.op("MEAN", [x, axes], (1, x.shape[-1]), options("ReducerOptions", keepDims=False))
        inputs = [mean, self.constant(classes, x.shape[-1]), self.constant(classes)]
        return self.op("FULLY_CONNECTED", inputs, (1, classes), options("FullyConnectedOptions"))

    def done(self, *outputs):
        self.graph.outputs = list(outputs)
        return self.graph

    @staticmethod
    def sides(x, kernel, stride, pad):
        return [-(-(side - (kernel - 1) * (pad == "VALID")) // stride) for side in x.shape[1:3]]


def images(graph, count=8, seed=1):
    return np.random.default_rng(seed).normal(size=(count, *graph.inputs[0].shape)).astype(np.float32)


def run(content, samples):
    """All outputs of a model, dequantized, as (samples, ...) each."""
    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    collected = []
    for sample in samples:
        if source["dtype"] == np.int8:
            scale, zero = source["quantization"]
            sample = np.clip(np.rint(sample / scale) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(source["index"], sample)
        interpreter.invoke()
        values = []
        for details in interpreter.get_output_details():
            value, (scale, zero) = interpreter.get_tensor(details["index"]), details["quantization"]
            values.append(value if value.dtype == np.float32 else (value.astype(np.float32) - zero) * scale)
        collected.append(values)
    return [np.array(values) for values in zip(*collected, strict=True)]


def every_activation(graph, samples):
    """Tensor name to its values as (values, C)."""
    probe = Graph(graph.to_bytes())
    probe.outputs = [tensor for tensor in probe.tensors() if not tensor.is_constant]
    values = run(probe.to_bytes(), samples)
    return {t.name: v.reshape(-1, v.shape[-1]) for t, v in zip(probe.outputs, values, strict=True)}


def statistics(graph, samples):
    return {name: (v.min(0), v.max(0)) for name, v in every_activation(graph, samples).items()}


def means(graph, samples):
    return {name: v.mean(0, dtype=np.float64) for name, v in every_activation(graph, samples).items()}


def quantize(graph, samples):
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    ranges = {name: (float(v.min()), float(v.max())) for name, v in every_activation(graph, samples).items()}
    probe = Graph(graph.to_bytes())
    for tensor in probe.tensors():
        tensor.range = ranges.get(tensor.name)
    content = probe.to_bytes()
    return mlir_quantize(content, fully_quantize=True, input_data_type=tf.int8, output_data_type=tf.int8)


def sqnr(graph, content, samples):
    """Signal to noise of a quantized model's outputs, in dB."""
    exact, got = run(graph.to_bytes(), samples)[0], run(content, samples)[0]
    return 10 * np.log10((exact**2).sum() / ((exact - got) ** 2).sum())


def relative_difference(graph, content, samples):
    """Largest difference of the first output, relative to its range, from what a model gave before."""
    before, after = run(content, samples)[0], run(graph.to_bytes(), samples)[0]
    return np.abs(before - after).max() / np.ptp(before)
