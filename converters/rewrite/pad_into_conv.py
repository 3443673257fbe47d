"""Zeros around an image, then a convolution without padding = the convolution with SAME padding.

Where TensorFlow's SAME rule pads as much: networks of other lineages pad by hand, and at odd sizes of the
image the rule does the same. Quantized, the padding is the zero point, which means zero.
"""

from __future__ import annotations

from converters.graph import Graph, Op, padding
from converters.rewrite.pad_into_max_pool import is_same

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def pad_into_conv(graph: Graph) -> int:
    """Remove each PAD whose only reader is a convolution that can do its work.

    Args:
        graph: A float graph; changed in place.

    Returns:
        How many were removed.
    """
    count = 0
    for pad in graph.of_kind("PAD"):
        conv = graph.only_consumer(pad.output)
        if conv is None or conv.kind not in _CONVOLUTIONS or conv.options.padding != padding("VALID"):
            continue
        if conv.inputs[0] is pad.output and is_same(pad, conv, _windows(conv)):
            conv.inputs[0] = pad.inputs[0]
            conv.options.padding = padding("SAME")
            graph.ops.remove(pad)
            count += 1
    return count


def _windows(conv: Op) -> tuple[tuple[int, int], ...]:
    """How far a window reaches, and its stride, of rows and columns."""
    kernel = conv.inputs[1]
    assert kernel is not None
    options = conv.options
    dilation = options.dilationHFactor, options.dilationWFactor
    reach = [(taps - 1) * step + 1 for taps, step in zip(kernel.shape[1:3], dilation, strict=True)]
    return tuple(zip(reach, (options.strideH, options.strideW), strict=True))
