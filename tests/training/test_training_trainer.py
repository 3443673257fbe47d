import json
import os
import re
import signal
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from training_helpers import digest, normalized_model, small_config

from keras_archs.quiet import quiet_tensorflow
from keras_archs.training import Options, Run, checkpoint, load_data, train, trainer
from keras_archs.training.config import TrainConfig
from keras_archs.training.folder import OtherRunError

FILES = set(
    "config.yaml history.csv metrics.json model.keras last.keras labels.txt curves.png confusion.png "
    "per_class.csv report.html checkpoints".split()
)


def at_step(number, act):
    """A callback that does something once, after so many steps of this process."""
    steps = iter(range(1, 10**6))

    def count(batch, logs):
        if next(steps) == number:
            act()

    return keras.callbacks.LambdaCallback(on_train_batch_end=count)


def terminate():
    signal.raise_signal(signal.SIGTERM)


def use_signal_1():
    signal.raise_signal(signal.SIGUSR1)


def interrupt():
    raise KeyboardInterrupt


def test_a_run_learns_and_leaves_a_complete_folder(photos, tmp_path, tiny):
    run = train(small_config(photos, optimizer__learning_rate=0.5, run__epochs=6), tmp_path / "run")
    assert {path.name for path in run.directory.iterdir()} == FILES
    assert run.metrics["test_accuracy"] == 1.0  # red against green
    assert run.history["loss"][-1] < run.history["loss"][0]
    assert run.history["epoch"] == [1, 2, 3, 4, 5, 6]
    assert run.history["learning_rate"][0] > run.history["learning_rate"][-1]
    assert run.class_names == ("green", "red")
    assert run.metrics["train_images"] == 16
    assert len(list((run.directory / "checkpoints").iterdir())) == 2
    assert Run.open(run.directory) == run
    before = {path: path.stat().st_mtime_ns for path in run.directory.iterdir() if path.name != "config.yaml"}
    assert train(run.config, run.directory) == run  # finished: nothing is done again
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_the_metrics_are_those_of_the_saved_model(photos, tmp_path, tiny):
    run = train(small_config(photos, run__epochs=1, schedule__warmup_epochs=0), tmp_path / "run")
    model, data = run.load_model(), run.data()
    probabilities, labels = np.asarray(model(data.images("test"))), data.labels("test")
    chosen = probabilities[np.arange(len(labels)), labels]
    assert run.metrics["test_accuracy"] == np.mean(probabilities.argmax(axis=1) == labels)
    assert run.metrics["test_loss"] == pytest.approx(-np.log(chosen).mean(), rel=1e-5)
    assert run.metrics["parameters"] == model.count_params()
    assert not model.compiled  # no optimizer in the file
    (photos / "red" / "00.png").rename(photos / "red" / "99.png")
    with pytest.raises(ValueError, match=r"data.source='.*photos' has changed since"):
        run.data()
    (run.directory / "model.keras").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"model.keras' is damaged"):
        run.load_model()
    (run.directory / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match=r"metrics.json' is damaged"):
        Run.open(run.directory)


