"""Random shifts, rotations and zooms of a batch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

SHIFT = 1 / 16  # of the side: two pixels at 32
ANGLE = 0.17  # radians: ten degrees
ZOOM = 0.1


def similarity(draws: "tf.Tensor", images: "tf.Tensor") -> "tf.Tensor":
    """Move each image by a similarity transform about its centre; its edge pixels go on outside.

    Args:
        draws: From -1 to 1: zoom, rotation, shift to the side and down, shape (N, 4).
        images: Shape (N, H, W, C), any real type.

    Returns:
        Float images in the range of the input, shape (N, H, W, C).
    """
    import tensorflow as tf

    height, width = (tf.cast(side, tf.float32) for side in (tf.shape(images)[1], tf.shape(images)[2]))
    zoom, angle, right, down = (draws[:, column] for column in range(4))
    scale = 1.0 + ZOOM * zoom
    # In double precision: the last bit of a float32 depends on how many numbers TensorFlow takes at a time.
    turns = tf.cast(ANGLE * angle, tf.float64)
    cosine, sine = (scale * tf.cast(values, tf.float32) for values in (tf.cos(turns), tf.sin(turns)))
    x, y = (width - 1) / 2, (height - 1) / 2
    # Output (x, y) reads input (a x + b y + c, d x + e y + f); c and f keep the centre in place but for the
    # shift.
    c = x - cosine * x + sine * y + SHIFT * width * right
    f = y - sine * x - cosine * y + SHIFT * height * down
    zero = tf.zeros_like(c)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=tf.stack([cosine, -sine, c, sine, cosine, f, zero, zero], axis=1),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    return tf.ensure_shape(moved, images.shape)
