"""load_data: a source, split once into train, validation and test, as tf.data or as arrays."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_archs.choices import check_choice
from keras_archs.preprocessing import preprocess_input, preprocessing_mode
from keras_archs.training.augment import augment
from keras_archs.training.config import TrainConfig
from keras_archs.training.images import read_image
from keras_archs.training.sources import Source, class_sizes, read_digits, read_folder

if TYPE_CHECKING:
    import tensorflow as tf

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """One part of the data, in a random order that the seed fixes.

    Attributes:
        items: Pixels as uint8, shape (N, H, W, 3), or paths, shape (N,), if all pixels together are large.
        labels: Class numbers, shape (N,).
    """

    items: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class DataSplits:
    """Three disjoint splits of one data set.

    Attributes:
        config: The configuration they were made by.
        class_names: Names by class number.
        train: What the weights are fitted to.
        validation: What picks the best epoch.
        test: What the reported accuracy is measured on.
        skipped: "path: reason" of each image that was left out because it cannot be read.
    """

    config: TrainConfig
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    skipped: tuple[str, ...]

    @property
    def mode(self) -> str:
        """What the model's weights expect of an image: a mode of `preprocess_input`."""
        return preprocessing_mode(self.config.model, self.config.weights)

    def dataset(self, split: str, training: bool = False) -> "tf.data.Dataset":
        """Build the input pipeline of one split.

        Args:
            split: "train", "validation" or "test".
            training: Shuffle anew each epoch, drop the last partial batch, augment if configured.

        Returns:
            Batches of (preprocessed float images (N, H, W, 3), labels (N,)).
        """
        import tensorflow as tf

        part, config = self._split(split), self.config
        batches = tf.data.Dataset.from_tensor_slices((part.items, part.labels))
        if training:
            batches = batches.shuffle(len(part), seed=config.seed)
        if part.items.ndim == 1:
            batches = batches.map(self._decode, tf.data.AUTOTUNE)
        batches = batches.batch(config.batch_size, drop_remainder=training)
        if training and config.augment:
            batches = tf.data.Dataset.zip(batches, _seeds(config.seed)).map(self._augment, tf.data.AUTOTUNE)
        return batches.map(self._preprocess, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def images(self, split: str, n: int | None = None) -> np.ndarray:
        """Preprocess images as training does, without augmentation: for calibration and verification.

        Args:
            split: "train", "validation" or "test".
            n: How many, from the front of the split, which is in random order; None means all.

        Returns:
            Float images, shape (n, H, W, 3), in the order of `labels(split)`.

        Raises:
            ValueError: If the split has fewer than n images.
        """
        items = self._split(split).items
        if n is not None and not 0 < n <= len(items):
            raise ValueError(f"n={n!r} must be from 1 to {len(items)}, the number of {split} images")
        chosen = items[:n]
        if chosen.ndim == 1:
            chosen = np.stack([read_image(path, self.config.image_size) for path in chosen])
        return preprocess_input(chosen, self.mode)

    def labels(self, split: str) -> np.ndarray:
        """Give the class numbers of one split.

        Args:
            split: "train", "validation" or "test".

        Returns:
            Integers, shape (N,), in the order of `images(split)`.
        """
        return self._split(split).labels

    def fingerprint(self) -> str:
        """Hash what the splits hold, so that a later look at the same folder can tell whether it changed.

        Returns:
            SHA-256 of labels and pixels; of labels and paths where the pixels are not in memory.
        """
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            digest.update(split.labels.tobytes())
            if split.items.ndim == 1:
                root = Path(self.config.data).resolve()
                below = [str(Path(path).resolve().relative_to(root)) for path in split.items]
                digest.update("\n".join(below).encode())
            else:
                digest.update(np.ascontiguousarray(split.items).data)
        return digest.hexdigest()

    def _split(self, name: str) -> Split:
        check_choice("split", name, SPLITS)
        return getattr(self, name)

    def _decode(self, path: "tf.Tensor", label: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
        import tensorflow as tf

        size = self.config.image_size
        image = tf.numpy_function(
            lambda name: read_image(name.decode(), size), [path], tf.uint8, stateful=False
        )
        return tf.ensure_shape(image, (size, size, 3)), label

    def _augment(self, batch: Any, seed: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
        images, labels = batch
        return augment(images, seed, self.config.flip), labels

    def _preprocess(self, images: "tf.Tensor", labels: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
        return preprocess_input(images, self.mode), labels


def load_data(config: TrainConfig, *, progress: bool | None = None) -> DataSplits:
    """Read the data set that a configuration names and split it, class by class, by the seed.

    Args:
        config: Says where the data is, its size and its shares.
        progress: True, False, or None for "only on a terminal": a bar while a folder is read.

    Returns:
        The three splits.

    Raises:
        ValueError: If the data does not exist, has unreadable images, or a class is too small to be split.
    """
    if config.data == "digits":
        source = read_digits(config.image_size)
    else:
        source = read_folder(config.data, config.image_size, config.skip_unreadable, progress)
    indices = _stratified(source, config)
    splits = {name: Split(source.items[chosen], source.labels[chosen]) for name, chosen in indices.items()}
    return DataSplits(config=config, class_names=source.class_names, skipped=source.skipped, **splits)


def _stratified(source: Source, config: TrainConfig) -> dict[str, np.ndarray]:
    """Divide the indices of each class by the shares, at least one to each split; then mix the classes."""
    random = np.random.default_rng(config.seed)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in SPLITS}
    for label, (name, size) in enumerate(class_sizes(source).items()):
        tests = max(1, round(config.test_share * size))
        validations = max(1, round(config.validation_share * size))
        if tests + validations >= size:
            raise ValueError(
                f"class {name!r} of data={config.data!r} has {size} usable images: with {validations} for "
                f"validation and {tests} for the test none is left to train on; add images or lower them"
            )
        members = random.permutation(np.flatnonzero(source.labels == label))
        cuts = [size - tests - validations, size - tests]
        for split, part in zip(SPLITS, np.split(members, cuts), strict=True):
            parts[split].append(part)
    return {split: random.permutation(np.concatenate(chosen)) for split, chosen in parts.items()}


def _seeds(seed: int) -> "tf.data.Dataset":
    """Give each batch a pair of integers of its own, others in each epoch."""
    import tensorflow as tf

    return tf.data.Dataset.random(seed, rerandomize_each_iteration=True).batch(2)
