"""Zeros around an image without negative numbers, then max pool = max pool with SAME padding.

SAME padding does not take part in the maximum, and zero never wins where nothing is negative, so
after a RELU the two agree wherever TensorFlow's SAME rule pads as much. torchvision's ceil_mode
pools of GoogLeNet do.
"""

from __future__ import annotations

from collections.abc import Sequence

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
        if is_same(pad, pool, _windows(pool)) and _no_negatives(graph, pad.inputs[0]):
            pool.inputs[0] = pad.inputs[0]
            pool.options.padding = padding("SAME")
            graph.ops.remove(pad)
            count += 1
    return count


def _windows(pool: Op) -> tuple[tuple[int, int], ...]:
    options = pool.options
    return (options.filterHeight, options.strideH), (options.filterWidth, options.strideW)


def is_same(pad: Op, reader: Op, windows: Sequence[tuple[int, int]]) -> bool:
    """Whether a PAD does what SAME padding of its reader would do.

    Args:
        pad: Of an image.
        reader: What reads it without padding.
        windows: How far its window reaches, and its stride, of rows and columns.

    Returns:
        Whether both pad the same pixels.
    """
    zeros, image = pad.constant(1), pad.inputs[0]
    if zeros is None or image is None or len(zeros) != 4 or zeros[[0, 3]].any():
        return False
    for axis, (window, stride) in zip((1, 2), windows, strict=True):
        steps = -(-image.shape[axis] // stride)
        total = max((steps - 1) * stride + window - image.shape[axis], 0)
        if reader.output.shape[axis] != steps or zeros[axis].tolist() != [total // 2, total - total // 2]:
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
