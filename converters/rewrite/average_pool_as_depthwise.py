"""Average pool = depthwise convolution with equal weights, then a correction of the border; or a mean.

The XNNPACK delegate has no int8 AVERAGE_POOL_2D: each one ends a partition, and the CPU kernel that
takes over uses one thread. With SAME padding the pool divides by the number of pixels below its
window, the convolution always by the size of the window; MUL with size / number makes up for it. In
between, the values need not share one scale as an int8 pool's input and output must.
"""

from __future__ import annotations

import numpy as np

from converters.graph import Graph, Op, Tensor, activation, constant, options, padding

# A correction is a whole number of these, so that int8 holds it exactly: 1, 1.5 and 2.25 for a 3x3 pool.
STEP = 0.125


def average_pool_as_depthwise(graph: Graph) -> int:
    """Replace average pools by operations that XNNPACK has in int8.

    Args:
        graph: A float graph that is going to be quantized; changed in place.

    Returns:
        How many were replaced; those whose correction int8 cannot hold exactly stay.
    """
    count = 0
    for pool in graph.of_kind("AVERAGE_POOL_2D"):
        counts = _pixels_below(pool)
        size = pool.options.filterHeight * pool.options.filterWidth
        correction = size / counts
        if _is_mean(pool, counts):
            _replace(graph, pool, _mean(pool))
        elif size > 1 and np.all(correction % STEP == 0) and correction.max() <= 127 * STEP:
            _replace(graph, pool, _depthwise(pool, correction))
        else:
            continue
        count += 1
    return count


def _image(pool: Op) -> Tensor:
    image = pool.inputs[0]
    assert image is not None
    return image


def _pixels_below(pool: Op) -> np.ndarray:
    """How many pixels each window holds, (H, W) of the output."""
    height, width = pool.output.shape[1:3]
    same = pool.options.padding == padding("SAME")
    rows = _inside(_image(pool).shape[1], height, pool.options.filterHeight, pool.options.strideH, same)
    columns = _inside(_image(pool).shape[2], width, pool.options.filterWidth, pool.options.strideW, same)
    return rows[:, None] * columns


def _inside(size: int, steps: int, window: int, stride: int, same: bool) -> np.ndarray:
    before = max((steps - 1) * stride + window - size, 0) // 2 if same else 0
    start = np.arange(steps) * stride - before
    return np.minimum(start + window, size) - np.maximum(start, 0)


def _is_mean(pool: Op, counts: np.ndarray) -> bool:
    plain = pool.options.fusedActivationFunction == activation("NONE")
    return plain and counts.shape == (1, 1) and counts[0, 0] == np.prod(_image(pool).shape[1:3])


def _mean(pool: Op) -> list[Op]:
    axes = constant(f"{pool.output.name}/axes", np.array([1, 2], np.int32))
    return [Op("MEAN", [_image(pool), axes], pool.outputs, options("ReducerOptions", keepDims=True))]


def _depthwise(pool: Op, correction: np.ndarray) -> list[Op]:
    name, channels = pool.output.name, pool.output.shape[3]
    height, width = pool.options.filterHeight, pool.options.filterWidth
    weights = np.full((1, height, width, channels), 1 / (height * width), np.float32)
    kernel = constant(f"{name}/equal_weights", weights)
    bias = constant(f"{name}/no_bias", np.zeros(channels, np.float32))
    sums = options(
        "DepthwiseConv2DOptions",
        padding=pool.options.padding,
        strideH=pool.options.strideH,
        strideW=pool.options.strideW,
        depthMultiplier=1,
        fusedActivationFunction=pool.options.fusedActivationFunction,
    )
    if np.all(correction == 1):
        return [Op("DEPTHWISE_CONV_2D", [_image(pool), kernel, bias], pool.outputs, sums)]
    between = Tensor(f"{name}/sum", pool.output.shape, "FLOAT32")
    factors = constant(f"{name}/size_over_count", correction.astype(np.float32)[None, ..., None])
    product = options("MulOptions", fusedActivationFunction=sums.fusedActivationFunction)
    sums.fusedActivationFunction = activation("NONE")
    return [
        Op("DEPTHWISE_CONV_2D", [_image(pool), kernel, bias], [between], sums),
        Op("MUL", [between, factors], pool.outputs, product),
    ]


def _replace(graph: Graph, pool: Op, ops: list[Op]) -> None:
    for op in ops:
        graph.insert(op, pool)
    graph.ops.remove(pool)
