"""write_report: what a finished run shows, as pictures, as a table, and as one page for a browser."""

import csv
import json
import platform
from collections.abc import Sequence
from dataclasses import astuple, fields
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from keras_archs.pages import STYLE, html_row, html_table, inline_figure, inline_png
from keras_archs.training.atomic import written_whole
from keras_archs.training.config import SECTIONS, TrainConfig, differences
from keras_archs.training.data import DataSplits
from keras_archs.training.evaluation import ClassScore, Evaluation, Mistake
from keras_archs.training.history import best_epoch
from keras_archs.training.pipeline import read_square
from keras_archs.training.plots import (
    TRAIN_COLOR,
    VALIDATION_COLOR,
    curve_panels,
    plot_confusion,
    plot_curve,
    plot_curves,
)
from keras_archs.training.run import CLASSES, CONFUSION, CURVES, REPORT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_DRAWN = 40  # with more classes the page has no picture of the matrix
MOST_ROWS = 20  # of the worst classes, and of the best ones
MOST_CONFUSIONS = 10
MOST_MISTAKES = 24
THUMBNAIL = 64  # pixels


def write_report(
    directory: Path,
    config: TrainConfig,
    history: dict[str, list[float]],
    evaluation: Evaluation,
    metrics: dict[str, Any],
    images: DataSplits | None,
) -> None:
    """Write curves.png, confusion.png, per_class.csv and report.html, each whole or not at all.

    Args:
        directory: An existing folder.
        config: What was trained.
        history: The columns of history.csv.
        evaluation: Of the trained model.
        metrics: parameters, train_images and skipped_images of metrics.json.
        images: Where the evaluated images are, for the pictures of the worst mistakes; None shows names only.

    Raises:
        OSError: If a file cannot be written or an image cannot be read again.
    """
    plot_curves(history, directory / CURVES)
    matrix = plot_confusion(evaluation.matrix, evaluation.class_names, directory / CONFUSION)
    drawn = _matrix(matrix, directory / CONFUSION) if len(evaluation.class_names) <= MOST_DRAWN else ""
    with written_whole(directory / CLASSES) as beside:
        _write_classes(beside, evaluation.per_class())
    parts = [
        _head(config, evaluation, metrics, history),
        _facts(history, evaluation, metrics),
        _notes(evaluation, metrics, images),
        _curves(history),
        _confusions(evaluation, drawn),
        _classes(evaluation),
        _mistakes(evaluation, images),
        _config(config),
        _versions(),
    ]
    page = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(_title(config))}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )
    with written_whole(directory / REPORT) as beside:
        # Names of files may hold bytes that are no UTF-8.
        beside.write_text(page, encoding="utf-8", errors="replace")


