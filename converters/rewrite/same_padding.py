"""A PAD that does what SAME padding of its reader would do, taken into the reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from converters.graph import Graph, Op, padding

Windows = Sequence[tuple[int, int]]


def take_pads_in(
    graph: Graph, kinds: Sequence[str], windows: Callable[[Op], Windows], may: Callable[[Op], bool]
) -> int:
    """Remove each PAD whose only reader pads as much by TensorFlow's SAME rule.

    Args:
        graph: A float graph; changed in place.
        kinds: Of readers.
        windows: How far a reader's window reaches, and its stride, of rows and columns.
        may: Whether the PAD may go.

    Returns:
        How many were removed.
    """
    count = 0
    for pad in graph.of_kind("PAD"):
        reader = graph.only_consumer(pad.output)
        if reader is None or reader.kind not in kinds or reader.inputs[0] is not pad.output:
            continue
        if reader.options.padding == padding("VALID") and _is_same(pad, reader, windows(reader)) and may(pad):
            reader.inputs[0] = pad.inputs[0]
            reader.options.padding = padding("SAME")
            graph.ops.remove(pad)
            count += 1
    return count


def _is_same(pad: Op, reader: Op, windows: Windows) -> bool:
    zeros, image = pad.constant(1), pad.inputs[0]
    if zeros is None or image is None or len(zeros) != 4 or zeros[[0, 3]].any():
        return False
    for axis, (window, stride) in zip((1, 2), windows, strict=True):
        steps = -(-image.shape[axis] // stride)
        total = max((steps - 1) * stride + window - image.shape[axis], 0)
        if reader.output.shape[axis] != steps or zeros[axis].tolist() != [total // 2, total - total // 2]:
            return False
    return True
