"""Real processes: two workers on loopback, killed and started again; and one that dies inside of a save."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

FOLDER = Path(__file__).parent


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(run_dir, orders=None, **environment):
    command = [sys.executable, str(FOLDER / "worker.py"), str(run_dir), json.dumps(orders or {})]
    settings = {**os.environ, "PYTHONPATH": str(FOLDER), "CUDA_VISIBLE_DEVICES": "-1", **environment}
    return subprocess.Popen(
        command,
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(children):
    try:
        outputs = [child.communicate(timeout=120) for child in children]
    finally:
        for child in children:
            child.kill()
    return [(child.returncode, *texts) for child, texts in zip(children, outputs, strict=True)]


def one(run_dir, **orders):
    return finish([start(run_dir, orders)])[0]


def two(run_dir, **orders):
    """Two workers; what `orders` says is for the second one."""
    hosts = [f"127.0.0.1:{port}" for port in free_ports(2)]
    specs = [
        json.dumps({"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}})
        for index in range(2)
    ]
    return finish(
        [start(run_dir, orders if index else None, TF_CONFIG=spec) for index, spec in enumerate(specs)]
    )


def weights(run_dir):
    return keras.models.load_model(run_dir / "last.keras").get_weights()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """An uninterrupted run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    code, out, err = one(folder)
    assert code == 0, err
    return folder, json.loads(out)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """An uninterrupted run of two workers."""
    folder = tmp_path_factory.mktemp("together") / "run"
    workers = two(folder)
    assert [code for code, _, _ in workers] == [0, 0], workers[0][2][-2000:] + workers[1][2][-2000:]
    return folder, [json.loads(out) for _, out, _ in workers]


def test_killed_in_a_save_and_again_after_the_restart_it_ends_bit_equal(alone, tmp_path):
    _, result = alone
    killed = one(tmp_path / "run", kill_in_save=2)
    assert killed[0] == -9
    again = one(tmp_path / "run", kill=1)  # right after going on from the first checkpoint
    assert again[0] == -9
    assert one(tmp_path / "run", terminate=3)[0] == 143
    code, out, err = one(tmp_path / "run")
    assert code == 0, err
    found = json.loads(out)
    assert found["digest"] == result["digest"]
    assert [found["history"][n] for n in ("loss", "val_loss")] == [
        result["history"][n] for n in ("loss", "val_loss")
    ]
    assert not [path for path in (tmp_path / "run" / "checkpoints").iterdir() if ".part" in path.name]


def test_two_workers_end_with_the_weights_of_one_process(alone, together):
    folder, results = together
    assert results[0] == results[1]
    for a, b in zip(weights(folder), weights(alone[0]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(results[0]["history"]["loss"], alone[1]["history"]["loss"], rtol=1e-5)
    np.testing.assert_allclose(results[0]["history"]["val_loss"], alone[1]["history"]["val_loss"], rtol=1e-5)
    assert results[0]["history"]["val_accuracy"] == alone[1]["history"]["val_accuracy"]
    assert len(list((folder / "checkpoints").iterdir())) == 2
    assert len((folder / "history.csv").read_text().splitlines()) == 3


def test_a_killed_worker_and_a_restart_of_both_end_bit_equal(together, tmp_path):
    _, results = together
    chief, other = two(tmp_path / "run", kill=7)
    assert other[0] == -9
    assert chief[0] == 1
    assert "PeerError: another worker has ended" in chief[2]
    told = two(tmp_path / "run", terminate=3)
    assert [code for code, _, _ in told] == [143, 143]  # the chief is told by the other one
    workers = two(tmp_path / "run")
    assert [code for code, _, _ in workers] == [0, 0], workers[0][2][-2000:]
    assert [json.loads(out)["digest"] for _, out, _ in workers] == [results[0]["digest"]] * 2


def test_workers_with_other_configurations_are_refused(tmp_path):
    for code, _, err in two(tmp_path / "run", seed=1):
        assert code == 1
        assert "the workers do not have the same configuration" in err
