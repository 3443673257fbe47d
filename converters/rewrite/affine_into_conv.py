"""Convolution, then x * scale + offset = another convolution; and the other way round.

The batch norms that the converter leaves: behind a convolution of a dilation or a reshape it does
not see through, and in front of one. In front, an offset is exact only where the convolution pads
with nothing; a scale always is.
"""

from __future__ import annotations

import numpy as np

from converters.graph import Graph, Op, Tensor, activation, constant, padding

_SIGNS = {"ADD": 1.0, "SUB": -1.0}
_LAYERS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}  # to the axis of the output channels


def affine_into_conv(graph: Graph) -> int:
    """Fold products and sums with constants into the convolutions beside them.

    Args:
        graph: A float graph; changed in place.

    Returns:
        How many operations were folded.
    """
    count, last = 0, -1
    while count > last:  # A product in front of a sum is in front of the convolution when the sum is in it.
        last = count
        for op in graph.of_kind("MUL", *_SIGNS):
            count += _fold_backward(graph, op) or _fold_forward(graph, op)
    return count


def _values(op: Op) -> np.ndarray | None:
    """The constant operand, one a channel (C,)."""
    values, image = op.constant(1), op.inputs[0]
    if values is None or image is None or image.is_constant or values.dtype != np.float32:
        return None
    if image.shape != op.output.shape or values.size not in (1, image.shape[-1]):
        return None
    if values.size > 1 and values.shape[-1] != image.shape[-1]:
        return None
    return np.broadcast_to(values.reshape(-1), (image.shape[-1],))


def _fold_backward(graph: Graph, op: Op) -> bool:
    values, image = _values(op), op.inputs[0]
    layer = graph.producer(image)
    if values is None or layer is None or image is None or layer.kind not in _LAYERS:
        return False
    kernel = _float_constant(layer, 1)
    if graph.only_consumer(image) is not op or layer.options.fusedActivationFunction != activation("NONE"):
        return False
    bias = _bias(layer)
    if kernel is None or bias is None or layer.output.shape[-1] != len(values):
        return False
    if op.kind == "MUL":
        shape = [-1 if axis == _LAYERS[layer.kind] else 1 for axis in range(kernel.ndim)]
        _set(layer, kernel * values.reshape(shape), bias * values)
    else:
        _set(layer, kernel, bias + _SIGNS[op.kind] * values)
    layer.outputs = op.outputs
    layer.options.fusedActivationFunction = op.options.fusedActivationFunction
    graph.ops.remove(op)
    return True


def _fold_forward(graph: Graph, op: Op) -> bool:
    values = _values(op)
    conv = graph.only_consumer(op.output)
    if values is None or conv is None or conv.kind != "CONV_2D" or conv.inputs[0] is not op.output:
        return False
    kernel, bias = _float_constant(conv, 1), _bias(conv)
    if kernel is None or bias is None or kernel.shape[3] != len(values):
        return False
    if op.options.fusedActivationFunction != activation("NONE"):
        return False
    if op.kind == "MUL":
        _set(conv, kernel * values, bias)
    elif _reads_only_pixels(conv):
        _set(conv, kernel, bias + _SIGNS[op.kind] * np.einsum("ohwi,i->o", kernel, values))
    else:
        return False
    conv.inputs[0] = op.inputs[0]
    graph.ops.remove(op)
    return True


def _reads_only_pixels(conv: Op) -> bool:
    """Whether no window of a convolution reaches into padding."""
    image = conv.inputs[0]
    assert image is not None
    if conv.options.padding == padding("VALID"):
        return True
    strides = conv.options.strideH, conv.options.strideW
    kernel = conv.inputs[1].shape[1:3]  # type: ignore[union-attr]
    dilation = conv.options.dilationHFactor, conv.options.dilationWFactor
    return all(
        (out - 1) * stride + (taps - 1) * step + 1 <= size
        for out, stride, taps, step, size in zip(
            conv.output.shape[1:3], strides, kernel, dilation, image.shape[1:3], strict=True
        )
    )


def _float_constant(op: Op, index: int) -> np.ndarray | None:
    values = op.constant(index)
    return values if values is not None and values.dtype == np.float32 else None


def _bias(layer: Op) -> np.ndarray | None:
    if len(layer.inputs) < 3 or layer.inputs[2] is None:
        return np.zeros(layer.output.shape[-1], np.float32)
    return _float_constant(layer, 2)


def _set(layer: Op, kernel: np.ndarray, bias: np.ndarray) -> None:
    names = [tensor.name for tensor in layer.inputs if isinstance(tensor, Tensor)]
    bias_name = names[2] if len(names) > 2 else f"{layer.output.name}/bias"
    layer.inputs[1:] = [
        constant(names[1], kernel.astype(np.float32)),
        constant(bias_name, bias.astype(np.float32)),
    ]
