"""MIRROR_PAD of one pixel = slices and concatenations; rows that no window reaches are left out.

XNNPACK has no MIRROR_PAD. BlurPool pads by reflection in front of a depthwise convolution of stride
2, whose last window of an even image never reads the padding behind.
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
        if pads is None or len(pads) != 4 or pads[[0, 3]].any() or pads.max() > 1:
            continue
        _replace(graph, pad, pads)
        count += 1
    return count


def _replace(graph: Graph, pad: Op, pads: np.ndarray) -> None:
    image = pad.inputs[0]
    assert image is not None
    edge = 1 if pad.options.mode == REFLECT else 0
    for axis in (1, 2):
        front = [_slice(graph, pad, image, axis, edge)] if pads[axis, 0] else []
        back = [_slice(graph, pad, image, axis, image.shape[axis] - 1 - edge)] if pads[axis, 1] else []
        if front or back:
            image = _concat(graph, pad, [*front, image, *back], axis)
    graph.redirect(pad.output, image)
    graph.outputs = [image if tensor is pad.output else tensor for tensor in graph.outputs]
    graph.ops.remove(pad)


def _slice(graph: Graph, pad: Op, image: Tensor, axis: int, index: int) -> Tensor:
    begin = np.zeros(4, np.int32)
    begin[axis] = index
    shape = tuple(1 if i == axis else size for i, size in enumerate(image.shape))
    name = f"{pad.output.name}/edge_{axis}_{index}"
    edge = Tensor(name, shape, image.dtype)
    inputs: list[Tensor | None] = [
        image,
        constant(f"{name}/begin", begin),
        constant(f"{name}/size", np.array(shape, np.int32)),
    ]
    graph.insert(Op("SLICE", inputs, [edge], options("SliceOptions")), pad)
    return edge


def _concat(graph: Graph, pad: Op, parts: list[Tensor], axis: int) -> Tensor:
    size = sum(part.shape[axis] for part in parts)
    shape = tuple(size if i == axis else length for i, length in enumerate(parts[0].shape))
    whole = Tensor(f"{pad.output.name}/mirrored_{axis}", shape, parts[0].dtype)
    graph.insert(Op("CONCATENATION", list(parts), [whole], options("ConcatenationOptions", axis=axis)), pad)
    return whole
