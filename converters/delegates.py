"""Which operations of a TFLite graph a delegate takes, told from tables without running anything.

An operation that a delegate refuses runs on the interpreter's own kernels and cuts the graph into partitions:
tensors are handed over between them, and what the delegate knows of layouts and threads ends there.

Sources of the tables: XNNPACK, `xnnpack_delegate.cc`, checked against the runtime of ai-edge-litert 2.3; GPU,
`gpu/common/model_builder.cc`; Core ML, `coreml_delegate.mm` and its builders; Edge TPU, the list of
operations of Coral's compiler 16.0; TFLite Micro, `micro_mutable_op_resolver.h`. Custom operations: none.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from converters.graph import Graph, Op, Tensor, activation
from keras_archs.choices import check_choice

# A rule looks at an operation and says why a delegate refuses it, or None.
Rule = Callable[[Op], str | None]

_EIGHT_BIT = ("INT8", "UINT8")
# Where an operation's images are; where it is not told, all inputs are images.
_IMAGES = {"TRANSPOSE_CONV": (2,), "SPLIT": (1,)} | dict.fromkeys(
    "CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED MEAN SUM REDUCE_MAX REDUCE_MIN REDUCE_PROD PAD PADV2 "
    "MIRROR_PAD RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SLICE STRIDED_SLICE TRANSPOSE SPLIT_V "
    "EXPAND_DIMS SQUEEZE".split(),
    (0,),
)


class Refusal(NamedTuple):
    """Operations that a delegate leaves to the CPU for one reason.

    Attributes:
        kind: The operation, such as AVERAGE_POOL_2D.
        reason: Why, in a few words.
        ops: How many of them.
    """

    kind: str
    reason: str
    ops: int


@dataclass(frozen=True)
class Partitioning:
    """What a delegate takes of a graph.

    Attributes:
        delegate: Its name.
        taken: Operations that run in it.
        total: Operations of the graph.
        partitions: Into how many pieces they fall.
        refused: All others, the most frequent first.
    """

    delegate: str
    taken: int
    total: int
    partitions: int
    refused: tuple[Refusal, ...]

    @property
    def whole(self) -> bool:
        """Whether the delegate runs the graph in one piece."""
        return self.taken == self.total and self.partitions == 1


@dataclass(frozen=True)
class Delegate:
    """A runtime's accelerator, or a runtime with few kernels, as a table.

    Attributes:
        name: What users type.
        summary: One line.
        rules: For each operation that it knows, what must hold.
        keeps: Which of the possible partitions it really takes.
        least: Partitions of fewer operations are left to the CPU.
    """

    name: str
    summary: str
    rules: Mapping[str, tuple[Rule, ...]]
    keeps: Literal["all", "largest", "first"] = "all"
    least: int = 1

    def refusal(self, op: Op) -> str | None:
        """Why the delegate refuses an operation; None when it takes it."""
        if op.kind not in self.rules:
            return "there is no kernel for it"
        return next((reason for rule in self.rules[op.kind] if (reason := rule(op)) is not None), None)


def partitions(graph: Graph, delegate: str) -> Partitioning:
    """Tell which operations of a graph a delegate takes, and in how many pieces.

    Args:
        graph: The model.
        delegate: A name of `DELEGATES`.

    Returns:
        Counts, and the refused operations by reason.

    Raises:
        ValueError: There is no such delegate.
    """
    check_choice("delegate", delegate, DELEGATES)
    table = DELEGATES[delegate]
    refused = _refused(graph, table)
    pieces = _pieces(graph, {op for op in graph.ops if op not in refused})
    kept, why_not = _kept(pieces, table)
    for piece in pieces:
        if piece not in kept:
            refused |= dict.fromkeys(piece, why_not)
    counts = Counter((op.kind, reason) for op, reason in refused.items())
    rows = tuple(Refusal(kind, reason, count) for (kind, reason), count in counts.most_common())
    return Partitioning(delegate, len(graph.ops) - len(refused), len(graph.ops), len(kept), rows)


def _refused(graph: Graph, delegate: Delegate) -> dict[Op, str]:
    """Each operation that does not pass the delegate's rules, and why."""
    # Weights kept in fewer bits are unpacked once, before the first run, and count as constants then.
    unpacked = {op.output: _stand_in(op.output) for op in graph.of_kind("DEQUANTIZE") if _unpacks(op)}
    refused: dict[Op, str] = {}
    for op in graph.ops:
        if op.output not in unpacked:
            inputs = [tensor and unpacked.get(tensor, tensor) for tensor in op.inputs]
            reason = delegate.refusal(dataclasses.replace(op, inputs=inputs))
            if reason is not None:
                refused[op] = reason
    needed = {tensor for op in refused for tensor in op.inputs}
    for op in graph.ops:
        if op.output in unpacked and op.output in needed:
            refused[op] = "an operation on the CPU reads the weights that it unpacks"
    return refused


