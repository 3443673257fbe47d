import csv
import math

import numpy as np
import pytest

from keras_archs.training.callbacks import KeepProgress, SaveBest, StopEarly, has_waited
from keras_archs.training.history import FIRST, best_epoch, read_history, write_history
from keras_archs.training.state import Progress


@pytest.fixture(autouse=True)
def clean_state():
    """In place of the one of all tests, which takes longer than most of these: there is no network here."""


class Model:
    stop_training = False


def rows_of(accuracy, loss):
    rest = dict.fromkeys(FIRST, 1.0)
    return [
        {**rest, "epoch": i + 1, "val_accuracy": a, "val_loss": v}
        for i, (a, v) in enumerate(zip(accuracy, loss, strict=True))
    ]


def test_the_file_keeps_every_float32_exactly(tmp_path):
    values = np.random.default_rng(0).random(20, np.float32).astype(float) * 10.0 ** np.arange(-10, 10)
    values = values.astype(np.float32).astype(float)
    rows = [{**dict.fromkeys(FIRST, value), "epoch": i + 1} for i, value in enumerate(values)]
    write_history(tmp_path / "h.csv", rows)
    history = read_history(tmp_path / "h.csv")
    assert history["epoch"] == list(range(1, 21))
    np.testing.assert_array_equal(np.float32(history["loss"]), np.float32(values))
    assert (tmp_path / "h.csv").read_text().splitlines()[1].startswith("1,")


def test_more_columns_follow_the_first_ones(tmp_path):
    rows = [{"top5": 0.9, **row, "val_top5": 0.8} for row in rows_of([0.1, 0.2], [2, math.nan])]
    write_history(tmp_path / "h.csv", rows)
    with open(tmp_path / "h.csv", newline="") as file:
        assert next(csv.reader(file)) == [*FIRST, "top5", "val_top5"]
    history = read_history(tmp_path / "h.csv")
    assert history["top5"] == [0.9, 0.9]
    assert math.isnan(history["val_loss"][1])


@pytest.mark.parametrize(
    ("accuracy", "loss", "best"),
    [
        ([0.1, 0.9, 0.8], [3, 2, 1], 1),
        ([0.9, 0.9, 0.8], [2, 1, 0], 1),
        ([0.9, 0.9], [1, 1], 0),
    ],
)
def test_best_epoch_and_saved_epoch_agree(accuracy, loss, best):
    assert best_epoch({"val_accuracy": accuracy, "val_loss": loss}) == best
    progress, files = Progress(8), {}
    callback = SaveBest(
        progress, lambda names: files.update(dict.fromkeys(names, len(progress.rows))), "best", "last"
    )
    for epoch, row in enumerate(rows_of(accuracy, loss)):
        progress.rows.append(row)
        callback.on_epoch_end(epoch)
    assert files == {"best": best + 1, "last": len(accuracy)}


def test_early_stopping_counts_from_the_best_epoch_also_after_a_restart():
    rows = rows_of([0.1, 0.9, 0.8, 0.9, 0.7], [1, 1, 1, 1, 1])
    stops = []
    for count in range(6):
        progress = Progress(8, rows=rows[:count])
        callback = StopEarly(progress, patience=3)  # a new one each time: nothing is remembered elsewhere
        callback.set_model(Model())
        callback.on_epoch_end(count - 1)
        stops.append(callback.model.stop_training)
        assert stops[-1] == has_waited(progress, 3)
        assert not has_waited(progress, None)
    assert stops == [False, False, False, False, False, True]


def test_progress_counts_steps_and_epochs(tmp_path, monkeypatch):
    looks = []
    monkeypatch.setattr("keras_archs.training.replicas.first_bad_step", lambda model: looks.append(model))
    progress = Progress(8, epoch=1, step=2, rows=rows_of([0.5], [1]))
    callback = KeepProgress(progress, tmp_path / "h.csv")
    callback.set_model(type("Model", (), {"optimizer": type("Optimizer", (), {"learning_rate": 0.25})()})())
    callback.on_epoch_begin(1)
    for batch in range(3):
        callback.on_train_batch_end(batch)
    assert progress.step == 5
    assert progress.seconds > 0
    callback.on_epoch_end(1, {"loss": 2.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.75})
    assert (progress.epoch, progress.step, progress.seconds) == (2, 0, 0)
    history = read_history(tmp_path / "h.csv")
    assert history["epoch"] == [1, 2]
    assert (history["learning_rate"][1], history["val_accuracy"][1]) == (0.25, 0.75)
    assert looks  # at every end of an epoch


def test_a_loss_that_is_no_number_names_the_step(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_archs.training.replicas.first_bad_step", lambda model: 7)
    callback = KeepProgress(Progress(8), tmp_path / "h.csv")
    callback.set_model(Model())
    callback.on_epoch_begin(2)
    with pytest.raises(FloatingPointError, match=r"no number in step 7; lower optimizer.learning_rate"):
        callback.on_epoch_end(2, {"loss": math.nan})
    assert not (tmp_path / "h.csv").exists()
