"""int8 RSQRT and SQRT = the same in float, between DEQUANTIZE and QUANTIZE: XNNPACK has only those.

Group normalisation takes the root of one variance a group: a few numbers, so the float costs
nothing, and each int8 root would end a partition. The small constant that is added to a variance
has a scale too far from the variance's for XNNPACK's int8 ADD; it comes along.
"""

from __future__ import annotations

from converters.graph import Graph, Op, Tensor, activation, constant, options

SUFFIX = "/in_float"


def roots_in_float(graph: Graph) -> int:
    """Compute roots in float.

    Args:
        graph: An int8 graph; changed in place.

    Returns:
        How many roots.
    """
    count = 0
    for root in graph.of_kind("RSQRT", "SQRT"):
        if root.output.dtype != "INT8":
            continue
        variance = root.inputs[0]
        add = graph.producer(variance)
        if add is not None and _adds_constant(add) and graph.only_consumer(add.output) is root:
            real = _dequantized(graph, add.inputs[0], root)
            graph.ops.remove(add)
            x = _float(add.output)
            graph.insert(Op("ADD", [real, _real(add.inputs[1])], [x], options("AddOptions")), root)
        else:
            x = _dequantized(graph, variance, root)
        y = _float(root.output)
        graph.insert(Op(root.kind, [x], [y]), root)
        graph.insert(Op("QUANTIZE", [y], root.outputs, options("QuantizeOptions")), root)
        graph.ops.remove(root)
        count += 1
    return count


def _adds_constant(op: Op) -> bool:
    other = op.inputs[1] if op.kind == "ADD" else None
    plain = other is not None and other.data is not None and other.data.size == 1
    return plain and op.options.fusedActivationFunction == activation("NONE")


def _float(tensor: Tensor) -> Tensor:
    return Tensor(f"{tensor.name}{SUFFIX}", tensor.shape, "FLOAT32")


def _dequantized(graph: Graph, tensor: Tensor | None, before: Op) -> Tensor:
    assert tensor is not None
    real = _float(tensor)
    graph.insert(Op("DEQUANTIZE", [tensor], [real], options("DequantizeOptions"), 2), before)
    return real


def _real(tensor: Tensor | None) -> Tensor:
    """The number that an int8 constant stands for."""
    assert tensor is not None and tensor.data is not None and tensor.quantization is not None  # noqa: PT018
    steps = tensor.data.astype("float32") - tensor.quantization.zero_point.astype("float32")
    return constant(f"{tensor.name}{SUFFIX}", steps * tensor.quantization.scale)
