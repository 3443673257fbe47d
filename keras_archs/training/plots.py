"""The pictures of a run, as plain `Figure` objects: the user's pyplot and its backend stay untouched."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_archs.pages import calm_axes
from keras_archs.training.atomic import written_whole
from keras_archs.training.history import best_epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRAIN_COLOR, VALIDATION_COLOR, RATE_COLOR, MISTAKE_COLOR = "#3b6fb6", "#d9702b", "#5b8c5a", "#b3261e"
MOST_NUMBERS = 25  # with more classes the cells are too small for numbers
MOST_NAMES = 60  # with more classes the axes have numbers of classes
MOST_MARKS = 40  # with more epochs a curve is only a line
LONGEST_NAME = 20


def plot_curves(history: Mapping[str, Sequence[float]], path: str | Path | None = None) -> "Figure":
    """Draw loss, accuracy and learning rate by epoch, side by side, the best epoch marked.

    Args:
        history: Lists by name: loss, val_loss, accuracy, val_accuracy; `Run.history` has them, and so does
            Keras's `History.history`. Where there are top5, val_top5 or learning_rate, they are drawn, too.
        path: Where to save the picture; its suffix sets the format.

    Returns:
        The figure.

    Raises:
        ValueError: If a list is missing or empty.
    """
    from matplotlib.figure import Figure

    panels = curve_panels(history)
    figure = Figure(figsize=(5 * len(panels), 4), dpi=120, layout="constrained")
    for axes, name in zip(figure.subplots(1, len(panels)), panels, strict=True):
        _draw_panel(axes, history, name)
    lines: dict[str, Any] = {}
    for axes in figure.axes:
        lines |= {label: line for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=len(lines), frameon=False)
    return _saved(figure, path)


def plot_curve(history: Mapping[str, Sequence[float]], name: str) -> "Figure":
    """Draw one panel of `plot_curves` alone and without a legend: for a page that lays them out itself.

    Args:
        history: Lists by name, as for `plot_curves`.
        name: One of `curve_panels(history)`.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.2), dpi=160, layout="constrained")
    _draw_panel(figure.subplots(), history, name)
    return figure


def curve_panels(history: Mapping[str, Sequence[float]]) -> list[str]:
    """Name what can be drawn of a history.

    Args:
        history: Lists by name.

    Returns:
        "loss", "accuracy" and perhaps "learning rate".

    Raises:
        ValueError: If a list is missing or empty.
    """
    missing = [
        name for name in ("loss", "val_loss", "accuracy", "val_accuracy") if not len(history.get(name, ()))
    ]
    if missing:
        raise ValueError(
            f"history has no values for {', '.join(missing)}; it has {', '.join(history) or 'nothing'}"
        )
    return ["loss", "accuracy", *(["learning rate"] if len(history.get("learning_rate", ())) else [])]


