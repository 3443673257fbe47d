# ruff: noqa: RUF001 (a multiplication sign is meant)
"""The picture of a network: a band for each stage, from the image to the classifier, and a legend."""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import keras

from keras_archs.analysis.count import analyze
from keras_archs.analysis.figures import (
    BOX,
    CONV,
    DENSE,
    DEPTHWISE,
    GAP,
    GATE,
    OTHER,
    POINTWISE,
    RESIZE,
    Figure,
    arc,
    box,
    chain_figures,
    colours,
    join,
    row,
    shortcut_of,
    small_box,
    two_tone_box,
)
from keras_archs.analysis.records import Analysis, Stage, short, square, times
from keras_archs.analysis.structure import Chain, Element, stages
from keras_archs.analysis.svg import INK, PALE, document, fitted, line, move, rect, text, text_width

WIDTH, LEAST_WIDTH = 1200.0, 900.0
MARGIN = 24.0
LABELS = 218.0  # width of the column of labels
BAND_PAD, BAND_GAP, LINE_GAP = 12.0, 22.0, 18.0


def draw(model: keras.Model | Analysis, path: str | Path) -> Path:
    """Draws a network as an SVG file, from its graph of layers.

    Args:
        model: As `analyze` takes it, or what it gave.
        path: The file; it ends in .svg. It is written whole or not at all.

    Returns:
        The path.

    Raises:
        ValueError: If `path` has another suffix, or from `analyze`.
        OSError: If the file can't be written.
    """
    path = checked_path(path)
    svg = picture(model if isinstance(model, Analysis) else analyze(model))
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_text(svg, encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def checked_path(path: str | Path) -> Path:
    """The path of a drawing; an error if it is not that of an SVG file."""
    path = Path(path)
    if path.suffix.lower() != ".svg":
        raise ValueError(f"path={str(path)!r} must end in .svg.")
    return path


def picture(analysis: Analysis) -> str:
    """The drawing as the text of an SVG file."""
    chains = stages(analysis.layers)
    bands = [chain_figures(chain) for chain in chains]
    bands[0].insert(0, box(["image", times(analysis.input_shape)], ("#ffffff", INK)))
    around = LABELS + 2 * MARGIN + 30
    room = max(WIDTH - around, *(figure.width for band in bands for figure in band))
    rows = [[row(wrapped) for wrapped in _wrapped(band, room)] for band in bands]
    width = max(LEAST_WIDTH, around + max(figure.width for lines in rows for figure in lines))

    x, y = MARGIN + LABELS, 92.0
    parts, wires = [_title(analysis)], []
    leave = None  # where the line leaves the figures drawn so far
    for stage, lines in zip(analysis.stages, rows, strict=True):
        height = sum(f.up + f.down for f in lines) + LINE_GAP * (len(lines) - 1)
        band_height = max(height, 80) + 2 * BAND_PAD
        parts.append(rect(MARGIN, y, width - 2 * MARGIN, band_height, "#f4f6f8", "none", 8))
        parts.append(move(MARGIN + 12, y + band_height / 2, _label(stage)))
        top = y + (band_height - height) / 2
        turn = y - BAND_GAP / 2  # where the line turns back to the left: between two bands, or two lines
        for figure in lines:
            if leave:
                wires.append(_turn(leave, (x, top + figure.up), turn))
            parts.append(move(x, top + figure.up, figure.svg))
            leave = (x + figure.width, top + figure.up)
            top += figure.up + figure.down + LINE_GAP
            turn = top - LINE_GAP / 2
        y += band_height + BAND_GAP
    legend = _legend(chains, width - 2 * MARGIN)
    parts += [*wires, move(MARGIN, y, legend.svg)]
    return document(width, y + legend.down + MARGIN, analysis.name, "\n".join(parts))


def _title(analysis: Analysis) -> str:
    facts = (
        f"{short(analysis.parameters)} parameters",
        f"{short(analysis.macs)} MACs",
        f"{short(analysis.activations)} activations",
        f"image {times(analysis.input_shape)}",
        f"receptive field {square(analysis.receptive_field)}",
    )
    return text(MARGIN, 44, analysis.name, 26, "start", bold=True) + text(
        MARGIN, 70, " · ".join(facts), 14, "start", fill=PALE
    )


def _label(stage: Stage) -> str:
    """Name, output and cost of a stage, around y = 0."""
    first, _, last = stage.name.partition(" - ")
    room = LABELS - 20
    too_long = last and text_width(stage.name, 13, bold=True) > room
    names = [fitted(words, 13, True, room) for words in ((f"{first} -", last) if too_long else (stage.name,))]
    sees = "the whole image" if stage.receptive_field is None else square(stage.receptive_field)
    facts = [
        times(stage.output_shape),
        f"{short(stage.macs)} MACs, {short(stage.parameters)} params",
        f"sees {sees}" if stage.stride is None else f"stride {square(stage.stride)}, sees {sees}",
    ]
    y = 4 - 8.0 * (len(names) + len(facts) - 1)
    lines = [text(0, y + 16 * i, words, 13, "start", bold=True) for i, words in enumerate(names)]
    y += 16 * len(names)
    lines += [text(0, y + 16 * i, words, 12, "start", fill=PALE) for i, words in enumerate(facts)]
    return "".join(lines)


def _wrapped(band: list[Figure], room: float) -> list[list[Figure]]:
    """Breaks a line of figures where it gets too long."""
    lines: list[list[Figure]] = []
    x = room
    for figure in band:
        if x + GAP + figure.width > room:
            lines.append([])
            x = -GAP
        lines[-1].append(figure)
        x += GAP + figure.width
    return lines


def _turn(start: tuple[float, float], end: tuple[float, float], y: float) -> str:
    """The line from the end of one row to the start of the next."""
    return line(
        f"M{start[0]:g} {start[1]:g} h10 V{y:g} H{end[0] - 16:g} V{end[1]:g} H{end[0] - 1:g}", arrow=True
    )


def _legend(chains: Sequence[Chain], room: float) -> Figure:
    """What the shapes mean that occur in the drawing."""
    x, y, parts = 0.0, 0.0, []
    for figure, words in _key(list(_all(chains))):
        width = figure.width + 8 + text_width(words) + 24
        if x and x + width > room:
            x, y = 0.0, y + 52
        parts.append(move(x, y + 24 + (figure.up - figure.down) / 2, figure.svg))
        parts.append(text(x + figure.width + 8, y + 28, words, 12, "start"))
        x += width
    note = "MACs: multiply-accumulates. Normalization, activations and padding cost none and are not drawn."
    parts.append(text(0, y + 72, note, 12, "start", fill=PALE))
    return Figure(room, 0, y + 76, "".join(parts))


def _key(elements: Sequence[Element]) -> Iterator[tuple[Figure, str]]:
    """A sample and its meaning, for each shape in use."""
    drawn = [element for element in elements if not element.tangled]
    units = [element for element in drawn if not element.branches]
    mains = [layer for element in drawn for layer in element.mains]
    kinds = {layer.kind for layer in mains}
    fills = {colours(layer) for layer in mains}
    shortcuts = [shortcut_of(element) for element in drawn if element.main.kind == "sum"]
    separable = "separable" in kinds or any(len(element.mains) == 2 for element in units)
    road = Figure(64, BOX / 4, BOX / 4, line("M0 0 H64"))
    if CONV in fills:
        yield box(["3×3 /2", "64"], CONV), "convolution: kernel, / stride, filters"
    if POINTWISE in fills:
        yield box(["1×1", "64"], POINTWISE), "1×1 convolution"
    if any(layer.groups > 1 for layer in mains):
        yield box(["3×3 g32", "64"], CONV), "32 groups"
    if any(set(layer.dilation or ()) - {1} for layer in mains):
        yield box(["3×3 d2", "64"], CONV), "dilation 2"
    if separable:
        yield two_tone_box(["3×3", "dw"], ["1×1", "64"]), "separable: depthwise, pointwise"
    if any([layer.kind for layer in element.mains] == ["depthwise"] for element in units):
        yield box(["3×3", "dw"], DEPTHWISE), "depthwise convolution"
    if RESIZE in fills:
        yield box(["max", "3×3 /2"], RESIZE), "pooling, resizing"
    if DENSE in fills:
        yield box(["dense", "1000"], DENSE), "dense layer"
    if () in shortcuts:
        yield arc(road, [], "sum"), "sum with the identity"
    if any(shortcuts):
        yield arc(road, [small_box("1×1 256", POINTWISE)], "sum"), "sum with a projected or resized shortcut"
    if "concat" in kinds:
        yield join("concat"), "concatenation"
    if "gate" in kinds:
        yield box(["gate"], GATE), "channel gate (squeeze-and-excite)"
    if len(drawn) < len(elements):
        yield box(["9 layers", "last one"], OTHER), "branches that share layers"


def _all(chains: Iterable[Chain]) -> Iterator[Element]:
    for element in itertools.chain.from_iterable(chains):
        yield element
        yield from _all(element.branches)
