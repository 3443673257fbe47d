"""x^2 = x * x and -x = x * -1: TFLite has MUL in int8, SQUARE and NEG in float only.

The quantizer would put a DEQUANTIZE in front of each and a QUANTIZE behind; group normalisation has both.
"""

from __future__ import annotations

import numpy as np

from converters.graph import Graph, Op, constant, options


def square_as_product(graph: Graph) -> int:
    """Replace squares and negations.

    Args:
        graph: A float graph that is going to be quantized; changed in place.

    Returns:
        How many were replaced.
    """
    count = 0
    for op in graph.of_kind("SQUARE", "NEG"):
        x = other = op.inputs[0]
        if op.output.dtype != "FLOAT32":
            continue
        if op.kind == "NEG":
            other = constant(f"{op.output.name}/minus_one", np.full((1,), -1, np.float32))
        graph.insert(Op("MUL", [x, other], op.outputs, options("MulOptions")), op)
        graph.ops.remove(op)
        count += 1
    return count