def _draw_panel(axes: Any, history: Mapping[str, Sequence[float]], name: str) -> None:
    """Draw one quantity by epoch: in training blue, in validation orange, and where it was best."""
    from matplotlib.ticker import MaxNLocator

    epochs = np.arange(1, len(history["loss"]) + 1)
    best = epochs[best_epoch(history)]
    style = "o-" if len(epochs) <= MOST_MARKS else "-"
    if name == "learning rate":
        axes.plot(epochs, history["learning_rate"], style, color=RATE_COLOR, markersize=3.5)
    else:
        axes.plot(epochs, history[name], style, color=TRAIN_COLOR, markersize=3.5, label="training")
        axes.plot(
            epochs, history[f"val_{name}"], style, color=VALIDATION_COLOR, markersize=3.5, label="validation"
        )
    axes.axvline(best, color="0.6", linestyle=":", zorder=0, label=f"best epoch: {best}")
    for prefix, color in (("", TRAIN_COLOR), ("val_", VALIDATION_COLOR)):
        if name == "accuracy" and len(history.get(f"{prefix}top5", ())):
            label = "top 5, validation" if prefix else "top 5, training"
            axes.plot(epochs, history[f"{prefix}top5"], "--", color=color, linewidth=1, label=label)
    axes.set(xlabel="epoch", title=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    calm_axes(axes)
    if name == "loss" and np.all(np.concatenate([history["loss"], history["val_loss"]]) > 0):
        # The validation loss of the first epochs can be a hundred times that of the last ones.
        _use_decades(axes)


def plot_rates(
    rates: Sequence[float], losses: Sequence[float], suggestion: float, path: str | Path | None = None
) -> "Figure":
    """Draw the loss by the learning rate, of a run in which the rate grows with every step.

    Args:
        rates: Learning rates, in rising order.
        losses: Of the step with that rate; the last ones may be no numbers.
        suggestion: The rate to take.
        path: Where to save the picture; its suffix sets the format.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    finite = np.isfinite(losses)
    x, y = np.asarray(rates)[finite], np.asarray(losses)[finite]
    smooth = smoothed(y)
    figure = Figure(figsize=(6.4, 4.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot(x, y, color="0.75", linewidth=1, label="loss of the step")
    axes.plot(x, smooth, color=TRAIN_COLOR, linewidth=2, label="smoothed")
    axes.axvline(suggestion, color=VALIDATION_COLOR, linestyle="--", label=f"suggestion: {suggestion:.2g}")
    axes.set(xlabel="learning rate", ylabel="loss", xscale="log")
    # The last losses are those of a network that falls apart; they would flatten all that matters.
    low, start = smooth.min(), smooth[0]
    room = max(start - low, 1e-3 * abs(start), 1e-9)
    axes.set_ylim(low - 0.25 * room, start + 0.5 * room)
    calm_axes(axes)
    axes.legend(frameon=False)
    return _saved(figure, path)


def smoothed(values: Sequence[float] | np.ndarray, memory: float = 0.9) -> np.ndarray:
    """Average each value with those before it, whose weights fade; the first ones are not pulled to zero.

    Args:
        values: Numbers, shape (N,).
        memory: Weight of the average so far against a new value.

    Returns:
        Numbers, shape (N,).
    """
    mean, found = 0.0, np.empty(len(values))
    for i, value in enumerate(values):
        mean = memory * mean + (1 - memory) * value
        found[i] = mean / (1 - memory ** (i + 1))
    return found


def plot_confusion(
    matrix: np.ndarray | Sequence[Sequence[int]], class_names: Sequence[str], path: str | Path | None = None
) -> "Figure":
    """Draw a confusion matrix: a row is a true class, a column a predicted one, colour the share of the row.

    Args:
        matrix: Counts, shape (classes, classes).
        class_names: Names by class number.
        path: Where to save the picture; its suffix sets the format.

    Returns:
        The figure.

    Raises:
        ValueError: If the matrix does not have one row and one column a class.
    """
    from matplotlib.figure import Figure

    counts, classes = np.asarray(matrix), len(class_names)
    if counts.shape != (classes, classes):
        raise ValueError(
            f"matrix has shape {counts.shape}; {classes} class names need ({classes}, {classes})"
        )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(4.5, 0.55 * classes + 2), 16)
    names = [name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…" for name in class_names]
    room = 0.08 * max(map(len, names)) if classes <= MOST_NAMES else 0
    figure = Figure(figsize=(side + 0.8 + room, side + 0.7 * room), dpi=120, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.045, pad=0.03)
    correct = np.trace(counts) / max(counts.sum(), 1)
    axes.set(
        xlabel="predicted class", ylabel="true class", title=f"{correct:.2%} of {counts.sum()} images correct"
    )
    if classes <= MOST_NAMES:
        _name_ticks(axes, names)
    if classes <= MOST_NUMBERS:
        _write_counts(axes, counts, shares)
    return _saved(figure, path)


def _name_ticks(axes: Any, names: Sequence[str]) -> None:
    """Label both axes; long names below are turned."""
    size = float(np.clip(300 / len(names), 4, 10))
    style = {"fontsize": size, "parse_math": False}
    turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 2 else {}
    axes.set_xticks(range(len(names)), names, **style, **turn)
    axes.set_yticks(range(len(names)), names, **style)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _write_counts(axes: Any, counts: np.ndarray, shares: np.ndarray) -> None:
    """Write each count into its cell: zeros pale, mistakes bold and red, everything white on dark."""
    for (row, column), count in np.ndenumerate(counts):
        is_mistake = count > 0 and row != column
        color = "0.8" if count == 0 else MISTAKE_COLOR if is_mistake else "0.15"
        color = "white" if shares[row, column] > 0.5 else color
        weight = "bold" if is_mistake else "normal"
        axes.text(column, row, str(count), ha="center", va="center", color=color, weight=weight, fontsize=9)


def _use_decades(axes: Any) -> None:
    """A logarithmic scale with plain numbers at its marks: 0.5, not 5 x 10^-1."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _saved(figure: "Figure", path: str | Path | None) -> "Figure":
    """Write the figure if a path is given."""
    if path is not None:
        with written_whole(Path(path)) as beside:
            figure.savefig(beside)
    return figure
