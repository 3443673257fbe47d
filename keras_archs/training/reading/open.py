"""open_source: from what the user calls a data set to its images."""

import glob
import os
from pathlib import Path

from keras_archs.training.reading.digits import read_digits
from keras_archs.training.reading.folders import explain_missing, read_folder
from keras_archs.training.reading.lists import read_list
from keras_archs.training.reading.records import read_records
from keras_archs.training.reading.shapes import CLASS_NAMES, DEFAULT_COUNT, read_shapes
from keras_archs.training.reading.source import Source
from keras_archs.training.reading.tfds import FEATURES, find_prepared, read_tfds


def open_source(
    source: str, image_size: int, *, max_corrupt_share: float, progress: bool | None, seed: int = 0
) -> Source:
    """Open a data set and check it before training.

    Args:
        source: "digits" (8x8 handwritten digits that come with scikit-learn); "shapes" or "shapes:20000"
            (drawn, ten classes); a folder of class sub-folders, or of train, val or validation, and test
            that hold them; a .csv list with the columns path, label and maybe split; TFRecord files as
            "x/train-*"; a folder that tensorflow_datasets prepared, or "tfds:NAME".
        image_size: Side of the images in training; digits and shapes have it.
        max_corrupt_share: Largest share of damaged images that may be left out; 0 refuses any.
        progress: True, False, or None for "only on a terminal": bars while images are looked at.
        seed: Decides which shapes are drawn.

    Returns:
        The images; damaged ones are left out, and logged.

    Raises:
        ValueError: If there is no such data set, its classes or labels are wrong, or too many images are
            damaged.
    """
    path = os.path.expanduser(source)
    kind, _, rest = source.partition(":")
    if source == "digits":
        return read_digits(image_size)
    if kind == "shapes":
        return read_shapes(_shape_count(source), image_size, seed, progress)
    if kind == "tfds":
        return read_tfds(source, find_prepared(rest), image_size, max_corrupt_share, progress)
    if os.path.isdir(path):
        if os.path.isfile(os.path.join(path, FEATURES)):
            return read_tfds(source, Path(path), image_size, max_corrupt_share, progress)
        return read_folder(path, image_size, max_corrupt_share, progress)
    if path.endswith(".csv") and os.path.isfile(path):
        return read_list(path, image_size, max_corrupt_share, progress)
    if any(os.path.isfile(match) for match in glob.glob(path)) and _may_be_records(path):
        return read_records(path, image_size, max_corrupt_share, progress)
    raise ValueError(explain_missing(source))


def _may_be_records(path: str) -> bool:
    """A pattern, or the name of one TFRecord file; any other file is a mistake."""
    return glob.has_magic(path) or ".tfrecord" in os.path.basename(path)


def _shape_count(source: str) -> int:
    """Read the number behind "shapes:"."""
    if source == "shapes":
        return DEFAULT_COUNT
    text = source.partition(":")[2]
    if not text.isdecimal() or int(text) < len(CLASS_NAMES):
        raise ValueError(
            f"data={source!r}: it must be 'shapes' or 'shapes:N' with N an integer, at least "
            f"{len(CLASS_NAMES)}: one image a class"
        )
    return int(text)
