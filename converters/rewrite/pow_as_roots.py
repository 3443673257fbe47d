"""x ^ -0.75 = rsqrt(x) * sqrt(rsqrt(x)), and so on: XNNPACK has roots and no POW.

-0.75 is the exponent of local response normalisation (Krizhevsky et al. 2012, section 3.3).
"""

from __future__ import annotations

from collections.abc import Callable

from converters.graph import Graph, Op, Tensor, options


def pow_as_roots(graph: Graph) -> int:
    """Replace powers whose exponent is a constant -0.75, -0.5, -0.25, 0.25 or 0.5.

    Args:
        graph: A float graph; changed in place.

    Returns:
        How many were replaced.
    """
    count = 0
    for power in graph.of_kind("POW"):
        exponent, base = power.constant(1), power.inputs[0]
        if exponent is None or base is None or exponent.size != 1 or base.shape != power.output.shape:
            continue
        if build := _ROOTS.get(float(exponent.reshape(-1)[0])):
            for op in build(base, power.output):
                graph.insert(op, power)
            graph.ops.remove(power)
            count += 1
    return count


def _root(kind: str, x: Tensor, y: Tensor) -> Op:
    return Op(kind, [x], [y])


def _between(y: Tensor, what: str) -> Tensor:
    return Tensor(f"{y.name}/{what}", y.shape, y.dtype)


def _minus_half(x: Tensor, y: Tensor) -> list[Op]:
    return [_root("RSQRT", x, y)]


def _half(x: Tensor, y: Tensor) -> list[Op]:
    return [_root("SQRT", x, y)]


def _quarter(x: Tensor, y: Tensor) -> list[Op]:
    half = _between(y, "half")
    return [_root("SQRT", x, half), _root("SQRT", half, y)]


def _minus_quarter(x: Tensor, y: Tensor) -> list[Op]:
    half = _between(y, "half")
    return [_root("RSQRT", x, half), _root("SQRT", half, y)]


def _minus_three_quarters(x: Tensor, y: Tensor) -> list[Op]:
    half, quarter = _between(y, "half"), _between(y, "quarter")
    product = Op("MUL", [half, quarter], [y], options("MulOptions"))
    return [_root("RSQRT", x, half), _root("SQRT", half, quarter), product]


_ROOTS: dict[float, Callable[[Tensor, Tensor], list[Op]]] = {
    -0.75: _minus_three_quarters,
    -0.5: _minus_half,
    -0.25: _minus_quarter,
    0.25: _quarter,
    0.5: _half,
}
