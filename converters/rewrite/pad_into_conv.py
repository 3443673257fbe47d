"""Zeros around an image, then a convolution without padding = the convolution with SAME padding.

Where TensorFlow's SAME rule pads as much: networks of other lineages pad by hand, and at odd sizes of the
image the rule does the same. Quantized, the padding is the zero point, which means zero.
"""

from __future__ import annotations

from converters.graph import Graph, Op
from converters.rewrite.same_padding import Windows, take_pads_in


def pad_into_conv(graph: Graph) -> int:
    """Remove each PAD whose only reader is a convolution that can do its work.

    Args:
        graph: A float graph; changed in place.

    Returns:
        How many were removed.
    """
    return take_pads_in(graph, ("CONV_2D", "DEPTHWISE_CONV_2D"), _windows, lambda pad: True)


def _windows(conv: Op) -> Windows:
    kernel = conv.inputs[1]
    assert kernel is not None
    options = conv.options
    dilation = options.dilationHFactor, options.dilationWFactor
    reach = [(taps - 1) * step + 1 for taps, step in zip(kernel.shape[1:3], dilation, strict=True)]
    return tuple(zip(reach, (options.strideH, options.strideW), strict=True))
