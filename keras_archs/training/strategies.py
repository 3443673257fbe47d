"""Which devices train: all visible GPUs, or the one CPU. The work itself is tf.distribute's."""

from typing import TYPE_CHECKING

from keras_archs.quiet import quiet_tensorflow

if TYPE_CHECKING:
    import tensorflow as tf


def default_strategy() -> "tf.distribute.Strategy":
    """Mirror the model over all visible GPUs; without any, use the CPU.

    Returns:
        A `MirroredStrategy`, or a `OneDeviceStrategy` for the CPU.
    """
    import tensorflow as tf

    with quiet_tensorflow():
        gpus = tf.config.list_logical_devices("GPU")
        if gpus:
            return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus])
        return tf.distribute.OneDeviceStrategy("/cpu:0")
