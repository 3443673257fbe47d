"""load_data: a source, split once into train, validation and test."""

import hashlib
import json
import logging
import os
from collections.abc import Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np

from keras_archs.choices import check_choice
from keras_archs.preprocessing import preprocess_input, preprocessing_mode
from keras_archs.training.config import TrainConfig
from keras_archs.training.pipeline import Part, evaluation_batches, read_square, training_batches
from keras_archs.training.progress import tracked
from keras_archs.training.reading import Pixels, Source, class_sizes, open_source
from keras_archs.training.reading.scan import check_share, find_damaged
from keras_archs.training.reading.source import CACHE_BYTES

if TYPE_CHECKING:
    import tensorflow as tf

SPLITS = ("train", "validation", "test")
DAMAGED = "damaged.json"  # in the run folder: what training found that cannot be decoded


@dataclass(frozen=True, eq=False)
class DataSplits:
    """Three splits of one data set.

    Attributes:
        config: The configuration they were made by.
        class_names: Names by class number.
        train: What the weights are fitted to.
        validation: What picks the best epoch.
        test: What the reported accuracy is measured on; where the source has no such split, the validation.
        skipped: "path: reason" of each image that was left out because it cannot be read.
    """

    config: TrainConfig
    class_names: tuple[str, ...]
    train: Source
    validation: Source
    test: Source
    skipped: tuple[str, ...]

    @property
    def mode(self) -> str:
        """What the model's weights expect of an image: a mode of `preprocess_input`."""
        return preprocessing_mode(self.config.model.name, self.config.model.weights)

    def training(self, first_epoch: int, first_step: int, size: int, part: Part) -> "tf.data.Dataset":
        """Build the input pipeline that trains, from some step of some epoch on, without an end.

        Args:
            first_epoch: Where to begin.
            first_step: Steps of that epoch that are already done.
            size: Side of an image in pixels.
            part: Which part of each step.

        Returns:
            Batches of (preprocessed float images (N, size, size, 3), labels (N,) or targets (N, classes)).
        """
        return training_batches(
            self.train,
            self.config,
            mode=self.mode,
            size=size,
            first_epoch=first_epoch,
            first_step=first_step,
            part=part,
        )

    def evaluation(self, split: str, part: Part) -> "tf.data.Dataset":
        """Build the pipeline of one split for evaluation on several devices.

        Args:
            split: "train", "validation" or "test".
            part: Which part of each step.

        Returns:
            Batches of (preprocessed float images (N, H, W, 3), labels (N,), weights (N,)); copies of weight 0
            fill up the last step.
        """
        return evaluation_batches(self.split(split), self.config, mode=self.mode, part=part)

    def dataset(self, split: str) -> "tf.data.Dataset":
        """Give the images of one split once, in order, the last batch as small as it is.

        Args:
            split: "train", "validation" or "test".

        Returns:
            Batches of (preprocessed float images (N, H, W, 3), labels (N,)).
        """
        count = len(self.split(split))
        batches = self.evaluation(split, Part(1)).map(lambda x, y, weight: (x, y))
        return batches.unbatch().batch(min(count, 64))

    def images(self, split: str, n: int | None = None) -> np.ndarray:
        """Preprocess images as evaluation does: for calibration and verification.

        Args:
            split: "train", "validation" or "test".
            n: How many, from the front of the split, which is in random order; None means all.

        Returns:
            Float images, shape (n, H, W, 3), in the order of `labels(split)`.

        Raises:
            ValueError: If the split has fewer than n images.
        """
        found = self.split(split).images
        if n is not None and not 0 < n <= len(found):
            raise ValueError(f"n={n!r} must be from 1 to {len(found)}, the number of {split} images")
        size, share = self.config.eval_size, self.config.data.crop_share
        chosen = range(len(found) if n is None else n)
        return preprocess_input(np.stack([read_square(found, i, size, share) for i in chosen]), self.mode)

    def labels(self, split: str) -> np.ndarray:
        """Give the class numbers of one split.

        Args:
            split: "train", "validation" or "test".

        Returns:
            Integers, shape (N,), in the order of `images(split)`.
        """
        return self.split(split).labels

    def fingerprint(self) -> str:
        """Hash what the splits hold, so that a later look at the same folder can tell whether it changed.

        Returns:
            SHA-256 of labels and images, or of paths and sizes of files.
        """
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            digest.update(split.labels.tobytes())
            digest.update(split.images.fingerprint())
        return digest.hexdigest()

    def without(self, damaged: Mapping[str, str]) -> "DataSplits":
        """Do without images that training has found to be damaged.

        Validation and test lose them. In training, another image of the class takes the place of each: so the
        steps, and the order and the augmentation of all others, stay what they were.

        Args:
            damaged: What is wrong, by the images' names.

        Returns:
            The splits; `skipped` names these images, too.

        Raises:
            ValueError: If a class has no other image to train on, or a split no other image at all.
        """
        if not damaged:
            return self
        validation = _shortened(self.validation, damaged, "validation")
        same = self.test is self.validation
        return replace(
            self,
            train=_replaced(self.train, damaged),
            validation=validation,
            test=validation if same else _shortened(self.test, damaged, "test"),
            skipped=(*self.skipped, *_lines(damaged)),
        )

    def split(self, name: str) -> Source:
        """One of the splits.

        Args:
            name: "train", "validation" or "test".

        Returns:
            It.
        """
        check_choice("split", name, SPLITS)
        return getattr(self, name)


