"""Bias correction: take out of the biases what rounding the weights adds to the mean of each output.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2,
arXiv 1906.04721, equation 17: with e = W_q - W the mean of a layer's output before its activation moves by

    E[W_q x] - E[W x] = e E[x],

so e E[x] is subtracted from the bias. E[x] is the mean of each input channel over calibration images and
pixels. Where a layer pads with zeros its taps see the image only part of the time: tap t counts with the
share p_t of the output pixels at which it lies inside, sum_t p_t e_t E[x]. One pass over all layers does:
each is corrected for its own error with the means of the float model, which are what the corrected layers
before it deliver.

Finkelstein et al. 2019, "Fighting Quantization Bias With Bias", arXiv 1906.03193, measure the shift of the
output instead. That needs the quantized model to be run again after each layer, or counts errors twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.equalization import LAYERS
from converters.graph import Graph, Op, Tensor, constant, padding

_INT32 = np.iinfo(np.int32)


def correct_biases(quantized: Graph, float_graph: Graph, means: dict[str, np.ndarray]) -> int:
    """Correct the int32 biases of a quantized model.

    Args:
        quantized: The int8 model; changed in place.
        float_graph: The float model that it was made from.
        means: Tensor name to the mean of each channel (C,), of the inputs of all layers of the float model.

    Returns:
        The number of layers whose bias changed. Layers are matched by the name of their output; those
        without a partner, with another shape of weights, or without an int32 bias stay as they are.

    Raises:
        ValueError: `means` lacks a tensor, or has another number of channels.
    """
    references = {op.output.name: op for op in float_graph.of_kind(*LAYERS)}
    pairs = [
        (op, references[op.output.name]) for op in quantized.of_kind(*LAYERS) if op.output.name in references
    ]
    corrections = [(op, _shift(op, reference, means)) for op, reference in pairs if _is_match(op, reference)]
    return sum(_subtract(quantized, op, shift) for op, shift in corrections)


def _is_match(op: Op, reference: Op) -> bool:
    weights, bias = op.inputs[1], op.inputs[2] if len(op.inputs) > 2 else None
    original = reference.constant(1)
    return (
        weights is not None
        and weights.data is not None
        and weights.dtype == "INT8"
        and weights.quantization is not None
        and bias is not None
        and bias.data is not None
        and bias.dtype == "INT32"
        and bias.quantization is not None
        and original is not None
        and weights.shape == original.shape
        and op.kind == reference.kind
    )


def _shift(op: Op, reference: Op, means: dict[str, np.ndarray]) -> np.ndarray:
    """The mean of the output that the error of the weights adds, (C',)."""
    source, weights, original = reference.inputs[0], op.inputs[1], reference.constant(1)
    assert source is not None
    assert weights is not None
    assert original is not None
    error = _dequantized(weights) - original
    if op.kind == "FULLY_CONNECTED":
        mean = _mean(means, source, error.shape[1])
        return error @ mean
    mean = _mean(means, source, source.shape[-1])
    rows = _shares(source.shape[1], op.output.shape[1], error.shape[1], op.options, "H")
    columns = _shares(source.shape[2], op.output.shape[2], error.shape[2], op.options, "W")
    seen = np.einsum("nhwc,h,w->nc", error, rows, columns)
    if op.kind == "DEPTHWISE_CONV_2D":
        return seen[0] * np.repeat(mean, seen.shape[1] // len(mean))
    groups = len(mean) // seen.shape[1]
    parts = seen.reshape(groups, -1, seen.shape[1])
    return np.einsum("gnc,gc->gn", parts, mean.reshape(groups, -1)).reshape(-1)


def _mean(means: dict[str, np.ndarray], tensor: Tensor, channels: int) -> np.ndarray:
    if tensor.name not in means:
        raise ValueError(f"means lacks tensor {tensor.name!r}.")
    mean = np.asarray(means[tensor.name], np.float64)
    # A dense layer flattens its input: pixel after pixel, the channels of each.
    if mean.shape != tensor.shape[-1:] or channels % len(mean):
        raise ValueError(
            f"means of tensor {tensor.name!r} has shape {mean.shape}; {tensor.shape[-1:]} is accepted."
        )
    return np.tile(mean, channels // len(mean))


def _shares(size: int, outputs: int, taps: int, options: Any, side: str) -> np.ndarray:
    """Of each tap along one side, the share of outputs at which it lies inside of the image, (taps,)."""
    stride, dilation = getattr(options, f"stride{side}"), getattr(options, f"dilation{side}Factor")
    before = 0
    if options.padding == padding("SAME"):
        before = max((outputs - 1) * stride + (taps - 1) * dilation + 1 - size, 0) // 2
    places = np.arange(outputs)[:, np.newaxis] * stride + np.arange(taps) * dilation - before
    return ((places >= 0) & (places < size)).mean(0)


def _dequantized(tensor: Tensor) -> np.ndarray:
    """The real numbers that the integers of a constant stand for, float64."""
    assert tensor.data is not None
    assert tensor.quantization is not None
    shape = [1] * tensor.data.ndim
    if len(tensor.quantization.scale) > 1:
        shape[tensor.quantization.axis] = -1
    scale, zero = (np.reshape(v, shape) for v in (tensor.quantization.scale, tensor.quantization.zero_point))
    return scale.astype(np.float64) * (tensor.data.astype(np.float64) - zero)


def _subtract(graph: Graph, op: Op, shift: np.ndarray) -> bool:
    bias = op.inputs[2]
    assert bias is not None
    assert bias.data is not None
    assert bias.quantization is not None
    steps = np.rint(shift / bias.quantization.scale.astype(np.float64))
    if not steps.any():
        return False
    name = bias.name if graph.only_consumer(bias) is op else f"{op.output.name}/bias"
    corrected = np.clip(bias.data - steps, _INT32.min, _INT32.max).astype(np.int32)
    op.inputs = [*op.inputs[:2], constant(name, corrected, bias.quantization)]
    return True
