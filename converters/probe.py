"""Trying a model of unknown origin out, in a process that may crash."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from converters.errors import ConversionError

# -P: a file of the user's that happens to be called like one of ours must not be imported instead.
COMMAND = [sys.executable, "-P", str(Path(__file__).with_name("probe_child.py"))]
_SECONDS = 120.0


def probe(content: bytes, source: str, seconds: float = _SECONDS) -> dict[str, Any]:
    """Run a TFLite model once on zeros, in a process of its own: a crash there is an error here.

    Args:
        content: The flatbuffer, as `check_tflite` accepts it.
        source: What to call it in the message, such as its path.
        seconds: After which it is given up.

    Returns:
        partitions, the number of parts that the XNNPACK delegate takes; ops_outside, the name and number of
        the operations that it does not take.

    Raises:
        ValueError: The model cannot be run: it crashes, hangs, or is refused by the runtime.
        ConversionError: The process could not be started.
    """
    try:
        # A session of its own, so that Ctrl-C is for this process, which then ends the child.
        child = subprocess.run(
            COMMAND, input=content, capture_output=True, timeout=seconds, start_new_session=True, check=False
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"{source} cannot be run: it was not done after {seconds:g} s.") from None
    log = child.stderr.decode(errors="replace")
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        raise ValueError(
            f"{source} cannot be run: it ends the runtime's process with {name}{_last_line(log)}."
        )
    if child.returncode:
        raise ConversionError(f"the process that tries models out stopped{_last_line(log)}.", log)
    result: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    if "error" in result:
        raise ValueError(f"{source} cannot be run: {' '.join(result['error'].split())}")
    return result


def _last_line(log: str) -> str:
    lines = [
        line.strip() for line in log.splitlines() if line.strip() and not line.startswith(("INFO", "W0"))
    ]
    return f" ({lines[-1]})" if lines else ""
