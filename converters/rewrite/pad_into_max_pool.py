"""Zeros around an image without negative numbers, then max pool = max pool with SAME padding.

SAME padding does not take part in the maximum, and zero never wins where nothing is negative, so
after a RELU the two agree wherever TensorFlow's SAME rule pads as much. torchvision's ceil_mode
pools of GoogLeNet do.
"""

from __future__ import annotations

from converters.graph import Graph, Op, Tensor, activation
from converters.rewrite.same_padding import Windows, take_pads_in

_PASS_ON = ("MAX_POOL_2D", "AVERAGE_POOL_2D", "RESHAPE", "CONCATENATION")


def pad_into_max_pool(graph: Graph) -> int:
    """Remove each PAD whose only reader is a max pool that can do its work.

    Args:
        graph: A float graph; changed in place.

    Returns:
        How many were removed.
    """
    return take_pads_in(graph, ("MAX_POOL_2D",), _windows, lambda pad: _no_negatives(graph, pad.inputs[0]))


def _windows(pool: Op) -> Windows:
    options = pool.options
    return (options.filterHeight, options.strideH), (options.filterWidth, options.strideW)


def _no_negatives(graph: Graph, tensor: Tensor | None) -> bool:
    maker = graph.producer(tensor)
    if maker is None:
        return False
    if maker.kind in ("RELU", "RELU6", "LOGISTIC", "SOFTMAX"):
        return True
    fused = getattr(maker.options, "fusedActivationFunction", activation("NONE"))
    if fused in (activation("RELU"), activation("RELU6")):
        return True
    parts = maker.inputs if maker.kind == "CONCATENATION" else maker.inputs[:1]
    return maker.kind in _PASS_ON and all(_no_negatives(graph, part) for part in parts)
