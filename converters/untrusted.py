"""Files that somebody else made: checking a .tflite before anything of the runtime reads it."""

from __future__ import annotations

import graphlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from converters.bounds import check_bounds
from converters.graph import names_of, schema_module

_MAX_RANK = 8  # What the runtime's kernels have room for.
_VERSION = 3

# Bits of an element; types that are missing here have no fixed size.
_BITS = {
    "FLOAT32": 32, "FLOAT16": 16, "INT32": 32, "UINT8": 8, "INT64": 64, "BOOL": 8, "INT16": 16,
    "COMPLEX64": 64, "INT8": 8, "FLOAT64": 64, "COMPLEX128": 128, "UINT64": 64, "UINT32": 32, "UINT16": 16,
    "INT4": 4, "BFLOAT16": 16, "INT2": 2, "UINT4": 4, "FLOAT8_E4M3FN": 8, "FLOAT8_E5M2": 8,
}  # fmt: skip
_ZERO_POINTS = {
    "INT2": (-2, 1), "INT4": (-8, 7), "UINT4": (0, 15), "INT8": (-128, 127), "UINT8": (0, 255),
    "INT16": (-(2**15), 2**15 - 1), "UINT16": (0, 2**16 - 1), "INT32": (-(2**31), 2**31 - 1),
}  # fmt: skip


@dataclass(frozen=True)
class _Rule:
    """What an operation of CNNs looks like.

    Attributes:
        least: Inputs that it must have.
        most: Inputs that it can have.
        options: The schema's name of its options; without them its kernel would divide by zero.
        ranks: Of the first inputs; None where any is accepted.
    """

    least: int
    most: int
    options: str = ""
    ranks: tuple[int | None, ...] = ()


_UNARY, _BINARY = _Rule(1, 1), _Rule(2, 2)
_POOL = _Rule(1, 1, "Pool2DOptions", (4,))
_REDUCE = _Rule(2, 2, "ReducerOptions")
_RULES = {
    "CONV_2D": _Rule(2, 3, "Conv2DOptions", (4, 4)),
    "DEPTHWISE_CONV_2D": _Rule(3, 3, "DepthwiseConv2DOptions", (4, 4)),
    "TRANSPOSE_CONV": _Rule(3, 4, "TransposeConvOptions", (1, 4, 4)),
    "FULLY_CONNECTED": _Rule(2, 3, "FullyConnectedOptions", (None, 2)),
    "BATCH_MATMUL": _Rule(2, 2, "BatchMatMulOptions"),
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "L2_POOL_2D": _POOL,
    "MEAN": _REDUCE,
    "SUM": _REDUCE,
    "REDUCE_MAX": _REDUCE,
    "REDUCE_MIN": _REDUCE,
    "REDUCE_PROD": _REDUCE,
    "CONCATENATION": _Rule(1, 2**16, "ConcatenationOptions"),
    "PACK": _Rule(1, 2**16, "PackOptions"),
    "SPLIT": _Rule(2, 2, "SplitOptions"),
    "SPLIT_V": _Rule(3, 3, "SplitVOptions"),
    "GATHER": _Rule(2, 2, "GatherOptions"),
    "ARG_MAX": _Rule(2, 2, "ArgMaxOptions"),
    "RESIZE_BILINEAR": _Rule(2, 2, "ResizeBilinearOptions", (4, 1)),
    "RESIZE_NEAREST_NEIGHBOR": _Rule(2, 2, "ResizeNearestNeighborOptions", (4, 1)),
    "DEPTH_TO_SPACE": _Rule(1, 1, "DepthToSpaceOptions", (4,)),
    "SPACE_TO_DEPTH": _Rule(1, 1, "SpaceToDepthOptions", (4,)),
    "LOCAL_RESPONSE_NORMALIZATION": _Rule(1, 1, "LocalResponseNormalizationOptions", (4,)),
    "MIRROR_PAD": _Rule(2, 2, "MirrorPadOptions", (None, 2)),
    "PAD": _Rule(2, 2, "", (None, 2)),
    "PADV2": _Rule(3, 3, "", (None, 2)),
    "SOFTMAX": _Rule(1, 1, "SoftmaxOptions"),
    "LEAKY_RELU": _Rule(1, 1, "LeakyReluOptions"),
    "ADD": _Rule(2, 2, "AddOptions"),
    "SUB": _Rule(2, 2, "SubOptions"),
    "MUL": _Rule(2, 2, "MulOptions"),
    "DIV": _Rule(2, 2, "DivOptions"),
    "STRIDED_SLICE": _Rule(4, 4, "StridedSliceOptions", (None, 1, 1, 1)),
    "SLICE": _Rule(3, 3, "", (None, 1, 1)),
    "TRANSPOSE": _Rule(2, 2, "", (None, 1)),
    "RESHAPE": _Rule(1, 2),
    "SQUEEZE": _Rule(1, 1, "SqueezeOptions"),
    "EXPAND_DIMS": _BINARY,
    "PRELU": _BINARY,
    "MAXIMUM": _BINARY,
    "MINIMUM": _BINARY,
    "POW": _BINARY,
    "SQUARED_DIFFERENCE": _BINARY,
    "BROADCAST_TO": _BINARY,
    "TILE": _BINARY,
    **dict.fromkeys(
        ("QUANTIZE", "DEQUANTIZE", "CAST", "SHAPE", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "ELU",
         "LOGISTIC", "TANH", "HARD_SWISH", "GELU", "ABS", "NEG", "EXP", "LOG", "SQRT", "RSQRT", "SQUARE",
         "FLOOR", "CEIL", "ROUND", "LOG_SOFTMAX", "L2_NORMALIZATION"),
        _UNARY,
    ),
}  # fmt: skip

