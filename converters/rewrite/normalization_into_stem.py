"""The normalisation of the image, and the order of its colours, inside the first convolution.

W (x - m) / d + b = (W / d) x + (b - sum W m / d), and reversed colours are reversed columns of W:
exact where no window reaches into padding. Padding is zero after the normalisation, which before it
is the mean m: several numbers cannot be padded with, and one only by PADV2, which XNNPACK does not
take. So where the stem pads, a 1x1 convolution in front does the arithmetic.
"""

from __future__ import annotations

import numpy as np

from converters.graph import Graph, Op, Tensor, activation, constant, options, padding


def normalization_into_stem(graph: Graph, mean: np.ndarray, deviation: np.ndarray, reverse: bool) -> str:
    """Let a graph take images as they are, 0..255.

    Args:
        graph: A float graph of normalised images (N, H, W, C); changed in place.
        mean: (C,), in the order in which the network takes the colours.
        deviation: (C,), likewise.
        reverse: Whether the network takes BGR; images are RGB.

    Returns:
        Where the arithmetic went: "first convolution" or "1x1 convolution in front".
    """
    image = graph.inputs[0]
    first = graph.only_consumer(image)
    if first is not None and _is_conv(first) and first.options.padding == padding("VALID"):
        _fold(first, mean, deviation, reverse)
        return "first convolution"
    _put_in_front(graph, image, mean, deviation, reverse)
    return "1x1 convolution in front"


def _is_conv(op: Op) -> bool:
    kernel, bias = op.constant(1), op.constant(2)
    return (
        op.kind == "CONV_2D"
        and kernel is not None
        and bias is not None
        and kernel.dtype == np.float32
        and kernel.shape[3] == op.inputs[0].shape[3]  # type: ignore[union-attr]
    )


def _fold(conv: Op, mean: np.ndarray, deviation: np.ndarray, reverse: bool) -> None:
    kernel, bias = conv.constant(1), conv.constant(2)
    assert kernel is not None
    assert bias is not None
    # In float64: the sum of W m is much greater than the results.
    scaled = kernel.astype(np.float64) / deviation
    moved = bias - np.einsum("ohwi,i->o", scaled, mean)
    order = slice(None, None, -1) if reverse else slice(None)
    for index, values in ((1, scaled[..., order]), (2, moved)):
        tensor = conv.inputs[index]
        assert tensor is not None
        conv.inputs[index] = constant(tensor.name, np.ascontiguousarray(values, np.float32))


def _put_in_front(
    graph: Graph, image: Tensor, mean: np.ndarray, deviation: np.ndarray, reverse: bool
) -> None:
    matrix = np.diag(1 / deviation)[:, :: -1 if reverse else 1]
    normalised = Tensor(f"{image.name}/normalised", image.shape, image.dtype)
    graph.redirect(image, normalised)
    kernel = constant(f"{image.name}/scale", matrix[:, None, None, :].astype(np.float32))
    bias = constant(f"{image.name}/offset", (-mean / deviation).astype(np.float32))
    plain = options(
        "Conv2DOptions",
        padding=padding("VALID"),
        strideH=1,
        strideW=1,
        dilationHFactor=1,
        dilationWFactor=1,
        fusedActivationFunction=activation("NONE"),
    )
    graph.ops.insert(0, Op("CONV_2D", [image, kernel, bias], [normalised], plain))
