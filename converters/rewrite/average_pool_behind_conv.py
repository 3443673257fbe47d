"""Average pool, then 1x1 convolution = 1x1 convolution, then average pool.

Both are linear, and the mean of a constant is the constant, so bias and the smaller counts at the
border of SAME padding stay right; only the activation has to move behind the pool. The pool then
runs on the channels that the convolution leaves: 4 to 11 times fewer in Inception v3's pool
branches.
"""

from __future__ import annotations

from converters.graph import Graph, Op, Tensor, activation


def average_pool_behind_conv(graph: Graph) -> int:
    """Swap each average pool of stride 1 with the 1x1 convolution that alone reads it.

    Args:
        graph: A float graph; changed in place.

    Returns:
        How many were swapped.
    """
    count = 0
    for pool in graph.of_kind("AVERAGE_POOL_2D"):
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
        and kernel.shape[0] < kernel.shape[3]
        and (conv.options.strideH, conv.options.strideW) == (1, 1)
        and (pool.options.strideH, pool.options.strideW) == (1, 1)
        and pool.options.fusedActivationFunction == activation("NONE")
    )


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
