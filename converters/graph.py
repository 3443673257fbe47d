"""A TFLite model as a graph that can be changed: operations in order of execution, tensors between them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import flatbuffers
import numpy as np

from converters.errors import ConversionError

FILE_IDENTIFIER = b"TFL3"
# What multiplies by weights, its second input.
COMPUTING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_ALIGNMENT = 16
_DTYPES = {
    "FLOAT32": np.float32, "FLOAT16": np.float16, "FLOAT64": np.float64, "INT8": np.int8, "UINT8": np.uint8,
    "INT16": np.int16, "UINT16": np.uint16, "INT32": np.int32, "UINT32": np.uint32, "INT64": np.int64,
    "UINT64": np.uint64, "BOOL": np.bool_,
}  # fmt: skip


@dataclass(eq=False)
class Quantization:
    """How integers stand for real numbers: real = scale * (integer - zero_point).

    Attributes:
        scale: float32, one number, or one a channel.
        zero_point: int64, as many.
        axis: The dimension of the channels.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int = 0

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Quantization)
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
            and (self.axis == other.axis or len(self.scale) == 1)
        )


@dataclass(eq=False)
class Tensor:
    """A value between operations, or a constant.

    Attributes:
        name: Unique in files of TensorFlow's converter.
        shape: Sizes; NHWC for images.
        dtype: Name of the type in the TFLite schema, such as FLOAT32.
        data: The value of a constant, else None. Never changed in place: two tensors may share it.
        quantization: How integers stand for real numbers, if they do.
        range: Least and largest value that was seen, for the quantizer.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: np.ndarray | None = None
    quantization: Quantization | None = None
    range: tuple[float, float] | None = None
    _raw: Any = field(default=None, repr=False)

    @property
    def is_constant(self) -> bool:
        """Whether the value is known now."""
        return self.data is not None


@dataclass(eq=False)
class Op:
    """An operation.

    Attributes:
        kind: Name in the TFLite schema, such as CONV_2D.
        inputs: Tensors; None for an optional one that is left out.
        outputs: Tensors.
        options: The schema's options object (`Conv2DOptionsT`), None for an operation without.
        version: Of the operation's semantics, as the schema counts them.
    """

    kind: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    options: Any = None
    version: int = 1
    _raw: Any = field(default=None, repr=False)

    @property
    def output(self) -> Tensor:
        """The first output."""
        return self.outputs[0]

    def constant(self, index: int) -> np.ndarray | None:
        """The value of an input, if there is that input and it is a constant."""
        tensor = self.inputs[index] if index < len(self.inputs) else None
        return None if tensor is None else tensor.data


class Graph:
    """The main subgraph of a TFLite model.

    Attributes:
        ops: Operations in order of execution.
        inputs: Tensors that the caller sets.
        outputs: Tensors that the caller gets.
    """

    def __init__(self, content: bytes) -> None:
        """Read a model.

        Args:
            content: The flatbuffer, from a source that is trusted.

        Raises:
            ConversionError: It has control flow or variables.
        """
        schema = schema_module()
        self._model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        if len(self._model.subgraphs) != 1:
            raise ConversionError(_why_several_subgraphs(self._model))
        _fetch_outside(self._model.buffers, content)
        raw = self._model.subgraphs[0]
        tensors = [_read_tensor(tensor, self._model.buffers) for tensor in _list(raw.tensors)]
        codes = [(_code_name(code), code.version) for code in _list(self._model.operatorCodes)]
        self.ops = [_read_op(op, codes, tensors) for op in _list(raw.operators)]
        self.inputs = [tensors[i] for i in _list(raw.inputs)]
        self.outputs = [tensors[i] for i in _list(raw.outputs)]
        self._signatures = [
            (signature, _map(signature.inputs, tensors), _map(signature.outputs, tensors))
            for signature in _list(self._model.signatureDefs)
        ]

    def tensors(self) -> list[Tensor]:
        """Every tensor once: the inputs, then in the order in which operations name them."""
        found = dict.fromkeys(self.inputs)
        for op in self.ops:
            found |= dict.fromkeys(tensor for tensor in (*op.inputs, *op.outputs) if tensor is not None)
        return list(found | dict.fromkeys(self.outputs))

    def of_kind(self, *kinds: str) -> Iterator[Op]:
        """The operations of some kinds, in order; the graph may change meanwhile."""
        for op in list(self.ops):
            if op.kind in kinds and op in self.ops:
                yield op

    def producer(self, tensor: Tensor | None) -> Op | None:
        """The operation that makes a tensor; None for inputs and constants."""
        return next((op for op in self.ops if tensor in op.outputs), None) if tensor is not None else None

    def consumers(self, tensor: Tensor) -> list[Op]:
        """The operations that read a tensor."""
        return [op for op in self.ops if tensor in op.inputs]

    def only_consumer(self, tensor: Tensor) -> Op | None:
        """The operation that alone reads a tensor, once, which is not an output of the graph."""
        readers = self.consumers(tensor)
        alone = len(readers) == 1 and readers[0].inputs.count(tensor) == 1 and tensor not in self.outputs
        return readers[0] if alone else None

    def insert(self, op: Op, before: Op) -> None:
        """Add an operation in front of another."""
        self.ops.insert(self.ops.index(before), op)

    def redirect(self, old: Tensor, new: Tensor) -> None:
        """Let everything that reads a tensor read another; the outputs of the graph keep theirs."""
        for op in self.consumers(old):
            op.inputs = [new if tensor is old else tensor for tensor in op.inputs]

    def remove_dead(self) -> None:
        """Remove operations whose results nobody reads."""
        needed = set(self.outputs)
        kept = []
        for op in reversed(self.ops):
            if needed.intersection(op.outputs):
                kept.append(op)
                needed.update(tensor for tensor in op.inputs if tensor is not None)
        self.ops = kept[::-1]

    def signature(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The named inputs and outputs of the first signature; empty without one."""
        return self._signatures[0][1:] if self._signatures else ({}, {})

    def rename_signature(self, inputs: dict[str, str], outputs: dict[str, str]) -> None:
        """Give the inputs and outputs of the signature other names (old to new)."""
        self._signatures = [
            (
                raw,
                {inputs.get(name, name): tensor for name, tensor in ins.items()},
                {outputs.get(name, name): tensor for name, tensor in outs.items()},
            )
            for raw, ins, outs in self._signatures
        ]

    def replace_input(self, old: Tensor, new: Tensor) -> None:
        """Let the caller set another tensor, in the signature, too."""
        self.inputs = _replaced(self.inputs, old, new)
        self._signatures = [
            (raw, dict(zip(ins, _replaced(ins.values(), old, new), strict=True)), outs)
            for raw, ins, outs in self._signatures
        ]

    def replace_output(self, old: Tensor, new: Tensor) -> None:
        """Let the caller get another tensor, in the signature, too."""
        self.outputs = _replaced(self.outputs, old, new)
        self._signatures = [
            (raw, ins, dict(zip(outs, _replaced(outs.values(), old, new), strict=True)))
            for raw, ins, outs in self._signatures
        ]

    def set_metadata(self, name: str, content: bytes) -> None:
        """Keep bytes in the file under a name, replacing older ones.

        Args:
            name: Such as TFLITE_METADATA.
            content: Any bytes.
        """
        schema = schema_module()
        entries = [entry for entry in _list(self._model.metadata) if _text(entry.name) != name]
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(content, np.uint8)
        self._model.buffers = [*self._model.buffers, buffer]
        entry.name, entry.buffer = name, len(self._model.buffers) - 1
        self._model.metadata = [*entries, entry]

    def to_bytes(self) -> bytes:
        """The model as a flatbuffer; the same graph gives the same bytes.

        Raises:
            ConversionError: It is larger than a flatbuffer can be.
        """
        schema = schema_module()
        model, raw = copy.copy(self._model), copy.copy(self._model.subgraphs[0])
        writer = _Writer(schema)
        model.metadata = [writer.metadata(entry, model.buffers) for entry in _list(model.metadata)]
        raw.tensors = []
        numbers: dict[Tensor, int] = {}
        for tensor in self.tensors():
            numbers[tensor] = len(raw.tensors)
            raw.tensors.append(writer.tensor(tensor))
        raw.operators = [writer.op(op, numbers) for op in self.ops]
        raw.inputs = [numbers[tensor] for tensor in self.inputs]
        raw.outputs = [numbers[tensor] for tensor in self.outputs]
        model.signatureDefs = [
            _signature(schema, signature, ins, outs, numbers) for signature, ins, outs in self._signatures
        ]
        model.subgraphs, model.buffers, model.operatorCodes = [raw], writer.buffers, writer.codes
        builder = flatbuffers.Builder(1 << 20)
        try:
            builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
        except flatbuffers.builder.BuilderSizeError as error:
            size = sum(len(buffer.data) for buffer in writer.buffers if buffer.data is not None)
            raise ConversionError(
                f"the constants of the model take {size / 2**30:.1f} GB, and a TFLite file cannot hold 2."
            ) from error
        return bytes(builder.Output())


