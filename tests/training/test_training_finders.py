"""The learning-rate range test, and batch sizes that are tried in another process."""

import json
import math
import sys

import keras
import numpy as np
import pytest

from keras_archs.training import TrainConfig, batch_size, lr_finder, networks
from keras_archs.training.batch_size import (
    Trial,
    available_memory,
    expected_bytes,
    find_batch_size,
    smallest_batch,
)
from keras_archs.training.lr_finder import find_learning_rate, read_rates

# Answers as the real one does, at once: a speed for each size, or what its name says instead.
FAKE_CHILD = """
import json, os, sys
speeds, sizes = json.loads(sys.argv[1]), []
request = json.loads(sys.stdin.readline())
if "start" in speeds:
    print(json.dumps({"error": speeds["start"]}), flush=True)
    sys.exit()
print(json.dumps({"first_bytes": 100}), flush=True)
for line in sys.stdin:
    size = int(line)
    speed = speeds.get(line.strip(), size)
    if speed == "killed":
        os.kill(os.getpid(), 9)
    if speed == "crashed":
        sys.exit("libcuda is not amused")
    failed = {"error": speed} if isinstance(speed, str) else None
    print(json.dumps(failed or {"images_per_second": speed, "peak_bytes": 100 + 10 * size}), flush=True)
"""
GIB = 2**30


def tiny_network(name, *, input_shape, classes, **_):
    inputs = keras.Input(input_shape)
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    return keras.Model(inputs, keras.layers.Dense(classes, name="predictions")(x), name=name)


@pytest.fixture
def red_or_green(photos, monkeypatch):
    """Sixteen images in a model of eight weights."""
    monkeypatch.setattr(networks, "create_model", tiny_network)
    return TrainConfig().replaced(
        {
            "data.source": str(photos),
            "data.image_size": 8,
            "augment.similarity": False,
            "optimizer.momentum": 0.0,
            "run.batch_size": 16,
        }
    )


def bowl(curvature, rates):
    """Losses of gradient descent on curvature / 2 * w^2, above a floor: beyond 2 / curvature it diverges."""
    w, losses = 1.0, []
    for rate in rates:
        losses.append(curvature / 2 * w**2 + 0.1 * curvature)
        w -= rate * curvature * w
    return losses


@pytest.mark.parametrize("curvature", [0.1, 1.0, 100.0])
def test_the_suggestion_for_a_bowl_follows_its_curvature(curvature):
    rates = np.geomspace(1e-4 / curvature, 2 / curvature, 100)
    found = read_rates(rates, bowl(curvature, rates), scale=1.0)
    assert 0.02 / curvature < found.suggestion < 1 / curvature
    assert found.suggestion == found.learning_rate == found.rates[found.steepest]
    assert found.careful == pytest.approx(rates[np.argmin(found.smoothed)] / 10)


def test_the_steepest_part_is_that_of_proportions():
    # From 4 to 2, soon, then from 2 to 0.2, later: the smaller difference is the larger share.
    losses = [*np.full(20, 4.0), *np.linspace(4, 2, 10), *np.full(40, 2.0), *np.geomspace(2, 0.2, 20)]
    found = read_rates(np.geomspace(1e-5, 1, 100), losses, scale=4.0)
    assert 70 <= found.steepest < 90
    assert found.learning_rate == found.suggestion / 4
    assert len(found.rates) == len(found.losses) == len(found.smoothed) == 90
    assert json.loads(json.dumps(found.to_dict()))["losses"] == losses


def test_what_falls_after_the_smallest_loss_does_not_count():
    losses = [*np.geomspace(3, 1, 50), *np.geomspace(1, 6, 8), *np.geomspace(6, 1, 20)]
    found = read_rates(np.geomspace(1e-5, 1, 100), losses, scale=1.0)
    assert found.steepest < 55


@pytest.mark.parametrize("losses", [[], [1.0, 5.0], [1.0 + 0.1 * i for i in range(50)]])
def test_a_loss_that_never_falls_is_an_error(losses):
    with pytest.raises(ValueError, match=rf"did not fall in the {len(losses)} steps"):
        read_rates(np.geomspace(1e-5, 10, 100), losses, scale=1.0)


