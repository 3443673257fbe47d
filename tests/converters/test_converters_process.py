import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest
from converters_helpers import digits, tiny_cnn

import converters
from converters import process

LOCATED = (
    '<unknown>:0: error: loc(callsite(fused["Igamma:", "functional_1/odd/Igamma@__inference_serve_8"] at '
    'fused["PartitionedCall:", "PartitionedCall_1"]))): \'tf.Igamma\' op is neither a custom op nor a flex op'
)
# It says when the worker runs, then is interrupted while it waits for it.
CONVERTING = """
import keras, numpy as np, converters
model = keras.Sequential([keras.Input((64, 64, 3)), *[keras.layers.Conv2D(64, 3) for _ in range(9)]])
data = (np.full((64, 64, 3), i % 7, "float32") for i in range(3000))
print("started", flush=True)
converters.convert(model, "int8", representative_data=data, progress=False)
print("finished")
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def workers(temporary):
    """The living worker processes that use a folder below `temporary`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:
            continue
        if b"worker.py" in command and str(temporary).encode() in command:
            found.append(int(entry.parent.name))
    return found


def left(temporary):
    """Our temporary folders; TensorFlow's own files go when the process that made them ends."""
    return list(temporary.glob("converters-*"))


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.05)


def converting(temporary):
    """A process that converts, in the middle of it."""
    parent = subprocess.Popen(
        [sys.executable, "-c", CONVERTING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: list(temporary.glob("converters-*/saved_model/fingerprint.pb")))
    time.sleep(2)  # Into the conversion.
    assert workers(temporary)
    return parent


def test_a_worker_that_is_killed_in_the_conversion_is_reported(temporary):
    parent = converting(temporary)
    (worker,) = (pid for pid in workers(temporary) if os.getpgid(pid) == pid)  # Not what watches over it.
    os.kill(worker, signal.SIGKILL)
    out, err = parent.communicate(timeout=60)
    assert "finished" not in out
    assert "ConversionError: recipe 'int8': the converter was killed by SIGKILL, usually for want of" in err
    wait_until(lambda: not workers(temporary) and not left(temporary))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_the_parent_is_ended(temporary, sent):
    parent = converting(temporary)
    parent.send_signal(sent)
    out, err = parent.communicate(timeout=60)
    assert "finished" not in out
    if sent == signal.SIGINT:
        assert "KeyboardInterrupt" in err
        assert not workers(temporary)
    wait_until(lambda: not workers(temporary) and not left(temporary))


def test_a_failure_in_the_parent_ends_the_worker(temporary):
    def failing():
        yield digits()[0][0]
        wait_until(lambda: workers(temporary))
        raise RuntimeError("the camera is gone")

    with pytest.raises(RuntimeError, match="the camera is gone"):
        converters.convert(tiny_cnn(), "int8", representative_data=failing())
    assert not workers(temporary)
    assert not left(temporary)


def test_an_interruption_of_the_export_ends_the_worker(temporary):
    class Interrupted(keras.layers.Layer):
        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, x.dtype)

        def call(self, x):
            wait_until(lambda: workers(temporary))
            raise KeyboardInterrupt

    image = keras.Input((8, 8, 1))
    with pytest.raises(KeyboardInterrupt):
        converters.convert(keras.Model(image, Interrupted()(image)), "float32")
    assert not workers(temporary)
    assert not left(temporary)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("os.abort()", "killed by SIGABRT: Check failed: 3 == 4"),
        ("os.kill(os.getpid(), 9)", "killed by SIGKILL, usually for want of memory: Check failed: 3 == 4"),
        ("sys.exit(3)", "Check failed: 3 == 4"),
    ],
)
def test_a_worker_that_dies_is_reported(monkeypatch, temporary, code, message):
    script = (
        f"import os, sys; print('I0000 chatter\\nCheck failed: 3 == 4', file=sys.stderr, flush=True); {code}"
    )
    monkeypatch.setattr(process, "COMMAND", [sys.executable, "-c", script])
    with pytest.raises(converters.ConversionError, match=message) as caught:
        converters.convert(tiny_cnn(), "float32")
    assert "chatter" in caught.value.log
    assert not left(temporary)


def test_events_are_passed_on(monkeypatch, tmp_path):
    script = "import json; input(); print(json.dumps(['calibrating', 3, 9]))"
    monkeypatch.setattr(process, "COMMAND", [sys.executable, "-c", script])
    seen = []
    with process.Worker(tmp_path) as worker:
        worker.run({"recipe": "int8"}, lambda *event: seen.append(event))
    assert seen == [("calibrating", 3, 9)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LOCATED, "'tf.Igamma' op is neither a custom op nor a flex op (in functional_1/odd/Igamma)"),
        (f"I0000 x\nSomething error: early\n{LOCATED}", "early"),
        (
            "WARNING: a\nTraceback (most recent call last):\n  File\nValueError: first\nKeyError: next",
            "ValueError: first",
        ),
        ("ValueError: the message of the worker\nwith more", "ValueError: the message of the worker"),
        *(
            (f"I0000 00:00 chatter\n{line}\nmore", line)
            for line in (
                "F0000 00:00 it is over",
                "LLVM ERROR: out of memory",
                "terminate called after throwing",
            )
        ),
        ("I0000 00:00 chatter only", ""),
        ("", ""),
    ],
)
def test_first_error(text, expected):
    assert process.first_error(text) == expected


def test_the_terminal_stays_quiet_unless_asked():
    code = """
import logging, sys, keras, converters
logging.getLogger("tensorflow").setLevel("INFO")  # As notebooks have it.
model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
for recipe, progress in (("float32", None), ("saved_model", True)):
    print("#", file=sys.stderr, flush=True)
    artifact = converters.convert(model, recipe, progress=progress)
    artifact(keras.ops.zeros((1, 4, 4, 1)))
assert logging.getLogger("tensorflow").level == logging.INFO
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    _, quiet, asked = done.stderr.split("#")
    assert done.returncode == 0
    assert done.stdout == ""
    assert quiet.strip() == ""
    assert "exporting" in asked


def test_importing_does_not_import_the_heavy_ones():
    code = (
        "import sys, json, keras; before = set(sys.modules); import converters; "
        "print(json.dumps([name for name in sys.modules if name not in before]))"
    )
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    loaded = set(json.loads(done.stdout))  # On top of what keras imports itself.
    assert not loaded & {"tensorflow", "sklearn", "matplotlib", "ai_edge_litert", "rich"}
    assert "converters.convert" in loaded


def test_an_interrupt_that_tracing_swallows_or_disguises_still_ends_the_export():
    def swallowing():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    def disguising():
        swallowing()
        raise SystemError("bad argument to internal function")

    for tracing in (swallowing, disguising):
        with pytest.raises(KeyboardInterrupt), process.heeding_interrupts():
            tracing()
    with pytest.raises(SystemError), process.heeding_interrupts():
        raise SystemError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
