"""The numbers of each epoch: columns of history.csv, and which epoch was the best."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

FIRST = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")


def write_history(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write one row an epoch; nine digits keep every float32 exactly.

    Args:
        path: The file.
        rows: Values by column, at least those of `FIRST`.
    """
    names = [*FIRST, *(name for name in rows[0] if name not in FIRST)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows({name: f"{row[name]:.9g}" for name in names} for row in rows)


def read_history(path: Path) -> dict[str, list[float]]:
    """Read what `write_history` wrote.

    Args:
        path: The file.

    Returns:
        One value an epoch, by column.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return {name: [float(row[name]) for row in rows] for name in reader.fieldnames or ()}


def best_epoch(history: Mapping[str, Sequence[float]]) -> int:
    """Find the epoch with the best validation accuracy; among equals, the lowest loss, then the first.

    Args:
        history: val_accuracy and val_loss, one value an epoch.

    Returns:
        Its index, from 0.
    """
    accuracy, loss = history["val_accuracy"], history["val_loss"]
    return max(range(len(accuracy)), key=lambda epoch: (accuracy[epoch], -loss[epoch]))
