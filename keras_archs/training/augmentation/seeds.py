"""Seeds made of seeds, so that no two draws are equal by accident."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def fold(seed: "tf.Tensor", use: int) -> "tf.Tensor":
    """Derive the seed of the n-th use of a seed.

    Args:
        seed: Two integers, shape (2,).
        use: The number of the use, an integer or a scalar tensor.

    Returns:
        Two integers, shape (2,).
    """
    import tensorflow as tf

    return tf.random.fold_in(seed, use)