class _Buffer:
    """A constant in the file, at a multiple of 16 bytes: the schema wants it, the generated code forgets."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802  the generated code's name
        schema = schema_module()
        builder.StartVector(1, len(self.data), _ALIGNMENT)
        builder.head -= len(self.data)
        builder.Bytes[builder.head : builder.head + len(self.data)] = self.data.tobytes()
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


class _Writer:
    """Collects the buffers and operator codes that tensors and operations refer to by number."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self.buffers = [schema.BufferT()]  # Number 0 says "no data", by the schema.
        self.codes: list[Any] = []
        self._numbers: dict[tuple[str, int], int] = {}
        self._shared: dict[int, tuple[int, np.ndarray]] = {}

    def _buffer(self, data: np.ndarray) -> int:
        known = self._shared.get(id(data))
        if known is None:
            self.buffers.append(_Buffer(np.ascontiguousarray(data).reshape(-1).view(np.uint8)))
            self._shared[id(data)] = known = (len(self.buffers) - 1, data)
        return known[0]

    def metadata(self, entry: Any, buffers: list[Any]) -> Any:
        entry, data = copy.copy(entry), buffers[entry.buffer].data
        entry.buffer = self._buffer(data) if data is not None else 0
        return entry

    def tensor(self, tensor: Tensor) -> Any:
        raw = copy.copy(tensor._raw) if tensor._raw is not None else self._schema.TensorT()
        raw.name, raw.type = tensor.name, getattr(self._schema.TensorType, tensor.dtype)
        # An image of open size says so in its shape signature; without one the rank decides.
        if tuple(_list(raw.shape)) != tensor.shape:
            raw.shapeSignature = None
        raw.shape, raw.hasRank = list(tensor.shape), True
        raw.buffer = 0 if tensor.data is None else self._buffer(tensor.data)
        raw.quantization = self._quantization(tensor)
        return raw

    def _quantization(self, tensor: Tensor) -> Any:
        if tensor.quantization is None and tensor.range is None:
            return None
        raw = self._schema.QuantizationParametersT()
        if tensor.quantization is not None:
            raw.scale = np.asarray(tensor.quantization.scale, np.float32)
            raw.zeroPoint = np.asarray(tensor.quantization.zero_point, np.int64)
            raw.quantizedDimension = tensor.quantization.axis
        if tensor.range is not None:
            raw.min, raw.max = [tensor.range[0]], [tensor.range[1]]
        return raw

    def op(self, op: Op, numbers: dict[Tensor, int]) -> Any:
        raw = copy.copy(op._raw) if op._raw is not None else self._schema.OperatorT()
        raw.opcodeIndex = self._code(op)
        raw.inputs = [-1 if tensor is None else numbers[tensor] for tensor in op.inputs]
        raw.outputs = [numbers[tensor] for tensor in op.outputs]
        raw.intermediates = None
        raw.builtinOptions = op.options
        name = type(op.options).__name__.removesuffix("T") if op.options is not None else "NONE"
        if hasattr(self._schema.BuiltinOptions, name):
            raw.builtinOptionsType = getattr(self._schema.BuiltinOptions, name)
        return raw

    def _code(self, op: Op) -> int:
        key = op.kind, op.version
        if key not in self._numbers:
            code = self._schema.OperatorCodeT()
            code.version = op.version
            if op.kind.startswith("CUSTOM "):
                code.builtinCode, code.customCode = self._schema.BuiltinOperator.CUSTOM, op.kind[7:]
            else:
                code.builtinCode = getattr(self._schema.BuiltinOperator, op.kind)
            # Readers from before there were 127 operators look here.
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            self._numbers[key] = len(self.codes)
            self.codes.append(code)
        return self._numbers[key]


