"""Keras callbacks that keep the run folder up to date after every epoch."""

import math
import time
from pathlib import Path
from typing import Any

import keras

from keras_archs.training.atomic import written_whole
from keras_archs.training.history import write_history


class SaveBest(keras.callbacks.Callback):
    """Keep the model of the best epoch, as `history.best_epoch` defines it.

    Unlike `keras.callbacks.ModelCheckpoint`, it never leaves half a file and saves no optimizer state.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._best = (-math.inf, -math.inf)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save the model if it is the best so far."""
        logs = logs or {}
        score = (logs["val_accuracy"], -logs["val_loss"])
        if score > self._best:
            bare = keras.Model(self.model.inputs, self.model.outputs, name=self.model.name)
            with written_whole(self._path) as beside:
                bare.save(beside)
            self._best = score


class WriteHistory(keras.callbacks.Callback):
    """Write history.csv anew after every epoch, and stop when the loss is no number any more."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._rows: list[dict[str, float]] = []
        self._start = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self._start = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add a row.

        Raises:
            FloatingPointError: If the training loss is NaN or infinite.
        """
        logs = logs or {}
        rate, seconds = float(self.model.optimizer.learning_rate), time.monotonic() - self._start
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(
                f"the loss became {logs['loss']} in epoch {epoch + 1}; lower learning_rate or lengthen "
                "warmup_epochs"
            )
        self._rows.append({**logs, "epoch": epoch + 1, "learning_rate": rate, "seconds": seconds})
        with written_whole(self._path) as beside:
            write_history(beside, self._rows)
