# ruff: noqa: RUF001 (a multiplication sign is meant)
"""From a chain of units and blocks to pieces of a drawing."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from keras_archs.analysis.records import Layer
from keras_archs.analysis.structure import Chain, Element
from keras_archs.analysis.svg import INK, PALE, circle, line, move, rect, text, text_width

# Fill and edge of a box, by what its layer does.
CONV = ("#bfd7f2", "#3b6ea5")
POINTWISE = ("#e8f1fb", "#3b6ea5")
DEPTHWISE = ("#ffd9a8", "#c77700")
RESIZE = ("#cfeac2", "#4f8a38")
DENSE = ("#e1d5f0", "#7a55a8")
GATE = ("#f9d0dc", "#b8456b")
OTHER = ("#e5e7eb", "#6b7280")
FRAME = ("#ffffff", "#c3ccd6")

BOX, SMALL_BOX = 38.0, 22.0  # heights
GAP = 16.0  # between two pieces of a line
LANE_GAP = 8.0
RADIUS = 9.0  # of the circle of a sum
REPEATED_BLOCKS, REPEATED_UNITS = 2, 13  # so many alike in a row are drawn once


@dataclass(frozen=True)
class Figure:
    """A piece of a drawing. A line enters it at (0, 0) and leaves it at (width, 0)."""

    width: float
    up: float
    down: float
    svg: str


def chain_figures(chain: Chain) -> list[Figure]:
    """The elements one after the other; blocks in frames, those alike in a row only once."""
    figures = []
    for _, run in itertools.groupby(chain, key=_signature):
        alike = tuple(run)
        if alike[0].branches and alike[0].main.kind != "gate":
            repeated = len(alike) >= REPEATED_BLOCKS
            groups = [alike] if repeated else [(element,) for element in alike]
            figures += [_framed(_element(g[0]), _span(g), len(g)) for g in groups]
        elif len(alike) >= REPEATED_UNITS:
            figures.append(_framed(_element(alike[0]), "", len(alike)))
        else:
            figures += map(_element, alike)
    return figures


def row(figures: Sequence[Figure]) -> Figure:
    """Figures side by side, with a line from each to the next; a mere line if there are none."""
    if not figures:
        return Figure(GAP, 0, 0, line(f"M0 0 H{GAP:g}"))
    x = 0.0
    parts: list[str] = []
    for figure in figures:
        if parts:
            parts.append(line(f"M{x:g} 0 h{GAP:g}"))
            x += GAP
        parts.append(move(x, 0, figure.svg))
        x += figure.width
    return Figure(x, max(f.up for f in figures), max(f.down for f in figures), "".join(parts))


def box(lines: Sequence[str], colours: tuple[str, str]) -> Figure:
    """A box with one or two lines of text."""
    width = max(44.0, *(text_width(words) + 16 for words in lines))
    return Figure(width, BOX / 2, BOX / 2, rect(0, -BOX / 2, width, BOX, *colours) + _lines(lines, width / 2))


def two_tone_box(depthwise: Sequence[str], pointwise: Sequence[str]) -> Figure:
    """The box of a separable convolution: where, then what."""
    left, right = box(depthwise, DEPTHWISE), box(pointwise, POINTWISE)
    return Figure(left.width + right.width, left.up, left.down, left.svg + move(left.width, 0, right.svg))


def small_box(words: str, colours: tuple[str, str]) -> Figure:
    """A low box, for an arc."""
    width, half = text_width(words, 11) + 14, SMALL_BOX / 2
    return Figure(
        width, half, half, rect(0, -half, width, SMALL_BOX, *colours) + text(width / 2, 4, words, 11)
    )


def join(kind: str, up: float = BOX / 2, down: float = BOX / 2) -> Figure:
    """Where branches meet: a circle for a sum or a product, a bar for anything else."""
    if kind in ("sum", "gate"):
        sign = "+" if kind == "sum" else "×"
        return Figure(
            2 * RADIUS, RADIUS, RADIUS, circle(RADIUS, 0, RADIUS) + text(RADIUS, 5, sign, 16, bold=True)
        )
    colour = INK if kind == "concat" else OTHER[1]
    return Figure(8, up, down, rect(0, -up, 8, up + down, colour, colour, 2))


def _lines(lines: Sequence[str], x: float) -> str:
    if len(lines) == 1:
        return text(x, 4, lines[0])
    return text(x, -3, lines[0], bold=True) + text(x, 12, lines[1])


def _element(element: Element) -> Figure:
    if element.tangled:
        return box([f"{len(element.layers)} layers", element.name], OTHER)
    if element.branches:
        return _block(element)
    if len(element.mains) == 2:
        depthwise, pointwise = map(caption, element.mains)
        return two_tone_box(depthwise, pointwise)
    if element.main.kind == "separable":
        window, filters = caption(element.main)
        return two_tone_box([window, "dw"], ["1×1", filters])
    if element.main.kind in ("sum", "concat", "gate"):
        return join(element.main.kind)
    return box(caption(element.main), colours(element.main))


def colours(layer: Layer) -> tuple[str, str]:
    """Fill and edge of a layer's box."""
    if layer.kind == "conv" and set(layer.kernel or ()) == {1}:
        return POINTWISE
    return {"conv": CONV, "depthwise": DEPTHWISE, "dense": DENSE, "transposed": CONV}.get(
        layer.kind, RESIZE if layer.kernel or layer.kind.startswith("global") else OTHER
    )