def constant(name: str, data: np.ndarray, quantization: Quantization | None = None) -> Tensor:
    """A new constant.

    Args:
        name: Its name.
        data: Its value.
        quantization: What its integers stand for.

    Returns:
        A tensor that belongs to the graph as soon as an operation reads it.
    """
    dtype = next(key for key, value in _DTYPES.items() if value == data.dtype)
    return Tensor(name, data.shape, dtype, np.ascontiguousarray(data), quantization)


def options(name: str, **fields: Any) -> Any:
    """A new options object of the schema.

    Args:
        name: Such as Conv2DOptions.
        **fields: Its fields; all others have the schema's defaults.

    Returns:
        The object.
    """
    result = getattr(schema_module(), f"{name}T")()
    for key, value in fields.items():
        if not hasattr(result, key):
            raise AttributeError(f"{name} has no {key}")
        setattr(result, key, value)
    return result


def activation(name: str) -> int:
    """The schema's number of a fused activation: NONE, RELU, RELU6, RELU_N1_TO_1."""
    return getattr(schema_module().ActivationFunctionType, name)


def padding(name: str) -> int:
    """The schema's number of a padding: SAME, VALID."""
    return getattr(schema_module().Padding, name)


@cache
def schema_module() -> Any:
    """The generated reader and writer of the TFLite schema."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


@cache
def names_of(enum: str) -> dict[int, str]:
    """Number to name of one of the schema's enumerations."""
    values = vars(getattr(schema_module(), enum)).items()
    return {number: name for name, number in values if isinstance(number, int)}


