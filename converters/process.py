"""Starting, following and ending the worker process."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from converters.errors import ConversionError

_PACKAGE = Path(__file__).parent
# -P: a file of the user's that happens to be called like one of ours must not be imported instead.
COMMAND = [sys.executable, "-P", str(_PACKAGE / "worker.py")]
_LOG = "worker.log"
# What C++ code prints when it gives up, and MLIR's diagnostics.
_FATAL = re.compile(r"^F\d{4} |Check failed|LLVM ERROR|terminate called|Fatal Python error|\berror: ")


class Worker:
    """A conversion process that ends with the `with` block, whatever happens in it."""

    def __init__(self, folder: Path) -> None:
        """Start the process; it imports TensorFlow while the caller goes on.

        Args:
            folder: The temporary folder that both sides use.
        """
        self._log = folder / _LOG
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        self._jobs = os.fdopen(ours_out, "wb", buffering=0)
        self._events = os.fdopen(ours_in, "rb")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*COMMAND, str(folder)],
                stdin=theirs_in,
                stdout=theirs_out,
                stderr=log,
                env=_environment(folder),
                start_new_session=True,  # Ctrl-C is for the parent, which then ends this whole group.
            )
        os.close(theirs_in)
        os.close(theirs_out)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._jobs.close()
        self._events.close()

    def run(self, job: dict[str, Any], report: Callable[[str, int, int], None]) -> None:
        """Let the worker do a job, and wait for it.

        Args:
            job: As for `worker.run`.
            report: Called with (stage, done, total) at each step.

        Raises:
            ConversionError: The worker failed, or was killed.
        """
        with contextlib.suppress(BrokenPipeError):  # A worker that is dead already is reported below.
            self._jobs.write(json.dumps(job).encode() + b"\n")
        message = ""
        for line in self._events:
            event = json.loads(line)
            if event[0] == "error":
                message = event[1]
            else:
                report(*event)
        status = self._process.wait()
        if status or message:
            log = self._log.read_text(errors="replace")
            raise ConversionError(_explain(job, status, message, log), log)


@contextlib.contextmanager
def heeding_interrupts() -> Iterator[None]:
    """Let a Ctrl-C in the block end it for sure, with KeyboardInterrupt.

    Tracing a graph can swallow one (Python drops what a finalizer raises) or turn it into another error.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    noted = []

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception as error:
        if noted:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if noted:
        raise KeyboardInterrupt


def trim_heap() -> None:
    """Give memory back to the system: an export leaves a graph of cycles, and glibc keeps what was freed."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_PACKAGE.parent), os.environ.get("PYTHONPATH")])),
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",  # The parent may hold all of the GPU's memory.
        "TMPDIR": str(folder),  # TensorFlow leaves files there when its process is killed.
    }


def _explain(job: dict[str, Any], status: int, message: str, log: str) -> str:
    reason = first_error(message or log)
    if status < 0:
        name = signal.Signals(-status).name
        hint = ", usually for want of memory" if name == "SIGKILL" else ""
        reason = f"the converter was killed by {name}{hint}" + (f": {reason}" if reason else "")
    return f"recipe {job['recipe']!r}: {reason or f'the converter stopped with status {status}'}"


def first_error(text: str) -> str:
    """The first line that says what went wrong, without the source locations around it.

    Args:
        text: A converter's message or log, often thousands of lines.

    Returns:
        One line; empty when the text holds no error.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fatal = next((line for line in lines if _FATAL.search(line)), None)
    if fatal is None:
        # A worker that failed before it could report leaves a traceback, whose last line is the error.
        return lines[0] if lines and not _is_chatter(lines[0]) else next(_raised(lines), "")
    location = re.search(r"error: loc\(.*?\"([^\"@]+)@", fatal)  # The operation's path through the layers.
    reason = re.sub(r"^.*?error: (loc\(.*\): )?", "", fatal)
    return f"{reason} (in {location[1]})" if location else reason


def _is_chatter(line: str) -> bool:
    return bool(re.match(r"[IW]\d{4} |\d{4}-\d\d-\d\d |WARNING|INFO|Traceback|fully_quantize", line))


def _raised(lines: list[str]) -> Any:
    return (line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line))
