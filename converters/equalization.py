"""Cross-layer equalization: give the channels of a tensor between two layers ranges that suit int8.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1,
arXiv 1906.04721. A linear layer A, nothing or a ReLU, and a linear layer B compute the same function when
channel i between them is divided by s_i > 0:

    W_B f(W_A x + b_A) = (W_B S) f(S^-1 W_A x + S^-1 b_A),    S = diag(s), f(x / s_i) = f(x) / s_i.

The paper quantizes weights per tensor and balances two ranges of weights; its equation 11 is

    s_i = 1 / r_B_i * sqrt(r_A_i * r_B_i) = sqrt(r_A_i / r_B_i)

for the ranges r_A_i of row i of W_A and r_B_i of column i of W_B. Here weights are quantized per output
channel, so dividing a row of W_A changes nothing: its integers stay, its scale is divided. What counts is the
tensor between, which has one scale for all channels, and the columns of W_B, which share the scale of each
row. With values of channel i up to r_i (of statistics, not of W_A) the step of the activations is
d = max_i r_i / s_i / 127, that of row j of the weights is e_j = max_i s_i |W_ji| / 127, and output j gets

    noise N_j = d^2 / 12 * sum_i (s_i W_ji)^2 + e_j^2 / 12 * sum_i E[x_i^2] / s_i^2.

The first term is least for s_i = r_i: scaled so that max r_i / s_i = 1 it is sum_i (s_i W_ji)^2, s_i >= r_i.
The second is small where the columns are equal, s_i = 1 / r_B_i, r_B_i = max_j |W_ji| / max_k |W_jk|,
relative to the row as each row has its own scale. The geometric mean of the two is the paper's form again,
with activations in place of W_A:

    s_i = sqrt(r_i / r_B_i).

It measured better than either end and than choosing among them by N_j: noise of activations is averaged over
pixels later, that of weights is not, and at s_i = r_i every channel is cut off at what calibration saw, not
only the largest. A depthwise B has one scale a channel, so its weights do not care: s_i = r_i.

r_i and r_B_i do not change when rows of W_B are scaled, so pairs do not disturb each other: one pass, in
any order, takes the place of the paper's iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from converters.graph import Graph, Op, Tensor, activation, constant

Statistics = dict[str, tuple[np.ndarray, np.ndarray]]
"""Tensor name to the least and largest value of each channel, (C,) each."""

LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# A channel that was almost dead in calibration must not grow without bound: other images would saturate it.
_LARGEST_RATIO = 1024.0
# Less than this is rounding, not worth a change.
_LEAST_SPREAD = 0.01


@dataclass(frozen=True)
class Pair:
    """Two layers with a tensor, or several that keep its channels, between them that nobody else reads.

    Attributes:
        first: The layer that makes the channels.
        between: Operations that treat each channel alone.
        second: The layer that reads them.
    """

    first: Op
    between: tuple[Op, ...]
    second: Op

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors between the layers, in order."""
        return [self.first.output, *(op.output for op in self.between)]


def equalize(graph: Graph, statistics: Statistics) -> int:
    """Divide channels by s and multiply the weights that read them by s, where int8 gains by it.

    The float function stays equal, up to rounding.

    Args:
        graph: A float model with its batch norms folded; changed in place.
        statistics: Ranges of the channels of every float tensor; brought up to date.

    Returns:
        The number of pairs of layers that changed.

    Raises:
        ValueError: `statistics` lacks a tensor, or has another number of channels.
    """
    count = 0
    pairs = list(find_pairs(graph))
    for pair in pairs:
        for tensor in pair.tensors:
            check_channels(statistics, tensor)
    for pair in pairs:
        scale = _scale(pair, statistics)
        if scale is None:
            continue
        _divide_outputs(graph, pair.first, scale)
        _multiply_inputs(pair.second, scale)
        for tensor in pair.tensors:
            low, high = statistics[tensor.name]
            statistics[tensor.name] = low / scale, high / scale
        count += 1
    return count


def find_pairs(graph: Graph) -> Iterator[Pair]:
    """The pairs of layers that scaling of channels passes through, in order of execution.

    Args:
        graph: A float model.

    Yields:
        Layers with constant weights of their own, the first without activation or with a ReLU.
    """
    for first in graph.of_kind(*LAYERS):
        if not (_has_own_weights(graph, first) and _is_homogeneous(first)):
            continue
        between: list[Op] = []
        reader = graph.only_consumer(first.output)
        while reader is not None and reader.kind in _PASSING and _PASSING[reader.kind](reader):
            between.append(reader)
            reader = graph.only_consumer(reader.output)
        if reader is not None and _has_own_weights(graph, reader) and _reads_each_channel(reader):
            yield Pair(first, tuple(between), reader)


def check_channels(statistics: dict[str, tuple[np.ndarray, np.ndarray]], tensor: Tensor) -> None:
    """Raise unless there are statistics of each channel of a tensor."""
    if tensor.name not in statistics:
        raise ValueError(f"statistics lacks tensor {tensor.name!r}.")
    shapes = [np.shape(values) for values in statistics[tensor.name]]
    if shapes != [tensor.shape[-1:]] * 2:
        raise ValueError(
            f"statistics of tensor {tensor.name!r} has shapes {shapes}; {tensor.shape[-1:]} is accepted."
        )