# The input that says how large the output is to be; a size of zero lets kernels run forever.
_SIZES = {"TRANSPOSE_CONV": 0, "RESIZE_BILINEAR": 1, "RESIZE_NEAREST_NEIGHBOR": 1}
# Twice the larger scale of the inputs must be below 2^this times the scale of the output: kernels assert it.
_SUM_SHIFTS = {"INT8": 20, "UINT8": 20, "INT16": 15}

# Options by their names, whatever operation they belong to.
_POSITIVE = (
    "strideW", "strideH", "strideD", "dilationWFactor", "dilationHFactor", "dilationDFactor", "filterWidth",
    "filterHeight", "blockSize", "numSplits", "depthMultiplier",
)  # fmt: skip
_MOST = 2**15  # Strides and sizes beyond overflow the runtime's products.
_CHOICES = {
    "fusedActivationFunction": "ActivationFunctionType",
    "padding": "Padding",
    "mode": "MirrorPadMode",
}
_SUBGRAPHS = (
    "condSubgraphIndex", "bodySubgraphIndex", "thenSubgraphIndex", "elseSubgraphIndex", "initSubgraphIndex",
    "subgraph", "decompositionSubgraphIndex", "branchIndices",
)  # fmt: skip


def check_tflite(content: bytes, source: str) -> None:
    """Check that a TFLite model can be read, and that it makes sense, before a reader or the runtime does.

    Neither looks where it steps: a wrong offset, index or size ends the process. What is left after this
    check, such as a kernel that fails on an odd combination, is for `probe` to find.

    Args:
        content: The file.
        source: What to call it in the message, such as its path.

    Raises:
        ValueError: Something is wrong with it; says the first thing that is.
    """
    try:
        check_bounds(content)
        schema = schema_module()
        _check_model(schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0)), len(content))
    except ValueError as error:
        raise ValueError(f"{source} is not a TFLite model that can be used: {error}.") from error


