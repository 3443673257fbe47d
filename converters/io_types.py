"""Other types for the input and the output of an int8 graph, as clients ask for them."""

from __future__ import annotations

from typing import Literal

import numpy as np

from converters.graph import Graph, Op, Quantization, Tensor, options

IOType = Literal["int8", "uint8", "int16", "float32"]


def set_input_type(graph: Graph, dtype: IOType) -> None:
    """Put a conversion in front of the graph.

    Args:
        graph: With int8 inputs; changed in place.
        dtype: What the caller is to give.
    """
    if dtype == "int8":
        return
    for inner in dict.fromkeys(graph.inputs):
        outer = _outer(inner, dtype)
        graph.ops.insert(0, Op("QUANTIZE", [outer], [inner], options("QuantizeOptions")))
        graph.replace_input(inner, outer)


def set_output_type(graph: Graph, dtype: IOType) -> None:
    """Put a conversion behind the graph.

    Args:
        graph: With int8 outputs; changed in place.
        dtype: What the caller is to get.
    """
    if dtype == "int8":
        return
    for inner in dict.fromkeys(graph.outputs):
        outer = _outer(inner, dtype)
        kind = "QUANTIZE" if dtype == "uint8" else "DEQUANTIZE"
        version = 1 if kind == "QUANTIZE" else 2
        fields = options(f"{kind.capitalize()}Options")
        graph.ops.append(Op(kind, [inner], [outer], fields, version))
        graph.replace_output(inner, outer)


def _outer(inner: Tensor, dtype: IOType) -> Tensor:
    """What the caller sees; takes over the name, so that clients find it."""
    outer = Tensor(inner.name, inner.shape, dtype.upper())
    if dtype == "uint8" and inner.quantization is not None:
        zero_point = inner.quantization.zero_point + np.int64(128)
        outer.quantization = Quantization(inner.quantization.scale, zero_point)
    inner.name = f"{inner.name}_int8"
    return outer
