"""GATHER of consecutive channels = SLICE, which XNNPACK has.

Keras' `take` with a range, as local response normalisation uses it, becomes a GATHER.
"""

from __future__ import annotations

import numpy as np

from converters.graph import Graph, Op, Tensor, constant, options


def gather_as_slice(graph: Graph) -> int:
    """Replace each GATHER whose constant indices follow each other.

    Args:
        graph: A float graph; changed in place.

    Returns:
        How many were replaced.
    """
    count = 0
    for gather in graph.of_kind("GATHER"):
        indices, values = gather.constant(1), gather.inputs[0]
        if indices is None or values is None or values.is_constant or indices.ndim != 1 or not indices.size:
            continue
        if gather.options.batchDims or not np.array_equal(indices, indices[0] + np.arange(len(indices))):
            continue
        begin = np.zeros(len(values.shape), np.int32)
        begin[gather.options.axis] = indices[0]
        name = gather.output.name
        size = constant(f"{name}/size", np.array(gather.output.shape, np.int32))
        inputs: list[Tensor | None] = [values, constant(f"{name}/begin", begin), size]
        graph.insert(Op("SLICE", inputs, gather.outputs, options("SliceOptions")), gather)
        graph.ops.remove(gather)
        count += 1
    return count
