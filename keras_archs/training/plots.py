"""The two pictures of a run, as plain `Figure` objects: the user's pyplot and its backend stay untouched."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_archs.training.atomic import written_whole
from keras_archs.training.history import best_epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRAIN_COLOR, VALIDATION_COLOR, MISTAKE_COLOR = "#3b6fb6", "#d9702b", "#b3261e"
MOST_NUMBERS = 25  # with more classes the cells are too small for numbers
LONGEST_NAME = 20


def plot_curves(history: Mapping[str, Sequence[float]], path: str | Path | None = None) -> "Figure":
    """Draw loss and accuracy by epoch, training and validation side by side, the best epoch marked.

    Args:
        history: Lists by name: loss, val_loss, accuracy, val_accuracy; `Run.history` has them, and so does
            Keras's `History.history`.
        path: Where to save the picture; its suffix sets the format.

    Returns:
        The figure.

    Raises:
        ValueError: If a list is missing or empty.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    missing = [
        name for name in ("loss", "val_loss", "accuracy", "val_accuracy") if not len(history.get(name, ()))
    ]
    if missing:
        raise ValueError(
            f"history has no values for {', '.join(missing)}; it has {', '.join(history) or 'nothing'}"
        )
    epochs = np.arange(1, len(history["loss"]) + 1)
    best = epochs[best_epoch(history)]
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(epochs, history[name], "o-", color=TRAIN_COLOR, markersize=3.5, label="training")
        axes.plot(
            epochs, history[f"val_{name}"], "o-", color=VALIDATION_COLOR, markersize=3.5, label="validation"
        )
        axes.axvline(best, color="0.6", linestyle=":", zorder=0, label=f"best epoch: {best}")
        axes.set(xlabel="epoch", title=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    if np.all(np.concatenate([history["loss"], history["val_loss"]]) > 0):
        # The validation loss of the first epochs can be a hundred times that of the last ones.
        figure.axes[0].set_yscale("log")
    lines = figure.axes[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=3, frameon=False)
    return _saved(figure, path)


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
    room = 0.08 * max(map(len, names))
    figure = Figure(figsize=(side + 0.8 + room, side + 0.7 * room), dpi=120, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.045, pad=0.03)
    correct = np.trace(counts) / max(counts.sum(), 1)
    axes.set(
        xlabel="predicted class", ylabel="true class", title=f"{correct:.2%} of {counts.sum()} images correct"
    )
    _name_ticks(axes, names)
    if classes <= MOST_NUMBERS:
        _write_counts(axes, counts, shares)
    return _saved(figure, path)


def _name_ticks(axes: Any, names: Sequence[str]) -> None:
    """Label both axes; long names below are turned."""
    size = float(np.clip(300 / len(names), 4, 10))
    turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 2 else {}
    axes.set_xticks(range(len(names)), names, fontsize=size, **turn)
    axes.set_yticks(range(len(names)), names, fontsize=size)
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


def _saved(figure: "Figure", path: str | Path | None) -> "Figure":
    """Write the figure if a path is given."""
    if path is not None:
        with written_whole(Path(path)) as beside:
            figure.savefig(beside)
    return figure
