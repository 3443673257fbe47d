"""Storing the weights of a float graph in fewer bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from converters.graph import Graph, Op, Quantization, Tensor, constant, options

# Operations that compute from int8 weights and float activations, with the version that has a scale a
# channel, and the axis of the output channels.
_HYBRID = {"CONV_2D": (5, 0), "DEPTHWISE_CONV_2D": (6, 3), "FULLY_CONNECTED": (12, 0)}
_LEAST_ELEMENTS = 1024  # TensorFlow's own rule: smaller ones would save nothing.
_HALF_MAX = float(np.finfo(np.float16).max)


def halve_weights(graph: Graph) -> int:
    """Store float32 constants as float16; a DEQUANTIZE, which runtimes fold, brings each back.

    Args:
        graph: A float graph; changed in place.

    Returns:
        How many constants were stored anew.
    """
    halves: dict[Tensor, Tensor] = {}
    for op in list(graph.ops):
        for i, tensor in enumerate(op.inputs):
            if tensor is None or tensor.data is None or tensor.dtype != "FLOAT32":
                continue
            if tensor not in halves:
                halves[tensor] = _half(graph, tensor)
            op.inputs[i] = halves[tensor]
    return len(halves)


def _half(graph: Graph, tensor: Tensor) -> Tensor:
    assert tensor.data is not None
    # Beyond float16's range a constant would become infinite.
    data = np.clip(tensor.data, -_HALF_MAX, _HALF_MAX).astype(np.float16)
    whole = Tensor(tensor.name, tensor.shape, "FLOAT32")
    read = Op(
        "DEQUANTIZE", [constant(f"{tensor.name}/float16", data)], [whole], options("DequantizeOptions"), 3
    )
    graph.ops.insert(0, read)
    return whole


def quantize_weights(graph: Graph) -> int:
    """Store the large weights of convolutions and dense layers as int8, a scale an output channel.

    The runtime quantizes the activations as they come (dynamic range quantization), save those of depthwise
    convolutions: XNNPACK has no such kernel, and what TensorFlow writes breaks a separable network into a
    partition a layer. Here those compute in float from stored int8: 1.6 to 1.8 times as fast in all
    (MobileNetV2, Xception).

    Args:
        graph: A float graph; changed in place.

    Returns:
        How many weights were stored anew.
    """
    stored: dict[Tensor, Tensor] = {}
    for op, kernel in _large_weights(graph):
        if op.kind == "DEPTHWISE_CONV_2D":
            continue
        op.version, axis = _HYBRID[op.kind]
        if kernel not in stored:
            stored[kernel] = to_int8(kernel, axis)
        op.inputs[1] = stored[kernel]
        if op.kind == "FULLY_CONNECTED":
            op.options.asymmetricQuantizeInputs = True
    return len(stored) + store_weights(graph, 8)


def store_weights(graph: Graph, bits: Literal[4, 8]) -> int:
    """Store the large weights as integers that a DEQUANTIZE brings back: the model computes in float.

    Args:
        graph: A float graph; changed in place.
        bits: Of an integer. Depthwise kernels, which are small and lose most, have 8 in any case.

    Returns:
        How many weights were stored anew.
    """
    stored: dict[Tensor, Tensor] = {}
    for op, kernel in _large_weights(graph):
        if kernel not in stored:
            axis = _HYBRID[op.kind][1]
            small = bits == 4 and op.kind != "DEPTHWISE_CONV_2D"
            integers = to_int4(kernel, axis) if small else to_int8(kernel, axis)
            stored[kernel] = Tensor(kernel.name, kernel.shape, "FLOAT32")
            integers.name = f"{kernel.name}/{integers.dtype.lower()}"
            version = 6 if small else 5  # Since which DEQUANTIZE has a scale a channel, and 4 bits.
            read = Op("DEQUANTIZE", [integers], [stored[kernel]], options("DequantizeOptions"), version)
            graph.ops.insert(0, read)
        op.inputs[1] = stored[kernel]
    return len(stored)


def _large_weights(graph: Graph) -> Iterator[tuple[Op, Tensor]]:
    """The layers whose weights are float constants worth storing in fewer bits."""
    for op in graph.of_kind(*_HYBRID):
        kernel = op.inputs[1]
        if kernel is None or kernel.data is None or kernel.dtype != "FLOAT32":
            continue
        if kernel.data.size >= _LEAST_ELEMENTS:
            yield op, kernel


def to_int8(kernel: Tensor, axis: int) -> Tensor:
    """Weights as integers from -127 to 127.

    Args:
        kernel: A float constant.
        axis: The dimension of the output channels.

    Returns:
        An int8 constant of the same name with one scale a channel.
    """
    integers, quantization = _rounded(kernel, axis, 127)
    return constant(kernel.name, integers, quantization)


def to_int4(kernel: Tensor, axis: int) -> Tensor:
    """Weights as integers from -7 to 7, two in a byte.

    Args:
        kernel: A float constant.
        axis: The dimension of the output channels.

    Returns:
        An int4 constant of the same name with one scale a channel.
    """
    integers, quantization = _rounded(kernel, axis, 7)
    flat = integers.reshape(-1)
    pairs = np.append(flat, np.zeros(flat.size % 2, np.int8)).reshape(-1, 2) & 15
    packed = (pairs[:, 0] | (pairs[:, 1] << 4)).astype(np.uint8)
    return Tensor(kernel.name, kernel.shape, "INT4", packed, quantization)


def _rounded(kernel: Tensor, axis: int, most: int) -> tuple[np.ndarray, Quantization]:
    assert kernel.data is not None
    others = tuple(i for i in range(kernel.data.ndim) if i != axis)
    scale = np.abs(kernel.data).max(axis=others) / np.float32(most)
    scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(kernel.data.ndim)]
    steps = kernel.data / scale.reshape(shape)
    whole = np.copysign(np.floor(np.abs(steps) + np.float32(0.5)), steps)
    quantization = Quantization(scale, np.zeros(len(scale), np.int64), axis)
    return np.clip(whole, -most, most).astype(np.int8), quantization