def _unpacks(op: Op) -> bool:
    source = op.inputs[0]
    return source is not None and source.is_constant and source.dtype in ("FLOAT16", "INT8")


def _stand_in(tensor: Tensor) -> Tensor:
    return Tensor(tensor.name, tensor.shape, tensor.dtype, np.empty(0, np.float32))


def _kept(pieces: list[list[Op]], delegate: Delegate) -> tuple[list[list[Op]], str]:
    """The partitions that the delegate takes of those that it could, and what is said of the others."""
    large = [piece for piece in pieces if len(piece) >= delegate.least]
    if delegate.keeps == "largest":
        return sorted(large, key=len, reverse=True)[:1], "not in the largest partition, the only one taken"
    if delegate.keeps == "first":
        return large[:1], "after an operation that is refused"
    return large, "alone between operations that are refused"


def _pieces(graph: Graph, takes: set[Op]) -> list[list[Op]]:
    """The partitions, by the rule of TFLite's `PartitionGraphIntoIndependentNodeSubsets`.

    The first operation whose inputs are there decides whether a subset is for the delegate or the CPU. Then
    all of its sort join whose inputs are there or made in the subset: one pass, as they are in order.
    """
    missing = {tensor for op in graph.ops for tensor in op.outputs}
    waiting, pieces = list(graph.ops), []
    while waiting:
        sort: bool | None = None
        piece: list[Op] = []
        left = []
        for op in waiting:
            ready = missing.isdisjoint(op.inputs)
            if ready and sort is None:
                sort = op in takes
            if ready and (op in takes) is sort:
                piece.append(op)
                missing.difference_update(op.outputs)
            else:
                left.append(op)
        if sort:
            pieces.append(piece)
        if not piece:
            break  # The operations left wait for each other: no runtime executes them.
        waiting = left
    return pieces


# ---- Rules. What they say is grouped and counted, so it holds no names and no numbers of one operation.


def _images(op: Op) -> list[Tensor]:
    places = _IMAGES.get(op.kind, range(len(op.inputs)))
    found = [op.inputs[i] if i < len(op.inputs) else None for i in places]
    return [tensor for tensor in (*found, *op.outputs) if tensor is not None]


def _option(op: Op, name: str, default: int = 0) -> float:
    return getattr(op.options, name, default)


def _types(*accepted: str) -> Rule:
    """Images of these types, 8-bit ones with one scale."""
    names = " or ".join(name.lower() for name in accepted)

    def rule(op: Op) -> str | None:
        for tensor in _images(op):
            if tensor.dtype not in accepted:
                return f"takes {names}, not {tensor.dtype.lower()}"
            if tensor.dtype in _EIGHT_BIT and not _per_tensor(tensor):
                return "an image needs exactly one scale"
        return None

    return rule


def _per_tensor(tensor: Tensor) -> bool:
    q = tensor.quantization
    return q is not None and len(q.scale) == 1 and q.axis == 0


def _runtime_types(*accepted: str) -> Rule:
    """Tensors of these types wherever the value is not a constant."""
    names = " or ".join(name.lower() for name in accepted)

    def rule(op: Op) -> str | None:
        tensors = [tensor for tensor in (*op.inputs, *op.outputs) if tensor and not tensor.is_constant]
        wrong = (tensor.dtype.lower() for tensor in tensors if tensor.dtype not in accepted)
        return next((f"takes {names}, not {dtype}" for dtype in wrong), None)

    return rule


