"""Which devices train: all visible GPUs, or the one CPU. The work itself is tf.distribute's."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def default_strategy() -> "tf.distribute.Strategy":
    """Mirror the model over all visible GPUs; without any, use the CPU.

    Returns:
        A `MirroredStrategy`, or a `OneDeviceStrategy` for the CPU.
    """
    import tensorflow as tf

    with _quiet_start():
        gpus = tf.config.list_logical_devices("GPU")
        if gpus:
            return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus])
        return tf.distribute.OneDeviceStrategy("/cpu:0")


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Keep off the terminal what TensorFlow prints when it first looks for devices.

    Its C++ code writes past `sys.stderr` and some of it ignores TF_CPP_MIN_LOG_LEVEL, so file descriptor 2
    itself is turned aside; after an error the text is passed on, for then it may be the explanation.
    """
    logger, level = logging.getLogger("tensorflow"), logging.getLogger("tensorflow").level
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
