"""Keras callbacks of a run: averages for evaluation, history, best model, checkpoints, orders to stop."""

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import keras

from keras_archs.training import replicas
from keras_archs.training.atomic import written_whole
from keras_archs.training.history import best_epoch, write_history
from keras_archs.training.state import Progress
from keras_archs.training.trainee import Trainee

PREEMPTED = 143  # 128 + SIGTERM: what Kubernetes, Slurm and Kubeflow take for "start me again"
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
WORKERS_AGREE_EVERY = 10  # steps; each time costs a round trip
LOOK_AT_LOSS_EVERY = 50  # steps; each time waits for the device


class Preempted(SystemExit):
    """The training was told to stop, and has saved its state."""

    def __init__(self) -> None:
        super().__init__(PREEMPTED)


class EvaluateAverages(keras.callbacks.Callback):
    """Before an evaluation, average the statistics over replicas and take the averaged weights."""

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Take them."""
        replicas.sync(self.model)
        replicas.average_statistics(self.model)
        replicas.swap_averages(self.model)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Give them back."""
        replicas.swap_averages(self.model)


class KeepProgress(keras.callbacks.Callback):
    """Count steps, epochs and images, write history.csv anew after every epoch, and stop at a bad loss."""

    def __init__(self, progress: Progress, path: Path | None) -> None:
        """Go on from somewhere.

        Args:
            progress: Where the training stands; kept up to date.
            path: Of history.csv; None on workers that write nothing.
        """
        super().__init__()
        self.progress, self._path = progress, path
        self._start = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock, from where it stood when the epoch was interrupted."""
        self._start = time.monotonic() - self.progress.seconds

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count a step.

        Raises:
            FloatingPointError: If a loss was no number.
        """
        self.progress.step += 1
        self.progress.seconds = time.monotonic() - self._start
        if self.progress.step % LOOK_AT_LOSS_EVERY == 0:
            check_loss(self.model)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add a row.

        Raises:
            FloatingPointError: If a loss was no number.
        """
        check_loss(self.model)
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row = {name: float(value) for name, value in (logs or {}).items()}
        seconds = time.monotonic() - self._start
        self.progress.rows.append({**row, "epoch": epoch + 1, "learning_rate": rate, "seconds": seconds})
        self.progress.epoch, self.progress.step, self.progress.seconds = epoch + 1, 0, 0.0
        if self._path is not None:
            with written_whole(self._path) as beside:
                write_history(beside, self.progress.rows)


def check_loss(model: Trainee) -> None:
    """Stop at a bad loss; on several workers all of them must call it, and all stop.

    Args:
        model: In training.

    Raises:
        FloatingPointError: If a loss was no number.
    """
    step = replicas.first_bad_step(model)
    if step is not None:
        raise FloatingPointError(
            f"the loss was no number in step {step}; lower optimizer.learning_rate, lengthen "
            "schedule.warmup_epochs, or set optimizer.clip_norm"
        )


class SaveBest(keras.callbacks.Callback):
    """Keep the models of the best epoch, as `history.best_epoch` defines it, and of the last one."""

    def __init__(self, progress: Progress, save: Callable[[list[str]], None], best: str, last: str) -> None:
        """Say where.

        Args:
            progress: Its rows say which epoch is the best.
            save: Writes the model under some names.
            best: That of the best model.
            last: That of the last one.
        """
        super().__init__()
        self._progress, self._save, self._best, self._last = progress, save, best, last

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save the model, under both names if it is the best so far."""
        is_best = best_epoch(columns(self._progress.rows)) == len(self._progress.rows) - 1
        self._save([self._last, self._best] if is_best else [self._last])


class StopEarly(keras.callbacks.Callback):
    """Stop when no epoch was the best for too long, by the history, so that a restart changes nothing."""

    def __init__(self, progress: Progress, patience: int) -> None:
        """Say when.

        Args:
            progress: Its rows say which epoch is the best.
            patience: Epochs after the best one.
        """
        super().__init__()
        self._progress, self._patience = progress, patience

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop if it is time."""
        if has_waited(self._progress, self._patience):
            self.model.stop_training = True


def has_waited(progress: Progress, patience: int | None) -> bool:
    """Whether early stopping ends the training.

    Args:
        progress: Where it stands.
        patience: Epochs after the best one; None waits for ever.

    Returns:
        Whether that many have passed.
    """
    rows = progress.rows
    return bool(rows) and patience is not None and len(rows) - 1 - best_epoch(columns(rows)) >= patience


class SaveCheckpoints(keras.callbacks.Callback):
    """Save the state at fixed steps and after every epoch, and, when told to stop, at once.

    The last step of an epoch is left to its end, which follows: there would be nothing to go on with.
    """

    def __init__(
        self, progress: Progress, save: Callable[[], None], steps: int, every: int | None, orders: "Orders"
    ) -> None:
        """Say when.

        Args:
            progress: Counts the steps.
            save: Writes a checkpoint.
            steps: Of an epoch.
            every: Steps between two; None means only after epochs.
            orders: Tells whether to stop.
        """
        super().__init__()
        self._progress, self._save, self._orders = progress, save, orders
        self._steps, self._every = steps, every

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Save if it is time.

        Raises:
            Preempted: If any worker was told to stop.
        """
        step = self._progress.step
        if step == self._steps:
            return
        look = not replicas.is_multi_worker(self.model) or step % WORKERS_AGREE_EVERY == 0
        stop = look and replicas.agree(self.model, self._orders.stop)
        if stop or (self._every and step % self._every == 0):
            check_loss(self.model)
            self._save()
        if stop:
            raise Preempted

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save.

        Raises:
            Preempted: If any worker was told to stop.
        """
        self._save()
        if replicas.agree(self.model, self._orders.stop):
            raise Preempted


class Orders:
    """Whether SIGTERM or SIGUSR1 has come: "save and stop"."""

    def __init__(self) -> None:
        self.stop = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.stop = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals in a block, where Python lets us: in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class WriteSummaries(keras.callbacks.Callback):
    """Write each epoch's numbers for TensorBoard, which need not be installed for that."""

    def __init__(self, folder: Path) -> None:
        """Say where.

        Args:
            folder: Holds the event files, one an attempt.
        """
        super().__init__()
        import tensorflow as tf

        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 1000}.{socket.gethostname()}"
        self._file = tf.io.TFRecordWriter(str(folder / name))
        self._write(tf.compat.v1.Event(wall_time=time.time(), file_version="brain.Event:2"))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write them, the learning rate too."""
        import tensorflow as tf

        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        numbers = {**(logs or {}), "learning_rate": rate}.items()
        values = [tf.compat.v1.Summary.Value(tag=name, simple_value=float(value)) for name, value in numbers]
        summary = tf.compat.v1.Summary(value=values)
        self._write(tf.compat.v1.Event(wall_time=time.time(), step=epoch + 1, summary=summary))

    def _write(self, event: Any) -> None:
        self._file.write(event.SerializeToString())
        self._file.flush()


def columns(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """Rows of the history as columns.

    Args:
        rows: Values by name, one an epoch.

    Returns:
        Lists by name.
    """
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