def _one_type(op: Op) -> str | None:
    return "mixes types" if len({tensor.dtype for tensor in _images(op)}) > 1 else None


def _inputs(least: int, most: int) -> Rule:
    def rule(op: Op) -> str | None:
        return None if least <= len(op.inputs) <= most else f"takes {least} to {most} inputs"

    return rule


def _outputs(least: int, most: int) -> Rule:
    def rule(op: Op) -> str | None:
        return None if least <= len(op.outputs) <= most else f"takes {least} to {most} outputs"

    return rule


def _constant(*places: int) -> Rule:
    def rule(op: Op) -> str | None:
        asked = [op.inputs[i] for i in places if i < len(op.inputs)]
        fixed = all(tensor is None or tensor.is_constant for tensor in asked)
        return None if fixed else "weights, axes and sizes must be constants"

    return rule


def _rank(rank: int) -> Rule:
    def rule(op: Op) -> str | None:
        return None if all(len(tensor.shape) == rank for tensor in _images(op)) else f"takes rank {rank}"

    return rule


def _at_most_rank(rank: int) -> Rule:
    def rule(op: Op) -> str | None:
        fits = all(len(tensor.shape) <= rank for tensor in _images(op))
        return None if fits else f"takes at most rank {rank}"

    return rule


def _fused(*names: str) -> Rule:
    """Only these fused activations."""

    def rule(op: Op) -> str | None:
        accepted = [activation(name) for name in names]
        return None if _option(op, "fusedActivationFunction") in accepted else "another fused activation"

    return rule


def _pool(op: Op) -> str | None:
    skips = _option(op, "strideW") > _option(op, "filterWidth") or _option(op, "strideH") > _option(
        op, "filterHeight"
    )
    return "the stride is larger than the window" if skips else None


def _weights(axis: int, rank: int, *mixed: tuple[str, str]) -> Rule:
    """Weights as XNNPACK wants them: constant, their channels' scales along an axis.

    Their type is the images' or one of the mixed pairs: (images, weights).
    """

    def rule(op: Op) -> str | None:
        image, weights = op.inputs[0], op.inputs[1]
        if image is None or weights is None or not weights.is_constant:
            return "weights, axes and sizes must be constants"
        if len(weights.shape) != rank:
            return f"takes weights of rank {rank}"
        if weights.dtype != image.dtype and (image.dtype, weights.dtype) not in mixed:
            return f"{weights.dtype.lower()} weights with {image.dtype.lower()} images"
        return None if weights.dtype == "FLOAT32" else _scales_along(weights, axis)

    return rule


def _scales_along(weights: Tensor, axis: int) -> str | None:
    q = weights.quantization
    if q is None or not np.isfinite(q.scale).all() or not (q.scale > 0).all():
        return "weights need finite, positive scales"
    if len(q.scale) == 1 and weights.dtype != "INT4":
        return None
    if weights.dtype == "UINT8":
        return "uint8 weights need exactly one scale"
    if q.axis != axis or len(q.scale) != weights.shape[axis]:
        return "weights need a scale for each output channel"
    return "weights with a scale a channel need zero point 0" if q.zero_point.any() else None


def _bias(op: Op) -> str | None:
    bias = op.inputs[2] if len(op.inputs) > 2 else None
    if bias is None:
        return "needs a bias"
    if bias.dtype not in ("FLOAT32", "FLOAT16", "INT32"):
        return f"bias {bias.dtype.lower()}"
    if len(bias.shape) != 1 or not bias.is_constant:
        return "the bias must be a constant of rank 1"
    return "an integer bias needs scales" if bias.dtype == "INT32" and bias.quantization is None else None


def _optional_bias(op: Op) -> str | None:
    given = len(op.inputs) > 2 and op.inputs[2] is not None
    return _bias(op) if given else None