def caption(layer: Layer) -> list[str]:
    """What stands in a layer's box: the window, the filters."""
    up = layer.kind in ("transposed", "upsample")
    window = _product(layer.kernel or ())
    if set(layer.step or ()) - {1}:
        window += (" ↑" if up else " /") + _short(layer.step or ())
    if set(layer.dilation or ()) - {1}:
        window += " d" + _short(layer.dilation or ())
    if layer.groups > 1:
        window += f" g{layer.groups}"
    pools = {"max": "max", "average": "avg", "blur": "blur"}
    match layer.kind:
        case "conv" | "transposed" | "separable":
            return [window, str(layer.channels)]
        case "depthwise":
            return [window, "dw"]
        case "dense":
            return ["dense", str(layer.channels)]
        case "upsample":
            return ["up", "×" + _short(layer.step or ())]
        case "max" | "average" if set(layer.kernel or ()) == {1}:
            return ["sample", window.split()[-1]]
        case "max" | "average" | "blur":
            return [pools[layer.kind], window]
        case "global max" | "global average":
            return ["global", pools[layer.kind.split()[1]]]
    return [layer.class_name]


def _product(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _short(sizes: Sequence[int]) -> str:
    return str(sizes[0]) if len(set(sizes)) == 1 else _product(sizes)


def _block(element: Element) -> Figure:
    branches, kind = element.branches, element.main.kind
    if kind == "gate" and () in branches:
        return box(["gate"], GATE)
    shortcut = shortcut_of(element)
    if shortcut is None:
        return _lanes([row([*map(_element, branch)]) for branch in branches], kind)
    leap = [small_box(_on_arc(unit), colours(unit.main)) for unit in shortcut]
    main = max(branches, key=len)
    return arc(row([*map(_element, main)]), leap, kind)


def shortcut_of(element: Element) -> Chain | None:
    """The shorter one of two branches, if the block is drawn as a branch and a shortcut."""
    if len(element.branches) != 2:
        return None
    shortcut, main = sorted(element.branches, key=len)
    simple = element.main.kind == "sum" and not any(unit.branches or unit.tangled for unit in shortcut)
    return shortcut if len(shortcut) < len(main) and (simple or not shortcut) else None


def _on_arc(unit: Element) -> str:
    words = " ".join(caption(unit.main))
    channels = unit.layers[-1].channels
    return words if channels == unit.main.channels else f"{words}, pad to {channels}"


def arc(main: Figure, shortcut: Sequence[Figure], kind: str) -> Figure:
    """A branch on the line, and a shortcut that leaps over it."""
    boxes = row(shortcut)
    inner = max(main.width, boxes.width + 56 if shortcut else 0)
    end = join(kind)
    height = main.up + 12 + (boxes.up if shortcut else 0)
    left, x = GAP, GAP + inner + GAP  # of the branch, of the join
    middle = x + end.width / 2
    leap = line(
        f"M3 0 C3 {-height:g} 8 {-height:g} 30 {-height:g} H{x - 22:g} "
        f"C{middle:g} {-height:g} {middle:g} {-height:g} {middle:g} {-end.up - 1:g}",
        arrow=True,
    )
    start = left + (inner - main.width) / 2
    around = line(f"M0 0 H{start:g} M{start + main.width:g} 0 H{x:g}")
    parts = [leap, around, move(start, 0, main.svg), move(x, 0, end.svg)]
    if shortcut:
        parts.append(move(left + (inner - boxes.width) / 2, -height, boxes.svg))
    return Figure(
        x + end.width, height + (boxes.up if shortcut else 2), max(main.down, end.down), "".join(parts)
    )


def _lanes(lanes: Sequence[Figure], kind: str) -> Figure:
    """Parallel branches, one below the other."""
    height = sum(lane.up + lane.down for lane in lanes) + LANE_GAP * (len(lanes) - 1)
    left = 24.0
    x = left + max(lane.width for lane in lanes) + GAP
    end = join(kind, height / 2, height / 2)
    meet = x + (end.width / 2 if end.up == RADIUS else 0)
    parts, top = [], -height / 2
    for lane in lanes:
        y = top + lane.up
        parts.append(line(f"M0 0 C{left / 2:g} 0 {left / 2:g} {y:g} {left:g} {y:g}"))
        parts.append(move(left, y, lane.svg))
        parts.append(line(f"M{left + lane.width:g} {y:g} H{meet:g}" + (" V0" if meet != x else "")))
        top += lane.up + lane.down + LANE_GAP
    return Figure(x + end.width, height / 2, height / 2, "".join(parts) + move(x, 0, end.svg))


def _framed(figure: Figure, title: str, count: int) -> Figure:
    """A frame with a title and, if it stands for several, their number."""
    pad, header = 8.0, 20.0
    number = f"× {count}" if count > 1 else ""
    titles = text_width(title, 11) + text_width(number, 14, bold=True) + (10 if title and number else 0)
    width = max(figure.width, titles) + 2 * pad
    up, down = figure.up + header, figure.down + pad
    start = (width - figure.width) / 2
    parts = [
        rect(0, -up, width, up + down, *FRAME, radius=6),
        text(pad, -up + 14, title, 11, "start", fill=PALE),
        text(width - pad, -up + 15, number, 14, "end", bold=True),
        line(f"M0 0 H{start:g} M{start + figure.width:g} 0 H{width:g}"),
        move(start, 0, figure.svg),
    ]
    return Figure(width, up, down, "".join(parts))


def _span(elements: Sequence[Element]) -> str:
    return " - ".join(dict.fromkeys((elements[0].name, elements[-1].name)))


def _signature(element: Element) -> tuple[object, ...]:
    """What two elements share that are drawn alike."""
    mains = (
        (m.kind, m.kernel, m.step, m.dilation, m.groups, m.channels if m.macs else 0) for m in element.mains
    )
    branches = (tuple(map(_signature, branch)) for branch in element.branches)
    return (*mains, element.tangled and element.name, *branches)