def _check_model(model: Any, size: int) -> None:
    if model.version != _VERSION:
        raise ValueError(f"its schema version is {model.version}; {_VERSION} is accepted")
    if not model.subgraphs:
        raise ValueError("it has no subgraph")
    kinds = [_kind(code, f"operator code {i}") for i, code in enumerate(_list(model.operatorCodes))]
    buffers = [_buffer_size(buffer, size, f"buffer {i}") for i, buffer in enumerate(_list(model.buffers))]
    for i, entry in enumerate(_list(model.metadata)):
        _check_name(entry.name, f"metadata {i}")
        _check_index(entry.buffer, len(buffers), f"metadata {i}", "buffer")
    for i in _list(model.metadataBuffer):
        _check_index(i, len(buffers), "the list of metadata", "buffer")
    graphs = [
        _Subgraph(raw, f"subgraph {i}" if i else "the model", kinds, buffers, model.buffers)
        for i, raw in enumerate(model.subgraphs)
    ]
    for graph in graphs:
        graph.check()
    _check_calls([graph.calls for graph in graphs])
    for i, signature in enumerate(_list(model.signatureDefs)):
        where = f"signature {i}"
        _check_name(signature.signatureKey, where)
        _check_index(signature.subgraphIndex, len(graphs), where, "subgraph")
        tensors = len(_list(model.subgraphs[signature.subgraphIndex].tensors))
        for entry in (*_list(signature.inputs), *_list(signature.outputs)):
            _check_name(entry.name, f"an input or output of {where}")
            _check_index(entry.tensorIndex, tensors, where, "tensor")


def _kind(code: Any, where: str) -> str:
    # Files from before there were 127 operators have their number in the deprecated field.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    name = names_of("BuiltinOperator").get(number)
    if name is None:
        raise ValueError(f"{where} is number {number}, which the installed ai-edge-litert does not know")
    if name == "CUSTOM":
        _check_name(code.customCode, f"{where}, a custom one,")
    return name


def _buffer_size(buffer: Any, size: int, where: str) -> int:
    """The number of bytes of a buffer, which may lie behind the flatbuffer."""
    if buffer.offset > 1:  # 0 and 1 say that there is none.
        if buffer.offset + buffer.size > size:
            raise ValueError(f"{where} goes to byte {buffer.offset + buffer.size}, outside of the file")
        return int(buffer.size)
    return len(_list(buffer.data))


