"""Zeros around an image without negative numbers, then max pool = max pool with SAME padding.

SAME padding does not take part in the maximum, and zero never wins where nothing is negative, so
after a RELU the two agree wherever TensorFlow's SAME rule pads as much. torchvision's ceil_mode
pools of GoogLeNet do.
"""

from __future__ import annotations

from converters.graph import Graph, Op, Tensor, activation, padding

_PASS_ON = ("MAX_POOL_2D", "AVERAGE_POOL_2D", "RESHAPE", "CONCATENATION")


def pad_into_max_pool(graph: Graph) -> int:
    """Remove each PAD whose only reader is a max pool that can do its work.

    Args:
        graph: A float graph; changed in place.

    Returns:
        How many were removed.
    """
    count = 0
    for pad in graph.of_kind("PAD"):
        pool = graph.only_consumer(pad.output)
        if pool is None or pool.kind != "MAX_POOL_2D" or pool.options.padding != padding("VALID"):
            continue
        if _is_same(pad, pool) and _no_negatives(graph, pad.inputs[0]):
            pool.inputs[0] = pad.inputs[0]
            pool.options.padding = padding("SAME")
            graph.ops.remove(pad)
            count += 1
    return count


def _is_same(pad: Op, pool: Op) -> bool:
    zeros, image = pad.constant(1), pad.inputs[0]
    if zeros is None or image is None or len(zeros) != 4 or zeros[[0, 3]].any():
        return False
    windows = (
        (pool.options.filterHeight, pool.options.strideH),
        (pool.options.filterWidth, pool.options.strideW),
    )
    for axis, (window, stride) in zip((1, 2), windows, strict=True):
        steps = -(-image.shape[axis] // stride)
        total = max((steps - 1) * stride + window - image.shape[axis], 0)
        if pool.output.shape[axis] != steps or zeros[axis].tolist() != [total // 2, total - total // 2]:
            return False
    return True


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
