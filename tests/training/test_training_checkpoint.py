import errno
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import safetensors.numpy

import keras_archs
from keras_archs.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)


@pytest.fixture(autouse=True)
def clean_state():
    """In place of the one of all tests, which takes longer than most of these: there is no network here."""


def state(step):
    kernel = np.random.default_rng(step).normal(size=(30, 40)).astype(np.float32)
    arrays = {"model/kernel": kernel, "optimizer0/iterations": np.array(step, np.int64)}
    return Checkpoint(arrays, {"step": step, "rows": [{"loss": 0.1 + 1e-17}]})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    """Two checkpoints, of steps 5 and 10."""
    for step in (5, 10):
        save_checkpoint(tmp_path / "checkpoints", step, state(step))
    return tmp_path / "checkpoints"


def newest_step(folder):
    checkpoint, damaged = newest_checkpoint(folder)
    return checkpoint.record["step"], damaged


def test_what_is_saved_is_loaded_bit_by_bit(tmp_path):
    arrays = {
        "float": np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
        "scalar": np.array(7, np.int64),
        "seed": np.array([1, 2**32 - 1], np.uint32),
        "empty": np.zeros((0, 3), np.float32),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "flag": np.array([True, False]),
    }
    record = {"name": "größe", "rows": [{"loss": 0.1}], "none": None}
    loaded = load_checkpoint(save_checkpoint(tmp_path, 3, Checkpoint(arrays, record)))
    assert loaded.record == record
    assert set(loaded.arrays) == set(arrays)
    for name, value in arrays.items():
        assert loaded.arrays[name].dtype == value.dtype
        assert loaded.arrays[name].shape == value.shape
        assert loaded.arrays[name].tobytes() == value.tobytes()


def test_the_last_two_are_kept(folder):
    for step in (100, 15):
        assert newest_checkpoint(folder / "none") == (None, [])
        (folder / "step-notes.txt").touch()
        save_checkpoint(folder, step, state(step))
        assert names(folder)[:-1] == ["step-000000010.safetensors", f"step-{step:09d}.safetensors"]
        # The file of step 15 is newer than that of step 100: steps are fewer where batches are larger.
        assert newest_step(folder) == (step, [])


def truncated(data):
    return data[: len(data) // 2]


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


def relabelled(**header):
    """The newest checkpoint with other words in its header."""
    checkpoint = state(10)
    return safetensors.numpy.save(checkpoint.arrays, header)


BFLOAT = b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'  # NumPy has no such type
DAMAGES = {
    "truncated": (truncated, "not a whole checkpoint"),
    "shorter by a byte": (lambda data: data[:-1], "not a whole checkpoint"),
    "empty": (lambda data: b"", "not a whole checkpoint"),
    "zeros": (lambda data: bytes(len(data)), "not a whole checkpoint"),
    "garbage": (lambda data: os.urandom(500), "not a whole checkpoint"),
    "no header": (lambda data: data[:8], "not a whole checkpoint"),
    "a bit of the arrays": (lambda data: flipped(data, len(data) - 100), "checksum"),
    "a bit of the record": (lambda data: flipped(data, data.index(b'\\"step\\": 10') + 10), "checksum"),
    "a later format": (
        lambda data: relabelled(format="2", checksum="0", record="{}"),
        "format 2 is newer than this version of keras-archs, which reads 1",
    ),
    "a foreign file": (lambda data: relabelled(), "not a whole checkpoint"),
    "a foreign record": (lambda data: relabelled(format="1", checksum="0", record="no"), "not a whole"),
    "a pickle": (lambda data: b"\x80\x04cos\nsystem\n(S'exit 3'\ntR.", "not a whole checkpoint"),
    "a foreign type": (lambda data: bytes([len(BFLOAT), *bytes(7), *BFLOAT, 0, 0]), "not a whole checkpoint"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_one_falls_back_to_the_one_before(folder, damage):
    change, reason = DAMAGES[damage]
    newest = folder / "step-000000010.safetensors"
    newest.write_bytes(change(newest.read_bytes()))
    step, damaged = newest_step(folder)
    assert step == 5
    [line] = damaged
    assert line.startswith(f"{newest}: ")
    assert reason in line
    # Going on from step 5 must not count the damaged file as one of the two, nor as the newest.
    save_checkpoint(folder, 8, state(8))
    assert newest_step(folder) == (8, [])
    assert names(folder) == ["step-000000005.safetensors", "step-000000008.safetensors"]


def test_a_damaged_name_of_an_array_is_found(folder):
    newest = folder / "step-000000010.safetensors"
    data = newest.read_bytes()
    newest.write_bytes(data.replace(b"model/kernel", b"model/kernal"))
    assert newest_step(folder)[0] == 5


def test_a_folder_in_place_of_a_file_and_nothing_but_damage(folder):
    (folder / "step-000000012.safetensors").mkdir()
    assert newest_step(folder)[0] == 10
    for step in (5, 10):
        (folder / f"step-{step:09d}.safetensors").write_bytes(b"")
    checkpoint, damaged = newest_checkpoint(folder)
    assert checkpoint is None
    assert len(damaged) == 3


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        safetensors.SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_leaves_the_earlier_ones(folder, monkeypatch, error):
    save = safetensors.numpy.save_file

    def half(arrays, path, metadata):
        save(arrays, path, metadata)
        path.write_bytes(truncated(path.read_bytes()))
        raise error

    monkeypatch.setattr(safetensors.numpy, "save_file", half)
    with pytest.raises(OSError, match="No space left on device") as caught:
        save_checkpoint(folder, 15, state(15))
    assert "step-000000015.safetensors" in str(caught.value)
    assert names(folder) == ["step-000000005.safetensors", "step-000000010.safetensors"]
    assert newest_step(folder) == (10, [])


def in_child(folder, code):
    """Run code in another process, which imports two modules of the package and no Keras: in 0.3 s, not 6."""
    start = """
        import os, resource, signal, sys, types
        from pathlib import Path
        import numpy as np
        import safetensors.numpy

        for name, path in (("keras_archs", sys.argv[2]), ("keras_archs.training", sys.argv[2] + "/training")):
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = [path]
        from keras_archs.training.checkpoint import Checkpoint, save_checkpoint

        folder = Path(sys.argv[1])
        new = Checkpoint({"a": np.zeros(100_000, np.float32)}, {"step": 15})
    """
    program = textwrap.dedent(start) + textwrap.dedent(code)
    command = [sys.executable, "-c", program, str(folder), os.path.dirname(keras_archs.__file__)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_real_write_that_fails_leaves_the_earlier_ones(folder):
    done = in_child(
        folder,
        """
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            save_checkpoint(folder, 15, new)
        except OSError as error:
            print(error)
        """,
    )
    assert "File too large" in done.stdout, done.stderr
    assert names(folder) == ["step-000000005.safetensors", "step-000000010.safetensors"]
    assert newest_step(folder) == (10, [])


def test_a_kill_in_the_middle_of_a_save_leaves_the_earlier_ones(folder):
    done = in_child(
        folder,
        """
        def half(arrays, path, metadata):
            data = safetensors.numpy.save(arrays, metadata)
            path.write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

        safetensors.numpy.save_file = half
        save_checkpoint(folder, 15, new)
        """,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(names(folder)) == 3  # half a file lies there under a name that nobody reads
    assert newest_step(folder) == (10, [])
    save_checkpoint(folder, 15, state(15))  # the same step again takes its place
    assert names(folder) == ["step-000000010.safetensors", "step-000000015.safetensors"]
