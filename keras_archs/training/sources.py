"""Where images come from: scikit-learn's digits, or a folder of class sub-folders, which is checked here."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_archs.choices import nearest
from keras_archs.training.images import SUFFIXES, read_image, why_unreadable
from keras_archs.training.progress import tracked

CACHE_BYTES = 512 * 2**20  # decoded images up to this size stay in memory; beyond it each epoch decodes again
NAMED = 10  # a message names this many files and counts the rest


@dataclass(frozen=True, eq=False)
class Source:
    """All usable images of a data set, decoded if they fit the cache.

    Attributes:
        items: Pixels as uint8, shape (N, H, W, 3), or paths, shape (N,).
        labels: Class numbers, shape (N,).
        class_names: Names by class number.
        skipped: "path: reason" of each image that was left out.
    """

    items: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    skipped: tuple[str, ...] = ()


def read_digits(size: int) -> Source:
    """Take scikit-learn's 1797 handwritten digits (8 x 8 pixels, ten classes) and enlarge them.

    Args:
        size: Side in pixels.

    Returns:
        The digits, white on black.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    large = [Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in grey]
    pixels = np.repeat(np.stack([np.asarray(image) for image in large])[..., None], 3, axis=-1)
    return Source(pixels, digits.target.astype(np.int32), tuple(str(name) for name in digits.target_names))


def read_folder(folder: str, size: int, skip_unreadable: bool, progress: bool | None) -> Source:
    """Find the classes and images of a folder, and decode every image once to know that it can be read.

    Args:
        folder: Its sub-folders are the classes, in sorted order; images may lie deeper in them. Hidden files
            and files without an image suffix are ignored.
        size: Side in pixels.
        skip_unreadable: Leave damaged images out instead of refusing the folder.
        progress: Whether to show a bar while the images are read.

    Returns:
        The images, sorted by class and path.

    Raises:
        ValueError: If there is no such folder, there are fewer than two classes, a class has no image, or an
            image cannot be read.
    """
    classes = _find_classes(folder)
    paths = [path for images in classes.values() for path in images]
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(images) for images in classes.values()])
    pixels, reasons = _decode_all(paths, size, progress)
    skipped = tuple(f"{paths[i]}: {reason}" for i, reason in reasons.items())
    if skipped:
        listed = "; ".join(skipped[:NAMED]) + (
            f"; and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
        )
        found = f"{len(skipped)} of {len(paths)} images in data={folder!r} cannot be read: {listed}"
        if not skip_unreadable:
            raise ValueError(
                f"{found}. Mend or remove them, or set skip_unreadable=True to train without them"
            )
        logging.getLogger(__name__).warning("Skipped: %s", found)
    good = np.array([i for i in range(len(paths)) if i not in reasons], dtype=int)
    items = np.array(paths)[good] if pixels is None else pixels[good]
    return Source(items, labels[good], tuple(classes), skipped)


def _find_classes(folder: str) -> dict[str, list[str]]:
    """Map class names to sorted image paths, or say what the folder lacks."""
    root = Path(folder)
    if not root.is_dir():
        siblings = [path.name for path in root.parent.glob("*/")]
        hint = nearest(root.name, ["digits", *siblings])
        raise ValueError(f"data={folder!r} is neither 'digits' nor a folder of class sub-folders.{hint}")
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        loose = len(list(_images_below(root)))
        raise ValueError(
            f"data={folder!r} has no class sub-folders ({loose} images lie loose in it); "
            "make one sub-folder for each class"
        )
    classes = {name: sorted(_images_below(root / name)) for name in names}
    empty = [name for name, images in classes.items() if not images]
    if empty:
        raise ValueError(
            f"data={folder!r}: no images ({', '.join(sorted(SUFFIXES))}) in class folders {empty}"
        )
    if len(names) == 1:
        raise ValueError(f"data={folder!r} has one class, {names[0]!r}; at least two are needed")
    return classes


def _images_below(folder: Path) -> Iterator[str]:
    """Walk a folder for files with an image suffix; hidden files and folders do not count."""
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield os.path.join(here, name)


def _decode_all(
    paths: list[str], size: int, progress: bool | None
) -> tuple[np.ndarray | None, dict[int, str]]:
    """Read every image; return the pixels if they fit the cache, and why which images failed."""
    fits = len(paths) * size * size * 3 <= CACHE_BYTES
    pixels = np.zeros((len(paths), size, size, 3), np.uint8) if fits else None
    reasons: dict[int, str] = {}

    def read(index: int) -> None:
        try:
            image = read_image(paths[index], size)
            if pixels is not None:
                pixels[index] = image
        except Exception as error:  # Pillow's plug-ins raise nearly anything on damaged files
            reasons[index] = why_unreadable(paths[index], error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for _ in tracked(pool.map(read, range(len(paths))), len(paths), "reading images", progress):
                pass
        except BaseException:  # Ctrl-C must not wait for the images still in the queue
            pool.shutdown(cancel_futures=True)
            raise
    return pixels, dict(sorted(reasons.items()))


def class_sizes(source: Source) -> dict[str, int]:
    """Count the images of each class.

    Args:
        source: The data.

    Returns:
        Counts by class name.
    """
    counts = Counter(source.labels.tolist())
    return {name: counts[label] for label, name in enumerate(source.class_names)}
