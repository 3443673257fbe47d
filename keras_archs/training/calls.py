"""Python functions in tf.data graphs, and an end of the process that waits for them.

A thread of tf.data that wants to run Python while the interpreter is being torn down never comes back, and
TensorFlow waits for it: the process hangs. Once nobody takes elements the buffers fill up and the calls
cease, so that the end only has to wait for that.
"""

import atexit
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

QUIET = 0.1  # seconds without a call that count as the end of them
PATIENCE = 10.0  # seconds after which the process ends anyway
_running: set[int] = set()  # threads in a call
_last = 0.0  # when the last call ended


def call(function: Callable[..., Any], inputs: Sequence[Any], types: Any) -> Any:
    """Run a Python function of arrays in a graph, as `tf.numpy_function` does.

    Args:
        function: Depends on nothing but its arguments.
        inputs: Tensors.
        types: Of the result, or of each of several.

    Returns:
        Tensors of unknown shape.
    """
    import tensorflow as tf

    def noted(*values: Any) -> Any:
        global _last
        _running.add(threading.get_ident())
        try:
            return function(*values)
        finally:
            _last = time.monotonic()
            _running.discard(threading.get_ident())

    return tf.numpy_function(noted, list(inputs), types, stateful=False)


@atexit.register
def _settle() -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and (_running or time.monotonic() < _last + QUIET):
        time.sleep(QUIET / 5)
