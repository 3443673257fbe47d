"""MIRROR_PAD of one pixel = slices and concatenations.

XNNPACK has no MIRROR_PAD. BlurPool pads by reflection in front of its depthwise convolution.
"""

from __future__ import annotations

import numpy as np

from converters.graph import Graph, Op, Tensor, constant, options

REFLECT, SYMMETRIC = 0, 1


def mirror_pad_as_concat(graph: Graph) -> int:
    """Replace paddings of images by at most one reflected row and column a side.

    Args:
        graph: A float graph; changed in place.

    Returns:
        How many were replaced.
    """
    count = 0
    for pad in graph.of_kind("MIRROR_PAD"):
        pads = pad.constant(1)
        if pads is None or len(pads) != 4 or pads[[0, 3]].any() or pads.max() != 1:
            continue
        _replace(graph, pad, pads)
        count += 1
    return count


def _replace(graph: Graph, pad: Op, pads: np.ndarray) -> None:
    image = pad.inputs[0]
    assert image is not None
    edge = 1 if pad.options.mode == REFLECT else 0
    axes = [axis for axis in (1, 2) if pads[axis].any()]
    for axis in axes:
        before, behind = pads[axis]
        front = [_slice(graph, pad, image, axis, edge, "front")] if before else []
        last = image.shape[axis] - 1 - edge
        back = [_slice(graph, pad, image, axis, last, "back")] if behind else []
        whole = pad.output if axis == axes[-1] else _longer(pad, image, axis, before + behind)
        join = options("ConcatenationOptions", axis=axis)
        graph.insert(Op("CONCATENATION", [*front, image, *back], [whole], join), pad)
        image = whole
    graph.ops.remove(pad)


def _slice(graph: Graph, pad: Op, image: Tensor, axis: int, index: int, side: str) -> Tensor:
    begin = np.zeros(4, np.int32)
    begin[axis] = index
    shape = tuple(1 if i == axis else size for i, size in enumerate(image.shape))
    name = f"{pad.output.name}/{side}_{axis}"
    edge = Tensor(name, shape, image.dtype)
    inputs: list[Tensor | None] = [
        image,
        constant(f"{name}/begin", begin),
        constant(f"{name}/size", np.array(shape, np.int32)),
    ]
    graph.insert(Op("SLICE", inputs, [edge], options("SliceOptions")), pad)
    return edge


def _longer(pad: Op, image: Tensor, axis: int, more: int) -> Tensor:
    shape = tuple(size + more if i == axis else size for i, size in enumerate(image.shape))
    return Tensor(f"{pad.output.name}/mirrored_{axis}", shape, image.dtype)
