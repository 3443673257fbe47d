"""Small TFLite graphs made without TensorFlow: by hand, and at random for the property tests."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from converters.graph import Graph, Op, Quantization, Tensor, activation, constant, options, padding

ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")


def empty():
    """A graph without operations."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.subgraphs = 3, [schema.BufferT()], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return Graph(bytes(builder.Output()))


class Build:
    """Adds operations to a float graph, and works out the shapes."""

    def __init__(self, shape, seed=0):
        self.rng = np.random.default_rng(seed)
        self.graph = empty()
        self.image = self._tensor(shape)
        self.graph.inputs = [self.image]
        self.signature = schema.SignatureDefT()
        self.signature.signatureKey = "serving_default"

    def _tensor(self, shape):
        self.count = getattr(self, "count", 0) + 1
        return Tensor(f"t{self.count}", tuple(int(size) for size in shape), "FLOAT32")

    def _add(self, kind, inputs, shape, fields=None, version=1):
        output = self._tensor(shape)
        self.graph.ops.append(Op(kind, inputs, [output], fields, version))
        return output

    def _constant(self, values):
        self.count += 1
        return constant(f"c{self.count}", np.asarray(values, np.float32))

    def _window(self, x, kernel, stride, pad, dilation=1):
        size = [
            -(-n // stride) if pad == "SAME" else (n - (k - 1) * dilation - 1) // stride + 1
            for n, k in zip(x.shape[1:3], kernel, strict=True)
        ]
        assert min(size) > 0
        return size

    def conv(  # noqa: PLR0913  as many as the operation has
        self, x, filters, kernel=(3, 3), stride=1, pad="SAME", act="NONE", zeros=(), groups=1, dilation=1
    ):
        channels = x.shape[3] // groups
        weights = self.rng.normal(0, (kernel[0] * kernel[1] * channels) ** -0.5, (filters, *kernel, channels))
        bias = self.rng.normal(0, 0.3, filters)
        weights[list(zeros)] = 0
        fields = options("Conv2DOptions", padding=padding(pad), strideH=stride, strideW=stride,
                         dilationHFactor=dilation, dilationWFactor=dilation,
                         fusedActivationFunction=activation(act))  # fmt: skip
        inputs = [x, self._constant(weights), self._constant(bias)]
        size = self._window(x, kernel, stride, pad, dilation)
        return self._add("CONV_2D", inputs, (1, *size, filters), fields)

    def depthwise(self, x, kernel=(3, 3), stride=1, pad="SAME", act="NONE", multiplier=1):
        filters = x.shape[3] * multiplier
        weights = self.rng.normal(0, 0.4, (1, *kernel, filters))
        fields = options("DepthwiseConv2DOptions", padding=padding(pad), strideH=stride, strideW=stride,
                         depthMultiplier=multiplier, dilationHFactor=1, dilationWFactor=1,
                         fusedActivationFunction=activation(act))  # fmt: skip
        inputs = [x, self._constant(weights), self._constant(self.rng.normal(0, 0.3, filters))]
        size = self._window(x, kernel, stride, pad)
        return self._add("DEPTHWISE_CONV_2D", inputs, (1, *size, filters), fields)

    def pool(self, kind, x, kernel=(3, 3), stride=1, pad="SAME", act="NONE"):
        fields = options("Pool2DOptions", padding=padding(pad), strideH=stride, strideW=stride,
                         filterHeight=kernel[0], filterWidth=kernel[1],
                         fusedActivationFunction=activation(act))  # fmt: skip
        return self._add(
            f"{kind}_POOL_2D", [x], (1, *self._window(x, kernel, stride, pad), x.shape[3]), fields
        )

    def pad(self, x, pads):
        amounts = constant(f"p{self.count}", np.array([(0, 0), *pads, (0, 0)], np.int32))
        shape = [size + sum(pad) for size, pad in zip(x.shape, amounts.data, strict=True)]
        return self._add("PAD", [x, amounts], shape, options("PadOptions"))

    def mirror_pad(self, x, pads, mode):
        amounts = constant(f"p{self.count}", np.array([(0, 0), *pads, (0, 0)], np.int32))
        shape = [size + sum(pad) for size, pad in zip(x.shape, amounts.data, strict=True)]
        return self._add("MIRROR_PAD", [x, amounts], shape, options("MirrorPadOptions", mode=mode))

    def with_constant(self, kind, x, act="NONE", values=None):
        values = self.rng.normal(1, 0.5, x.shape[3]) if values is None else values
        fields = options(f"{kind.capitalize()}Options", fusedActivationFunction=activation(act))
        return self._add(kind, [x, self._constant(values)], x.shape, fields)

    def add(self, x, y, act="NONE"):
        return self._add(
            "ADD", [x, y], x.shape, options("AddOptions", fusedActivationFunction=activation(act))
        )

    def concat(self, parts):
        shape = (*parts[0].shape[:3], sum(part.shape[3] for part in parts))
        return self._add("CONCATENATION", list(parts), shape, options("ConcatenationOptions", axis=3))

    def relu(self, x, kind="RELU"):
        return self._add(kind, [x], x.shape)

    def gather(self, x, indices):
        chosen = constant(f"i{self.count}", np.asarray(indices, np.int32))
        fields = options("GatherOptions", axis=3)
        return self._add("GATHER", [x, chosen], (*x.shape[:3], len(indices)), fields)

    def powered(self, x, exponent):
        """(x^2 + 1) ^ exponent, as local response normalisation has it, and its negative."""
        square = self.with_constant("ADD", self._add("SQUARE", [x], x.shape), values=[1.0])
        power = self._add("POW", [square, self._constant(exponent)], x.shape, options("PowOptions"))
        return self._add("NEG", [power], x.shape)

    def finish(self, *outputs):
        self.graph.outputs = list(outputs)
        ends = {f"output_{i}": tensor for i, tensor in enumerate(outputs)}
        self.graph._signatures = [(self.signature, {"image": self.image}, ends)]
        return self.graph.to_bytes()


def random_graph(seed):
    """A float graph of branches, pools of odd sizes, pads, strides and shared tensors."""
    rng = np.random.default_rng(seed)
    size = rng.integers(6, 15, 2)
    build = Build((1, *size, rng.choice([1, 3, 4])), seed)
    live = [build.image]
    if rng.random() < 0.2:
        live.append(_stem(build, rng))
    for _ in range(rng.integers(4, 14)):
        x = live[rng.integers(max(0, len(live) - 4), len(live))]
        made = _random_op(build, rng, x, live)
        if made is not None:
            live.append(made)
    ends = [tensor for tensor in live[1:] if not build.graph.consumers(tensor)]
    # Sometimes something in the middle is a result, too.
    extra = [live[rng.integers(1, len(live))]] if rng.random() < 0.3 else []
    return build.finish(*dict.fromkeys([*ends, *extra]))


def _random_op(build, rng, x, live):
    act, pad = rng.choice(ACTIVATIONS), rng.choice(["SAME", "VALID"])
    kernel = tuple(int(k) for k in rng.choice([1, 1, 2, 3, 3, 5, 7], 2))
    kernel = kernel if rng.random() < 0.3 else (kernel[0],) * 2
    stride = int(rng.choice([1, 1, 2]))
    if pad == "VALID" and any(k > n for k, n in zip(kernel, x.shape[1:3], strict=True)):
        pad = "SAME"
    same = [y for y in live if y.shape == x.shape]
    image = [y for y in live if y.shape[:3] == x.shape[:3]]
    makers = {
        "conv": lambda: build.conv(x, int(rng.integers(6, 9)), kernel, stride, pad, act, _zeros(rng, 6)),
        "narrow conv": lambda: build.conv(x, 4, (1, 1), 1, pad, act, _zeros(rng, 4)),
        "grouped conv": lambda: build.conv(
            x, 2 * x.shape[3], (3, 3), 1, "SAME", act, _zeros(rng, x.shape[3]), groups=x.shape[3]
        ),
        "pruned": lambda: _pruned(build, rng, x, act),
        "dilated conv": lambda: build.conv(x, 6, (3, 3), 1, "SAME", act, dilation=2),
        "depthwise": lambda: build.depthwise(x, kernel, stride, pad, act, int(rng.choice([1, 1, 2]))),
        "average pool": lambda: _average_pool(build, rng, x, (kernel, stride, pad), act),
        "max pool": lambda: build.pool("MAX", x, kernel, stride, pad, act),
        "padded pool": lambda: _padded_pool(build, rng, x),
        "padded conv": lambda: _padded_conv(build, rng, x, act),
        "batch norm": lambda: _batch_norm(build, rng, x, act),
        "add": lambda: build.add(x, same[rng.integers(len(same))], act),
        "concat": lambda: build.concat([image[i] for i in rng.integers(0, len(image), rng.integers(2, 9))]),
        "gather": lambda: _gather(build, rng, x),
        "power": lambda: build.powered(x, rng.choice([-0.75, -0.5, 0.5, 0.3])),
        "mirror pad": lambda: _mirror_pad(build, rng, x),
    }
    # Twice as often: what most rewrites are about.
    often = ("conv", "average pool", "batch norm")
    return makers[rng.choice([*makers, *often])]()


def _stem(build, rng):
    """A first convolution with a large kernel and a stride, which pads or not."""
    kernel = int(rng.choice([5, 7]))
    pad = "SAME" if min(build.image.shape[1:3]) < kernel else rng.choice(["SAME", "VALID"])
    return build.conv(build.image, 6, (kernel, kernel), 2, pad, rng.choice(ACTIVATIONS))


def _zeros(rng, filters):
    """Which filters are all zero: most often none."""
    return rng.choice(filters, min(2, filters), replace=False) if rng.random() < 0.3 else ()


def _pruned(build, rng, x, act):
    """Filters of zeros in front of pools and a depthwise convolution, which a last convolution reads."""
    groups = x.shape[3] if rng.random() < 0.3 else 1
    filters = 4 * groups
    zeros = rng.choice(filters, min(4, filters - 1), replace=False)
    y = build.conv(x, filters, (3, 3), 1, "SAME", act, zeros, groups)
    for _ in range(rng.integers(0, 3)):
        kind = rng.choice(["MAX", "AVERAGE", "depthwise"])
        then = rng.choice(ACTIVATIONS)
        y = build.depthwise(y, act=then) if kind == "depthwise" else build.pool(kind, y, (2, 2), act=then)
    return build.conv(y, 6, (1, 1) if rng.random() < 0.7 else (3, 3))


def _average_pool(build, rng, x, window, act):
    pooled = build.pool("AVERAGE", x, *window, rng.choice(["NONE", "NONE", "RELU"]))
    return build.conv(pooled, 2, (1, 1), 1, "SAME", act) if rng.random() < 0.6 else pooled


def _padded_pool(build, rng, x):
    """As GoogLeNet does: what SAME padding would add, or something else."""
    as_same = [(1, 1) if size % 2 else (0, 1) for size in x.shape[1:3]]
    pads = as_same if rng.random() < 0.5 else rng.integers(0, 2, (2, 2))
    padded = build.pad(build.relu(x) if rng.random() < 0.7 else x, pads)
    return build.pool("MAX", padded, (3, 3), 2, "VALID") if min(padded.shape[1:3]) > 2 else padded


def _padded_conv(build, rng, x, act):
    """As ResNet does: what SAME padding would add at odd sizes, or something else."""
    padded = build.pad(x, rng.integers(0, 2, (2, 2)) if rng.random() < 0.3 else [(1, 1), (1, 1)])
    if min(padded.shape[1:3]) < 3:
        return padded
    stride = int(rng.choice([1, 2]))
    if rng.random() < 0.5:
        return build.depthwise(padded, (3, 3), stride, "VALID", act)
    return build.conv(padded, 6, (3, 3), stride, "VALID", act)


def _batch_norm(build, rng, x, act):
    """What is left of one, in front of a convolution without padding now and then."""
    scaled = build.with_constant("MUL", x)
    if rng.random() < 0.2:
        return scaled
    moved = build.with_constant("ADD", scaled, act)
    return build.conv(moved, 6, (1, 1), 1, "VALID") if rng.random() < 0.3 else moved


def _gather(build, rng, x):
    if x.shape[3] < 3:
        return None
    chosen = np.arange(2) if rng.random() < 0.7 else np.arange(2)[::-1]
    return build.gather(x, chosen + rng.integers(0, x.shape[3] - 1))


def _mirror_pad(build, rng, x):
    if min(x.shape[1:3]) == 1:
        return None
    return build.mirror_pad(x, rng.integers(0, 2, (2, 2)), int(rng.integers(0, 2)))


def run(content, *images, delegate=True):
    """The outputs of a model, in the order of the file."""
    resolver = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    results = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
        interpreter.invoke()
        details = interpreter.get_output_details()
        results.append([interpreter.get_tensor(tensor["index"]) for tensor in details])
    return results


def partitions(content):
    """How many parts of a model XNNPACK runs."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    return sum(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())


def quantized(tensor, scale, zero_point):
    """Make a float tensor an int8 one."""
    tensor.dtype = "INT8"
    tensor.quantization = Quantization(np.array([scale], np.float32), np.array([zero_point], np.int64))
    return tensor
