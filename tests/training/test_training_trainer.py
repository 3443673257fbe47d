import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from training_helpers import tiny_model

from keras_archs.quiet import quiet_tensorflow
from keras_archs.training import Run, TrainConfig, load_data, train, trainer
from keras_archs.training.callbacks import WriteHistory
from keras_archs.training.strategies import default_strategy

FILES = {
    "config.yaml",
    "history.csv",
    "curves.png",
    "model.keras",
    "confusion.png",
    "metrics.json",
    "labels.txt",
}


def small_config(folder, **values):
    small = {"image_size": 8, "batch_size": 4, "epochs": 2, "warmup_epochs": 0.5, "data": str(folder)}
    return TrainConfig(**{**small, **values})


def forbid(monkeypatch, name):
    def called(*_, **__):
        raise AssertionError(f"{name} was called")

    monkeypatch.setattr(trainer, name, called)


def test_a_run_learns_and_leaves_a_complete_folder(photos, tmp_path, tiny):
    run = train(small_config(photos, learning_rate=0.5, epochs=6), tmp_path / "run")
    assert {path.name for path in run.directory.iterdir()} == FILES
    assert run.metrics["test_accuracy"] == 1.0  # red against green
    assert run.history["loss"][-1] < run.history["loss"][0]
    assert run.history["epoch"] == [1, 2, 3, 4, 5, 6]
    assert run.history["learning_rate"][0] > run.history["learning_rate"][-1]
    assert run.class_names == ("green", "red")
    assert run.metrics["train_images"] == 16
    assert Run.open(run.directory) == run


def test_the_metrics_are_those_of_the_saved_model(photos, tmp_path, tiny):
    run = train(small_config(photos, learning_rate=1e-3, epochs=1, warmup_epochs=0), tmp_path / "run")
    model, data = run.load_model(), run.data()
    probabilities, labels = model.predict(data.images("test"), verbose=0), data.labels("test")
    chosen = probabilities[np.arange(len(labels)), labels]
    assert run.metrics["test_accuracy"] == np.mean(probabilities.argmax(axis=1) == labels)
    assert run.metrics["test_loss"] == pytest.approx(-np.log(chosen).mean(), rel=1e-5)
    assert run.metrics["parameters"] == model.count_params()
    assert not keras.models.load_model(run.directory / "model.keras").compiled  # no optimizer in the file


def test_data_that_changed_after_the_training_is_refused(photos, tmp_path, tiny):
    run = train(small_config(photos, epochs=1), tmp_path / "run")
    np.testing.assert_array_equal(run.data().labels("test"), run.data().labels("test"))
    (photos / "red" / "00.png").rename(photos / "red" / "99.png")
    with pytest.raises(ValueError, match=r"data='.*photos' has changed since"):
        run.data()


def test_a_damaged_run_is_named(photos, tmp_path, tiny):
    run = train(small_config(photos, epochs=1), tmp_path / "run")
    model = run.directory / "model.keras"
    model.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model.keras' is damaged"):
        run.load_model()
    (run.directory / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match=r"metrics.json' is damaged"):
        Run.open(run.directory)