def test_the_averaged_weights_are_evaluated_and_saved(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_archs.training.networks.create_model", normalized_model)
    seen = {}

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen["averages"] = {v.name: np.asarray(v) for v in self.model.averages.values}
            seen["weights"] = self.model.get_layer("conv").get_weights()[0]

    config = small_config(ema__decay=0.9, run__epochs=1)
    run = train(config, tmp_path / "run", options=Options(callbacks=(Look(),)))
    model = keras.models.load_model(run.directory / "last.keras")
    np.testing.assert_array_equal(model.get_layer("conv").get_weights()[0], seen["averages"]["conv.kernel"])
    np.testing.assert_array_equal(model.get_layer("bn").moving_mean, seen["averages"]["bn.moving_mean"])
    assert not np.array_equal(seen["weights"], seen["averages"]["conv.kernel"])
    # What history.csv has of the validation is what the saved model does.
    data = run.data()
    probabilities, labels = np.asarray(model(data.images("validation"))), data.labels("validation")
    loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert run.history["val_loss"] == [pytest.approx(loss, rel=1e-4)]
    assert run.history["val_accuracy"] == [pytest.approx(np.mean(probabilities.argmax(axis=1) == labels))]


def test_interrupted_anywhere_it_ends_with_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_archs.training.networks.create_model", normalized_model)
    config = small_config(
        run__checkpoint_steps=4, ema__decay=0.9, model__drop_rate=0.3, augment__mixup=0.2, augment__flip=True
    )
    whole = train(config, tmp_path / "whole")
    for stop, code in ((6, terminate), (2, interrupt), (1, use_signal_1), (9, interrupt), (15, terminate)):
        with pytest.raises((SystemExit, KeyboardInterrupt)) as caught:
            train(config, tmp_path / "parts", options=Options(callbacks=(at_step(stop, code),)))
        if code is not interrupt:
            assert caught.value.code == 143
        with pytest.raises(ValueError, match="was not finished"):
            Run.open(tmp_path / "parts")
    parts = train(config, tmp_path / "parts")
    for name in ("model.keras", "last.keras"):
        assert digest(whole.directory / name) == digest(parts.directory / name)
    for name in set(whole.history) - {"seconds"}:
        assert whole.history[name] == parts.history[name], name
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_told_to_stop_in_the_last_step_of_an_epoch_it_goes_on_with_the_next(tmp_path, tiny):
    config = small_config(run__checkpoint_steps=5)  # 20 steps an epoch
    whole = train(config, tmp_path / "whole")
    with pytest.raises(SystemExit):
        train(config, tmp_path / "parts", options=Options(callbacks=(at_step(20, terminate),)))
    steps = []
    look = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
    parts = train(config, tmp_path / "parts", options=Options(callbacks=(look,)))
    assert len(steps) == 20
    assert digest(parts.directory / "last.keras") == digest(whole.directory / "last.keras")


def test_a_callback_may_stop_the_training(tmp_path, tiny):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = True

    config = small_config(run__early_stopping=2, run__epochs=4, run__resizing=[[0, 8], [0.5, 12]])
    run = train(config, tmp_path / "run", options=Options(callbacks=(Stop(),)))
    assert run.metrics["epochs"] == 1


def test_early_stopping_counts_on_after_a_restart(tmp_path, tiny):
    # A rate of nearly nothing: no epoch is better than the first.
    config = small_config(
        run__epochs=9, run__early_stopping=3, optimizer__learning_rate=1e-12, schedule__warmup_epochs=0
    )
    whole = train(config, tmp_path / "whole")
    assert whole.metrics["epochs"] == 4
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "parts", options=Options(callbacks=(at_step(50, interrupt),)))
    assert train(config, tmp_path / "parts").metrics["epochs"] == 4


def test_another_batch_size_goes_on_by_the_images_seen(tmp_path, tiny):
    config = small_config(run__checkpoint_steps=2)  # 80 training images: 20 steps of 4, 10 of 8
    with pytest.raises(SystemExit):
        train(config, tmp_path / "run", options=Options(callbacks=(at_step(6, terminate),)))
    other = config.replaced({"run.batch_size": 8, "run.micro_batches": 2})
    steps = []
    look = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
    run = train(other, tmp_path / "run", options=Options(callbacks=(look,)))
    assert len(steps) == (10 - 3) + 10  # 24 images of the first epoch had been seen
    assert run.metrics["epochs"] == 2
    assert run.config.run.batch_size == 8