def _ratios(low: float, high: float) -> Rule:
    """Each input's scale divided by the output's is in this range; for integers of one type only."""

    def rule(op: Op) -> str | None:
        scales = [_scale(tensor, op.output) for tensor in _images(op)[:-1]]
        inside = all(scale is None or low <= scale / _only(op.output) < high for scale in scales)
        return None if inside else "input and output scales are too far apart"

    return rule


def _product_ratio(low: float, high: float) -> Rule:
    def rule(op: Op) -> str | None:
        scales = [_scale(tensor, op.output) for tensor in _images(op)[:-1]]
        if any(scale is None for scale in scales):
            return None
        ratio = np.prod([scale for scale in scales if scale is not None], dtype=np.float32) / _only(op.output)
        return None if low <= ratio < high else "input and output scales are too far apart"

    return rule


def _scale(tensor: Tensor, output: Tensor) -> np.float32 | None:
    """A tensor's scale, if both tensors are integers of the same 8-bit type."""
    return _only(tensor) if tensor.dtype == output.dtype and tensor.dtype in _EIGHT_BIT else None


def _only(tensor: Tensor) -> np.float32:
    return np.float32(1) if tensor.quantization is None else np.float32(tensor.quantization.scale[0])


def _leaky(op: Op) -> str | None:
    alpha, ratio = _option(op, "alpha"), 1.0
    if _scale(op.output, op.output) is not None and op.inputs[0] is not None:
        ratio = float(_only(op.inputs[0]) / _only(op.output))
        if not 1 / 256 <= ratio <= 128 or not 1 / 256 <= abs(alpha * ratio) <= 127.99609375:
            return "input and output scales are too far apart"
    return None if alpha else "alpha is 0"


def _same_scale(*dtypes: str) -> Rule:
    def rule(op: Op) -> str | None:
        images = [tensor for tensor in _images(op) if op.output.dtype in dtypes]
        same = all(tensor.quantization == op.output.quantization for tensor in images)
        return None if same else "inputs and output must have the same scale"

    return rule


def _requantize(op: Op) -> str | None:
    source = op.inputs[0]
    if source is None or source.dtype == "FLOAT32":
        return None
    if source.dtype != op.output.dtype:
        return f"from {source.dtype.lower()} to {op.output.dtype.lower()}"
    ratio = float(_only(source) / _only(op.output))
    return None if 1 / 256 <= ratio <= 128 else "input and output scales are too far apart"


def _writes(*accepted: str) -> Rule:
    def rule(op: Op) -> str | None:
        return None if op.output.dtype in accepted else f"writes {op.output.dtype.lower()}"

    return rule


def _reads(*accepted: str) -> Rule:
    def rule(op: Op) -> str | None:
        dtype = op.inputs[0].dtype if op.inputs[0] is not None else "nothing"
        return None if dtype in accepted else f"reads {dtype.lower()}"

    return rule


def _softmax_beta(op: Op) -> str | None:
    return None if _option(op, "beta", 1) == 1 else "beta is not 1"


def _plain_slice(op: Op) -> str | None:
    masks = ("ellipsisMask", "newAxisMask", "shrinkAxisMask")
    strides = op.constant(3)
    if any(_option(op, mask) for mask in masks):
        return "adds, drops or skips axes"
    return "takes steps of 1" if strides is None or any(strides != 1) else None


def _positive_sizes(op: Op) -> str | None:
    sizes = op.constant(2)
    return "takes sizes that are told" if sizes is None or any(sizes <= 0) else None


def _blocks(op: Op) -> str | None:
    image, size = op.inputs[0], int(_option(op, "blockSize"))
    fits = image and len(image.shape) == 4 and size > 1 and not any(n % size for n in image.shape[1:3])
    return None if fits else "the block does not divide the image"


def _version(most: int) -> Rule:
    def rule(op: Op) -> str | None:
        return None if op.version <= most else f"takes versions up to {most} of the operation"

    return rule


def _keeps_dims(op: Op) -> str | None:
    image, axes = op.inputs[0], op.constant(1)
    if image is None or axes is None or not _option(op, "keepDims"):
        return "takes keep_dims only"
    inner = {int(axis) % 4 for axis in axes.reshape(-1)} == {1, 2}
    return None if len(image.shape) == 4 and inner else "takes height and width of rank 4 only"


