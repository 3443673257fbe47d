"""x * scale + offset, channel by channel = depthwise convolution of one pixel.

A batch norm that no convolution takes in (the pre-activation of ResNet v2, DenseNet's) is MUL and
ADD. In int8 their constants have one scale for all channels, and the product is rounded; the
convolution has a scale a channel and rounds once.
"""

from __future__ import annotations

import numpy as np

from converters.graph import Graph, Op, activation, constant, options, padding


def affine_as_depthwise(graph: Graph) -> int:
    """Replace each product and sum with constants.

    Args:
        graph: A float graph that is going to be quantized; changed in place.

    Returns:
        How many were replaced.
    """
    count = 0
    for mul in graph.of_kind("MUL"):
        add = graph.only_consumer(mul.output)
        scale, offset = _per_channel(mul), None if add is None else _per_channel(add)
        if add is None or add.kind != "ADD" or scale is None or offset is None:
            continue
        if mul.options.fusedActivationFunction != activation("NONE"):
            continue
        graph.insert(_depthwise(mul, add, scale, offset), add)
        graph.ops.remove(mul)
        graph.ops.remove(add)
        count += 1
    return count


def _per_channel(op: Op) -> np.ndarray | None:
    """The constant that an image (N, H, W, C) is combined with, as (C,)."""
    values, shape = op.constant(1), op.output.shape
    if values is None or len(shape) != 4 or values.dtype != np.float32 or op.inputs[0] is None:
        return None
    if op.inputs[0].shape != shape or values.shape[-1:] != shape[-1:] or values.size != shape[-1]:
        return None
    return values.reshape(-1)


def _depthwise(mul: Op, add: Op, scale: np.ndarray, offset: np.ndarray) -> Op:
    kernel = constant(f"{add.output.name}/scale", scale.reshape(1, 1, 1, -1))
    bias = constant(f"{add.output.name}/offset", offset)
    fused = options(
        "DepthwiseConv2DOptions",
        padding=padding("VALID"),
        strideH=1,
        strideW=1,
        depthMultiplier=1,
        fusedActivationFunction=add.options.fusedActivationFunction,
    )
    return Op("DEPTHWISE_CONV_2D", [mul.inputs[0], kernel, bias], add.outputs, fused)
