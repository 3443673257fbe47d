"""What every data set is to the trainer: a numbered list of images, their classes, and what was left out."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

CACHE_BYTES = 512 * 2**20  # small data sets: their pixels at the size of training take no more
NAMED = 10  # a message names this many and counts the rest
SPLIT_NAMES = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


class Images(Protocol):
    """Images by number: any order of reading gives the same images."""

    @property
    def plain(self) -> np.ndarray | None:
        """None where `load` gives pixels; else which images TensorFlow's JPEG decoder may decode, shape (N,).

        Those are complete JPEGs in RGB or grey without an EXIF rotation; `read_image` decodes the others.
        """

    def __len__(self) -> int: ...

    def names(self, indices: Iterable[int]) -> list[str]:
        """Say where images are, for messages."""

    def select(self, indices: np.ndarray) -> "Images":
        """Take some of the images, in the order given, without reading any."""

    def fingerprint(self) -> bytes:
        """Give bytes that change when an image, the order or the number of images does."""

    def load(self, index: "tf.Tensor") -> "tf.Tensor":
        """Read an image in a tf.data graph: pixels (H, W, 3) as uint8, or its encoded bytes, shape ()."""

    def read(self, index: int) -> np.ndarray | bytes:
        """Read an image, as `load` does, outside of a graph."""


@dataclass(frozen=True, eq=False)
class Source:
    """All usable images of a data set.

    Attributes:
        images: Where the pixels come from.
        labels: Class numbers as int32, shape (N,).
        class_names: Names by class number.
        skipped: "path: reason" of each image that was left out.
        splits: "train", "validation" or "test" of each image, shape (N,), where the data set comes split.
    """

    images: Images
    labels: np.ndarray
    class_names: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    splits: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: np.ndarray) -> "Source":
        """Take some of the images.

        Args:
            indices: Which, shape (M,).

        Returns:
            A source of M images with the same classes.
        """
        splits = None if self.splits is None else self.splits[indices]
        return replace(self, images=self.images.select(indices), labels=self.labels[indices], splits=splits)


@dataclass(frozen=True, eq=False)
class Pixels:
    """Images in memory.

    Attributes:
        array: uint8, shape (N, H, W, 3).
    """

    array: np.ndarray
    plain: None = None

    def __len__(self) -> int:
        return len(self.array)

    def names(self, indices: Iterable[int]) -> list[str]:
        """Say which images, for messages."""
        return [f"image {index}" for index in indices]

    def select(self, indices: np.ndarray) -> "Pixels":
        """Copy some of the images, in the order given."""
        return Pixels(self.array[indices])

    def fingerprint(self) -> bytes:
        """Hash the pixels."""
        return hashlib.sha256(np.ascontiguousarray(self.array).data).digest()

    def load(self, index: "tf.Tensor") -> "tf.Tensor":
        """Take an image, (H, W, 3), in a tf.data graph."""
        import tensorflow as tf

        return tf.gather(captured(self.array), index)

    def read(self, index: int) -> np.ndarray:
        """Take an image, (H, W, 3)."""
        return self.array[index]


@dataclass(frozen=True, eq=False)
class Files:
    """Image files.

    Attributes:
        root: The folder that paths are relative to.
        paths: Relative paths as objects, shape (N,).
        sizes: Bytes, int64, shape (N,).
        plain: Which TensorFlow's JPEG decoder may take, shape (N,).
    """

    root: str
    paths: np.ndarray
    sizes: np.ndarray
    plain: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def names(self, indices: Iterable[int]) -> list[str]:
        """Give the paths, for messages."""
        return [os.path.join(self.root, self.paths[index]) for index in indices]

    def select(self, indices: np.ndarray) -> "Files":
        """Take some of the files, in the order given."""
        return Files(self.root, self.paths[indices], self.sizes[indices], self.plain[indices])

    def fingerprint(self) -> bytes:
        """List relative paths and sizes, so that a moved data set is the same."""
        lines = [f"{path} {size}" for path, size in zip(self.paths, self.sizes, strict=True)]
        return os.fsencode("\n".join(lines))

    def load(self, index: "tf.Tensor") -> "tf.Tensor":
        """Read a file in a tf.data graph."""
        import tensorflow as tf

        # TensorFlow takes texts in UTF-8 only, but the bytes of any name; os.fsencode puzzles AutoGraph.
        names = [name.encode(errors="surrogateescape") for name in self.names(range(len(self)))]
        return tf.io.read_file(tf.gather(captured(names), index))

    def read(self, index: int) -> bytes:
        """Read a file."""
        with open(os.path.join(self.root, self.paths[index]), "rb") as file:
            return file.read()


def captured(values: np.ndarray | list[bytes]) -> "tf.Tensor":
    """Make a tensor that graphs refer to instead of holding a copy, in main memory even where there is a GPU.

    Args:
        values: Numbers or texts, shape (N, ...).

    Returns:
        The tensor.
    """
    import tensorflow as tf

    with tf.init_scope(), tf.device("CPU"):
        return tf.constant(values)


def listing(items: Sequence[str]) -> str:
    """Name the first few and count the rest.

    Args:
        items: What to list.

    Returns:
        "a; b; and 20 more".
    """
    rest = len(items) - NAMED
    return "; ".join(items[:NAMED]) + (f"; and {rest} more" if rest > 0 else "")


def refuse(data: str, problems: Sequence[str]) -> None:
    """Raise one error that holds all problems, if there are any.

    Args:
        data: What the user asked for.
        problems: What is wrong with it.

    Raises:
        ValueError: If there is a problem.
    """
    if problems:
        apart = "\n  - " if len(problems) > 1 else " "
        raise ValueError(f"data={data!r}:{apart}" + apart.join(problems))


def class_sizes(source: Source) -> dict[str, int]:
    """Count the images of each class.

    Args:
        source: The data.

    Returns:
        Counts by class name.
    """
    counts = Counter(source.labels.tolist())
    return {name: counts[label] for label, name in enumerate(source.class_names)}