def load_data(config: TrainConfig, *, progress: bool | None = None) -> DataSplits:
    """Read the data set that a configuration names and split it, class by class, by the seed.

    Args:
        config: Says where the data is, its size and its shares.
        progress: True, False, or None for "only on a terminal": a bar while images are looked at.

    Returns:
        The three splits.

    Raises:
        ValueError: If the data does not exist, has too many unreadable images, or is too small to be split.
    """
    source = _open(config, config.data.source, progress)
    parts = _parts(source, config)
    skipped = list(source.skipped)
    for number, name in enumerate(("validation", "test"), 1):
        other = getattr(config.data, name)
        if other is not None:
            parts[name] = _open(config, other, progress, number)
            skipped += parts[name].skipped
            if parts[name].class_names != source.class_names:
                raise ValueError(
                    f"data.{name}={other!r} has the classes {_shown(parts[name].class_names)}, but "
                    f"data.source={config.data.source!r} has {_shown(source.class_names)}; they must be equal"
                )
    parts.setdefault("test", parts["validation"])
    return DataSplits(config=config, class_names=source.class_names, skipped=tuple(skipped), **parts)


def load_whole(config: TrainConfig, name: str, *, progress: bool | None = None) -> DataSplits:
    """Open other data, to measure a model on all of it.

    Args:
        config: Of the run.
        name: What the user calls the data.
        progress: True, False, or None for "only on a terminal".

    Returns:
        Splits each of which is all of it.

    Raises:
        ValueError: If the data does not exist or has too many unreadable images.
    """
    source = _open(config, name, progress, SPLITS.index("test"))
    return DataSplits(config, source.class_names, source, source, source, source.skipped)


def note_damage(directory: Path, config: TrainConfig, *, progress: bool | None = None) -> dict[str, str]:
    """Find out what is damaged once an image could not be decoded, and write it down for `read_damaged`.

    Args:
        directory: The run folder.
        config: Says where the data is.
        progress: True, False, or None for "only on a terminal": bars while all images are decoded.

    Returns:
        What is wrong, by the images' names, of those that were not known before; if there are none, damage is
        not the reason.

    Raises:
        ValueError: If more images are damaged than may be, or a class has no other; the message names them.
    """
    data = load_data(config, progress=progress)
    splits = (data.train, data.validation, *([] if data.test is data.validation else [data.test]))
    found: dict[str, str] = {}
    for split in splits:
        found |= find_damaged(split.images, config.data.image_size, progress)
    known = read_damaged(directory)
    new = {name: reason for name, reason in found.items() if name not in known}
    if new:
        count = len(data.skipped) + sum(map(len, splits))
        every = [*data.skipped, *_lines(found)]
        text = check_share(every, count, config.data.source, config.data.max_corrupt_share)
        data.without(found)
        # Several workers may find the same at the same time: each writes a file of its own before it renames.
        beside = directory / f".{uuid4().hex}.part.json"
        beside.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        os.replace(beside, directory / DAMAGED)
        logging.getLogger(__name__).warning("Going on without the damaged: %s", text)
    return new


def read_damaged(directory: Path) -> dict[str, str]:
    """Read what `note_damage` wrote, for `DataSplits.without`.

    Args:
        directory: The run folder.

    Returns:
        What is wrong, by the images' names; empty if nothing was written.
    """
    path = directory / DAMAGED
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _lines(damaged: Mapping[str, str]) -> list[str]:
    return [f"{name}: {reason}" for name, reason in damaged.items()]


def _are_damaged(split: Source, damaged: Container[str]) -> np.ndarray:
    return np.array([name in damaged for name in split.images.names(range(len(split)))], bool)


def _shortened(split: Source, damaged: Container[str], name: str) -> Source:
    """A split without its damaged images."""
    bad = _are_damaged(split, damaged)
    if bad.all():
        raise ValueError(f"all {len(bad)} images of the {name} split are damaged")
    return split.select(np.flatnonzero(~bad)) if bad.any() else split