def test_each_loss_is_that_of_its_step_and_an_explosion_ends_the_test():
    watch, model = lr_finder._Watch(), keras.Model()
    watch.set_model(model)
    model.stop_training = False
    losses = [3.0, 1.0, 2.0, 100.0]
    for i in range(4):
        assert not model.stop_training
        watch.on_train_batch_end(i, {"loss": np.mean(losses[: i + 1])})
    assert model.stop_training  # the smoothed loss is more than 4 times as large as it was
    np.testing.assert_allclose(watch.losses, losses)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_test(bad):
    watch, model = lr_finder._Watch(), keras.Model()
    watch.set_model(model)
    for i, loss in enumerate([3.0, 3.0, bad]):
        model.stop_training = False
        watch.on_train_batch_end(i, {"loss": loss})
    assert model.stop_training
    assert watch.losses == [3.0, 3.0]


def test_a_training_diverges_and_says_what_to_write_into_the_configuration(red_or_green, monkeypatch):
    made, make = [], networks.make_optimizer
    monkeypatch.setattr(
        networks, "make_optimizer", lambda c, rate, factors: made.append(rate) or make(c, rate, factors)
    )
    config = red_or_green.replaced({"optimizer.base_batch": 32})
    found = find_learning_rate(config, lowest=1e-3, highest=1e5, steps=60, progress=False)
    assert 20 < len(found.losses) < 60
    assert np.isfinite(found.losses).all()
    assert found.smoothed[-1] > 4 * min(found.smoothed)
    np.testing.assert_allclose([float(made[0](i)) for i in range(len(found.rates))], found.rates, rtol=1e-4)
    assert found.learning_rate == pytest.approx(2 * found.suggestion)  # linear: for twice the batch
    # All images are in every step, so that the loss before any update is the same for every range.
    other = find_learning_rate(config, lowest=1e-9, highest=1e-3, steps=20, progress=False)
    assert other.losses[0] == pytest.approx(found.losses[0], rel=1e-5)


def test_the_default_network_learns_the_digits_at_the_suggestion():
    config = TrainConfig().replaced({"data.image_size": 16})
    found = find_learning_rate(config, lowest=1e-4, steps=60, progress=False)
    assert 1e-3 < found.suggestion < 2
    assert 1e-3 < found.careful < 2


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        ({"lowest": 1.0, "highest": 0.1}, {}, r"lowest=1.0 and highest=0.1 must be"),
        ({"highest": math.inf}, {}, "highest=inf"),
        ({"steps": 5}, {}, "steps=5 must be at least 20"),
        ({}, {"run.batch_size": "auto"}, "run.batch_size='auto'"),
        ({}, {"run.batch_size": 17}, "run.batch_size=17 must be at most 16"),
        ({}, {"run.batch_size": 16, "run.micro_batches": 3}, "run.micro_batches=3 must divide 16"),
    ],
)
def test_what_a_range_test_cannot_do_is_refused(red_or_green, arguments, changes, message):
    with pytest.raises(ValueError, match=message):
        find_learning_rate(red_or_green.replaced(changes), **arguments, progress=False)


@pytest.fixture
def tries(monkeypatch):
    """Look for a batch size with a child that has these speeds."""

    def find(speeds, memory=10**9, limit=None, **changes):
        monkeypatch.setattr(batch_size, "COMMAND", (sys.executable, "-c", FAKE_CHILD, json.dumps(speeds)))
        monkeypatch.setattr(batch_size, "available_memory", lambda: memory)
        names = {name.replace("__", "."): value for name, value in changes.items()}
        config = TrainConfig().replaced({"data.image_size": 8, **names})
        return find_batch_size(config, limit=limit, progress=False)

    return find


def test_batches_double_up_to_the_training_split(tries):
    found = tries({})
    assert [trial.size for trial in found.tried] == [2**i for i in range(11)]
    assert found.tried[3] == Trial(8, 8, 180)
    assert found.chosen == 1024
    assert found.reason == "2048 would be more than 1168"
    assert json.loads(json.dumps(found.to_dict()))["chosen"] == 1024


def test_without_gain_the_smallest_fast_batch_is_chosen(tries):
    # Below 16, batch normalization suffers, and speed does not count.
    found = tries({"2": 2, "4": 2, "8": 90, "16": 20, "32": 39, "64": 40, "128": 40.5})
    assert found.chosen == 32
    assert found.reason == "larger ones are not faster: 39, 40, 40 images/s"