def _write_classes(path: Path, rows: Sequence[ClassScore]) -> None:
    """A line a class, by class number; what cannot be divided is left empty."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(ClassScore))
        for row in rows:
            writer.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in astuple(row))


def _title(config: TrainConfig) -> str:
    """Model and data; of a long path the end."""
    return f"{config.model.name} on {'/'.join(config.data.source.strip('/').split('/')[-2:])}"


def _head(
    config: TrainConfig, evaluation: Evaluation, metrics: dict[str, Any], history: dict[str, list[float]]
) -> str:
    sizes = f"{metrics['train_images']:,} training images of {len(evaluation.class_names):,} classes"
    measured = f"measured on {evaluation.images:,} {evaluation.split} images"
    return (
        f"<h1>{escape(_title(config))}</h1>\n"
        f'<p class="muted">{_count(len(history["loss"]), "epoch")} on {sizes}; {measured}.</p>'
    )


def _facts(history: dict[str, list[float]], evaluation: Evaluation, metrics: dict[str, Any]) -> str:
    """The numbers that people look for first."""
    low, high = evaluation.accuracy_interval()
    best, epochs, seconds = best_epoch(history), len(history["loss"]), sum(history["seconds"])
    speed = metrics["train_images"] * epochs / max(seconds, 1e-9)
    split, share = evaluation.split, evaluation.top5
    top5 = [] if share is None else [("top 5", f"{share:.2%}", f"{split} images")]
    rows = [
        (f"{split} accuracy", f"{evaluation.accuracy:.2%}", f"95% interval {low:.1%} to {high:.1%}"),
        *top5,
        (f"{split} loss", f"{evaluation.loss:.4f}", "mean cross-entropy"),
        ("validation accuracy", f"{history['val_accuracy'][best]:.2%}", "of the best epoch"),
        ("best epoch", f"{best + 1}", f"of {epochs}"),
        ("training time", _duration(seconds), f"{_duration(seconds / epochs)} an epoch"),
        ("speed", f"{speed:,.0f}", "images/s, validation included"),
        ("parameters", f"{metrics['parameters']:,}", f"{4 * metrics['parameters'] / 1e6:,.2f} MB in float32"),
    ]
    cells = [
        f"<div><dt>{escape(name)}</dt><dd>{value}<small>{escape(note)}</small></dd></div>"
        for name, value, note in rows
    ]
    return '<dl class="facts">\n' + "\n".join(cells) + "\n</dl>"


def _notes(evaluation: Evaluation, metrics: dict[str, Any], images: DataSplits | None) -> str:
    """What one should know before believing the numbers."""
    notes = []
    if images is not None and evaluation.split == "test" and images.test is images.validation:
        notes.append(
            "The data has no test split: these are the validation images, which also picked the best epoch, "
            "so the accuracy is a little too high."
        )
    if metrics["skipped_images"]:
        notes.append(f"{_count(metrics['skipped_images'], 'image')} could not be read; skipped.txt says why.")
    return "\n".join(f"<p>{note}</p>" for note in notes)


def _curves(history: dict[str, list[float]]) -> str:
    lines = [(TRAIN_COLOR, "solid", "training"), (VALIDATION_COLOR, "solid", "validation")]
    if "top5" in history:
        lines += [
            (TRAIN_COLOR, "dashed", "top 5, training"),
            (VALIDATION_COLOR, "dashed", "top 5, validation"),
        ]
    lines += [("#999", "dotted", f"best epoch: {best_epoch(history) + 1}")]
    key = "".join(
        f'<span><i style="border-top: 3px {line} {color}"></i>{text}</span>' for color, line, text in lines
    )
    pictures = [
        f'<img class="drawn" src="{inline_figure(plot_curve(history, name))}" alt="{name} by epoch">'
        for name in curve_panels(history)
    ]
    return (
        f'<h2>Curves</h2>\n<p class="key muted">{key}</p>\n'
        f'<div class="curves">\n{chr(10).join(pictures)}\n</div>'
    )


def _matrix(figure: "Figure", saved: Path) -> str:
    """The picture of the confusion matrix; on a phone its numbers stay readable, and it scrolls."""
    width = round(72 * figure.get_size_inches()[0])
    return (
        f'<div class="wide" style="flex: 1 1 {width}px"><img class="drawn" style="width: {width}px; '
        f'min-width: {0.7 * width:.0f}px" src="{inline_png(saved.read_bytes())}" alt="Confusion matrix: a '
        'row is a true class, a column a predicted one"></div>\n'
    )


def _confusions(evaluation: Evaluation, drawn: str) -> str:
    """The matrix where its cells can be seen, and which classes are confused most often."""
    pairs = evaluation.confusions()
    shown = pairs[:MOST_CONFUSIONS]
    totals = {row.name: row.images for row in evaluation.per_class()}
    rows = [
        html_row(
            [escape(pair.true), escape(pair.predicted)],
            [f"{pair.images:,}", f"{pair.images / totals[pair.true]:.1%}"],
        )
        for pair in shown
    ]
    table = html_table(["true class", "taken for", "#images", "#of class"], rows)
    if not pairs:
        table = f"<p>No {evaluation.split} image is taken for another class.</p>"
    elif len(pairs) > len(shown):
        table = f"<p>The {len(shown)} most frequent of {len(pairs):,} pairs:</p>\n{table}"
    return f'<h2>Confusions</h2>\n<div class="pair">\n{drawn}<div>{table}</div>\n</div>'


def _classes(evaluation: Evaluation) -> str:
    """A row a class, the least recognized first; of many classes both ends."""
    scores = evaluation.per_class()
    found = sorted((s for s in scores if s.recall is not None), key=lambda s: (s.recall, -s.images))
    rows = [_class_row(score) for score in found]
    notes = []
    if len(rows) > 2 * MOST_ROWS:
        between = f"{len(rows) - 2 * MOST_ROWS:,} classes in between are in {CLASSES}"
        gap = f'<tr class="gap"><td colspan="6">… {between} …</td></tr>'
        rows = [*rows[:MOST_ROWS], gap, *rows[-MOST_ROWS:]]
        notes.append(f"The {MOST_ROWS} least and the {MOST_ROWS} best recognized of {len(found):,} classes.")
    if len(found) < len(scores):
        missing = [score.name for score in scores if score.recall is None]
        listed = ", ".join(missing[:MOST_ROWS]) + (", …" if len(missing) > MOST_ROWS else "")
        notes.append(f"No {evaluation.split} images of {_count(len(missing), 'class')}: {listed}.")
    about = "".join(f"<p>{escape(note)}</p>\n" for note in notes)
    return f"<h2>Classes</h2>\n{about}" + html_table(
        ["class", "", "#recall", "#precision", "#F1", "#images"], rows
    )


def _class_row(score: ClassScore) -> str:
    bar = f'<div class="bar"><i style="width: {score.recall:.1%}"></i></div>'
    shares = [_percent(share) for share in (score.recall, score.precision, score.f1)]
    return html_row([escape(score.name), bar], [*shares, f"{score.images:,}"])


def _mistakes(evaluation: Evaluation, images: DataSplits | None) -> str:
    """Where the model is sure and wrong, with pictures if there are any."""
    worst = evaluation.worst(MOST_MISTAKES)
    if not worst:
        return ""
    total = _count(len(evaluation.mistakes), "mistake")
    shown = f"The most confident {len(worst)} of {total}" if len(evaluation.mistakes) > len(worst) else total
    cells = [_mistake(mistake, evaluation.split, images) for mistake in worst]
    return (
        f"<h2>Worst mistakes</h2>\n<p>{shown}, the surest first: often a wrong label, or an image that "
        f'belongs nowhere.</p>\n<div class="mistakes">\n{chr(10).join(cells)}\n</div>'
    )


def _mistake(mistake: Mistake, split: str, images: DataSplits | None) -> str:
    picture = "" if images is None else f'<img src="{_thumbnail(images, split, mistake.index)}" alt="">'
    return (
        f'<figure title="{escape(mistake.name)}">{picture}<b>{escape(mistake.true)}</b> taken for '
        f"<b>{escape(mistake.predicted)}</b><figcaption>{mistake.probability:.1%} sure<br>"
        f"{escape(Path(mistake.name).name)}</figcaption></figure>"
    )


def _config(config: TrainConfig) -> str:
    """What is not as usual, then everything."""
    changed = [
        html_row([f"<code>{name}</code>", f"<code>{_value(new)}</code>", f"<code>{_value(old)}</code>"])
        for name, (old, new) in differences(TrainConfig(), config).items()
    ]
    values = config.to_dict()
    everything = [
        html_row(
            [
                f"<code>{section}.{field.name}</code>",
                f"<code>{_value(values[section][field.name])}</code>",
                escape(field.metadata["meaning"]),
            ]
        )
        for section, kind in SECTIONS.items()
        for field in fields(kind)
    ]
    special = html_table(["field", "value", "default"], changed) if changed else "<p>All defaults.</p>"
    return (
        f"<h2>Configuration</h2>\n{special}\n<details>\n<summary>All fields</summary>\n"
        f"{html_table(['field', 'value', 'meaning'], everything)}\n</details>"
    )


def _versions() -> str:
    import tensorflow as tf

    return (
        f'<p class="muted">Keras {keras.__version__} on {keras.backend.backend()}, '
        f"TensorFlow {tf.__version__}, Python {platform.python_version()}</p>"
    )


def _thumbnail(images: DataSplits, split: str, index: int) -> str:
    """What the model saw of an image, small, as a data URI."""
    from PIL import Image

    config = images.config
    pixels = read_square(images.split(split).images, index, config.eval_size, config.data.crop_share)
    finer = Image.Resampling.LANCZOS if config.eval_size > THUMBNAIL else Image.Resampling.NEAREST
    buffer = BytesIO()
    Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL), finer).save(buffer, format="PNG")
    return inline_png(buffer.getvalue())


def _value(value: Any) -> str:
    """As a YAML file may hold it."""
    return escape(value if isinstance(value, str) else json.dumps(value))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _count(number: int, noun: str) -> str:
    plural = noun if number == 1 else f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {plural}"


def _duration(seconds: float) -> str:
    """In the unit that gives the shortest number above 1."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
