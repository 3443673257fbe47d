"""Average pool, then 1x1 convolution = 1x1 convolution, then average pool.

Both are linear, and the mean of a constant is the constant, so bias and the smaller counts at the
border of SAME padding stay right; only the activation has to move behind the pool. The pool then
runs on the channels that the convolution leaves: 4 to 11 times fewer in Inception v3's pool
branches.
"""

from __future__ import annotations

import numpy as np

from converters.graph import Graph, Op, Tensor, activation


def average_pool_behind_conv(graph: Graph) -> int:
    """Swap each average pool of stride 1 with the 1x1 convolution that alone reads it.

    Args:
        graph: A float graph; changed in place.

    Returns:
        How many were swapped.
    """
    count = 0
    # From the last to the first, so that a convolution passes one pool after the other.
    for pool in [*graph.of_kind("AVERAGE_POOL_2D")][::-1]:
        conv = graph.only_consumer(pool.output)
        if conv is not None and _commute(pool, conv):
            _swap(graph, pool, conv)
            count += 1
    return count


def _commute(pool: Op, conv: Op) -> bool:
    kernel = conv.constant(1)
    return (
        conv.kind == "CONV_2D"
        and conv.inputs[0] is pool.output
        and kernel is not None
        and kernel.shape[1:3] == (1, 1)
        and kernel.shape[3] == pool.output.shape[3]  # not grouped
        and (conv.options.strideH, conv.options.strideW) == (1, 1)
        and (pool.options.strideH, pool.options.strideW) == (1, 1)
        and pool.options.fusedActivationFunction == activation("NONE")
        and _pays(pool, conv)
    )


def _pays(pool: Op, conv: Op) -> bool:
    """Whether there is less to do afterwards, when the convolution runs on the larger image."""
    image, pooled, result = pool.inputs[0], pool.output.shape, conv.output.shape
    assert image is not None
    taps = pool.options.filterHeight * pool.options.filterWidth
    products = pooled[3] * result[3]
    larger, smaller = np.prod(image.shape[1:3]), np.prod(pooled[1:3])
    return larger * products + smaller * taps * result[3] < smaller * (taps * pooled[3] + products)


def _swap(graph: Graph, pool: Op, conv: Op) -> None:
    image = pool.inputs[0]
    assert image is not None
    linear = Tensor(f"{conv.output.name}/linear", (*image.shape[:3], conv.output.shape[3]), "FLOAT32")
    pool.inputs, pool.outputs = [linear], conv.outputs
    conv.inputs[0], conv.outputs = image, [linear]
    pool.options.fusedActivationFunction = conv.options.fusedActivationFunction
    conv.options.fusedActivationFunction = activation("NONE")
    graph.ops.remove(pool)
    graph.ops.insert(graph.ops.index(conv) + 1, pool)
