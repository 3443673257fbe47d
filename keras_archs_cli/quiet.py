"""Keeps the chatter of TensorFlow's C++ libraries out of the terminal."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Holds back what is written to the process's standard error; shows it if the block fails.

    TensorFlow writes log lines while it is imported, before its own log level applies, and past `sys.stderr`.
    `keras_archs.quiet` does the same later; it can't be used here, because importing it imports TensorFlow.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        kept = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            log.seek(0)
            os.write(kept, log.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def import_keras() -> None:
    """Imports Keras and its backend without their log lines."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr():
        import keras  # noqa: F401