def test_another_backend_is_refused(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    with pytest.raises(ValueError, match="KERAS_BACKEND='jax': training needs 'tensorflow'"):
        train(small_config(photos), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_skipped_images_are_on_record(photos, tmp_path, tiny):
    (photos / "red" / "zero.png").write_bytes(b"")
    run = train(small_config(photos, epochs=1, skip_unreadable=True), tmp_path / "run")
    assert run.metrics["skipped_images"] == 1
    assert "zero.png: empty file" in (run.directory / "skipped.txt").read_text()


def test_a_relative_folder_is_recorded_absolute(photos, tmp_path, tiny, monkeypatch):
    monkeypatch.chdir(photos.parent)
    run = train(small_config("photos", epochs=1), tmp_path / "run")
    assert run.config == small_config(photos, epochs=1)


def test_the_model_is_built_and_the_rate_moves_as_configured(photos, tmp_path, monkeypatch):
    asked = []

    def build(name, **arguments):
        asked.append((name, arguments))
        return tiny_model(name, **{**arguments, "weights": None})

    monkeypatch.setattr(trainer, "create_model", build)
    config = small_config(
        photos, model="resnet50", weights="some.keras", epochs=4, warmup_epochs=1, learning_rate=0.4
    )
    run = train(config, tmp_path / "run")
    assert asked == [("resnet50", {"weights": "some.keras", "input_shape": (8, 8, 3), "classes": 2})]
    cosine = [0.2 * (1 + np.cos(np.pi * epoch / 3)) for epoch in range(4)]
    np.testing.assert_allclose(run.history["learning_rate"], cosine, atol=1e-6)


def test_weight_decay_shrinks_kernels_only(photos, tiny):
    config = small_config(photos, learning_rate=0.5, warmup_epochs=0, weight_decay=0.1)
    model = trainer._compiled_model(config, load_data(config))
    for layer in (model.layers[1], model.layers[3]):
        layer.set_weights([np.ones_like(values) for values in layer.get_weights()])
    model.optimizer.apply_gradients(
        [(0 * keras.ops.convert_to_tensor(v), v) for v in model.trainable_variables]
    )
    for variable in model.trainable_variables:
        np.testing.assert_allclose(variable, 0.95 if variable.name == "kernel" else 1.0, rtol=1e-6)


def test_two_runs_of_a_real_model_are_equal_bit_by_bit(photos, tmp_path):
    config = small_config(photos, image_size=16, epochs=1, warmup_epochs=0, augment=True, flip=True)
    first, again = (train(config, tmp_path / name) for name in "ab")
    assert first.history["loss"] == again.history["loss"]
    for a, b in zip(first.load_model().get_weights(), again.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


MIRRORED = """
import sys
from dataclasses import replace
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from training_helpers import tiny_model
from keras_archs.training import TrainConfig, train, trainer

trainer.create_model = tiny_model
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
config = TrainConfig.from_yaml(sys.argv[1])
try:
    train(replace(config, batch_size=5), sys.argv[2], strategy=strategy)
except ValueError as error:
    print(error)
train(config, sys.argv[2], strategy=strategy)
"""


def test_two_mirrored_devices_end_with_the_weights_of_one(photos, tmp_path, tiny):
    config = small_config(photos, epochs=1)
    config.to_yaml(tmp_path / "c.yaml")
    command = [sys.executable, "-c", MIRRORED, str(tmp_path / "c.yaml"), str(tmp_path / "two")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    child = subprocess.run(command, check=True, env=environment, timeout=120, capture_output=True, text=True)
    assert child.stdout == "batch_size=5 must be a multiple of the number of devices, 2\n"
    two, one = Run.open(tmp_path / "two"), train(config, tmp_path / "one")
    for a, b in zip(two.load_model().get_weights(), one.load_model().get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert two.history["loss"] == pytest.approx(one.history["loss"], rel=1e-5)
    assert two.metrics["test_accuracy"] == one.metrics["test_accuracy"]


def test_without_a_gpu_one_cpu_trains():
    strategy = default_strategy()
    assert strategy.num_replicas_in_sync == 1
    assert type(strategy).__name__ in ("OneDeviceStrategy", "OneDeviceStrategyV1")


def test_what_tensorflow_says_at_the_start_is_kept_back(capfd):
    with quiet_tensorflow():
        os.write(2, b"chatter")
    assert capfd.readouterr().err == ""


def test_what_tensorflow_says_before_an_error_is_passed_on(capfd):
    def fail():
        with quiet_tensorflow():
            os.write(2, b"the reason")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert capfd.readouterr().err == "the reason"


def test_training_is_silent_without_a_terminal(photos, tmp_path, tiny, capfd):
    train(small_config(photos), tmp_path / "run")
    assert capfd.readouterr() == ("", "")


def test_the_bar_is_shown_on_stderr_when_asked_for(photos, tmp_path, tiny, capfd):
    train(small_config(photos), tmp_path / "run", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "epoch 2/2" in err
    assert "100%" in err
    assert "images/s" in err
    assert "loss" in err


def interrupt_in_epoch(monkeypatch, epoch):
    real = WriteHistory.on_epoch_begin

    def begin(self, index, logs=None):
        real(self, index, logs)
        if index + 1 == epoch:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(WriteHistory, "on_epoch_begin", begin)


def test_ctrl_c_before_an_epoch_is_complete_leaves_nothing(photos, tmp_path, tiny, monkeypatch):
    interrupt_in_epoch(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train(small_config(photos), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(small_config(photos), tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


def test_ctrl_c_later_keeps_the_complete_epochs(photos, tmp_path, tiny, monkeypatch):
    interrupt_in_epoch(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        train(small_config(photos), tmp_path / "run")
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"config.yaml", "labels.txt", "history.csv", "model.keras"}
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 2
    assert keras.models.load_model(tmp_path / "run" / "model.keras").count_params() > 0
    with pytest.raises(ValueError, match=r"was not finished; its best model so far is model.keras"):
        Run.open(tmp_path / "run")


def test_a_full_disk_leaves_the_last_complete_model(photos, tmp_path, tiny, monkeypatch):
    real, calls = keras.Model.save, []

    def save(self, path):
        calls.append(path)
        if len(calls) == 2:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        real(self, path)

    monkeypatch.setattr(keras.Model, "save", save)
    with pytest.raises(OSError, match="No space left"):
        train(small_config(photos, epochs=20, learning_rate=0.5), tmp_path / "run")
    assert keras.models.load_model(tmp_path / "run" / "model.keras").count_params() > 0
    assert not [path.name for path in (tmp_path / "run").iterdir() if ".part" in path.name]


def test_a_folder_in_use_is_refused_before_any_work(photos, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep")
    forbid(monkeypatch, "load_data")
    with pytest.raises(FileExistsError, match=r"run_dir='.*run' exists and is not an empty folder"):
        train(small_config(photos), tmp_path / "run")
    with pytest.raises(FileExistsError, match=r"mine.txt' exists and is not an empty folder"):
        train(small_config(photos), tmp_path / "run" / "mine.txt")
    assert (tmp_path / "run" / "mine.txt").read_text() == "keep"


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(photos, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    forbid(monkeypatch, "load_data")
    with pytest.raises(OSError, match=r"run_dir='.*file/run' cannot be written"):
        train(small_config(photos), tmp_path / "file" / "run")

    def touch(self):
        raise PermissionError(13, "Read-only file system")

    monkeypatch.setattr(Path, "touch", touch)  # as root, no folder of the test's own would be read-only
    with pytest.raises(OSError, match=r"cannot be written: .*Read-only"):
        train(small_config(photos), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bad_data_leaves_no_folder(photos, tmp_path, tiny):
    (photos / "red" / "zero.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"zero.png: empty file"):
        train(small_config(photos), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_training_split_is_refused(photos, tmp_path, tiny):
    with pytest.raises(ValueError, match="batch_size=17 must be at most 16"):
        train(small_config(photos, batch_size=17), tmp_path / "run")


def test_an_image_too_small_for_the_model_is_refused(photos, tmp_path):
    with pytest.raises(ValueError, match="input_shape"):
        train(small_config(photos, model="xception"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_open_names_what_is_missing(tmp_path):
    with pytest.raises(
        ValueError, match=r"is no run folder: config.yaml, labels.txt, history.csv, model.keras"
    ):
        Run.open(tmp_path)