def _replaced(split: Source, damaged: Container[str]) -> Source:
    """A split with other images of their classes in the damaged ones' places."""
    bad = _are_damaged(split, damaged)
    rows = np.arange(len(split))
    for index in np.flatnonzero(bad):
        label = split.labels[index]
        good = np.flatnonzero((split.labels == label) & ~bad)
        if not len(good):
            raise ValueError(f"all training images of class {split.class_names[label]!r} are damaged")
        rows[index] = good[index % len(good)]
    return split.select(rows) if bad.any() else split


def in_memory(data: DataSplits, progress: bool | None = None) -> DataSplits:
    """Decode what is decoded the same way again and again, where all of it is small.

    Args:
        data: The splits.
        progress: True, False, or None for "only on a terminal".

    Returns:
        The same splits; those that are decoded hold pixels.

    Raises:
        DamagedImageError: If an image cannot be decoded; the message names it.
    """
    config = data.config
    fixed = config.augment.crop != "random_resized" and not config.run.resizing
    train = _in_memory(data.train, config.data.image_size, 1.0, progress) if fixed else data.train
    size, share = config.eval_size, config.data.crop_share
    validation = _in_memory(data.validation, size, share, progress)
    same = data.test is data.validation
    test = validation if same else _in_memory(data.test, size, share, progress)
    return replace(data, train=train, validation=validation, test=test)


def _in_memory(split: Source, size: int, crop_share: float, progress: bool | None) -> Source:
    """Decode all images of a split, in threads, if they are small enough."""
    if split.images.plain is None or len(split) * size * size * 3 > CACHE_BYTES:
        return split
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read = pool.map(lambda index: read_square(split.images, index, size, crop_share), range(len(split)))
        pixels = np.stack(list(tracked(read, len(split), "decoding images", progress)))
    return replace(split, images=Pixels(pixels))


def _open(config: TrainConfig, name: str, progress: bool | None, drawing: int = 0) -> Source:
    """Open a source; of `shapes`, each drawing has other pictures."""
    return open_source(
        name,
        config.data.image_size,
        max_corrupt_share=config.data.max_corrupt_share,
        progress=progress,
        seed=config.run.seed + drawing,
    )


def _parts(source: Source, config: TrainConfig) -> dict[str, Source]:
    """Divide a source as it says itself, or by the shares; in random order, so that a front is a sample."""
    random = np.random.default_rng(config.run.seed)
    if source.splits is not None:
        names = [name for name in SPLITS if np.any(source.splits == name)]
        if "train" not in names:
            raise ValueError(
                f"data.source={config.data.source!r} comes split, but without any image to train on: all are "
                f"of {' and '.join(map(repr, names))}, none of 'train'"
            )
        chosen = {name: random.permutation(np.flatnonzero(source.splits == name)) for name in names}
        if "validation" not in chosen and config.data.validation is None:
            whole = source.select(chosen.pop("train"))
            parts = _by_shares(whole, config, {"validation": config.data.validation_share}, random)
            return parts | {name: source.select(rows) for name, rows in chosen.items()}
        return {name: source.select(rows) for name, rows in chosen.items()}
    shares = {
        "validation": 0.0 if config.data.validation else config.data.validation_share,
        "test": 0.0 if config.data.test or config.data.validation else config.data.test_share,
    }
    return _by_shares(source, config, {name: share for name, share in shares.items() if share}, random)


def _by_shares(
    source: Source, config: TrainConfig, shares: dict[str, float], random: np.random.Generator
) -> dict[str, Source]:
    """Divide the images of each class by the shares, at least one to each split; then mix the classes."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ("train", *shares)}
    for label, (name, size) in enumerate(class_sizes(source).items()):
        if not size:  # a list may be part of a larger one; `number_labels` has warned
            continue
        counts = {split: max(1, round(share * size)) for split, share in shares.items()}
        if sum(counts.values()) >= size:
            wanted = " and ".join(f"{count} for the {split}" for split, count in counts.items())
            raise ValueError(
                f"class {name!r} of data.source={config.data.source!r} has {size} usable images: with "
                f"{wanted} none is left to train on; add images or lower the shares"
            )
        members = random.permutation(np.flatnonzero(source.labels == label))
        cuts = np.cumsum([size - sum(counts.values()), *counts.values()])[:-1]
        for split, part in zip(rows, np.split(members, cuts), strict=True):
            rows[split].append(part)
    return {name: source.select(random.permutation(np.concatenate(parts))) for name, parts in rows.items()}


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
