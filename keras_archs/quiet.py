"""Keeps the chatter of TensorFlow and its runtimes off the terminal."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Holds back what TensorFlow says in a block; shows it if the block fails, for then it may be the reason.

    Its C++ code writes past `sys.stderr`, and some of it ignores TF_CPP_MIN_LOG_LEVEL, so file descriptor 2
    itself is turned aside; its Python code announces what it does at a level that notebooks show.
    """
    logger = logging.getLogger("tensorflow")
    level = logger.level
    sys.stderr.flush()
    with tempfile.TemporaryFile() as aside:
        terminal = os.dup(2)
        os.dup2(aside.fileno(), 2)
        logger.setLevel(logging.WARNING)
        try:
            yield
        except BaseException:
            aside.seek(0)
            os.write(terminal, aside.read())
            raise
        finally:
            logger.setLevel(level)
            os.dup2(terminal, 2)
            os.close(terminal)
