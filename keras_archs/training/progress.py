"""Progress on stderr: shown on a terminal or when asked for, otherwise silent."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, track

Item = TypeVar("Item")
REFRESH = 0.2  # seconds between readings of loss and accuracy: each one waits for the device


def tracked(items: Iterable[Item], total: int, text: str, progress: bool | None) -> Iterator[Item]:
    """Pass items on and count them in a bar.

    Args:
        items: What to pass on.
        total: How many there are.
        text: What is being done to them.
        progress: True, False, or None for "only on a terminal".

    Returns:
        The items.
    """
    yield from track(
        items,
        text,
        total=total,
        console=Console(stderr=True),
        transient=True,
        disable=not is_wanted(progress),
    )


def training_progress(progress: bool | None) -> Progress:
    """Make the bar that `TrainingProgress` moves; its `with` block restores the terminal, on Ctrl-C too.

    Args:
        progress: True, False, or None for "only on a terminal".

    Returns:
        The bar.
    """
    return Progress(
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(bar_width=14),
        TextColumn("{task.percentage:3.0f}%"),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not is_wanted(progress),
    )


def is_wanted(progress: bool | None) -> bool:
    """Decide whether to show a bar.

    Args:
        progress: True, False, or None for "only on a terminal".

    Returns:
        The decision.
    """
    return sys.stderr.isatty() if progress is None else progress


class TrainingProgress(keras.callbacks.Callback):
    """One bar over all steps of all epochs, with images/s, loss and accuracy."""

    def __init__(self, bar: Progress, epochs: int, steps: int, batch_size: int, done: int) -> None:
        super().__init__()
        self._bar, self._epochs, self._batch_size = bar, epochs, batch_size
        self._task = bar.add_task(
            "train", total=epochs * steps, completed=done, epoch=f"0/{epochs}", numbers="preparing"
        )
        self._epoch_start = self._last_reading = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Show the epoch's number and start its clock."""
        self._epoch_start = time.monotonic()
        self._bar.update(self._task, epoch=f"{epoch + 1}/{self._epochs}")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Advance by one step and, a few times a second, show the running means."""
        self._bar.update(self._task, advance=1)
        now = time.monotonic()
        if logs and now - self._last_reading > REFRESH:
            self._last_reading = now
            speed = (batch + 1) * self._batch_size / (now - self._epoch_start)
            numbers = f"{speed:.0f} images/s loss {logs['loss']:.3f} accuracy {logs['accuracy']:.3f}"
            self._bar.update(self._task, numbers=numbers)
