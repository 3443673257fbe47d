"""Random changes of one image: flip, RandAugment, TrivialAugment, random erasing, colour jitter.

RandAugment and TrivialAugment draw an operation from a table, and a strength from that row's range.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from keras_archs.choices import check_choice
from keras_archs.training.augmentation import operations
from keras_archs.training.augmentation.crops import TRIES, check_range, draw_sides, place
from keras_archs.training.augmentation.seeds import fold

if TYPE_CHECKING:
    import tensorflow as tf

GREY = 128.0  # what comes in from outside in RandAugment; in TrivialAugment it is black
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
FILLS = ("noise", "mean")
TRIVIAL_BINS = 31


class Op(NamedTuple):
    """A row of a policy's table.

    Attributes:
        function: (image, strength) -> image.
        mildest: The strength at level 0.
        strongest: The strength at level 1.
        signed: Whether the strength is negated half of the time.
    """

    function: Callable[..., "tf.Tensor"]
    mildest: float = 0.0
    strongest: float = 0.0
    signed: bool = False


# torchvision's TrivialAugmentWide. Enhancements are by a factor of 1 + strength; posterize drops the level
# times six bits, rounded.
TRIVIAL_OPS = {
    "identity": Op(operations.identity),
    "shear_x": Op(operations.shear_x, 0.0, 0.99, True),
    "shear_y": Op(operations.shear_y, 0.0, 0.99, True),
    "translate_x": Op(operations.translate_x, 0.0, 32.0, True),
    "translate_y": Op(operations.translate_y, 0.0, 32.0, True),
    "rotate": Op(operations.rotate, 0.0, 135.0, True),
    "brightness": Op(operations.brightness, 0.0, 0.99, True),
    "color": Op(operations.color, 0.0, 0.99, True),
    "contrast": Op(operations.contrast, 0.0, 0.99, True),
    "sharpness": Op(operations.sharpness, 0.0, 0.99, True),
    "posterize": Op(operations.posterize, 0.5, 6.5),
    "solarize": Op(operations.solarize, 255.0, 0.0),
    "autocontrast": Op(operations.autocontrast),
    "equalize": Op(operations.equalize),
}

# timm's "increasing" operations, whose effect grows with the magnitude. Posterize drops four bits and more.
RAND_OPS = {
    "autocontrast": Op(operations.autocontrast),
    "equalize": Op(operations.equalize),
    "invert": Op(operations.invert),
    "rotate": Op(functools.partial(operations.rotate, fill=GREY), 0.0, 30.0, True),
    "posterize": Op(operations.posterize, 4.0, 8.0),
    "solarize": Op(operations.solarize, 256.0, 0.0),
    "solarize_add": Op(operations.solarize_add, 0.0, 110.0),
    "color": Op(operations.color, 0.0, 0.9, True),
    "contrast": Op(operations.contrast, 0.0, 0.9, True),
    "brightness": Op(operations.brightness, 0.0, 0.9, True),
    "sharpness": Op(operations.sharpness, 0.0, 0.9, True),
    "shear_x": Op(functools.partial(operations.shear_x, fill=GREY), 0.0, 0.3, True),
    "shear_y": Op(functools.partial(operations.shear_y, fill=GREY), 0.0, 0.3, True),
    "translate_x": Op(functools.partial(operations.translate_x_share, fill=GREY), 0.0, 0.45, True),
    "translate_y": Op(functools.partial(operations.translate_y_share, fill=GREY), 0.0, 0.45, True),
}


def flip(seed: "tf.Tensor", image: "tf.Tensor") -> "tf.Tensor":
    """Mirror an image left to right with probability 1/2.

    Args:
        seed: Two integers, shape (2,).
        image: Shape (H, W, C), any type.

    Returns:
        The image or its mirror image, shape (H, W, C).
    """
    import tensorflow as tf

    heads = tf.random.stateless_uniform((), seed) < 0.5
    return tf.cond(heads, lambda: tf.reverse(image, [1]), lambda: tf.identity(image))


def rand_augment(
    seed: "tf.Tensor",
    image: "tf.Tensor",
    layers: int = 2,
    magnitude: float = 9.0,
    magnitude_std: float = 0.5,
    probability: float = 0.5,
) -> "tf.Tensor":
    """Apply random operations of one strength in a row (RandAugment, Cubuk et al. 2019, arXiv:1909.13719).

    The table is `RAND_OPS`. As in timm, and other than in the paper, the magnitude is drawn anew for each
    operation, and each is left out with probability 1 - `probability`: "rand-m7-mstd0.5-inc1" of ResNet
    strikes back (arXiv:2110.00476) is magnitude 7, and everything else as by default.

    Args:
        seed: Two integers, shape (2,).
        image: Values 0..255 as uint8 or float, shape (H, W, 3).
        layers: How many operations.
        magnitude: Mean of the strength, 0 (nothing) to 10.
        magnitude_std: Its standard deviation; what falls outside of 0..10 is clipped.
        probability: Of each operation to be applied.

    Returns:
        Whole numbers 0..255 of the image's type, shape (H, W, 3).

    Raises:
        ValueError: If the magnitude is not in 0..10, or the probability not in 0..1.
    """
    import tensorflow as tf

    if not 0 <= magnitude <= 10:
        raise ValueError(f"magnitude={magnitude!r} must be from 0 to 10")
    _check_probability(probability)
    choice = tf.random.stateless_uniform((layers, 3), fold(seed, 0))
    noise = magnitude_std * tf.random.stateless_normal((layers,), fold(seed, 1))
    levels = tf.clip_by_value((magnitude + noise) / 10, 0.0, 1.0)
    pixels = _to_pixels(image)
    traced = _trace(RAND_OPS, image.shape)
    for layer in range(layers):
        draws = choice[layer]
        operate = functools.partial(_random_op, RAND_OPS, traced, pixels, levels[layer], draws[1:])
        pixels = tf.cond(draws[0] < probability, operate, functools.partial(tf.identity, pixels))
    return _like(pixels, image)


def trivial_augment(seed: "tf.Tensor", image: "tf.Tensor") -> "tf.Tensor":
    """Apply one random operation at a random level (TrivialAugment, Mueller & Hutter 2021, arXiv:2103.10158).

    The table is `TRIVIAL_OPS`, the paper's wide one; the level is one of 31.

    Args:
        seed: Two integers, shape (2,).
        image: Values 0..255 as uint8 or float, shape (H, W, 3).

    Returns:
        Whole numbers 0..255 of the image's type, shape (H, W, 3).
    """
    import tensorflow as tf

    draws = tf.random.stateless_uniform((3,), seed)
    level = tf.floor(TRIVIAL_BINS * draws[0]) / (TRIVIAL_BINS - 1)
    traced = _trace(TRIVIAL_OPS, image.shape)
    return _like(_random_op(TRIVIAL_OPS, traced, _to_pixels(image), level, draws[1:]), image)


def random_erasing(
    seed: "tf.Tensor",
    image: "tf.Tensor",
    probability: float,
    scale: tuple[float, float] = (0.02, 1 / 3),
    ratio: tuple[float, float] = (0.3, 3.3),
    fill: str = "noise",
) -> "tf.Tensor":
    """Overwrite a random rectangle (Zhong et al. 2017, arXiv:1708.04896).

    It comes before the preprocessing: what timm ("pixel") and torchvision (0) write into normalised images is
    written here in ImageNet's mean and deviation. If none of ten rectangles fits, the image stays.

    Args:
        seed: Two integers, shape (2,).
        image: Values 0..255 as uint8 or float, shape (H, W, 3).
        probability: Of an image to be changed.
        scale: The least and the largest share of the image's area.
        ratio: The least and the largest height / width, between which its logarithm is uniform.
        fill: "noise", a normal draw for each value, or "mean", one colour.

    Returns:
        The image, shape (H, W, 3), of its type.

    Raises:
        ValueError: If the fill is unknown, the probability not in 0..1, or a range not 0 < low <= high.
    """
    import tensorflow as tf

    check_choice("fill", fill, FILLS)
    _check_probability(probability)
    check_range("scale", scale)
    check_range("ratio", ratio)
    heads = tf.random.stateless_uniform((), fold(seed, 0)) < probability
    draws = tf.random.stateless_uniform((4, TRIES), fold(seed, 1))
    whole = tf.cast(tf.shape(image)[:2], tf.float32)
    sides = draw_sides(draws[:2], whole, scale, (1 / ratio[1], 1 / ratio[0]))
    fits = tf.reduce_all((sides > 0) & (sides < whole[:, tf.newaxis]), axis=0)
    first = tf.argmax(tf.cast(fits, tf.int32))
    side = sides[:, first]
    corner = place(draws[2:, first], whole - side)

    def erased() -> "tf.Tensor":
        (y, x), (h, w) = tf.unstack(corner), tf.unstack(tf.cast(side, tf.int32))
        if fill == "noise":
            noise = tf.random.stateless_normal((h, w, 3), fold(seed, 2))
            patch = tf.clip_by_value(IMAGENET_MEAN + IMAGENET_STD * noise, 0.0, 255.0)
        else:
            patch = tf.broadcast_to(IMAGENET_MEAN, (h, w, 3))
        patch = tf.cast(patch, image.dtype)
        rows = image[y : y + h]
        return tf.concat(
            [image[:y], tf.concat([rows[:, :x], patch, rows[:, x + w :]], axis=1), image[y + h :]], axis=0
        )

    result = tf.cond(heads & tf.reduce_any(fits), erased, lambda: tf.identity(image))
    result.set_shape(image.shape)
    return result


def color_jitter(
    seed: "tf.Tensor",
    image: "tf.Tensor",
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
) -> "tf.Tensor":
    """Change brightness, contrast and saturation in random order, each by a factor in 1 - s .. 1 + s.

    Args:
        seed: Two integers, shape (2,).
        image: Values 0..255 as uint8 or float, shape (H, W, 3).
        brightness: The s of brightness; 0 leaves it as it is.
        contrast: The s of contrast.
        saturation: The s of saturation.

    Returns:
        Whole numbers 0..255 of the image's type, shape (H, W, 3).

    Raises:
        ValueError: If one of them is negative.
    """
    import tensorflow as tf

    limits = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    for name, limit in limits.items():
        if limit < 0:
            raise ValueError(f"{name}={limit!r} must not be negative")
    functions = (operations.brightness, operations.contrast, operations.color)
    used = [(op, limit) for op, limit in zip(functions, limits.values(), strict=True) if limit]
    draws = tf.random.stateless_uniform((2, len(used)), seed)
    order = tf.argsort(draws[1])
    pixels = _to_pixels(image)
    for position in range(len(used)):
        branches = [
            # No factor is below 0: a strength of -1 is all that can be taken away.
            functools.partial(op, pixels, tf.maximum(limit * (2 * draws[0, k] - 1), -1.0))
            for k, (op, limit) in enumerate(used)
        ]
        pixels = tf.switch_case(order[position], branches)
    return _like(pixels, image)


def _trace(table: dict[str, Op], shape: "tf.TensorShape") -> list:
    """Trace each operation of a table for images of one shape."""
    import tensorflow as tf

    signature = (tf.TensorSpec(shape, tf.uint8), tf.TensorSpec((), tf.float32))
    return [tf.function(op.function).get_concrete_function(*signature) for op in table.values()]


def _random_op(
    table: dict[str, Op], traced: list, image: "tf.Tensor", level: "tf.Tensor", draws: "tf.Tensor"
) -> "tf.Tensor":
    """Apply the row that draws[0] picks, with the sign that draws[1] picks."""
    import tensorflow as tf

    columns = list(zip(*table.values(), strict=True))
    mildest, strongest, signed = (tf.constant(column) for column in columns[1:])
    index = tf.cast(draws[0] * len(table), tf.int32)
    strength = mildest[index] + (strongest[index] - mildest[index]) * level
    strength = tf.where(signed[index] & (draws[1] < 0.5), -strength, strength)
    # tf.switch_case would spread the nodes of all branches over the graph, and visit each for each image.
    (changed,) = tf.raw_ops.Case(
        branch_index=index, input=[image, strength], Tout=[tf.uint8], branches=traced
    )
    changed.set_shape(image.shape)
    return changed


def _to_pixels(image: "tf.Tensor") -> "tf.Tensor":
    """Whole numbers 0..255 as uint8."""
    import tensorflow as tf

    return image if image.dtype == tf.uint8 else operations.truncate(image + 0.5)


def _like(pixels: "tf.Tensor", image: "tf.Tensor") -> "tf.Tensor":
    import tensorflow as tf

    return tf.cast(pixels, image.dtype)


def _check_probability(probability: float) -> None:
    if not 0 <= probability <= 1:
        raise ValueError(f"probability={probability!r} must be from 0 to 1")
