"""Random windows of an image, and their pixels; a JPEG is decoded only where it is seen.

A window is an int32 tensor (y, x, height, width), shape (4,), in pixels of the whole image.
"""

import functools
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

TRIES = 10
JPEG_RATIOS = (1, 2, 4, 8)  # what the inverse cosine transform can shrink by


def random_resized_window(
    seed: "tf.Tensor",
    height: "int | tf.Tensor",
    width: "int | tf.Tensor",
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> "tf.Tensor":
    """Draw a window of random area and shape (Szegedy et al. 2015, section 6, arXiv:1409.4842).

    As in torchvision's RandomResizedCrop: the first of ten tries that fits, else the largest central window
    whose ratio is in range.

    Args:
        seed: Two integers, shape (2,).
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        scale: The least and the largest share of the image's area.
        ratio: The least and the largest width / height, between which its logarithm is uniform.

    Returns:
        The window (y, x, height, width), int32, shape (4,).

    Raises:
        ValueError: If a range is not 0 < low <= high, or if `scale` goes beyond 1.
    """
    import tensorflow as tf

    check_range("scale", scale)
    check_range("ratio", ratio)
    if scale[1] > 1:
        raise ValueError(f"scale={scale!r} goes beyond 1, the area of the whole image")
    whole = tf.cast(tf.stack([height, width]), tf.float32)
    draws = tf.random.stateless_uniform((4, TRIES), seed)
    sides = draw_sides(draws[:2], whole, scale, ratio)
    fits = tf.reduce_all((sides > 0) & (sides <= whole[:, tf.newaxis]), axis=0)
    # The fallback is an eleventh try that always fits, in the middle.
    fallback = tf.minimum(whole, tf.round(tf.stack([whole[1] / ratio[0], whole[0] * ratio[1]])))
    sides = tf.concat([sides, fallback[:, tf.newaxis]], axis=1)
    places = tf.pad(draws[2:], [[0, 0], [0, 1]], constant_values=0.5)
    first = tf.argmax(tf.pad(tf.cast(fits, tf.int32), [[0, 1]], constant_values=1))
    side = sides[:, first]
    return tf.concat([place(places[:, first], whole - side), tf.cast(side, tf.int32)], axis=0)


def jpeg_size(encoded: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
    """Read height and width from a JPEG's header.

    Args:
        encoded: The bytes of the file, a scalar string.

    Returns:
        Height and width in pixels, two int32 scalars.
    """
    import tensorflow as tf

    shape = tf.io.extract_jpeg_shape(encoded)
    return shape[0], shape[1]


def decode_window(encoded: "tf.Tensor", window: "tf.Tensor", size: int) -> "tf.Tensor":
    """Decode a window of a JPEG and scale it to a square.

    The decoder shrinks by 2, 4 or 8 where at least `size` pixels are left in each direction. That moves the
    window by half a pixel of the shrunk image at most. The orientation in EXIF data is ignored.

    Args:
        encoded: The bytes of the file, a scalar string.
        window: (y, x, height, width) inside of the image, int32, shape (4,).
        size: Side of the square in pixels.

    Returns:
        Pixels as uint8, shape (size, size, 3).
    """
    import tensorflow as tf

    window = tf.convert_to_tensor(window)
    shrink = tf.reduce_min(window[2:]) // size
    index = tf.reduce_sum(tf.cast(shrink >= JPEG_RATIOS[1:], tf.int32))
    signature = (tf.TensorSpec((), tf.string), tf.TensorSpec((4,), tf.int32))
    branches = [
        tf.function(functools.partial(_decode, ratio=ratio)).get_concrete_function(*signature)
        for ratio in JPEG_RATIOS
    ]
    # tf.switch_case would spread the nodes of all branches over the graph, and visit each for each image.
    (crop,) = tf.raw_ops.Case(branch_index=index, input=[encoded, window], Tout=[tf.uint8], branches=branches)
    return _resize(tf.ensure_shape(crop, (None, None, 3)), size)


def crop_pixels(image: "tf.Tensor", window: "tf.Tensor", size: int) -> "tf.Tensor":
    """Scale a window of an image to a square.

    Args:
        image: Pixels as uint8 or float, shape (H, W, C).
        window: (y, x, height, width) inside of the image, int32, shape (4,).
        size: Side of the square in pixels.

    Returns:
        Pixels of the image's type, shape (size, size, C).
    """
    import tensorflow as tf

    window = tf.convert_to_tensor(window)
    crop = tf.slice(image, tf.pad(window[:2], [[0, 1]]), tf.concat([window[2:], [-1]], axis=0))
    crop.set_shape((None, None, image.shape[-1]))
    return _resize(crop, size)


def pad_crop(seed: "tf.Tensor", image: "tf.Tensor", padding: int = 4) -> "tf.Tensor":
    """Move an image by up to `padding` pixels, zeros coming in (He et al. 2015, arXiv:1512.03385).

    Args:
        seed: Two integers, shape (2,).
        image: Shape (H, W, C), any type.
        padding: Zeros added on each side before the image's own size is cut out again.

    Returns:
        The moved image, shape (H, W, C).
    """
    import tensorflow as tf

    padded = tf.pad(image, [[padding, padding], [padding, padding], [0, 0]])
    corner = tf.random.stateless_uniform((2,), seed, 0, 2 * padding + 1, tf.int32)
    moved = tf.slice(padded, tf.pad(corner, [[0, 1]]), tf.shape(image))
    moved.set_shape(image.shape)
    return moved


def draw_sides(
    draws: "tf.Tensor", whole: "tf.Tensor", scale: tuple[float, float], ratio: tuple[float, float]
) -> "tf.Tensor":
    """Turn draws into heights and widths of rectangles, of which some may be larger than the image.

    Args:
        draws: Uniform in 0..1, one for the area and one for the ratio, shape (2, N).
        whole: Height and width of the image, float, shape (2,).
        scale: The least and the largest share of the image's area.
        ratio: The least and the largest width / height.

    Returns:
        Whole numbers as float, shape (2, N).
    """
    import tensorflow as tf

    areas = whole[0] * whole[1] * (scale[0] + (scale[1] - scale[0]) * draws[0])
    roots = tf.exp((math.log(ratio[0]) + math.log(ratio[1] / ratio[0]) * draws[1]) / 2)
    return tf.round(tf.sqrt(areas) * tf.stack([1 / roots, roots]))


def place(draws: "tf.Tensor", spare: "tf.Tensor") -> "tf.Tensor":
    """Turn draws into corners, each place from 0 to `spare` being equally likely.

    Args:
        draws: Uniform in 0..1, shape (2,).
        spare: By how many pixels the rectangle is smaller than the image, float, shape (2,).

    Returns:
        (y, x), int32, shape (2,).
    """
    import tensorflow as tf

    return tf.cast(tf.minimum(tf.floor(draws * (spare + 1)), spare), tf.int32)


def check_range(argument: str, value: tuple[float, float]) -> None:
    """Check that a pair of numbers is 0 < low <= high.

    Args:
        argument: Name of the argument, for the message.
        value: What the user gave.

    Raises:
        ValueError: If it is not.
    """
    if not 0 < value[0] <= value[1]:
        raise ValueError(f"{argument}={value!r} must be two numbers, low and high, with 0 < low <= high")


def _decode(encoded: "tf.Tensor", window: "tf.Tensor", ratio: int) -> "tf.Tensor":
    """Decode a window shrunk by `ratio`; TensorFlow counts the window in pixels of the shrunk image."""
    import tensorflow as tf

    corner, sides = window[:2], window[2:]
    shrunk = sides // ratio
    # (corner + (sides - ratio * shrunk) / 2) / ratio, rounded: the window's middle stays where it is.
    start = (2 * corner + sides - ratio * shrunk + ratio) // (2 * ratio)
    # The accurate transform costs nothing here (libjpeg-turbo) and gives Pillow's pixels.
    return tf.image.decode_and_crop_jpeg(
        encoded, tf.concat([start, shrunk], axis=0), channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE"
    )


def _resize(crop: "tf.Tensor", size: int) -> "tf.Tensor":
    """Average where the image shrinks, interpolate where it grows.

    Bilinear interpolation aliases where it shrinks; the antialiased one costs three times as much as
    averaging.
    """
    import tensorflow as tf

    shrinks = tf.reduce_min(tf.shape(crop)[:2]) >= size
    resized = tf.cond(
        shrinks,
        lambda: tf.image.resize(crop, (size, size), "area"),
        lambda: tf.image.resize(crop, (size, size), "bilinear"),
    )
    return tf.cast(resized + 0.5, crop.dtype) if crop.dtype.is_integer else resized
