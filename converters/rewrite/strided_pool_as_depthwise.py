"""Max pool of one pixel with a stride = depthwise convolution with weight 1.

It keeps every second pixel, the shortcut of ResNet v2. XNNPACK refuses it in int8; the convolution
with the integer 1 and scale 1 gives the same integers.
"""

from __future__ import annotations

import numpy as np

from converters.graph import Graph, Op, Quantization, constant, options, padding


def strided_pool_as_depthwise(graph: Graph) -> int:
    """Replace max pools that only choose pixels.

    Args:
        graph: An int8 graph; changed in place.

    Returns:
        How many were replaced.
    """
    count = 0
    for pool in graph.of_kind("MAX_POOL_2D"):
        scale = pool.output.quantization
        single = (pool.options.filterHeight, pool.options.filterWidth) == (1, 1)
        strided = (pool.options.strideH, pool.options.strideW) != (1, 1)
        if pool.output.dtype == "INT8" and single and strided and scale is not None:
            graph.insert(_choose(pool, float(scale.scale[0])), pool)
            graph.ops.remove(pool)
            count += 1
    return count


def _choose(pool: Op, scale: float) -> Op:
    channels = pool.output.shape[3]
    one = Quantization(np.ones(channels, np.float32), np.zeros(channels, np.int64), axis=3)
    bias_scale = Quantization(np.full(channels, scale, np.float32), np.zeros(channels, np.int64), axis=0)
    kernel = constant(f"{pool.output.name}/one", np.ones((1, 1, 1, channels), np.int8), one)
    bias = constant(f"{pool.output.name}/no_bias", np.zeros(channels, np.int32), bias_scale)
    chosen = options(
        "DepthwiseConv2DOptions",
        padding=padding("VALID"),
        strideH=pool.options.strideH,
        strideW=pool.options.strideW,
        depthMultiplier=1,
        fusedActivationFunction=pool.options.fusedActivationFunction,
    )
    return Op("DEPTHWISE_CONV_2D", [pool.inputs[0], kernel, bias], pool.outputs, chosen, version=3)
