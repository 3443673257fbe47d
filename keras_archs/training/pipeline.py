"""tf.data pipelines: training in an order that anybody can compute, evaluation that counts exactly.

An example's place in the order decides its augmentation, too. So the same images, changed in the same way, go
into the same step whatever the number of workers, replicas and threads, and after any restart.
"""

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_archs.modes import MODES
from keras_archs.training.augmentation import crops, mixing, policies
from keras_archs.training.augmentation.seeds import fold
from keras_archs.training.augmentation.similarity import similarity
from keras_archs.training.calls import call
from keras_archs.training.config import AugmentConfig, TrainConfig
from keras_archs.training.images import DamagedImageError, read_image, why_unreadable
from keras_archs.training.order import epoch_order, padded, worker_part
from keras_archs.training.reading import Images, Pixels, Source
from keras_archs.training.reading.source import captured

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Part:
    """Which part of each step this pipeline gives.

    Attributes:
        batch_size: Images a step over all devices.
        worker: This worker, from 0.
        workers: How many share a step.
        replicas: Devices of a worker; each takes one batch of the pipeline a step.
    """

    batch_size: int
    worker: int = 0
    workers: int = 1
    replicas: int = 1

    @property
    def replica_batch_size(self) -> int:
        """Images in a batch of the pipeline."""
        return self.batch_size // (self.workers * self.replicas)


