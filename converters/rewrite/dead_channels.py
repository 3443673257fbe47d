"""Channels that hold the same number in every pixel of every image are taken out.

Pruned and badly trained networks have filters of zeros. What such a channel says, a constant, goes
into the bias of the convolution that reads it; channels that no reader weighs go, too.
"""

from __future__ import annotations

import numpy as np

from converters.graph import Graph, Op, activation, constant, padding

_KEEPS_CHANNELS = ("MAX_POOL_2D", "AVERAGE_POOL_2D")


def dead_channels(graph: Graph) -> int:
    """Remove dead channels between a convolution and the only convolution that reads it.

    Args:
        graph: A float graph; changed in place.

    Returns:
        How many channels were removed.
    """
    return sum(_prune(graph, conv) for conv in graph.of_kind("CONV_2D"))


def _prune(graph: Graph, first: Op) -> int:
    kernel, bias = first.constant(1), first.constant(2)
    chain = _path_to_reader(graph, first)
    if kernel is None or bias is None or not chain or kernel.dtype != np.float32:
        return 0
    if kernel.shape[3] != first.inputs[0].shape[3]:  # type: ignore[union-attr]
        return 0  # Grouped: without a filter the others would be in other groups.
    value = _activated(first, bias)
    dead = ~kernel.any(axis=(1, 2, 3))
    for op in chain[:-1]:
        if op.kind == "DEPTHWISE_CONV_2D":
            # Zeros stay zeros below padding; any other constant does not.
            dead &= (value == 0) | (not _pads(op))
            taps, offset = op.constant(1), op.constant(2)
            assert taps is not None
            assert offset is not None
            value = offset + taps.sum(axis=(0, 1, 2)) * value
        value = _activated(op, value)
    reader = chain[-1]
    weights = reader.constant(1)
    assert weights is not None
    dead &= (value == 0) | (not _pads(reader))
    dead |= ~weights.any(axis=(0, 1, 2))  # Nobody listens.
    count = int(dead.sum())
    if not count or count == len(dead):
        return 0
    _remove(first, chain, dead, value)
    return count


def _path_to_reader(graph: Graph, first: Op) -> list[Op]:
    """The operations from a convolution to the next that mixes channels; empty where others read, too."""
    chain: list[Op] = []
    op = graph.only_consumer(first.output)
    while op is not None and (op.kind in _KEEPS_CHANNELS or _is_plain_depthwise(op)):
        chain.append(op)
        op = graph.only_consumer(op.output)
    before = chain[-1].output if chain else first.output
    if op is None or op.kind != "CONV_2D" or op.inputs[0] is not before:
        return []
    kernel, bias = op.constant(1), op.constant(2)
    plain = kernel is not None and bias is not None and kernel.dtype == np.float32
    return [*chain, op] if plain and kernel is not None and kernel.shape[3] == before.shape[3] else []


def _is_plain_depthwise(op: Op) -> bool:
    taps = op.constant(1)
    return (
        op.kind == "DEPTHWISE_CONV_2D"
        and op.options.depthMultiplier == 1
        and taps is not None
        and taps.dtype == np.float32
        and op.constant(2) is not None
    )


def _pads(op: Op) -> bool:
    return op.options.padding == padding("SAME") and op.constant(1).shape[1:3] != (1, 1)  # type: ignore[union-attr]


def _activated(op: Op, values: np.ndarray) -> np.ndarray:
    kind = op.options.fusedActivationFunction
    limits = {
        activation("NONE"): (-np.inf, np.inf),
        activation("RELU"): (0, np.inf),
        activation("RELU6"): (0, 6),
        activation("RELU_N1_TO_1"): (-1, 1),
    }
    return np.clip(values, *limits[kind])


def _remove(first: Op, chain: list[Op], dead: np.ndarray, value: np.ndarray) -> None:
    alive = ~dead
    _replace(first, first.constant(1)[alive], first.constant(2)[alive])  # type: ignore[index]
    reader = chain[-1]
    for op in [first, *chain[:-1]]:
        op.output.shape = (*op.output.shape[:3], int(alive.sum()))
    for op in chain[:-1]:
        if op.kind == "DEPTHWISE_CONV_2D":
            _replace(op, op.constant(1)[..., alive], op.constant(2)[alive])  # type: ignore[index]
    weights, bias = reader.constant(1), reader.constant(2)
    assert weights is not None
    assert bias is not None
    # Where the value is not zero, no window of the reader reaches into padding.
    said = np.einsum("ohwi,i->o", weights[..., dead], value[dead])
    _replace(reader, weights[..., alive], bias + said)


def _replace(op: Op, kernel: np.ndarray, bias: np.ndarray) -> None:
    for index, values in ((1, kernel), (2, bias)):
        tensor = op.inputs[index]
        assert tensor is not None
        op.inputs[index] = constant(tensor.name, np.ascontiguousarray(values, np.float32))
