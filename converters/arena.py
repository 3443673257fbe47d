"""How much memory the tensors of a TFLite model need while it runs, told without running it.

Counted are the tensors between operations, the inputs and the outputs. Not counted are weights (they stay in
the file), what kernels ask for themselves (the columns of a convolution, the sums of a softmax), XNNPACK's
packed weights and workspace, and the runtime (TFLite Micro's has about 16 KB, and some bytes a tensor and
operation). Newer runtimes let some operations, such as ADD, write over an input that nobody reads later; this
is not counted either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from converters.graph import Graph, Op, Tensor

# Bits of the types that NumPy has no name for, or another one.
_BITS = {
    "BOOL": 8,
    "INT4": 4,
    "INT2": 2,
    "STRING": 0,
    "RESOURCE": 0,
    "VARIANT": 0,
    "COMPLEX64": 64,
    "COMPLEX128": 128,
}


class Step(NamedTuple):
    """The memory while one operation runs.

    Attributes:
        op: Kind and output of the operation.
        live_bytes: Of its inputs and outputs, and of all that is read later.
    """

    op: str
    live_bytes: int


@dataclass(frozen=True)
class Arena:
    """The memory of a model's tensors.

    Attributes:
        peak_bytes: Of the most demanding operation: no plan needs less.
        peak_op: That operation.
        planned_bytes: What the runtime's planner needs for all of them.
        by_op: Every operation, in order.
    """

    peak_bytes: int
    peak_op: str
    planned_bytes: int
    by_op: tuple[Step, ...]


class _Lifetime(NamedTuple):
    size: int
    first: int
    last: int
    whole_run: bool


def arena(graph: Graph) -> Arena:
    """Tell the memory that TFLite's interpreter plans: 64-byte steps, inputs that stay valid to the end.

    Args:
        graph: The model; open dimensions count as the sizes in the file.

    Returns:
        The least possible, the planned, and each operation's.
    """
    return _arena(graph, alignment=64, keeps_inputs=True)


def micro_arena(graph: Graph) -> Arena:
    """Tell the memory that TFLite Micro's planner needs: 16-byte steps, inputs overwritten once read.

    Args:
        graph: The model.

    Returns:
        As from `arena`.
    """
    return _arena(graph, alignment=16, keeps_inputs=False)


def nbytes(tensor: Tensor) -> int:
    """The size of a tensor's value.

    Args:
        tensor: A constant or not.

    Returns:
        Bytes; 0 for strings, whose size is not told by their shape.
    """
    bits = _BITS.get(tensor.dtype)
    if bits is None:
        bits = 8 * np.dtype(tensor.dtype.lower()).itemsize
    return -(-bits * int(np.prod(tensor.shape, dtype=np.int64)) // 8)


def op_name(op: Op) -> str:
    """Kind and output of an operation, of merged layers the first."""
    return f"{op.kind} {op.output.name.split(';')[0]}"


def _arena(graph: Graph, alignment: int, keeps_inputs: bool) -> Arena:
    # Besides the operations' steps there is one before the first, when the caller sets the inputs.
    tight = _lifetimes(graph, keeps_inputs=False)
    live = np.zeros(len(graph.ops) + 1, np.int64)
    for tensor in tight:
        live[tensor.first : tensor.last + 1] += tensor.size
    steps = tuple(Step(op_name(op), int(size)) for op, size in zip(graph.ops, live, strict=False))
    peak = max(steps, key=lambda step: step.live_bytes, default=Step("", int(live.max())))
    return Arena(peak.live_bytes, peak.op, _plan(_lifetimes(graph, keeps_inputs), alignment), steps)


def _lifetimes(graph: Graph, keeps_inputs: bool) -> list[_Lifetime]:
    """From which to which operation each tensor's value is needed; the graph's outputs are to the end."""
    end = len(graph.ops)
    first = dict.fromkeys((tensor for tensor in graph.inputs if not tensor.is_constant), 0)
    last = dict.fromkeys(first, end if keeps_inputs else 0)
    for i, op in enumerate(graph.ops):
        for tensor in op.outputs:
            first.setdefault(tensor, i)
        for tensor in first.keys() & {*op.outputs, *op.inputs}:
            last[tensor] = max(i, last.get(tensor, 0))
    last |= dict.fromkeys((tensor for tensor in graph.outputs if tensor in first), end)
    return [_Lifetime(nbytes(t), first[t], last[t], first[t] == 0 and last[t] == end) for t in first]


def _plan(tensors: list[_Lifetime], alignment: int) -> int:
    """TFLite's planner: those needed all the time, then the largest first, each into the tightest gap."""
    placed: list[tuple[int, _Lifetime]] = []
    for tensor in sorted(tensors, key=lambda t: (not t.whole_run, -t.size, t.first)):
        rivals = sorted(
            pair for pair in placed if pair[1].first <= tensor.last and pair[1].last >= tensor.first
        )
        offset = _tightest(rivals, tensor.size, alignment)
        placed.append((offset, tensor))
    return max((offset + tensor.size for offset, tensor in placed), default=0)


def _tightest(rivals: list[tuple[int, _Lifetime]], size: int, alignment: int) -> int:
    """Where a tensor goes among those that live at its time, which are in order of their offsets."""
    best, best_gap, end = None, np.inf, 0
    for offset, rival in rivals:
        start = -(-end // alignment) * alignment
        if start + size <= offset and offset - start < best_gap:
            best, best_gap = start, offset - start
        end = max(end, offset + rival.size)
    return -(-end // alignment) * alignment if best is None else best