def _why_several_subgraphs(model: Any) -> str:
    """Names the operations that hold graphs of their own, whose names begin with their layer's."""
    main, holders = model.subgraphs[0], []
    for op in _list(main.operators):
        kind = _code_name(model.operatorCodes[op.opcodeIndex])
        if kind in ("WHILE", "IF", "CALL_ONCE", "CALL"):
            names = [_text(main.tensors[i].name) for i in _list(op.outputs)[:1]]
            holders.append(" ".join([kind, *map(repr, names)]))
    held = f": {', '.join(holders[:3])}" if holders else ""
    return (
        f"the model has {len(model.subgraphs)} subgraphs, for loops or branches at run time{held}; models "
        "without are accepted."
    )


def _fetch_outside(buffers: list[Any], content: bytes) -> None:
    """Read what stands behind the flatbuffer, which cannot hold 2 GB; the offsets 0 and 1 mean nothing."""
    for buffer in buffers:
        if buffer.offset > 1:
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)


def _read_tensor(raw: Any, buffers: list[Any]) -> Tensor:
    dtype = names_of("TensorType")[raw.type]
    shape = tuple(int(size) for size in _list(raw.shape))
    if raw.isVariable:
        raise ConversionError(f"tensor {_text(raw.name)!r} is a variable, which is not supported.")
    buffer = buffers[raw.buffer]
    data = None
    if buffer.data is not None and len(buffer.data):
        data = np.asarray(buffer.data)
        if dtype in _DTYPES:
            data = data.view(_DTYPES[dtype]).reshape(shape)
    elif 0 in shape and raw.buffer and dtype in _DTYPES:
        data = np.zeros(shape, _DTYPES[dtype])
    tensor = Tensor(_text(raw.name), shape, dtype, data, _raw=raw)
    quantization = raw.quantization
    if quantization is not None and len(_list(quantization.scale)):
        scale = np.asarray(quantization.scale, np.float32)
        zero_points = quantization.zeroPoint
        zero = np.zeros(len(scale), np.int64) if zero_points is None else np.asarray(zero_points, np.int64)
        tensor.quantization = Quantization(scale, zero, quantization.quantizedDimension)
    if quantization is not None and len(_list(quantization.min)):
        tensor.range = float(quantization.min[0]), float(quantization.max[0])
    return tensor


def _read_op(raw: Any, codes: list[tuple[str, int]], tensors: list[Tensor]) -> Op:
    kind, version = codes[raw.opcodeIndex]
    inputs = [None if i < 0 else tensors[i] for i in _list(raw.inputs)]
    outputs = [tensors[i] for i in _list(raw.outputs)]
    return Op(kind, inputs, outputs, raw.builtinOptions, version, raw)


def _code_name(code: Any) -> str:
    # Files from before there were 127 operators have their number in the deprecated field.
    name = names_of("BuiltinOperator")[max(code.builtinCode, code.deprecatedBuiltinCode)]
    return f"CUSTOM {_text(code.customCode)}" if name == "CUSTOM" else name


def _map(entries: Iterable[Any] | None, tensors: list[Tensor]) -> dict[str, Tensor]:
    return {_text(entry.name): tensors[entry.tensorIndex] for entry in _list(entries)}


def _signature(
    schema: Any, raw: Any, ins: dict[str, Tensor], outs: dict[str, Tensor], numbers: dict[Tensor, int]
) -> Any:
    raw = copy.copy(raw)
    for attribute, tensors in (("inputs", ins), ("outputs", outs)):
        entries = []
        for name, tensor in tensors.items():
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name, numbers[tensor]
            entries.append(entry)
        setattr(raw, attribute, entries)
    return raw


def _replaced(tensors: Iterable[Tensor], old: Tensor, new: Tensor) -> list[Tensor]:
    return [new if tensor is old else tensor for tensor in tensors]


def _list(values: Any) -> Any:
    return [] if values is None else values


def _text(value: bytes | str | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
