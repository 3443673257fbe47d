"""Run: what a training left in its folder."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

import keras_archs.layers  # noqa: F401  registers the layers that a model file may name
from keras_archs.training.config import TrainConfig
from keras_archs.training.data import DAMAGED, DataSplits, load_data, read_damaged
from keras_archs.training.history import read_history

CONFIG, HISTORY, METRICS = "config.yaml", "history.csv", "metrics.json"
MODEL, LAST, LABELS, SKIPPED = "model.keras", "last.keras", "labels.txt", "skipped.txt"
CURVES, CONFUSION, CLASSES, REPORT = "curves.png", "confusion.png", "per_class.csv", "report.html"
TENSORBOARD = "tensorboard"
FILES = (CONFIG, HISTORY, METRICS, MODEL, LAST, LABELS, SKIPPED, CURVES, CONFUSION, CLASSES, REPORT, DAMAGED)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        directory: The run folder.
        config: What was trained.
        metrics: test_accuracy, test_loss and the rest of metrics.json.
        history: The columns of history.csv, one value an epoch.
        class_names: Names by class number.
    """

    directory: Path
    config: TrainConfig
    metrics: dict[str, Any]
    history: dict[str, list[float]]
    class_names: tuple[str, ...]

    @classmethod
    def open(cls, directory: str | Path) -> "Run":
        """Read a run folder.

        Args:
            directory: The folder that `train` wrote.

        Returns:
            The run.

        Raises:
            ValueError: If the folder is no run folder, or its run did not finish.
        """
        directory = Path(directory)
        needed = (CONFIG, LABELS, HISTORY, MODEL, METRICS)
        missing = [name for name in needed if not (directory / name).is_file()]
        if METRICS in missing and CONFIG not in missing:
            best = "no epoch is complete" if MODEL in missing else f"its best model so far is {MODEL}"
            raise ValueError(
                f"run_dir={str(directory)!r} was not finished; {best}. `keras-archs resume` goes on with it"
            )
        if missing:
            raise ValueError(f"run_dir={str(directory)!r} is no run folder: {', '.join(missing)} missing")
        return cls(
            directory=directory,
            config=TrainConfig.from_yaml(directory / CONFIG),
            metrics=_read_json(directory / METRICS),
            history=read_history(directory / HISTORY),
            class_names=tuple((directory / LABELS).read_text(encoding="utf-8").splitlines()),
        )

    def load_model(self) -> keras.Model:
        """Load the model of the best validation epoch.

        Returns:
            The model, not compiled; it takes what `data().images(...)` gives.
        """
        return load_model(self.directory)

    def data(self) -> DataSplits:
        """Load the data again, split as in the run.

        Returns:
            The splits.

        Raises:
            ValueError: If the data can't be read, or has changed: then the splits are others, and test images
                may have been trained on.
        """
        data = load_data(self.config)
        if data.fingerprint() != self.metrics.get("data_sha256"):
            raise ValueError(
                f"data.source={self.config.data.source!r} has changed since {str(self.directory)!r} was "
                "trained on it: bring the same images back, or train again"
            )
        return data.without(read_damaged(self.directory))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from error


def load_model(directory: Path) -> keras.Model:
    """Load the model of a run folder, finished or not.

    Args:
        directory: The run folder.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: If the file is damaged.
    """
    path = directory / MODEL
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{str(path)!r} is damaged: not a whole .keras file")
    return keras.models.load_model(path, compile=False)
