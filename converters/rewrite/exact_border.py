"""The border correction of an average pool, with the numbers that it means.

The quantizer stores 1, 1.5 and 2.25 in steps of 2.25 / 255, and 1 becomes 0.9966. In steps of 0.125
all are exact.
"""

from __future__ import annotations

import numpy as np

from converters.graph import Graph, Op, Quantization, constant
from converters.rewrite.average_pool_as_depthwise import STEP


def exact_border(graph: Graph) -> int:
    """Store the corrections that `average_pool_as_depthwise` multiplies with in steps of 0.125.

    Args:
        graph: An int8 graph; changed in place.

    Returns:
        How many were stored anew.
    """
    count = 0
    for mul in graph.of_kind("MUL"):
        factors, pool = mul.inputs[1], graph.producer(mul.inputs[0])
        if factors is None or pool is None or not _has_equal_weights(pool):
            continue
        if not _is_map(factors.shape, mul.output.shape) or factors.data is None:
            continue
        if factors.dtype != "INT8" or factors.quantization is None:
            continue
        scale, zero = factors.quantization.scale[0], factors.quantization.zero_point[0]
        steps = (factors.data.astype(np.float32) - zero) * scale / STEP
        whole = np.round(steps)
        # No window holds more pixels than its size.
        possible = whole.min() * STEP >= 1 and whole.max() <= 127
        # Half a step of the quantizer's is the most by which a value of ours can be off.
        if possible and np.abs(steps - whole).max() * STEP <= 0.51 * scale:
            exact = Quantization(np.array([STEP], np.float32), np.zeros(1, np.int64))
            mul.inputs[1] = constant(factors.name, whole.astype(np.int8), exact)
            count += 1
    return count


def _has_equal_weights(op: Op) -> bool:
    """Whether an operation is a mean over windows; a factor behind anything else is the user's."""
    kernel = op.constant(1) if op.kind == "DEPTHWISE_CONV_2D" else None
    return kernel is not None and bool((kernel == kernel.flat[0]).all())


def _is_map(shape: tuple[int, ...], image: tuple[int, ...]) -> bool:
    """Whether a shape is (1, H, W, 1) of an image."""
    return len(image) == 4 and shape == (1, *image[1:3], 1) and image[3] > 1