def _not_the_batch(op: Op) -> str | None:
    image, axes = op.inputs[0], op.constant(1)
    if image is None or axes is None:
        return "weights, axes and sizes must be constants"
    inner = all(int(axis) % len(image.shape) for axis in axes.reshape(-1))
    return None if inner else "the batch cannot be reduced"


def _pads(*accepted: int) -> Rule:
    """Padding along these axes of rank 4 only."""

    def rule(op: Op) -> str | None:
        amounts = op.constant(1)
        if amounts is None or amounts.shape != (4, 2):
            return "takes constant amounts of rank 4"
        others = [axis for axis in range(4) if axis not in accepted]
        return "pads the batch or the channels" if amounts[others].any() else None

    return rule


def _channels_axis(op: Op) -> str | None:
    rank = len(op.output.shape)
    return None if rank and _option(op, "axis") % rank == rank - 1 else "takes the axis of the channels"


def _one_row(op: Op) -> str | None:
    return None if op.output.shape[:-1] in ((), (1,)) else "takes one image at a time"


def _broadcasts(op: Op) -> str | None:
    """The second shape is the first's, or 1 along the channels, or 1 along height and width."""
    shapes = sorted(((1,) * (4 - len(t.shape)) + t.shape for t in _images(op)[:-1]), key=np.prod)
    small, large = shapes[0], shapes[-1]
    fits = len(large) == 4 and small[1:3] in (large[1:3], (1, 1)) and small[3] in (large[3], 1)
    return None if fits else "the shapes differ in another way than by height and width, or channels"


def _dilation(op: Op) -> str | None:
    same = _option(op, "dilationWFactor", 1) == _option(op, "dilationHFactor", 1)
    return None if same else "dilation must be the same both ways"


def _three_axes(op: Op) -> str | None:
    tensors = [tensor for tensor in (*op.inputs, *op.outputs) if tensor is not None]
    wide = any(np.prod(tensor.shape[:-3], dtype=np.int64) > 1 for tensor in tensors if not tensor.is_constant)
    return "only the last three axes may be longer than 1" if wide else None


def _short_vector(op: Op) -> str | None:
    vector = op.output.shape and np.prod(op.output.shape) == op.output.shape[-1] <= 16_000
    return None if vector else "takes one vector of at most 16000 values"


def _no_hybrid(op: Op) -> str | None:
    image = op.inputs[_IMAGES[op.kind][0]]
    weights = op.inputs[1]
    mixed = image is not None and weights is not None and image.dtype == "FLOAT32" != weights.dtype
    return "integer weights with float images" if mixed else None


def _table(common: tuple[Rule, ...], rows: Mapping[str, tuple[Rule, ...]]) -> dict[str, tuple[Rule, ...]]:
    """Rows of kinds, separated by blanks, and of the rules that hold besides the common ones."""
    return {kind: (*common, *rules) for kinds, rules in rows.items() for kind in kinds.split()}


# ---- The delegates.

_FLOAT = _types("FLOAT32")
_FLOAT_OR_8 = _types("FLOAT32", *_EIGHT_BIT)
_SIMPLE = _fused("NONE", "RELU", "RELU_N1_TO_1", "RELU6")

