"""train: a configuration and an empty folder in, a run folder out."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_archs.registry import create_model
from keras_archs.training.atomic import written_whole
from keras_archs.training.callbacks import SaveBest, WriteHistory
from keras_archs.training.config import TrainConfig
from keras_archs.training.data import DataSplits, load_data
from keras_archs.training.history import best_epoch, read_history
from keras_archs.training.plots import plot_confusion, plot_curves
from keras_archs.training.progress import TrainingProgress, is_wanted, training_progress
from keras_archs.training.run import (
    CONFIG,
    CONFUSION,
    CURVES,
    HISTORY,
    LABELS,
    METRICS,
    MODEL,
    SKIPPED,
    Run,
    load_model,
)
from keras_archs.training.strategies import default_strategy

if TYPE_CHECKING:
    import tensorflow as tf


def train(
    config: TrainConfig,
    run_dir: str | Path,
    *,
    progress: bool | None = None,
    strategy: "tf.distribute.Strategy | None" = None,
) -> Run:
    """Train a model, keep its best epoch, measure that on the test split, and write everything down.

    On a CPU, the same configuration gives the same weights, bit by bit; the global random seeds of Python,
    NumPy and Keras are set. After Ctrl-C or an error the folder holds the finished epochs, or is gone.
    Several GPUs keep moving statistics of batch normalization each; the saved model has those of the first.

    Args:
        config: What to train, on what, and how.
        run_dir: A folder that does not exist or is empty.
        progress: Show a bar on stderr: True, False, or None for "only on a terminal".
        strategy: Where to train; None means all visible GPUs, or the CPU.

    Returns:
        The finished run.

    Raises:
        ValueError: If the configuration does not fit the data, the model or the devices, or if Keras does not
            run on TensorFlow.
        OSError: If run_dir is not empty or cannot be written; nothing has been done then.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"KERAS_BACKEND={keras.backend.backend()!r}: training needs 'tensorflow'")
    with _run_folder(Path(run_dir)) as directory:
        _with_absolute_paths(config).to_yaml(directory / CONFIG)
        strategy = strategy or default_strategy()
        data = load_data(config, progress=progress)
        _check_batch(config, data, strategy)
        _write_text(directory / LABELS, "".join(f"{name}\n" for name in data.class_names))
        if data.skipped:
            _write_text(directory / SKIPPED, "".join(f"{line}\n" for line in data.skipped))
        keras.utils.set_random_seed(config.seed)
        with strategy.scope():
            model = _compiled_model(config, data)
        _fit(model, data, directory, progress)
        _report(data, directory)
    return Run.open(directory)


@contextmanager
def _run_folder(directory: Path) -> Iterator[Path]:
    """Claim a folder; if the block fails before an epoch is complete, leave things as they were."""
    existed = directory.exists()
    if existed and (not directory.is_dir() or any(directory.iterdir())):
        raise FileExistsError(
            f"run_dir={str(directory)!r} exists and is not an empty folder; choose another name"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / CONFIG).touch()
    except OSError as error:
        _undo(directory, existed)
        raise OSError(f"run_dir={str(directory)!r} cannot be written: {error}") from error
    try:
        yield directory
    except BaseException:
        if not (directory / HISTORY).exists():
            _undo(directory, existed)
        raise


def _undo(directory: Path, existed: bool) -> None:
    """Remove what a run without a complete epoch has written; a folder that the user made stays."""
    if directory.is_dir():
        for path in directory.iterdir():
            path.unlink()
        if not existed:
            directory.rmdir()


def _with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """Make the recorded folder independent of where the command was run."""
    return config if config.data == "digits" else replace(config, data=str(Path(config.data).resolve()))


def _check_batch(config: TrainConfig, data: DataSplits, strategy: "tf.distribute.Strategy") -> None:
    """Refuse a batch that the devices cannot share evenly or that the training split cannot fill."""
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise ValueError(
            f"batch_size={config.batch_size} must be a multiple of the number of devices, {replicas}"
        )
    if config.batch_size > len(data.train):
        raise ValueError(
            f"batch_size={config.batch_size} must be at most {len(data.train)}, the number of training images"
        )


def _compiled_model(config: TrainConfig, data: DataSplits) -> keras.Model:
    """Build the model with SGD: momentum, a warm-up and cosine schedule, decay of the kernels only."""
    shape = (config.image_size, config.image_size, 3)
    model = create_model(
        config.model, weights=config.weights, input_shape=shape, classes=len(data.class_names)
    )
    steps = len(data.train) // config.batch_size
    warmup_epochs = min(1, config.epochs / 10) if config.warmup_epochs is None else config.warmup_epochs
    warmup = round(warmup_epochs * steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else config.learning_rate,
        decay_steps=max(1, config.epochs * steps - warmup),
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.SGD(
        schedule, momentum=config.momentum, weight_decay=config.weight_decay or None
    )
    if config.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _fit(model: keras.Model, data: DataSplits, directory: Path, progress: bool | None) -> None:
    """Run `Model.fit` with the callbacks that keep the folder up to date."""
    config = data.config
    with training_progress(progress) as bar:
        # The history comes last: a folder that has one also has a model.
        callbacks = [SaveBest(directory / MODEL), WriteHistory(directory / HISTORY)]
        if is_wanted(progress):
            steps = len(data.train) // config.batch_size
            callbacks.append(TrainingProgress(bar, config.epochs, steps, config.batch_size))
        model.fit(
            data.dataset("train", training=True),
            validation_data=data.dataset("validation"),
            epochs=config.epochs,
            callbacks=callbacks,
            shuffle=False,  # the pipeline has shuffled
            verbose=0,
        )


def _report(data: DataSplits, directory: Path) -> None:
    """Measure the saved model, not the one in memory, on the test split; draw it and write it down."""
    model = load_model(directory)
    history = read_history(directory / HISTORY)
    labels = data.labels("test")
    # Not `predict`: tracing a graph for one pass is slower, and TensorFlow warns of it in a fifth run.
    outputs = [model(images, training=False).numpy() for images, _ in data.dataset("test")]
    probabilities = np.concatenate(outputs)
    matrix = np.zeros((len(data.class_names),) * 2, int)
    np.add.at(matrix, (labels, probabilities.argmax(axis=-1)), 1)
    best = best_epoch(history)
    metrics = {
        "test_accuracy": float(np.trace(matrix) / len(labels)),
        "test_loss": float(-np.log(probabilities[np.arange(len(labels)), labels].clip(1e-7)).mean()),
        "validation_accuracy": history["val_accuracy"][best],
        "validation_loss": history["val_loss"][best],
        "best_epoch": best + 1,
        "epochs": len(history["epoch"]),
        "seconds": sum(history["seconds"]),
        "parameters": model.count_params(),
        "train_images": len(data.train),
        "validation_images": len(data.validation),
        "test_images": len(data.test),
        "skipped_images": len(data.skipped),
        "data_sha256": data.fingerprint(),
    }
    plot_curves(history, directory / CURVES)
    plot_confusion(matrix, data.class_names, directory / CONFUSION)
    # The numbers come last: they are the sign that the run is complete.
    _write_text(directory / METRICS, json.dumps(metrics, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8")
