"""A look at every image before training: damaged ones are named, and left out if there are few."""

import itertools
import logging
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from typing import NamedTuple, TypeVar

import numpy as np

from keras_archs.training.images import check_image, read_image, why_unreadable
from keras_archs.training.progress import tracked
from keras_archs.training.reading.source import CACHE_BYTES, Files, Images, Source, listing

CHUNK = 16  # images a thread takes at a time: a million single tasks would need a gigabyte
Result = TypeVar("Result")


class Look(NamedTuple):
    """What a look at one encoded image found.

    Attributes:
        size: Bytes.
        plain: Whether TensorFlow's JPEG decoder may take it.
        reason: What is wrong with it; empty if nothing is.
    """

    size: int
    plain: bool
    reason: str


def in_threads(work: Callable[[int], Result], count: int, text: str, progress: bool | None) -> list[Result]:
    """Do the same with each number in several threads.

    Args:
        work: What to do; it gets 0, 1, ..., count - 1.
        count: How many.
        text: What is being done, for the bar.
        progress: True, False, or None for "only on a terminal".

    Returns:
        The results, in order.
    """
    chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    with ThreadPoolExecutor() as pool:
        try:
            done = pool.map(lambda chunk: [work(index) for index in chunk], chunks)
            return list(tracked(itertools.chain.from_iterable(done), count, text, progress))
        except BaseException:  # Ctrl-C must not wait for the images still in the queue
            pool.shutdown(cancel_futures=True)
            raise


def checked_size(count: int, image_size: int) -> int | None:
    """Decide how closely to look: a small data set is decoded, of a large one only headers and ends are read.

    Args:
        count: How many images there are.
        image_size: Side of the images in training.

    Returns:
        `image_size` or None, as `check_image` takes it.
    """
    return image_size if count * image_size**2 * 3 <= CACHE_BYTES else None


def look_at_file(path: str, size: int | None) -> Look:
    """Check one image file.

    Args:
        path: The file.
        size: See `check_image`.

    Returns:
        What was found.
    """
    try:
        with open(path, "rb") as stream:
            return Look(os.fstat(stream.fileno()).st_size, check_image(stream, size), "")
    except Exception as error:  # Pillow's plug-ins raise nearly anything on damaged files
        return Look(0, False, why_unreadable(path, error))


def look_at_bytes(encoded: bytes, size: int | None) -> Look:
    """Check one image in memory.

    Args:
        encoded: The content of an image file.
        size: See `check_image`.

    Returns:
        What was found.
    """
    try:
        return Look(len(encoded), check_image(BytesIO(encoded), size), "")
    except Exception as error:  # as above
        return Look(len(encoded), False, why_unreadable(encoded, error))


def look_at_files(
    root: str, paths: Sequence[str], image_size: int, progress: bool | None
) -> tuple[Files, list[str]]:
    """Check image files.

    Args:
        root: The folder that the paths are relative to.
        paths: The files.
        image_size: Side of the images in training.
        progress: Whether to show a bar.

    Returns:
        All the files, and for each what is wrong with it, or an empty text.
    """
    size = checked_size(len(paths), image_size)
    looks = in_threads(
        lambda index: look_at_file(os.path.join(root, paths[index]), size),
        len(paths),
        "checking images",
        progress,
    )
    names = np.array(paths, object)
    sizes = np.array([look.size for look in looks], np.int64)
    return Files(root, names, sizes, np.array([look.plain for look in looks], bool)), [
        look.reason for look in looks
    ]


def find_damaged(images: Images, size: int, progress: bool | None) -> dict[str, str]:
    """Decode images, to find damage that headers and ends do not show.

    Args:
        images: Which.
        size: Side in pixels; images are decoded no larger than need be for it.
        progress: True, False, or None for "only on a terminal".

    Returns:
        What is wrong, by the image's name; of undamaged ones nothing.
    """
    import tensorflow as tf

    plain = images.plain
    if plain is None:
        return {}

    def reason(index: int) -> str:
        encoded = bytes(images.read(index))
        try:
            read_image(BytesIO(encoded), size)
            if plain[index]:  # another decoder may be of another opinion
                with tf.device("CPU"):
                    tf.io.decode_jpeg(encoded, 3, ratio=8)
        except Exception as error:  # as above
            return why_unreadable(encoded, error)
        return ""

    reasons = in_threads(reason, len(images), "looking for damaged images", progress)
    damaged = [index for index, text in enumerate(reasons) if text]
    return {name: reasons[index] for name, index in zip(images.names(damaged), damaged, strict=True)}


def without_damaged(source: Source, reasons: Sequence[str], data: str, max_share: float) -> Source:
    """Leave damaged images out and log them, unless there are too many.

    Args:
        source: All images.
        reasons: For each what is wrong with it, or an empty text.
        data: What the user asked for.
        max_share: Largest share of damaged images that may be left out.

    Returns:
        The other images.

    Raises:
        ValueError: If the share is larger, or a class loses all its images.
    """
    damaged = [index for index, reason in enumerate(reasons) if reason]
    if not damaged:
        return source
    names = source.images.names(damaged)
    skipped = tuple(f"{name}: {reasons[index]}" for name, index in zip(names, damaged, strict=True))
    found = check_share(skipped, len(reasons), data, max_share)
    rest = source.select(np.flatnonzero([not reason for reason in reasons]))
    lost = sorted(set(source.labels.tolist()) - set(rest.labels.tolist()))
    if lost:
        classes = [repr(source.class_names[label]) for label in lost]
        raise ValueError(f"{found}. No image is left of class {listing(classes)}")
    logging.getLogger(__name__).warning("Skipped: %s", found)
    return replace(rest, skipped=skipped)


def check_share(damaged: Sequence[str], count: int, data: str, max_share: float) -> str:
    """Refuse too many damaged images.

    Args:
        damaged: "path: reason" of each.
        count: How many images there are, with these.
        data: What the user asked for.
        max_share: Largest share of damaged images that may be left out.

    Returns:
        A text that names them.

    Raises:
        ValueError: If the share is larger.
    """
    share = len(damaged) / count
    found = f"{len(damaged)} of {count} images ({share:.2%}) in data={data!r} are damaged: {listing(damaged)}"
    if share > max_share:
        enough = math.ceil(share * 1000) / 1000
        raise ValueError(
            f"{found}. More than max_corrupt_share={max_share:g} allows: mend or remove them, "
            f"or set max_corrupt_share={enough:g} to train without them"
        )
    return found
