import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from training_helpers import tiny_model

from keras_archs.training.callbacks import SaveBest, WriteHistory
from keras_archs.training.history import best_epoch, read_history, write_history


def test_the_file_keeps_every_float32_exactly(tmp_path):
    values = np.random.default_rng(0).random(20, np.float32).astype(float) * 10.0 ** np.arange(-10, 10)
    values = values.astype(np.float32).astype(float)
    rows = [
        {
            "epoch": i + 1,
            "loss": v,
            "accuracy": v,
            "val_loss": v,
            "val_accuracy": v,
            "learning_rate": v,
            "seconds": 1,
        }
        for i, v in enumerate(values)
    ]
    write_history(tmp_path / "h.csv", rows)
    history = read_history(tmp_path / "h.csv")
    assert history["epoch"] == list(range(1, 21))
    np.testing.assert_array_equal(np.float32(history["loss"]), np.float32(values))
    assert (tmp_path / "h.csv").read_text().splitlines()[1].startswith("1,")


@pytest.mark.parametrize(
    ("accuracy", "loss", "best"),
    [([0.1, 0.9, 0.8], [3, 2, 1], 1), ([0.9, 0.9, 0.8], [2, 1, 0], 1), ([0.9, 0.9], [1, 1], 0)],
)
def test_best_epoch_and_saved_epoch_agree(tmp_path, accuracy, loss, best):
    assert best_epoch({"val_accuracy": accuracy, "val_loss": loss}) == best
    model = tiny_model("tiny")
    callback = SaveBest(tmp_path / "model.keras")
    callback.set_model(model)
    for epoch, (a, v) in enumerate(zip(accuracy, loss, strict=True)):
        model.layers[-1].bias.assign([epoch, epoch])
        callback.on_epoch_end(epoch, {"val_accuracy": a, "val_loss": v})
    saved = keras.models.load_model(tmp_path / "model.keras")
    assert saved.layers[-1].bias.numpy().tolist() == [best, best]
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_with_advice(tmp_path, loss):
    callback = WriteHistory(tmp_path / "h.csv")
    callback.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=5.0)))
    callback.on_epoch_begin(2)
    with pytest.raises(FloatingPointError, match=f"loss became {loss} in epoch 3; lower learning_rate"):
        callback.on_epoch_end(2, {"loss": loss})
    assert not (tmp_path / "h.csv").exists()