@pytest.mark.parametrize(
    ("speeds", "chosen", "reason"),
    [
        ({"64": "killed"}, 32, "64 failed: its process was killed by SIGKILL"),
        ({"64": "crashed"}, 32, "64 failed: its process ended with code 1: libcuda is not amused"),
        ({"8": "ResourceExhaustedError: OOM"}, 4, "8 failed: ResourceExhaustedError: OOM"),
    ],
)
def test_the_last_batch_that_worked_is_chosen(tries, speeds, chosen, reason):
    found = tries(speeds)
    assert (found.chosen, found.reason) == (chosen, reason)
    assert found.tried[-1] == Trial(2 * chosen, None, None)


def test_what_cannot_fit_into_memory_is_not_tried(tries):
    # The child has 100 bytes and takes 10 more an image: 420 of 700 for 32 images, 740 for 64.
    found = tries({}, memory=1000)
    assert found.tried[-1] == Trial(32, 32, 420)
    assert found.chosen == 32
    assert found.reason.startswith("64 would need about")


def test_batches_can_be_shared(tries):
    found = tries({}, limit=100, augment__mixup=0.2, run__micro_batches=3, data__repeats=4, run__batch_size=4)
    assert [trial.size for trial in found.tried] == [12, 24, 48, 96]
    plain = TrainConfig()
    assert smallest_batch(plain, replicas=4) == 4
    assert smallest_batch(plain.replaced({"data.repeats": 2}), replicas=4) == 4
    assert smallest_batch(plain.replaced({"augment.cutmix": 1.0, "run.micro_batches": 4}), replicas=2) == 8
    assert smallest_batch(plain.replaced({"augment.cutmix": 1.0}), replicas=3) == 6


def test_a_configuration_that_does_not_work_is_an_error(tries):
    with pytest.raises(ValueError, match="weights='nowhere'"):
        tries({"start": "weights='nowhere'"})
    with pytest.raises(
        ValueError, match="not even the smallest batch works: 1 failed: its process was killed"
    ):
        tries({"1": "killed"})
    with pytest.raises(ValueError, match="is 8, but at most 4 is possible"):
        tries({}, limit=4, run__micro_batches=8)


def test_memory_is_expected_to_grow_with_the_batch():
    assert expected_bytes(100, Trial(8, 1.0, 180), 16) == 260
    assert expected_bytes(100, Trial(8, 1.0, None), 16) == 0


def test_available_memory_is_the_least_of_machine_and_control_groups(tmp_path):
    def write(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    write("proc/meminfo", f"MemTotal: 99999 kB\nMemAvailable:   {8 * GIB // 1024} kB\n")
    assert available_memory(tmp_path) == 8 * GIB
    # Version 2: the job's own group has no limit, the one around it has; what is only cached can be taken.
    write("proc/self/cgroup", "0::/slurm/job_1/step_0\n")
    write("sys/fs/cgroup/slurm/job_1/step_0/memory.max", "max\n")
    write("sys/fs/cgroup/slurm/job_1/memory.max", f"{6 * GIB}\n")
    write("sys/fs/cgroup/slurm/job_1/memory.current", f"{5 * GIB}\n")
    write("sys/fs/cgroup/slurm/job_1/memory.stat", f"inactive_anon 7\ninactive_file {3 * GIB}\n")
    assert available_memory(tmp_path) == 4 * GIB
    # Version 1 in a container: its group is named as on the host, and is the root here.
    write("proc/self/cgroup", "9:name=systemd:/a\n4:cpu,memory:/docker/0123\n0::/\n")
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{2 * GIB}\n")
    write("sys/fs/cgroup/memory/memory.usage_in_bytes", f"{GIB}\n")
    write("sys/fs/cgroup/memory/memory.stat", "inactive_file 5\ntotal_inactive_file 1024\n")
    assert available_memory(tmp_path) == GIB + 1024


def test_a_real_network_is_tried_without_a_word(capfd):
    config = TrainConfig().replaced({"data.image_size": 8, "run.batch_size": "auto"})
    found = find_batch_size(config, limit=2, progress=False)
    assert found.chosen == 2
    assert [trial.size for trial in found.tried] == [1, 2]
    assert all(trial.images_per_second > 0 and trial.peak_bytes > 10**8 for trial in found.tried)
    assert capfd.readouterr() == ("", "")
