"""Max pool of one pixel with a stride = depthwise convolution with weight 1.

It keeps every second pixel, the shortcut of ResNet v2. XNNPACK refuses it, in float and in int8; the
convolution with weight 1, in int8 the integer 1 of scale 1, gives the same numbers.
"""

from __future__ import annotations

import numpy as np

from converters.graph import Graph, Op, Quantization, Tensor, constant, options, padding


def strided_pool_as_depthwise(graph: Graph) -> int:
    """Replace max pools that only choose pixels.

    Args:
        graph: An int8 graph; changed in place.

    Returns:
        How many were replaced.
    """
    count = 0
    for pool in graph.of_kind("MAX_POOL_2D"):
        single = (pool.options.filterHeight, pool.options.filterWidth) == (1, 1)
        strided = (pool.options.strideH, pool.options.strideW) != (1, 1)
        if single and strided and (constants := _constants(pool)) is not None:
            graph.insert(_choose(pool, *constants), pool)
            graph.ops.remove(pool)
            count += 1
    return count


def _constants(pool: Op) -> tuple[Tensor, Tensor] | None:
    """Weights of 1 and biases of 0 in the type of the image; None for types other than float32 and int8."""
    channels, quantization = pool.output.shape[3], pool.output.quantization
    names = f"{pool.output.name}/one", f"{pool.output.name}/no_bias"
    if pool.output.dtype == "FLOAT32":
        kernel = constant(names[0], np.ones((1, 1, 1, channels), np.float32))
        return kernel, constant(names[1], np.zeros(channels, np.float32))
    if pool.output.dtype != "INT8" or quantization is None:
        return None
    scale = float(quantization.scale[0])
    one = Quantization(np.ones(channels, np.float32), np.zeros(channels, np.int64), axis=3)
    bias_scale = Quantization(np.full(channels, scale, np.float32), np.zeros(channels, np.int64), axis=0)
    kernel = constant(names[0], np.ones((1, 1, 1, channels), np.int8), one)
    return kernel, constant(names[1], np.zeros(channels, np.int32), bias_scale)


def _choose(pool: Op, kernel: Tensor, bias: Tensor) -> Op:
    chosen = options(
        "DepthwiseConv2DOptions",
        padding=padding("VALID"),
        strideH=pool.options.strideH,
        strideW=pool.options.strideW,
        depthMultiplier=1,
        fusedActivationFunction=pool.options.fusedActivationFunction,
    )
    version = 3 if pool.output.dtype == "INT8" else 1
    return Op("DEPTHWISE_CONV_2D", [pool.inputs[0], kernel, bias], pool.outputs, chosen, version)