class _Subgraph:
    """The checks of one subgraph; every method raises ValueError at the first thing that is wrong.

    Attributes:
        calls: The subgraphs that its operations run.
    """

    def __init__(self, raw: Any, where: str, kinds: list[str], buffers: list[int], data: Any) -> None:
        self.calls: list[int] = []
        self._raw = raw
        self._where = where
        self._kinds = kinds
        self._buffers = buffers
        self._data = data
        self._tensors = _list(raw.tensors)
        self._names = [f"tensor {i} ({_text(tensor.name)!r})" for i, tensor in enumerate(self._tensors)]

    def check(self) -> None:
        """Check tensors, then operations in the order in which they run."""
        for tensor, name in zip(self._tensors, self._names, strict=True):
            _check_tensor(tensor, f"{name} of {self._where}", self._buffers, len(self._tensors))
        known = {i for i, tensor in enumerate(self._tensors) if self._has_value(tensor)}
        inputs = [_check_index(i, len(self._tensors), self._where, "tensor") for i in _list(self._raw.inputs)]
        for i in inputs:
            if self._is_constant(i):
                raise ValueError(f"input {self._names[i]} of {self._where} is a constant")
        known.update(inputs)
        for number, op in enumerate(_list(self._raw.operators)):
            _check_index(
                op.opcodeIndex, len(self._kinds), f"operation {number} of {self._where}", "operator code"
            )
            kind = self._kinds[op.opcodeIndex]
            self._check_op(op, kind, f"operation {number} ({kind}) of {self._where}", known)
        for i in _list(self._raw.outputs):
            _check_index(i, len(self._tensors), self._where, "tensor")
            if i not in known:
                raise ValueError(f"output {self._names[i]} of {self._where} is made by no operation")

    def _has_value(self, tensor: Any) -> bool:
        """Whether a tensor needs no operation that makes it."""
        return bool(self._buffers[tensor.buffer] or tensor.isVariable or 0 in _list(tensor.shape))

    def _is_constant(self, index: int) -> bool:
        return bool(self._buffers[self._tensors[index].buffer])

    def _check_op(self, op: Any, kind: str, where: str, known: set[int]) -> None:
        rule = _RULES.get(kind)
        inputs, outputs = [int(i) for i in _list(op.inputs)], [int(i) for i in _list(op.outputs)]
        for position, i in enumerate(inputs):
            if i == -1 and (rule is None or position >= rule.least):
                continue
            _check_index(i, len(self._tensors), where, "tensor")
            if i not in known:
                raise ValueError(f"{where} reads {self._names[i]}, which nothing before it makes")
        for i in outputs:
            _check_index(i, len(self._tensors), where, "tensor")
            if i in known and not (0 in _list(self._tensors[i].shape) and not self._is_constant(i)):
                raise ValueError(f"{where} writes {self._names[i]}, which has a value already")
        known.update(outputs)
        for i in _list(op.intermediates):
            _check_index(i, len(self._tensors), where, "tensor")
        if rule is not None:
            self._check_rule(rule, op, inputs, where)
        if kind in _SIZES:
            self._check_size(inputs[_SIZES[kind]], where)
        if kind in ("ADD", "SUB"):
            self._check_sum(inputs, outputs[0], where)
        for options in (op.builtinOptions, op.builtinOptions2):
            if options is not None:
                self.calls += _check_options(options, where)

    def _check_rule(self, rule: _Rule, op: Any, inputs: list[int], where: str) -> None:
        if not rule.least <= len(inputs) <= rule.most:
            raise ValueError(f"{where} has {len(inputs)} inputs; {rule.least} to {rule.most} are accepted")
        if not len(_list(op.outputs)):
            raise ValueError(f"{where} has no output")
        given = (
            type(op.builtinOptions).__name__.removesuffix("T") if op.builtinOptions is not None else "none"
        )
        if rule.options and given != rule.options:
            raise ValueError(f"{where} has the options {given}; {rule.options} is accepted")
        for i, rank in zip(inputs, rule.ranks, strict=False):
            shape = _list(self._tensors[i].shape)
            if rank is not None and len(shape) != rank:
                raise ValueError(
                    f"{where} reads {self._names[i]} with {len(shape)} dimensions; {rank} are accepted"
                )
            if rank is not None and 0 in shape:
                raise ValueError(f"{where} reads {self._names[i]}, which has no elements")

    def _check_size(self, index: int, where: str) -> None:
        tensor = self._tensors[index]
        data = self._data[tensor.buffer].data
        if data is not None and names_of("TensorType")[tensor.type] == "INT32":
            size = np.asarray(data, np.uint8).view(np.int32).tolist()
            if min(size) < 1:
                raise ValueError(f"{where} is to make the size {size}; 1 and more are accepted")

    def _check_sum(self, inputs: list[int], output: int, where: str) -> None:
        shift = _SUM_SHIFTS.get(names_of("TensorType")[self._tensors[output].type])
        if shift is None:
            return
        for i in (*inputs, output):
            if not self._scale(i):
                raise ValueError(f"{where} has the integer {self._names[i]} without one scale")
        if 2 * max(self._scale(i) for i in inputs) >= 2**shift * self._scale(output):
            raise ValueError(f"{where} has scales that are too far apart")

    def _scale(self, index: int) -> float:
        quantization = self._tensors[index].quantization
        scales = _list(quantization.scale) if quantization is not None else []
        return float(scales[0]) if len(scales) == 1 else 0.0


