"""Mixup and cutmix between neighbours of a batch."""

import functools
from typing import TYPE_CHECKING

from keras_archs.training.augmentation.seeds import fold

if TYPE_CHECKING:
    import tensorflow as tf


def mix_pairs(
    images: "tf.Tensor",
    targets: "tf.Tensor",
    seeds: "tf.Tensor",
    mixup_alpha: float = 0.0,
    cutmix_alpha: float = 0.0,
    switch_probability: float = 0.5,
) -> tuple["tf.Tensor", "tf.Tensor"]:
    """Mix neighbours 0 and 1, 2 and 3, ...: y = lambda y_i + (1 - lambda) y_j, lambda ~ Beta(alpha, alpha).

    Mixup (Zhang et al. 2017, arXiv:1710.09412) mixes the pixels like the targets; cutmix (Yun et al. 2019,
    arXiv:1905.04899) takes a box of them from the other image, and makes lambda the share of what is left.
    Both of a pair get the same lambda and the same box. Nothing depends on the rest of the batch, so it does
    not matter how a global batch is divided among workers, as long as each part is even.

    Args:
        images: Shape (N, H, W, C), N even, any real type.
        targets: One-hot or soft targets, shape (N, K).
        seeds: Two integers for each example, shape (N, 2); those of the first of each pair are used.
        mixup_alpha: Of mixup's distribution; 0 means no mixup.
        cutmix_alpha: Of cutmix's distribution; 0 means no cutmix.
        switch_probability: Of cutmix, for a pair, where there are both.

    Returns:
        Float images, shape (N, H, W, C), and float targets, shape (N, K).

    Raises:
        ValueError: If N is odd, an alpha negative, or the probability not in 0..1.
    """
    import tensorflow as tf

    for name, alpha in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
        if alpha < 0:
            raise ValueError(f"{name}={alpha!r} must not be negative")
    if not 0 <= switch_probability <= 1:
        raise ValueError(f"switch_probability={switch_probability!r} must be from 0 to 1")
    if images.shape[0] is not None and images.shape[0] % 2:
        raise ValueError(
            f"a batch of {images.shape[0]} has no pairs; mixup and cutmix need an even batch size"
        )
    targets = tf.cast(targets, tf.float32)
    if not mixup_alpha and not cutmix_alpha:
        return tf.cast(images, tf.float32), targets
    if not mixup_alpha or not cutmix_alpha:
        switch_probability = float(cutmix_alpha > 0)
    pair = functools.partial(_mix_pair, alphas=(mixup_alpha, cutmix_alpha), switch=switch_probability)
    pairs = (_in_pairs(images), _in_pairs(targets), seeds[::2])
    mixed = tf.map_fn(lambda one: pair(*one), pairs, fn_output_signature=(tf.float32, tf.float32))
    return tf.reshape(mixed[0], tf.shape(images)), tf.reshape(mixed[1], tf.shape(targets))


def draw_beta(seed: "tf.Tensor", alpha: "float | tf.Tensor") -> "tf.Tensor":
    """Draw from Beta(alpha, alpha).

    Args:
        seed: Two integers, shape (2,).
        alpha: More than 0.

    Returns:
        A number in 0..1, a float32 scalar.
    """
    import tensorflow as tf

    # x / (x + y) for x, y ~ Gamma(alpha), which is Gamma(alpha + 1) times U^(1 / alpha). In logarithms, as
    # for small alphas both would underflow.
    gammas = tf.random.stateless_gamma((2,), fold(seed, 0), alpha + 1)
    uniforms = 1 - tf.random.stateless_uniform((2,), fold(seed, 1))
    logs = tf.math.log(gammas) + tf.math.log(uniforms) / alpha
    return tf.sigmoid(logs[0] - logs[1])


def _in_pairs(batch: "tf.Tensor") -> "tf.Tensor":
    import tensorflow as tf

    pairs = tf.reshape(batch, tf.concat([[-1, 2], tf.shape(batch)[1:]], axis=0))
    pairs.set_shape((None, 2, *batch.shape[1:]))
    return pairs


def _mix_pair(
    images: "tf.Tensor", targets: "tf.Tensor", seed: "tf.Tensor", alphas: tuple[float, float], switch: float
) -> tuple["tf.Tensor", "tf.Tensor"]:
    """Mix two images, (2, H, W, C), and their targets, (2, K): each is the other's partner."""
    import tensorflow as tf

    images = tf.cast(images, tf.float32)
    height, width, channels = tf.unstack(tf.shape(images)[1:])
    draws = tf.random.stateless_uniform((3,), fold(seed, 0))
    cutmix = draws[0] < switch
    keep = draw_beta(fold(seed, 1), tf.where(cutmix, alphas[1], alphas[0]))
    # The box has the share 1 - lambda of the sides' product, its middle is anywhere: what is outside is cut
    # off.
    rows = _span(draws[1], height, tf.sqrt(1 - keep))
    columns = _span(draws[2], width, tf.sqrt(1 - keep))
    outside = 1 - rows[:, tf.newaxis] * tf.repeat(columns, channels)
    keep = tf.where(cutmix, tf.reduce_mean(outside), keep)
    weight = tf.reshape(tf.where(cutmix, outside, keep), (height, width, channels))
    mixed = tf.stack(
        [images[0] * weight + images[1] * (1 - weight), images[1] * weight + images[0] * (1 - weight)]
    )
    return mixed, targets * keep + targets[::-1] * (1 - keep)


def _span(draw: "tf.Tensor", size: "tf.Tensor", share: "tf.Tensor") -> "tf.Tensor":
    """Ones from half of share * size before a random place to half after it, and zeros, shape (size,)."""
    import tensorflow as tf

    length = tf.cast(tf.cast(size, tf.float32) * share, tf.int32)
    middle = tf.cast(draw * tf.cast(size, tf.float32), tf.int32)
    start = middle - length // 2
    places = tf.range(size)
    return tf.cast((places >= start) & (places < start + length), tf.float32)
