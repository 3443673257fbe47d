"""Concatenation of many = concatenation of concatenations: XNNPACK takes at most five inputs at once."""

from __future__ import annotations

from converters.graph import Graph, Op, Tensor, options

MOST = 4  # What XNNPACK documents; newer ones take five.


def wide_concat_in_parts(graph: Graph) -> int:
    """Split each concatenation of more inputs.

    Args:
        graph: A float graph that is going to be quantized; changed in place.

    Returns:
        How many were split.
    """
    wide = [op for op in graph.of_kind("CONCATENATION") if len(op.inputs) > MOST]
    for op in wide:
        level = 0
        while len(op.inputs) > MOST:
            parts = [op.inputs[i : i + MOST] for i in range(0, len(op.inputs), MOST)]
            level += 1
            op.inputs = [
                _join(graph, op, part, f"{level}_{i}") if len(part) > 1 else part[0]
                for i, part in enumerate(parts)
            ]
    return len(wide)


def _join(graph: Graph, whole: Op, part: list[Tensor | None], number: str) -> Tensor:
    first, axis = part[0], whole.options.axis
    assert first is not None
    axis %= len(first.shape)
    size = sum(tensor.shape[axis] for tensor in part if tensor is not None)
    shape = tuple(size if i == axis else length for i, length in enumerate(first.shape))
    joined = Tensor(f"{whole.output.name}/part_{number}", shape, first.dtype)
    join = options("ConcatenationOptions", axis=axis)
    graph.insert(Op("CONCATENATION", list(part), [joined], join, whole.version), whole)
    return joined