def channel_columns(op: Op) -> np.ndarray:
    """The weights of a layer as (outputs, taps, input channels), of a depthwise one as (outputs, taps, 1)."""
    weights = op.inputs[1].data  # type: ignore[union-attr]
    assert weights is not None
    if op.kind == "DEPTHWISE_CONV_2D":
        return np.moveaxis(weights, -1, 0).reshape(weights.shape[-1], -1, 1)
    return weights.reshape(weights.shape[0], -1, weights.shape[-1])


def set_bias(graph: Graph, op: Op, bias: np.ndarray) -> None:
    """Give a float layer another bias; a constant that other layers read too stays as it is for them."""
    old = op.inputs[2] if len(op.inputs) > 2 else None
    if old is not None and graph.only_consumer(old) is op:
        new = constant(old.name, bias.astype(np.float32))
    else:
        new = constant(f"{op.output.name}/bias", bias.astype(np.float32))
    op.inputs = [*op.inputs[:2], new]


def _scale(pair: Pair, statistics: Statistics) -> np.ndarray | None:
    """The s of the module's docstring; None where there is nothing to gain."""
    low, high = statistics[pair.tensors[-1].name]
    ranges = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    weights = np.abs(channel_columns(pair.second).astype(np.float64))
    if not ranges.any() or not weights.any():
        return None
    if pair.second.kind == "DEPTHWISE_CONV_2D":
        scale = _bounded(ranges)
    else:
        rows = weights.max((1, 2), keepdims=True)
        scale = np.sqrt(_bounded(ranges) / _bounded((weights / np.where(rows, rows, 1)).max((0, 1))))
    # A factor for all channels changes no integer: the largest value stays what it was.
    scale *= (ranges / scale).max() / ranges.max()
    return scale if np.ptp(scale) > _LEAST_SPREAD * scale.max() else None


def _bounded(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, values.max() / _LARGEST_RATIO)


def _divide_outputs(graph: Graph, op: Op, scale: np.ndarray) -> None:
    weights = op.inputs[1]
    assert weights is not None
    assert weights.data is not None
    shape = (1, 1, 1, -1) if op.kind == "DEPTHWISE_CONV_2D" else (-1, *(1,) * (weights.data.ndim - 1))
    op.inputs[1] = constant(weights.name, (weights.data / scale.reshape(shape)).astype(np.float32))
    bias = op.constant(2)
    if bias is not None and bias.any():
        set_bias(graph, op, bias / scale)


def _multiply_inputs(op: Op, scale: np.ndarray) -> None:
    weights = op.inputs[1]
    assert weights is not None
    assert weights.data is not None
    repeats = weights.data.shape[-1] // len(scale)  # The multiplier of a depthwise layer.
    op.inputs[1] = constant(weights.name, (weights.data * np.repeat(scale, repeats)).astype(np.float32))


def _has_own_weights(graph: Graph, op: Op) -> bool:
    if op.kind not in LAYERS:
        return False
    weights = op.inputs[1]
    return (
        weights is not None
        and weights.data is not None
        and weights.dtype == "FLOAT32"
        and graph.only_consumer(weights) is op
        and (len(op.inputs) < 3 or op.inputs[2] is None or op.inputs[2].is_constant)
    )


def _reads_each_channel(op: Op) -> bool:
    """Whether the last dimension of the weights is that of the input; not so in grouped layers."""
    channels, weights = op.inputs[0].shape[-1], op.inputs[1]  # type: ignore[union-attr]
    assert weights is not None
    if op.kind == "DEPTHWISE_CONV_2D":
        return weights.shape[-1] % channels == 0
    return weights.shape[-1] == channels and not getattr(op.options, "weightsFormat", 0)


def _is_homogeneous(op: Op) -> bool:
    return op.options.fusedActivationFunction in (activation("NONE"), activation("RELU"))


def _pads_with_zero(op: Op) -> bool:
    padding, value = op.constant(1), op.constant(2)
    return (
        padding is not None
        and not padding[-1].any()
        and (op.kind == "PAD" or (value is not None and not value.any()))
    )


def _is_spatial(op: Op) -> bool:
    axes, rank = op.constant(1), len(op.inputs[0].shape)  # type: ignore[union-attr]
    return axes is not None and rank == 4 and not (axes % rank == rank - 1).any()


def _keeps_channels(op: Op) -> bool:
    return op.inputs[0].shape[-1] == op.output.shape[-1]  # type: ignore[union-attr]


_PASSING: dict[str, Callable[[Op], bool]] = {
    "RELU": _keeps_channels,
    "LEAKY_RELU": _keeps_channels,
    "MAX_POOL_2D": _is_homogeneous,
    "AVERAGE_POOL_2D": _is_homogeneous,
    "PAD": _pads_with_zero,
    "PADV2": _pads_with_zero,
    "MEAN": _is_spatial,
    "RESHAPE": _keeps_channels,
}