_CONV = _weights(0, 4, ("FLOAT32", "INT8"))
_DENSE = _weights(0, 2, ("FLOAT32", "INT8"), ("FLOAT32", "INT4"), ("INT8", "INT4"))
_XNNPACK: dict[str, tuple[Rule, ...]] = {
    "CONV_2D": (_inputs(3, 3), _FLOAT_OR_8, _one_type, _rank(4), _CONV, _bias, _SIMPLE),
    "DEPTHWISE_CONV_2D": (_inputs(3, 3), _FLOAT_OR_8, _one_type, _rank(4), _weights(3, 4), _bias, _SIMPLE),
    "FULLY_CONNECTED": (_inputs(2, 3), _FLOAT_OR_8, _one_type, _DENSE, _optional_bias, _SIMPLE),
    "TRANSPOSE_CONV": (_inputs(3, 4), _FLOAT_OR_8, _one_type, _rank(4), _constant(0, 1, 3), _SIMPLE),
    "MAX_POOL_2D": (_FLOAT_OR_8, _pool, _SIMPLE),
    "AVERAGE_POOL_2D": (_FLOAT, _pool, _SIMPLE),
    "SOFTMAX": (_FLOAT, _softmax_beta),
    "CONCATENATION": (_inputs(2, 5), _FLOAT_OR_8, _same_scale("UINT8")),
    "SPLIT": (_outputs(2, 4), _FLOAT_OR_8, _constant(0)),
    "RESHAPE": (_FLOAT_OR_8, _at_most_rank(6), _same_scale(*_EIGHT_BIT), _constant(1)),
    "PAD": (_FLOAT_OR_8, _at_most_rank(6), _constant(1)),
    "RESIZE_BILINEAR": (_FLOAT_OR_8, _rank(4), _constant(1)),
    "SLICE": (_FLOAT_OR_8, _constant(1, 2), _positive_sizes),
    "STRIDED_SLICE": (_FLOAT_OR_8, _constant(1, 2, 3), _plain_slice),
    "SPACE_TO_DEPTH": (_FLOAT_OR_8, _blocks),
    "ADD": (_FLOAT_OR_8, _at_most_rank(6), _one_type, _ratios(2**-10, 2**8), _SIMPLE),
    "SUB": (_FLOAT_OR_8, _at_most_rank(6), _one_type, _ratios(2**-10, 2**8), _SIMPLE),
    "MUL": (_FLOAT_OR_8, _at_most_rank(6), _one_type, _product_ratio(2**-16, 2**8), _SIMPLE),
    "DIV": (_FLOAT, _at_most_rank(6), _SIMPLE),
    "PRELU": (_FLOAT, _at_most_rank(6), _constant(1)),
    "LEAKY_RELU": (_FLOAT_OR_8, _at_most_rank(6), _leaky),
    "ELU": (_types("FLOAT32", "INT8"), _at_most_rank(6)),
    "QUANTIZE": (_FLOAT_OR_8, _at_most_rank(6), _writes(*_EIGHT_BIT), _requantize),
    "DEQUANTIZE": (_FLOAT_OR_8, _at_most_rank(6), _reads(*_EIGHT_BIT), _writes("FLOAT32")),
} | _table(
    (),
    {
        "MEAN SUM REDUCE_MAX REDUCE_MIN TRANSPOSE": (_FLOAT_OR_8, _constant(1)),
        "DEPTH_TO_SPACE": (_FLOAT_OR_8,),
        "LOGISTIC TANH": (_FLOAT_OR_8, _at_most_rank(6)),
        "MAXIMUM MINIMUM SQUARED_DIFFERENCE BATCH_MATMUL": (_FLOAT, _at_most_rank(6)),
        "ABS CEIL COS EXP FLOOR GELU HARD_SWISH LOG NEG": (_FLOAT, _at_most_rank(6)),
        "RELU RELU6 RELU_N1_TO_1 ROUND RSQRT SIN SQRT SQUARE": (_FLOAT, _at_most_rank(6)),
    },
)

# Quantized graphs run as float with every result rounded to its steps: the file is smaller, not the time.
_GPU = _table(
    (_runtime_types("FLOAT32", "FLOAT16", *_EIGHT_BIT), _at_most_rank(4)),
    {
        "ABS ADD AVERAGE_POOL_2D BATCH_MATMUL CONCATENATION CONV_2D COS DEPTHWISE_CONV_2D DEQUANTIZE": (),
        "DIV ELU EXP FULLY_CONNECTED HARD_SWISH LEAKY_RELU LOG LOGISTIC MAXIMUM MAX_POOL_2D MINIMUM": (),
        "MUL NEG POW PRELU QUANTIZE RELU RELU6 RESHAPE RSQRT SIN SOFTMAX SQRT SQUARE": (),
        "SQUARED_DIFFERENCE SUB TANH TRANSPOSE_CONV": (),
        "MEAN SUM REDUCE_MAX REDUCE_MIN REDUCE_PROD TRANSPOSE PAD MIRROR_PAD": (_constant(1),),
        "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR": (_constant(1),),
        "SLICE": (_constant(1, 2),),
        "STRIDED_SLICE": (_constant(1, 2, 3),),
        "PACK SPACE_TO_DEPTH SPLIT_V": (),
    },
)

