"""Convolution of stride 2 on a few channels = stride 1 on 2x2 blocks of pixels, with a quarter of the taps.

int8 kernels take channels in groups (4, 8 or 64 bytes a step): ResNet's 7x7 stem on 3 channels
leaves most of each group empty, in 49 taps. On blocks it has 16 taps of 12 channels: 2.7 -> 1.3 ms
at 224x224 (one thread, AMX), of 11 ms for all of ResNet-50. Rows and columns of zeros make the
kernel's size even, so the sums stay the same.
"""

from __future__ import annotations

import numpy as np

from converters.graph import Graph, Op, Tensor, constant, options, padding

# A 3x3 stem has 9 taps, too few to pay for the reordering: measured, no gain.
LEAST_KERNEL = 5


def stem_as_space_to_depth(graph: Graph) -> int:
    """Rewrite each such convolution.

    Args:
        graph: A float graph that is going to be quantized; changed in place.

    Returns:
        How many were rewritten.
    """
    count = 0
    for conv in graph.of_kind("CONV_2D"):
        if _is_stem(conv):
            count += _rewrite(graph, conv)
    return count


def _is_stem(conv: Op) -> bool:
    kernel, image = conv.constant(1), conv.inputs[0]
    return (
        kernel is not None
        and image is not None
        and image.shape[3] <= 4
        and kernel.shape[3] == image.shape[3]  # not grouped
        and min(kernel.shape[1:3]) >= LEAST_KERNEL
        and (conv.options.strideH, conv.options.strideW) == (2, 2)
        and (conv.options.dilationHFactor, conv.options.dilationWFactor) == (1, 1)
    )


def _rewrite(graph: Graph, conv: Op) -> bool:
    image = conv.inputs[0]
    assert image is not None
    pad = graph.producer(image)
    zeros = pad.constant(1) if pad is not None and pad.kind == "PAD" else None
    if pad is not None and zeros is not None and _pads_for(graph, conv, zeros):
        assert pad.inputs[0] is not None
        image, before = pad.inputs[0], [int(zeros[1][0]), int(zeros[2][0])]
    elif conv.options.padding == padding("VALID"):
        before = [0, 0]
    else:
        before = [_same(conv, axis) for axis in (1, 2)]
    if any(size % 2 for size in image.shape[1:3]):
        return False
    blocks, kernel, pads = _blocks(conv, image, before)
    if pads.min() < 0:  # The convolution leaves out pixels at the end.
        return False
    for op in _ops(conv, image, blocks, kernel, pads):
        graph.insert(op, conv)
    graph.ops.remove(conv)
    graph.remove_dead()
    return True


def _pads_for(graph: Graph, conv: Op, zeros: np.ndarray) -> bool:
    """Whether a padding of the image serves this convolution alone, so that it can be done to the blocks."""
    image = conv.inputs[0]
    assert image is not None
    alone = graph.only_consumer(image) is conv
    return alone and conv.options.padding == padding("VALID") and not zeros[[0, 3]].any()


def _same(conv: Op, axis: int) -> int:
    """What SAME padding adds in front (TensorFlow's rule: the odd one goes behind)."""
    size, out, kernel = conv.inputs[0].shape[axis], conv.output.shape[axis], conv.inputs[1].shape[axis]  # type: ignore[union-attr]
    return max((out - 1) * 2 + kernel - size, 0) // 2


def _blocks(conv: Op, image: Tensor, before: list[int]) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """The reordered image, the kernel for it, and the padding in blocks (4, 2)."""
    taps = conv.constant(1)
    assert taps is not None
    pads = np.zeros((4, 2), np.int32)
    for axis, margin in zip((1, 2), before, strict=True):
        front = margin % 2  # A window that starts within a block starts earlier, on a zero.
        back = (taps.shape[axis] + front) % 2
        taps = np.pad(taps, [(front, back) if i == axis else (0, 0) for i in range(4)])
        blocks, size = image.shape[axis] // 2, taps.shape[axis] // 2
        pads[axis, 0] = (margin + front) // 2
        pads[axis, 1] = conv.output.shape[axis] + size - 1 - blocks - pads[axis, 0]
    out, height, width, channels = taps.shape
    pairs = taps.reshape(out, height // 2, 2, width // 2, 2, channels)
    kernel = pairs.transpose(0, 1, 3, 2, 4, 5).reshape(out, height // 2, width // 2, 4 * channels)
    shape = (image.shape[0], image.shape[1] // 2, image.shape[2] // 2, 4 * channels)
    return Tensor(f"{conv.output.name}/blocks", shape, "FLOAT32"), np.ascontiguousarray(kernel), pads


def _ops(conv: Op, image: Tensor, blocks: Tensor, kernel: np.ndarray, pads: np.ndarray) -> list[Op]:
    ops = [Op("SPACE_TO_DEPTH", [image], [blocks], options("SpaceToDepthOptions", blockSize=2))]
    name, read = conv.output.name, blocks
    if pads.any():
        shape = tuple(int(size + sum(pad)) for size, pad in zip(blocks.shape, pads, strict=True))
        read = Tensor(f"{name}/padded", shape, "FLOAT32")
        ops.append(Op("PAD", [blocks, constant(f"{name}/pads", pads)], [read], options("PadOptions")))
    taps = constant(f"{name}/taps", kernel)
    fused = options(
        "Conv2DOptions",
        padding=padding("VALID"),
        strideH=1,
        strideW=1,
        dilationHFactor=1,
        dilationWFactor=1,
        fusedActivationFunction=conv.options.fusedActivationFunction,
    )
    return [*ops, Op("CONV_2D", [read, taps, *conv.inputs[2:]], conv.outputs, fused)]