def test_frozen_epochs_train_the_classifier_alone_and_resume(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_archs.training.networks.create_model", normalized_model)
    config = small_config(
        run__epochs=3, finetune__frozen_epochs=1, finetune__batch_norm=False, finetune__layer_decay=0.5
    )
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append({layer.name: layer.get_weights() for layer in self.model.layers if layer.weights})

    whole = train(config, tmp_path / "whole", options=Options(callbacks=(Look(),)))
    moved = [
        {name for name in a if not all(map(np.array_equal, a[name], b[name]))} for a, b in pairwise(seen)
    ]
    assert moved[0] == {"conv", "predictions"}  # the second epoch; normalization stays as it was
    with pytest.raises(KeyboardInterrupt):  # between the two optimizers, and in the second
        train(config, tmp_path / "parts", options=Options(callbacks=(at_step(20, interrupt),)))
    assert digest(train(config, tmp_path / "parts").directory / "last.keras") == digest(
        whole.directory / "last.keras"
    )


def test_images_grow_and_the_saved_model_has_the_size_of_evaluation(tmp_path, tiny):
    sizes = []

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            sizes.append(self.model.input_shape)

    config = small_config("shapes:120", run__resizing=[[0, 8], [0.5, 12]], data__image_size=12)
    run = train(config, tmp_path / "run", options=Options(callbacks=(Look(),)))
    assert sizes == [(None, None, None, 3)] * 2  # two calls of `fit`
    assert run.load_model().input_shape == (None, 12, 12, 3)


def test_a_loss_that_is_no_number_stops_the_run_at_its_step(tmp_path, tiny):
    config = small_config(optimizer__learning_rate=1e30, schedule__warmup_epochs=0)
    with pytest.raises(FloatingPointError, match=r"no number in step \d+; lower optimizer.learning_rate"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()  # no checkpoint of it
    with pytest.raises(FloatingPointError, match="no number in step"):
        train(config.replaced({"run.checkpoint_steps": 2}), tmp_path / "run")
    for path in (tmp_path / "run").glob("checkpoints/*"):
        saved = checkpoint.load_checkpoint(path).arrays.values()
        assert all(np.isfinite(array).all() for array in saved)


def test_a_damaged_checkpoint_is_named_and_the_one_before_used(tmp_path, tiny, caplog):
    config = small_config(run__checkpoint_steps=3)
    whole = train(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "parts", options=Options(callbacks=(at_step(8, interrupt),)))
    old, new = sorted((tmp_path / "parts" / "checkpoints").iterdir())
    new.write_bytes(new.read_bytes()[:-7])
    run = train(config, tmp_path / "parts")
    assert f"damaged: {new}: not a whole checkpoint" in caplog.text
    assert digest(run.directory / "last.keras") == digest(whole.directory / "last.keras")
    assert old.name == "step-000000003.safetensors"


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, tiny, monkeypatch):
    config = small_config(run__checkpoint_steps=3)
    real, calls = checkpoint.written_whole, []

    def full(path):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", str(path))
        return real(path)

    monkeypatch.setattr(checkpoint, "written_whole", full)
    with pytest.raises(OSError, match="No space left"):
        train(config, tmp_path / "run")
    monkeypatch.setattr(checkpoint, "written_whole", real)
    found, damaged = checkpoint.newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert found.record["progress"]["step"] == 6
    assert not damaged
    assert train(config, tmp_path / "run").metrics["epochs"] == 2


def test_a_refused_restart_changes_nothing(tmp_path, tiny):
    config = small_config(run__checkpoint_steps=2)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", options=Options(callbacks=(at_step(3, interrupt),)))
    (tmp_path / "run" / ".config.part.yaml").write_text("half")
    with pytest.raises(ValueError, match="must be at most"):
        train(config.replaced({"run.batch_size": 5000}), tmp_path / "run")
    assert TrainConfig.from_yaml(tmp_path / "run" / "config.yaml") == config
    assert not (tmp_path / "run" / ".config.part.yaml").exists()


def test_changed_data_does_not_go_on(photos, tmp_path, tiny):
    config = small_config(photos, run__checkpoint_steps=2)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", options=Options(callbacks=(at_step(3, interrupt),)))
    (photos / "red" / "00.png").unlink()
    with pytest.raises(ValueError, match=r"has changed since the checkpoint"):
        train(config, tmp_path / "run")


def test_a_run_of_another_configuration_is_shown_and_kept_unless_forced(tmp_path, tiny):
    run = train(small_config(run__epochs=1), tmp_path / "run")
    (tmp_path / "run" / "mine.txt").write_text("keep")
    other = small_config(run__epochs=2)
    with pytest.raises(OtherRunError, match=r"run.epochs: 1 there, 2 now"):
        train(other, tmp_path / "run")
    assert Run.open(tmp_path / "run") == run
    assert train(other, tmp_path / "run", options=Options(force=True)).metrics["epochs"] == 2
    assert (tmp_path / "run" / "mine.txt").read_text() == "keep"


def test_folders_that_cannot_be_used_are_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "load_data", None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match=r"run_dir='.*mine' exists and is neither an empty folder"):
        train(small_config(), tmp_path / "mine")
    with pytest.raises(FileExistsError, match=r"mine.txt' exists"):
        train(small_config(), tmp_path / "mine" / "mine.txt")
    with pytest.raises(OSError, match=r"run_dir='.*mine.txt/run' cannot be written"):
        train(small_config(), tmp_path / "mine" / "mine.txt" / "run")
    assert (tmp_path / "mine" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"run__batch_size": 81}, "run.batch_size=81 must be at most 80, the number of training images"),
        ({"run__micro_batches": 3}, "run.micro_batches=3 must divide 4"),
        ({"augment__mixup": 0.2, "run__batch_size": 5}, "must be an even number"),
        ({"model__name": "xception"}, "input_shape"),
        ({"run__batch_size": "auto"}, "run.batch_size='auto'"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_no_folder(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        train(small_config(**values), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_skipped_images_are_on_record(photos, tmp_path, tiny):
    (photos / "red" / "zero.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"zero.png: empty file"):
        train(small_config(photos), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    config = small_config(photos, run__epochs=1, schedule__warmup_epochs=0, data__max_corrupt_share=0.1)
    run = train(config, tmp_path / "run")
    assert run.metrics["skipped_images"] == 1
    assert "zero.png: empty file" in (run.directory / "skipped.txt").read_text()


@pytest.mark.parametrize("share", [0.2, 0.01])
def test_an_image_damaged_in_its_middle_is_named_and_done_without(
    photos, tmp_path, tiny, monkeypatch, caplog, share
):
    """In a large data set it is not noticed before it is decoded."""
    for path in sorted(photos.rglob("*.png")):
        Image.open(path).resize((48, 48)).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    monkeypatch.setattr("keras_archs.training.reading.scan.CACHE_BYTES", 0)
    monkeypatch.setattr("keras_archs.training.data.CACHE_BYTES", 0)
    whole = {"augment__crop": "random_resized", "augment__scale": [1, 1], "augment__ratio": [1, 1]}
    config = small_config(photos, **whole, data__max_corrupt_share=share, run__epochs=6)
    (name,) = load_data(config, progress=False).train.images.names([1])

    def damage():
        content = Path(name).read_bytes()
        middle = len(content) // 2
        Path(name).write_bytes(content[:middle] + b"\xff\xd8" + content[middle + 2 :])

    options = Options(callbacks=(at_step(4, damage),))
    if share == 0.01:
        with pytest.raises(ValueError, match=re.escape(name)):
            train(config, tmp_path / "run", options=options)
        return
    run = train(config, tmp_path / "run", options=options)
    assert "Going on without the damaged" in caplog.text
    assert name in caplog.text
    assert name in (run.directory / "skipped.txt").read_text()
    assert (run.metrics["epochs"], run.metrics["skipped_images"]) == (6, 1)
    run.data()


def test_a_relative_folder_is_recorded_absolute(photos, tmp_path, tiny, monkeypatch):
    monkeypatch.chdir(photos.parent)
    run = train(small_config("photos", run__epochs=1, schedule__warmup_epochs=0), tmp_path / "run")
    assert run.config.data.source == str(photos)


def test_two_runs_of_a_real_model_are_equal_bit_by_bit(tmp_path):
    config = small_config(run__epochs=1, schedule__warmup_epochs=0, run__precise_batch_norm=32)
    first, again = (train(config, tmp_path / name) for name in "ab")
    assert digest(first.directory / "model.keras") == digest(again.directory / "model.keras")
    assert digest(first.directory / "model.keras") != digest(first.directory / "last.keras")  # precise


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


def test_training_is_silent_unless_a_bar_is_asked_for(tmp_path, tiny, capfd):
    config = small_config()
    train(config, tmp_path / "run", options=Options(tensorboard=True))
    assert capfd.readouterr() == ("", "")
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    written = [tf.compat.v1.Event.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(events))]
    assert [event.step for event in written] == [0, 1, 2]
    assert {value.tag for value in written[-1].summary.value} >= {"loss", "val_accuracy", "learning_rate"}
    train(config, tmp_path / "shown", options=Options(progress=True))
    out, err = capfd.readouterr()
    assert out == ""
    assert "epoch 2/2" in err
    assert "100%" in err
    assert "images/s" in err


def test_ctrl_c_before_anything_is_complete_leaves_nothing(tmp_path, tiny):
    options = Options(callbacks=(at_step(1, interrupt),))
    with pytest.raises(KeyboardInterrupt):
        train(small_config(), tmp_path / "run", options=options)
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(small_config(), tmp_path / "mine", options=Options(callbacks=(at_step(1, interrupt),)))
    assert list((tmp_path / "mine").iterdir()) == []


def test_open_names_what_is_missing(tmp_path):
    with pytest.raises(
        ValueError, match=r"is no run folder: config.yaml, labels.txt, history.csv, model.ker"
    ):
        Run.open(tmp_path)


def test_metrics_are_json_and_history_a_table(tmp_path, tiny):
    run = train(small_config(run__epochs=1, schedule__warmup_epochs=0), tmp_path / "run")
    assert json.loads((run.directory / "metrics.json").read_text()) == run.metrics
    header = (run.directory / "history.csv").read_text().splitlines()[0]
    assert header.startswith("epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds")
    assert TrainConfig.from_yaml(run.directory / "config.yaml") == run.config
    assert Path(run.directory / "report.html").read_text().startswith("<!DOCTYPE html>")
