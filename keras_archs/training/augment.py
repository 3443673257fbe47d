"""Random shifts, rotations, zooms and flips of a batch, drawn from a stateless seed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

SHIFT = 1 / 16  # of the side: two pixels at 32
ANGLE = 0.17  # radians: ten degrees
ZOOM = 0.1


def augment(images: "tf.Tensor", seed: "tf.Tensor", flip: bool) -> "tf.Tensor":
    """Move each image of a batch by its own random similarity transform about its centre.

    It runs in the input pipeline, not in the model: random layers draw the same numbers on every replica.

    Args:
        images: Shape (N, H, W, C), any real type.
        seed: Two integers; the same seed gives the same transforms.
        flip: Whether to mirror each image left to right with probability 1/2.

    Returns:
        Float images in the range of the input, shape (N, H, W, C).
    """
    import tensorflow as tf

    count, height, width = tf.shape(images)[0], tf.shape(images)[1], tf.shape(images)[2]
    draws = tf.random.stateless_uniform((5, count), seed, -1.0, 1.0)
    mirror = tf.where(draws[0] < 0, -1.0, 1.0) if flip else tf.ones(count)
    scale = 1.0 + ZOOM * draws[1]
    cosine, sine = scale * tf.cos(ANGLE * draws[2]), scale * tf.sin(ANGLE * draws[2])
    middle_x, middle_y = tf.cast(width - 1, tf.float32) / 2, tf.cast(height - 1, tf.float32) / 2
    shift_x = SHIFT * tf.cast(width, tf.float32) * draws[3]
    shift_y = SHIFT * tf.cast(height, tf.float32) * draws[4]
    # Row by row, output (x, y) reads input (a x + b y + c, d x + e y + f); c and f keep the centre in place.
    a, b, d, e = mirror * cosine, -sine, mirror * sine, cosine
    c = middle_x - a * middle_x - b * middle_y + shift_x
    f = middle_y - d * middle_x - e * middle_y + shift_y
    zero = tf.zeros(count)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=tf.stack([a, b, c, d, e, f, zero, zero], axis=1),
        output_shape=tf.stack([height, width]),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