def training_batches(
    source: Source,
    config: TrainConfig,
    *,
    mode: str,
    size: int,
    first_epoch: int,
    first_step: int,
    part: Part,
) -> "tf.data.Dataset":
    """Give the batches from some step of some epoch on, without an end.

    Args:
        source: The training images.
        config: Says how they are drawn and changed.
        mode: Of `preprocess_input`.
        size: Side of an image in pixels.
        first_epoch: Where to begin.
        first_step: Steps of that epoch that are already done.
        part: Which part of each step.

    Returns:
        Batches of (float images (N, size, size, 3), labels (N,) or, where images are mixed, targets
        (N, classes)), replica by replica.
    """
    import tensorflow as tf

    def order(epoch: np.int64) -> tuple[np.ndarray, np.ndarray]:
        chosen = epoch_order(
            source.labels,
            int(epoch),
            seed=config.run.seed,
            batch_size=part.batch_size,
            repeats=config.data.repeats,
            balanced=config.data.balanced,
        )
        places = worker_part(np.arange(len(chosen)), part.batch_size, part.worker, part.workers)
        places = places[first_step * part.batch_size // part.workers if epoch == first_epoch else 0 :]
        # One draw for all is cheaper than a seed for each.
        draws = np.random.default_rng([config.run.seed, int(epoch), 1]).uniform(-1, 1, (len(chosen), 4))
        return np.stack([chosen[places], places]).astype(np.int64), draws[places].astype(np.float32)

    def examples(epoch: Any) -> "tf.data.Dataset":
        rows, draws = call(order, [epoch], (tf.int64, tf.float32))
        rows, draws = tf.ensure_shape(rows, (2, None)), tf.ensure_shape(draws, (None, 4))
        epochs = tf.repeat(epoch, tf.shape(draws)[0])
        return tf.data.Dataset.from_tensor_slices((rows[0], rows[1], epochs, draws))

    # Without an end, tf.distribute need not ask in every step whether all replicas have data; it does not see
    # that this has none unless told so by `repeat`.
    numbers = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max).flat_map(examples).repeat()
    known = captured(source.labels.astype(np.int32))
    cut = _cutter(source.images, config.augment, size)
    mixes = config.augment.mixup > 0 or config.augment.cutmix > 0

    def example(index: Any, place: Any, epoch: Any, draws: Any) -> tuple[Any, ...]:
        seed = _seed(config.run.seed, epoch, place)
        pixels = _changed(cut(index, fold(seed, 0)), seed, config.augment)
        # What nobody needs is not in the element, so that tf.data need not compute it: a seed costs much
        # compared with a small picture.
        return pixels, known[index], draws, fold(seed, 7) if mixes else place

    def finish(pixels: Any, label: Any, draws: Any, seeds: Any) -> tuple[Any, Any]:
        if config.augment.similarity:
            pixels = similarity(draws, pixels)
        if mixes:
            targets = tf.one_hot(label, len(source.class_names))
            pixels, label = mixing.mix_pairs(
                pixels, targets, seeds, config.augment.mixup, config.augment.cutmix
            )
        return preprocess(pixels, mode), label

    batches = numbers.map(example, tf.data.AUTOTUNE).batch(part.replica_batch_size, drop_remainder=True)
    return batches.map(finish, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def evaluation_batches(source: Source, config: TrainConfig, *, mode: str, part: Part) -> "tf.data.Dataset":
    """Give all images once, in order; copies of weight 0 fill up the last step.

    Args:
        source: The images of a split.
        config: Says how large they are.
        mode: Of `preprocess_input`.
        part: Which part of each step.

    Returns:
        Batches of (float images (N, size, size, 3), labels (N,), weights (N,)), replica by replica.
    """
    import tensorflow as tf

    numbers, weights = padded(len(source), part.batch_size)
    mine = worker_part(np.arange(len(numbers)), part.batch_size, part.worker, part.workers)
    squares = _squares(source.images, config.eval_size, config.data.crop_share)
    known = source.labels.astype(np.int32)[numbers[mine]]
    rows = tf.data.Dataset.from_tensor_slices((numbers[mine], known, weights[mine]))
    read = rows.map(lambda index, label, weight: (squares(index), label, weight), tf.data.AUTOTUNE)
    batches = read.batch(part.replica_batch_size, drop_remainder=True)
    return batches.map(lambda x, y, w: (preprocess(x, mode), y, w), tf.data.AUTOTUNE).prefetch(
        tf.data.AUTOTUNE
    )


def preprocess(pixels: "tf.Tensor", mode: str) -> "tf.Tensor":
    """`preprocess_input` in a tf.data graph, whatever Keras' backend.

    Args:
        pixels: RGB 0..255, shape (N, H, W, 3).
        mode: One of its modes.

    Returns:
        float32, the same shape.
    """
    import tensorflow as tf

    row = MODES[mode]
    width = pixels.shape[2]
    x = tf.reverse(pixels, [-1]) if row.bgr else pixels
    # Whole rows of an image at a time: TensorFlow is slow where only the three channels are an axis.
    mean, deviation = (np.tile(np.resize(v, 3), width).astype(np.float32) for v in (row.mean, row.deviation))
    rows = tf.reshape(tf.cast(x, tf.float32), (-1, 3 * width))
    return tf.reshape((rows - mean) / deviation, (-1, *pixels.shape[1:]))


def read_square(images: Images, index: int, size: int, crop_share: float) -> np.ndarray:
    """Read an image as evaluation and export see it.

    Args:
        images: Where it is.
        index: Its number.
        size: Side in pixels.
        crop_share: Side of the central square over the short side of the image.

    Returns:
        uint8, shape (size, size, 3).

    Raises:
        DamagedImageError: If it cannot be decoded; the message names it.
    """
    found = images.read(index)
    if isinstance(found, bytes):
        whole = _decoded(images, index, found, round(size / crop_share))
    elif found.shape[:2] == (size, size):
        return found  # as it was drawn, or decoded before
    else:
        whole = _scaled(found, round(size / crop_share))
    edge = (len(whole) - size) // 2
    return np.ascontiguousarray(whole[edge : edge + size, edge : edge + size])


def _decoded(images: Images, index: int, encoded: bytes, size: int | None) -> np.ndarray:
    """`read_image`, whose error names the image."""
    try:
        return read_image(BytesIO(encoded), size)
    except Exception as error:  # Pillow's plug-ins raise nearly anything on damaged files
        [name] = images.names([index])
        raise DamagedImageError(f"{name}: {why_unreadable(encoded, error)}") from error


def _scaled(pixels: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(Image.fromarray(pixels), (size, size), Image.Resampling.BILINEAR))


def _squares(images: Images, size: int, crop_share: float) -> Any:
    """A function from an image's number to the square that evaluation sees, in a graph."""
    import tensorflow as tf

    if isinstance(images, Pixels) and images.array.shape[1:3] == (size, size):
        return images.load

    def square(index: "tf.Tensor") -> "tf.Tensor":
        pixels = call(lambda number: read_square(images, int(number), size, crop_share), [index], tf.uint8)
        return tf.ensure_shape(pixels, (size, size, 3))

    return square


def _cutter(images: Images, augment: AugmentConfig, size: int) -> Any:
    """A function from (an image's number, a seed) to a square of that size, in a graph."""
    import tensorflow as tf

    squares = _squares(images, size, 1.0)
    if augment.crop == "none":
        return lambda index, seed: squares(index)
    if augment.crop == "pad":
        return lambda index, seed: crops.pad_crop(seed, squares(index), augment.padding)

    def window(seed: "tf.Tensor", height: Any, width: Any) -> "tf.Tensor":
        return crops.random_resized_window(seed, height, width, augment.scale, augment.ratio)

    def from_pixels(pixels: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
        pixels = tf.ensure_shape(pixels, (None, None, 3))
        shape = tf.shape(pixels)
        return crops.crop_pixels(pixels, window(seed, shape[0], shape[1]), size)

    if images.plain is None:
        return lambda index, seed: from_pixels(images.load(index), seed)
    plain = captured(images.plain)
    all_plain = bool(images.plain.all())

    def from_bytes(index: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
        encoded = images.load(index)

        def fused() -> "tf.Tensor":
            return crops.decode_window(encoded, window(seed, *crops.jpeg_size(encoded)), size)

        def whole() -> "tf.Tensor":
            pixels = call(
                lambda number, data: _decoded(images, int(number), data, None), [index, encoded], tf.uint8
            )
            return from_pixels(pixels, seed)

        # A condition costs something for each image, even if it always holds.
        pixels = fused() if all_plain else tf.cond(plain[index], fused, whole)
        return tf.ensure_shape(pixels, (size, size, 3))

    return from_bytes


def _changed(pixels: "tf.Tensor", seed: "tf.Tensor", augment: AugmentConfig) -> "tf.Tensor":
    """All random changes of one image but the crop and the similarity transform, in torchvision's order."""
    if augment.flip:
        pixels = policies.flip(fold(seed, 2), pixels)
    if augment.jitter:
        pixels = policies.color_jitter(fold(seed, 3), pixels, augment.jitter, augment.jitter, augment.jitter)
    if augment.policy == "rand":
        pixels = policies.rand_augment(
            fold(seed, 4), pixels, augment.layers, augment.magnitude, augment.magnitude_std
        )
    elif augment.policy == "trivial":
        pixels = policies.trivial_augment(fold(seed, 5), pixels)
    if augment.erasing:
        pixels = policies.random_erasing(fold(seed, 6), pixels, augment.erasing)
    return pixels


def _seed(seed: int, epoch: "tf.Tensor", place: "tf.Tensor") -> "tf.Tensor":
    """The seed of the example at a place of an epoch."""
    import tensorflow as tf

    run = tf.constant([seed, 0], tf.int64)
    return fold(fold(tf.cast(run, tf.int64), epoch), place)
