"""The rewrites, in the order in which they are applied: a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from converters.graph import Graph
from converters.rewrite.affine_as_depthwise import affine_as_depthwise
from converters.rewrite.affine_into_conv import affine_into_conv
from converters.rewrite.average_pool_as_depthwise import average_pool_as_depthwise
from converters.rewrite.average_pool_behind_conv import average_pool_behind_conv
from converters.rewrite.dead_channels import dead_channels
from converters.rewrite.exact_border import exact_border
from converters.rewrite.gather_as_slice import gather_as_slice
from converters.rewrite.mirror_pad_as_concat import mirror_pad_as_concat
from converters.rewrite.pad_into_conv import pad_into_conv
from converters.rewrite.pad_into_max_pool import pad_into_max_pool
from converters.rewrite.pow_as_roots import pow_as_roots
from converters.rewrite.relu_as_quantize import relu_as_quantize
from converters.rewrite.relu_into_add import relu_into_add
from converters.rewrite.roots_in_float import roots_in_float
from converters.rewrite.square_as_product import square_as_product
from converters.rewrite.stem_as_space_to_depth import stem_as_space_to_depth
from converters.rewrite.strided_pool_as_depthwise import strided_pool_as_depthwise
from converters.rewrite.wide_concat_in_parts import wide_concat_in_parts
from keras_archs.choices import check_choice

Stage = Literal["float", "before int8", "last"]


@dataclass(frozen=True)
class Rewrite:
    """One rewrite.

    Attributes:
        apply: Changes a graph in place and returns at how many places.
        stage: float: pays in every recipe; before int8: of the float graph, pays only in int8; last: of the
            finished graph, whose types it looks at itself.
        summary: The equation.
        cpu_only: Whether it only pays on the CPU, where it makes up for what XNNPACK lacks; others have it.
    """

    apply: Callable[[Graph], int]
    stage: Stage
    summary: str
    cpu_only: bool = False

    @property
    def name(self) -> str:
        """What users type."""
        return self.apply.__name__


_ROWS = (
    Rewrite(affine_into_conv, "float", "conv(x) * a + b = conv'(x)"),
    Rewrite(dead_channels, "float", "conv(0 w + c) = conv'() + c"),
    Rewrite(pad_into_conv, "float", "conv(pad(x)) = conv_same(x)"),
    Rewrite(pad_into_max_pool, "float", "max_pool(pad(relu(x))) = max_pool'(relu(x))"),
    Rewrite(gather_as_slice, "float", "gather(x, [i, i + 1, ...]) = slice(x, i)"),
    Rewrite(pow_as_roots, "float", "x ^ -0.75 = rsqrt(x) * sqrt(rsqrt(x))"),
    Rewrite(mirror_pad_as_concat, "float", "mirror_pad(x) = concat(x[1], x, x[-2])", cpu_only=True),
    Rewrite(average_pool_behind_conv, "float", "conv1x1(mean(x)) = mean(conv1x1(x))"),
    Rewrite(average_pool_as_depthwise, "before int8", "mean(x) = depthwise(x) * size / count", cpu_only=True),
    Rewrite(affine_as_depthwise, "before int8", "x * a + b = depthwise1x1(x)"),
    Rewrite(square_as_product, "before int8", "x^2 = x * x, -x = x * -1"),
    Rewrite(
        wide_concat_in_parts, "before int8", "concat(a, b, ...) = concat(concat(a, ...), ...)", cpu_only=True
    ),
    Rewrite(
        stem_as_space_to_depth, "before int8", "conv7x7/2(x) = conv4x4(space_to_depth(x))", cpu_only=True
    ),
    Rewrite(relu_into_add, "last", "relu(a + b) = add_relu(a, b)", cpu_only=True),
    Rewrite(relu_as_quantize, "last", "relu(x) = quantize(x) to a zero point of -128", cpu_only=True),
    Rewrite(strided_pool_as_depthwise, "last", "max_pool1x1/2(x) = depthwise1x1/2(x)", cpu_only=True),
    Rewrite(roots_in_float, "last", "rsqrt(x) = quantize(rsqrt(dequantize(x)))", cpu_only=True),
    Rewrite(exact_border, "last", "1, 1.5, 2.25 in steps of 0.125", cpu_only=True),
)
REWRITES: dict[str, Rewrite] = {row.name: row for row in _ROWS}


def choose_rewrites(names: str | Iterable[str], on_cpu: bool = True) -> list[str]:
    """Settle which rewrites a conversion uses.

    Args:
        names: "default" for all that pay, "none", or the names of some.
        on_cpu: Whether the CPU runs the model, or XNNPACK on it.

    Returns:
        Names, in the order of the table.

    Raises:
        ValueError: There is no such rewrite; the message names the nearest.
        TypeError: It is no name and no list of them.
    """
    if not isinstance(names, Iterable):
        raise TypeError(f"rewrite={names!r} is not accepted: 'default', 'none' or names of rewrites are.")
    wanted = [names] if isinstance(names, str) else list(names)
    if wanted == ["default"]:
        return [name for name, row in REWRITES.items() if on_cpu or not row.cpu_only]
    if wanted == ["none"]:
        return []
    alone = {"default": None, "none": None} if isinstance(names, str) else {}
    for name in wanted:
        check_choice("rewrite", name, {**REWRITES, **alone})
    return [name for name in REWRITES if name in wanted]


def apply_rewrites(graph: Graph, stages: Iterable[Stage], names: Iterable[str]) -> dict[str, int]:
    """Apply the chosen rewrites of some stages.

    Args:
        graph: Changed in place.
        stages: Which rows of the table may act.
        names: As `choose_rewrites` returns them.

    Returns:
        Name to how often it applied, for those that did.
    """
    chosen, stages = set(names), set(stages)
    counts = {row.name: row.apply(graph) for row in _ROWS if row.name in chosen and row.stage in stages}
    return {name: count for name, count in counts.items() if count}
