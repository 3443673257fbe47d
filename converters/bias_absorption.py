"""Bias absorption: move what all values of a channel have in common into the bias of the layer that reads it.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1.3,
arXiv 1906.04721. For a layer A, f, and a layer B,

    W_B f(W_A x + b_A) + b_B = W_B f(W_A x + b_A - c) + (b_B + W_B c)    wherever f(z) - c = f(z - c),

and the tensor between needs a smaller range. With f = ReLU that holds while z >= c: the paper takes
c = max(0, beta - 3 gamma) of a batch norm; after folding there is none, so c is the least value that was
seen, less a margin. With no f between, as from the depthwise to the pointwise part of a separable
convolution, it holds for every c and every image: c is the middle of the range there.

B must not pad: a zero at the border stands for zero, not for c.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from converters.equalization import Pair, Statistics, channel_columns, check_channels, find_pairs, set_bias
from converters.graph import Graph, Op, activation, padding

# Part of a channel's range that is left below the least value seen, for images to come.
_MARGIN = 0.1
_PASSING = ("MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN", "RESHAPE")


def absorb_biases(graph: Graph, statistics: Statistics) -> int:
    """Lower the outputs of ReLUs that are never near zero; approximate on images unlike the calibration's.

    Args:
        graph: A float model with its batch norms folded; changed in place.
        statistics: Ranges of the channels of every float tensor; brought up to date.

    Returns:
        The number of pairs of layers that changed.

    Raises:
        ValueError: `statistics` lacks a tensor, or has another number of channels.
    """
    return _absorb(graph, statistics, "RELU", lambda low, high: np.maximum(low - _MARGIN * (high - low), 0))


def center_channels(graph: Graph, statistics: Statistics) -> int:
    """Center the channels between linear layers around zero; exact for every image.

    Args:
        graph: A float model with its batch norms folded; changed in place.
        statistics: Ranges of the channels of every float tensor; brought up to date.

    Returns:
        The number of pairs of layers that changed.

    Raises:
        ValueError: `statistics` lacks a tensor, or has another number of channels.
    """
    return _absorb(graph, statistics, "NONE", lambda low, high: (low + high) / 2)


def _absorb(
    graph: Graph, statistics: Statistics, kind: str, shift: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> int:
    pairs = [pair for pair in find_pairs(graph) if _passes_constants(pair, kind)]
    for pair in pairs:
        for tensor in pair.tensors:
            check_channels(statistics, tensor)
    count = 0
    for pair in pairs:
        moved = shift(*statistics[pair.first.output.name]).astype(np.float64)
        if not moved.any():
            continue
        _add_to_bias(graph, pair.first, -moved)
        _add_to_bias(graph, pair.second, _response(pair, moved))
        for tensor in pair.tensors:
            low, high = statistics[tensor.name]
            statistics[tensor.name] = low - moved, high - moved
        count += 1
    return count


def _passes_constants(pair: Pair, kind: str) -> bool:
    """Whether a constant in all pixels of a channel reaches every tap of the second layer unchanged."""
    options, weights = pair.second.options, pair.second.inputs[1]
    assert weights is not None
    unpadded = (
        pair.second.kind == "FULLY_CONNECTED"
        or options.padding == padding("VALID")
        or weights.shape[1:3] == (1, 1)
    )
    return (
        unpadded
        and pair.first.options.fusedActivationFunction == activation(kind)
        and all(
            op.kind in _PASSING
            and getattr(op.options, "fusedActivationFunction", activation("NONE")) == activation("NONE")
            for op in pair.between
        )
    )


def _response(pair: Pair, constant: np.ndarray) -> np.ndarray:
    columns = channel_columns(pair.second).astype(np.float64).sum(1)
    if pair.second.kind == "DEPTHWISE_CONV_2D":
        return columns[:, 0] * np.repeat(constant, len(columns) // len(constant))
    return columns @ constant


def _add_to_bias(graph: Graph, op: Op, change: np.ndarray) -> None:
    bias = op.constant(2)
    set_bias(graph, op, change if bias is None else bias + change)