def _check_tensor(tensor: Any, where: str, buffers: list[int], tensors: int) -> None:
    dtype = names_of("TensorType").get(tensor.type)
    if dtype is None:
        raise ValueError(
            f"{where} is of type {tensor.type}, which the installed ai-edge-litert does not know"
        )
    _check_index(tensor.buffer, len(buffers), where, "buffer")
    if tensor.externalBuffer:
        raise ValueError(f"{where} has its data in another file")
    shape = [int(size) for size in _list(tensor.shape)]
    if len(shape) > _MAX_RANK:
        raise ValueError(f"{where} has {len(shape)} dimensions; at most {_MAX_RANK} are accepted")
    elements = math.prod(shape)
    if any(size < 0 for size in shape) or elements >= 2**31:
        raise ValueError(
            f"{where} has the shape {shape}: sizes from 0, with a product below 2^31, are accepted"
        )
    stored = buffers[tensor.buffer]
    if stored and dtype in _BITS and tensor.sparsity is None:
        needed = -(-elements * _BITS[dtype] // 8)
        if stored != needed:
            raise ValueError(f"{where} is {dtype} {shape}, which takes {needed} bytes, but has {stored}")
    if tensor.quantization is not None:
        _check_quantization(tensor.quantization, shape, dtype, where, tensors)


def _check_quantization(raw: Any, shape: list[int], dtype: str, where: str, tensors: int) -> None:
    if len(_list(raw.min)) != len(_list(raw.max)):
        raise ValueError(f"{where} has {len(_list(raw.min))} minima and {len(_list(raw.max))} maxima")
    details = raw.details
    for field in ("scales", "zeroPoints") if type(details).__name__ == "BlockwiseQuantizationT" else ():
        index = getattr(details, field)
        if index != -1:
            _check_index(index, tensors, where, "tensor")
    scale, zero = np.asarray(_list(raw.scale), np.float64), np.asarray(_list(raw.zeroPoint), np.int64)
    if not len(scale):
        return
    if len(zero) != len(scale):
        raise ValueError(f"{where} has {len(scale)} scales and {len(zero)} zero points")
    if not ((scale > 0) & (scale < 1e30)).all():  # Products of larger ones overflow.
        raise ValueError(f"{where} has a scale that is not a positive number below 1e30")
    low, high = _ZERO_POINTS.get(dtype, (0, 0))
    if dtype in _ZERO_POINTS and (zero.min() < low or zero.max() > high):
        raise ValueError(f"{where} has a zero point outside of {low} to {high}")
    if len(scale) > 1:
        axis = raw.quantizedDimension
        if not 0 <= axis < len(shape) or shape[axis] != len(scale):
            raise ValueError(f"{where} of shape {shape} has {len(scale)} scales along dimension {axis}")


def _check_options(options: Any, where: str) -> list[int]:
    """Check what kernels take on trust; returns the subgraphs that are named."""
    for name in _POSITIVE:
        value = getattr(options, name, 1)
        if not 0 < value <= _MOST:
            raise ValueError(f"{where} has {name}={value}; 1 to {_MOST} is accepted")
    for name, enum in _CHOICES.items():
        value = getattr(options, name, 0)
        if isinstance(value, int) and value not in names_of(enum):
            raise ValueError(f"{where} has {name}={value}; {sorted(names_of(enum))} are accepted")
    named = [getattr(options, name, None) for name in _SUBGRAPHS]
    return [int(i) for value in named if value is not None for i in np.atleast_1d(value)]


def _check_calls(calls: list[list[int]]) -> None:
    """Refuse subgraphs that are missing, or that run themselves."""
    for number, called in enumerate(calls):
        for i in called:
            _check_index(i, len(calls), f"an operation of subgraph {number}", "subgraph")
    try:
        graphlib.TopologicalSorter(dict(enumerate(calls))).prepare()
    except graphlib.CycleError as error:
        raise ValueError("its subgraphs run each other in a circle") from error


def _check_index(index: Any, length: int, where: str, what: str) -> int:
    if not 0 <= index < length:
        raise ValueError(f"{where} names {what} {index}, of {length}")
    return int(index)


def _check_name(value: bytes | None, where: str) -> None:
    if value is None:
        raise ValueError(f"{where} has no name")


def _list(values: Any) -> Sequence[Any] | np.ndarray:
    return [] if values is None else values


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
