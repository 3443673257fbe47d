"""Everything that can be said of a .tflite without running it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from converters.arena import arena, micro_arena, nbytes
from converters.delegates import list_delegates, partitions
from converters.errors import ConversionError
from converters.graph import COMPUTING, Graph, Op, Tensor, schema_module

_LARGEST = 10


def explain(content: bytes) -> dict[str, Any]:
    """Describe a TFLite model.

    Args:
        content: The file, from a source that is trusted or checked by `converters.untrusted`.

    Returns:
        What JSON can hold: bytes, description, version, signatures, metadata (names of its entries); and,
        unless "unread" says why not, inputs, outputs, ops (kind to type to number), macs (kind to
        multiplications), total_macs, parameters (type to number and bytes), weights (how many are quantized
        how), partitions (delegate to what it takes), arena, constants (the largest).
    """
    found = _of_the_file(content)
    try:
        graph = Graph(content)
    except ConversionError as error:
        return found | {"unread": str(error)}
    macs = _macs(graph)
    return found | {
        "inputs": [_tensor(tensor) for tensor in graph.inputs],
        "outputs": [_tensor(tensor) for tensor in graph.outputs],
        "ops": _ops(graph),
        "macs": dict(macs.most_common()),
        "total_macs": macs.total(),
        "parameters": _parameters(graph),
        "weights": _weights(graph),
        "partitions": {name: _partitions(graph, name) for name in list_delegates()},
        "arena": _arena(graph),
        "constants": [_constant(tensor) for tensor in _constants(graph)[:_LARGEST]],
    }


def _of_the_file(content: bytes) -> dict[str, Any]:
    model = schema_module().Model.GetRootAs(content, 0)
    signatures = [model.SignatureDefs(i) for i in range(model.SignatureDefsLength())]
    return {
        "bytes": len(content),
        "description": _text(model.Description()),
        "version": model.Version(),
        "signatures": [
            {
                "name": _text(signature.SignatureKey()),
                "inputs": [_text(signature.Inputs(i).Name()) for i in range(signature.InputsLength())],
                "outputs": [_text(signature.Outputs(i).Name()) for i in range(signature.OutputsLength())],
            }
            for signature in signatures
        ],
        "metadata": [_text(model.Metadata(i).Name()) for i in range(model.MetadataLength())],
    }


def _text(value: bytes | None) -> str:
    return value.decode(errors="replace") if value else ""


def _tensor(tensor: Tensor) -> dict[str, Any]:
    row = {"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype.lower()}
    q = tensor.quantization
    if q is None or len(q.scale) != 1:
        return row
    # The shortest number that is this float32, not the digits that float64 adds.
    return row | {"scale": float(str(q.scale[0])), "zero_point": int(q.zero_point[0])}


def _ops(graph: Graph) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for op in graph.ops:
        counts.setdefault(op.kind, Counter())[_types(op)] += 1
    return {kind: dict(types.most_common()) for kind, types in sorted(counts.items())}


def _types(op: Op) -> str:
    """The type that an operation reads, and the one that it writes if that is another."""
    read = [tensor.dtype.lower() for tensor in op.inputs if tensor is not None and not tensor.is_constant]
    if not read:
        read = [tensor.dtype.lower() for tensor in op.inputs[:1] if tensor is not None]
    written = op.output.dtype.lower()
    return written if written in read or not read else f"{read[0]} -> {written}"


def _macs(graph: Graph) -> Counter[str]:
    """Multiplications of convolutions and dense layers by kind."""
    counts = Counter[str]()
    for op in graph.of_kind(*COMPUTING):
        image, weights = op.inputs[2 if op.kind == "TRANSPOSE_CONV" else 0], op.inputs[1]
        if image is not None and weights is not None:
            # A transposed convolution spreads each of its inputs; the others gather for each output.
            places = image.shape if op.kind == "TRANSPOSE_CONV" else op.output.shape
            counts[op.kind] += _size(places) * _size(_window(op.kind, weights.shape))
    return counts


def _window(kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes of the weights that one place is multiplied with."""
    return {"DEPTHWISE_CONV_2D": shape[1:3], "TRANSPOSE_CONV": shape[:3]}.get(kind, shape[1:])


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _constants(graph: Graph) -> list[Tensor]:
    """Constants, those that share a value once, the largest first."""
    once: dict[int, Tensor] = {}
    for tensor in graph.tensors():
        if tensor.data is not None:
            # Tensors of one buffer are views of it.
            once.setdefault(tensor.data.ctypes.data, tensor)
    return sorted(once.values(), key=lambda tensor: (-nbytes(tensor), tensor.name))


def _parameters(graph: Graph) -> dict[str, dict[str, int]]:
    """Numbers and bytes by type; shapes, axes and the like are no parameters."""
    rows: dict[str, dict[str, int]] = {}
    for tensor in _constants(graph):
        if "FLOAT" in tensor.dtype or tensor.quantization is not None:
            row = rows.setdefault(tensor.dtype.lower(), {"number": 0, "bytes": 0})
            row["number"] += _size(tensor.shape)
            row["bytes"] += nbytes(tensor)
    return rows


def _weights(graph: Graph) -> dict[str, int]:
    counts = {"per_channel": 0, "per_tensor": 0, "not_quantized": 0}
    for op in graph.of_kind(*COMPUTING):
        weights = op.inputs[1]
        quantization = weights.quantization if weights is not None else None
        if quantization is None:
            counts["not_quantized"] += 1
        else:
            counts["per_channel" if len(quantization.scale) > 1 else "per_tensor"] += 1
    return counts


def _partitions(graph: Graph, delegate: str) -> dict[str, Any]:
    found = partitions(graph, delegate)
    return {
        "taken": found.taken,
        "total": found.total,
        "partitions": found.partitions,
        "refused": [row._asdict() for row in found.refused],
    }


def _arena(graph: Graph) -> dict[str, Any]:
    found = arena(graph)
    return {
        "peak_bytes": found.peak_bytes,
        "peak_op": found.peak_op,
        "planned_bytes": found.planned_bytes,
        "micro_planned_bytes": micro_arena(graph).planned_bytes,
    }


def _constant(tensor: Tensor) -> dict[str, Any]:
    row = {"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype.lower()}
    return row | {"bytes": nbytes(tensor)}