_COREML = _table(
    (_types("FLOAT32"),),
    {
        "ADD MUL": (_version(1), _broadcasts),
        "AVERAGE_POOL_2D MAX_POOL_2D": (_version(1), _fused("NONE")),
        "CONCATENATION": (_version(1), _channels_axis),
        "CONV_2D": (_version(1), _constant(1, 2)),
        "DEPTHWISE_CONV_2D": (_version(2), _constant(1, 2)),
        "TRANSPOSE_CONV": (_version(1), _constant(0, 1, 3)),
        "FULLY_CONNECTED": (_version(6), _constant(1, 2), _one_row),
        "MEAN": (_version(1), _keeps_dims),
        "PAD PADV2 MIRROR_PAD": (_version(1), _pads(1, 2)),
        "RESHAPE RESIZE_BILINEAR": (_version(1), _constant(1)),
        "SOFTMAX": (_version(1), _softmax_beta),
        "HARD_SWISH LOGISTIC RELU RELU6 RELU_N1_TO_1 TANH": (_version(1),),
    },
)

_EDGETPU = _table(
    (_runtime_types(*_EIGHT_BIT), _three_axes),
    {
        "ADD DEPTHWISE_CONV_2D EXPAND_DIMS L2_NORMALIZATION LOGISTIC MAXIMUM MINIMUM MUL PACK PRELU": (),
        "QUANTIZE RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE": (),
        "SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE SQUEEZE SUB TANH TRANSPOSE TRANSPOSE_CONV": (),
        "AVERAGE_POOL_2D MAX_POOL_2D CONCATENATION": (_fused("NONE"),),
        "CONV_2D": (_constant(1, 2), _dilation),
        "FULLY_CONNECTED": (_constant(1, 2), _one_row),
        "MEAN SUM REDUCE_MAX REDUCE_MIN": (_not_the_batch,),
        "PAD": (_pads(1, 2, 3),),
        "SOFTMAX": (_short_vector,),
        "STRIDED_SLICE": (_plain_slice,),
    },
)

_MICRO = _table(
    (_runtime_types("INT8", "INT16", "FLOAT32", "INT32", "BOOL"),),
    {
        "CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED TRANSPOSE_CONV": (_no_hybrid,),
        "ABS ADD ADD_N ARG_MAX ARG_MIN AVERAGE_POOL_2D BATCH_TO_SPACE_ND BROADCAST_ARGS BROADCAST_TO": (),
        "CAST CEIL CONCATENATION COS CUMSUM DEPTH_TO_SPACE DIV ELU EQUAL EXP EXPAND_DIMS FILL FLOOR": (),
        "FLOOR_DIV FLOOR_MOD GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH L2_NORMALIZATION": (),
        "L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC": (),
        "LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2": (),
        "PRELU REDUCE_MAX RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR ROUND RSQRT": (),
        "SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE": (),
        "SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE UNPACK ZEROS_LIKE": (),
    },
) | {"QUANTIZE": (), "DEQUANTIZE": ()}

_ROWS = (
    Delegate("xnnpack", "CPU kernels of every TFLite runtime, phone, desktop and browser", _XNNPACK),
    Delegate("gpu", "GPU of Android and iOS phones", _GPU, keeps="largest"),
    Delegate("coreml", "Apple's Neural Engine, through Core ML", _COREML, least=2),
    Delegate("edgetpu", "Coral's Edge TPU", _EDGETPU, keeps="first"),
    Delegate("micro", "TFLite Micro: kernels of micro-controllers, without a fallback", _MICRO),
)
DELEGATES: dict[str, Delegate] = {row.name: row for row in _ROWS}


def list_delegates() -> list[str]:
    """The names that `partitions` accepts."""
    return list(DELEGATES)
