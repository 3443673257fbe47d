"""The operations of RandAugment and TrivialAugment: functions (image, strength) that do what Pillow's do.

Images are uint8, shape (H, W, 3), and so are the results. Some operations ignore the strength.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

LUMA = (0.299, 0.587, 0.114)


def identity(image: "tf.Tensor", strength: "tf.Tensor") -> "tf.Tensor":
    """Leave the image as it is."""
    import tensorflow as tf

    return tf.identity(image)


def shear_x(image: "tf.Tensor", strength: "tf.Tensor", fill: float = 0.0) -> "tf.Tensor":
    """Output (x, y) is input (x + strength * y, y), measured from the upper left corner."""
    return _affine(image, (1.0, strength, strength / 2, 0.0, 1.0, 0.0), fill)


def shear_y(image: "tf.Tensor", strength: "tf.Tensor", fill: float = 0.0) -> "tf.Tensor":
    """Output (x, y) is input (x, y + strength * x), measured from the upper left corner."""
    return _affine(image, (1.0, 0.0, 0.0, strength, 1.0, strength / 2), fill)


def rotate(image: "tf.Tensor", degrees: "tf.Tensor", fill: float = 0.0) -> "tf.Tensor":
    """Turn the image counterclockwise about its middle."""
    import tensorflow as tf

    size = tf.cast(tf.shape(image)[:2] - 1, tf.float32)
    y, x = size[0] / 2, size[1] / 2
    angle = degrees * (math.pi / 180)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    return _affine(
        image, (cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y), fill
    )


def translate_x(image: "tf.Tensor", pixels: "tf.Tensor", fill: float = 0.0) -> "tf.Tensor":
    """Move the image to the right, by the whole part of `pixels`."""
    return _shift(image, 0, pixels, fill)


def translate_y(image: "tf.Tensor", pixels: "tf.Tensor", fill: float = 0.0) -> "tf.Tensor":
    """Move the image downwards, by the whole part of `pixels`."""
    return _shift(image, pixels, 0, fill)


def translate_x_share(image: "tf.Tensor", share: "tf.Tensor", fill: float = 0.0) -> "tf.Tensor":
    """Move the image to the right by a share of its width."""
    import tensorflow as tf

    return translate_x(image, share * tf.cast(tf.shape(image)[1], tf.float32), fill)


def translate_y_share(image: "tf.Tensor", share: "tf.Tensor", fill: float = 0.0) -> "tf.Tensor":
    """Move the image downwards by a share of its height."""
    import tensorflow as tf

    return translate_y(image, share * tf.cast(tf.shape(image)[0], tf.float32), fill)


def brightness(image: "tf.Tensor", strength: "tf.Tensor") -> "tf.Tensor":
    """Go from black (-1) through the image (0) and beyond."""
    import tensorflow as tf

    return truncate((1 + strength) * tf.cast(image, tf.float32))


def color(image: "tf.Tensor", strength: "tf.Tensor") -> "tf.Tensor":
    """Go from the image in grey (-1) through the image (0) and beyond."""
    import tensorflow as tf

    grey = tf.constant([[weight] * 3 for weight in LUMA])
    return _mix_channels(image, (1 + strength) * tf.eye(3) - strength * grey)


def contrast(image: "tf.Tensor", strength: "tf.Tensor") -> "tf.Tensor":
    """Go from the mean grey (-1) through the image (0) and beyond."""
    import tensorflow as tf

    pixels = tf.cast(image, tf.float32)
    grey = tf.floor(tf.reduce_sum(LUMA * tf.reduce_mean(pixels, axis=(0, 1))) + 0.5)
    return truncate((1 + strength) * pixels - strength * grey)


def sharpness(image: "tf.Tensor", strength: "tf.Tensor") -> "tf.Tensor":
    """Go from the smoothed image (-1) through the image (0) and beyond; the outermost pixels stay."""
    import tensorflow as tf

    pixels = tf.cast(image, tf.float32)
    inner = pixels[1:-1, 1:-1]
    rows = pixels[:-2] + pixels[1:-1] + pixels[2:]
    box = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    smooth = tf.floor((box + 4 * inner) / 13 + 0.5)  # eight neighbours of weight 1, the pixel itself of 5
    return truncate(pixels + tf.pad(strength * (inner - smooth), [[1, 1], [1, 1], [0, 0]]))


def posterize(image: "tf.Tensor", bits: "tf.Tensor") -> "tf.Tensor":
    """Clear the lowest bits of each value, as many as the whole part of `bits`."""
    import tensorflow as tf

    mask = 256 - tf.bitwise.left_shift(1, tf.cast(bits, tf.int32))
    return tf.bitwise.bitwise_and(image, tf.cast(mask, tf.uint8))


def solarize(image: "tf.Tensor", threshold: "tf.Tensor") -> "tf.Tensor":
    """Invert the values from `threshold` on."""
    import tensorflow as tf

    bright = tf.cast(tf.cast(image, tf.float32) >= threshold, tf.uint8)
    # x ^ 255 = 255 - x; tf.where takes three times as long.
    return tf.bitwise.bitwise_xor(image, 255 * bright)


def solarize_add(image: "tf.Tensor", addition: "tf.Tensor") -> "tf.Tensor":
    """Add the whole part of `addition` to the values below 128."""
    import tensorflow as tf

    dark = tf.cast(image < 128, tf.uint8)
    added = tf.cast(tf.minimum(addition, 127.0), tf.uint8)  # 127 + 127 is still a uint8
    return image + added * dark


def autocontrast(image: "tf.Tensor", strength: "tf.Tensor") -> "tf.Tensor":
    """Stretch each channel to 0..255; a channel of one value stays."""
    import tensorflow as tf

    pixels = tf.cast(image, tf.float32)
    # Over the rows, then over the columns: faster than both at once.
    low = tf.reduce_min(tf.reduce_min(pixels, axis=0), axis=0)
    high = tf.reduce_max(tf.reduce_max(pixels, axis=0), axis=0)
    low, scale = tf.where(high > low, low, 0.0), tf.where(high > low, 255 / (high - low), 1.0)
    # A hundredth, so that what is a whole number is not rounded down.
    return _mix_channels(image, tf.linalg.diag(scale), 0.01 - low * scale)


def equalize(image: "tf.Tensor", strength: "tf.Tensor") -> "tf.Tensor":
    """Make each channel's values as equally frequent as a map of values can."""
    import tensorflow as tf

    index = tf.nn.bias_add(tf.cast(image, tf.int32), [0, 256, 512])  # twice as fast as broadcasting
    counts = tf.reshape(tf.math.bincount(tf.reshape(index, [-1]), minlength=768, maxlength=768), (3, 256))
    highest = tf.reduce_max(tf.where(counts > 0, tf.range(256), 0), axis=1)
    last = tf.gather(counts, highest, axis=1, batch_dims=1)[:, tf.newaxis]
    step = (tf.reduce_sum(counts, axis=1, keepdims=True) - last) // 255
    before = tf.cumsum(counts, axis=1, exclusive=True)
    table = tf.minimum((before + step // 2) // tf.maximum(step, 1), 255)
    table = tf.where(step > 0, table, tf.range(256))  # a channel of too few values stays
    return tf.gather(tf.reshape(tf.cast(table, tf.uint8), [-1]), index)


def invert(image: "tf.Tensor", strength: "tf.Tensor") -> "tf.Tensor":
    """Give the negative."""
    return 255 - image


def _affine(image: "tf.Tensor", matrix: tuple, fill: float) -> "tf.Tensor":
    """Output (x, y) is input (a x + b y + c, d x + e y + f), interpolated; matrix is (a, b, c, d, e, f)."""
    import tensorflow as tf

    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image, tf.float32)[tf.newaxis],
        transforms=tf.stack([*matrix, 0.0, 0.0])[tf.newaxis],
        output_shape=tf.shape(image)[:2],
        fill_value=fill,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return tf.cast(moved[0] + 0.5, tf.uint8)


def _shift(
    image: "tf.Tensor", down: "float | tf.Tensor", right: "float | tf.Tensor", fill: float
) -> "tf.Tensor":
    """Move by whole pixels: a tenth of the time of `_affine`."""
    import tensorflow as tf

    steps = tf.cast(tf.stack([down, right, 0]), tf.int32)
    padding = tf.stack([tf.maximum(steps, 0), tf.maximum(-steps, 0)], axis=1)
    padded = tf.pad(image, padding, constant_values=tf.constant(int(fill), tf.uint8))
    return tf.slice(padded, padding[:, 1], tf.shape(image))


def _mix_channels(image: "tf.Tensor", matrix: "tf.Tensor", offset: "tf.Tensor | None" = None) -> "tf.Tensor":
    """Map each pixel's three values linearly; a matrix is faster than broadcasting over the channels."""
    import tensorflow as tf

    mixed = tf.matmul(tf.cast(image, tf.float32), matrix)
    return truncate(mixed if offset is None else tf.nn.bias_add(mixed, offset))


def truncate(pixels: "tf.Tensor") -> "tf.Tensor":
    """Float to uint8 as Pillow does it."""
    import tensorflow as tf

    return tf.cast(tf.clip_by_value(pixels, 0.0, 255.0), tf.uint8)
