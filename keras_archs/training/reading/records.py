"""TFRecord files of tf.train.Examples, read at random: an index says where each record lies."""

import glob
import os
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from keras_archs.training.calls import call
from keras_archs.training.reading.labels import LABEL_FILE, number_labels, read_class_names
from keras_archs.training.reading.scan import Look, checked_size, in_threads, look_at_bytes, without_damaged
from keras_archs.training.reading.source import SPLIT_NAMES, Source, listing, refuse

if TYPE_CHECKING:
    import tensorflow as tf

IMAGE_FEATURES = ("image/encoded", "image")  # the first of these that an Example has
LABEL_FEATURES = ("image/class/label", "label")
HEADER = struct.Struct("<QI")  # length of the record and the masked CRC-32C of these eight bytes
FOOTER = 4  # another CRC, of the record


@dataclass(frozen=True, eq=False)
class Records:
    """Encoded images in TFRecord files.

    Attributes:
        files: Paths.
        which: Number of the file, int32, shape (N,).
        offsets: Where the record starts, behind its header, int64, shape (N,).
        lengths: Bytes of the record, int64, shape (N,).
        plain: Which TensorFlow's JPEG decoder may take, shape (N,).
        feature: Name of the feature that holds the image.
    """

    files: tuple[str, ...]
    which: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    plain: np.ndarray
    feature: str

    def __len__(self) -> int:
        return len(self.which)

    def names(self, indices: Iterable[int]) -> list[str]:
        """Give files and the bytes where the records' headers start, for messages."""
        return [
            f"{self.files[self.which[index]]}, record at byte {self.offsets[index] - HEADER.size}"
            for index in indices
        ]

    def select(self, indices: np.ndarray) -> "Records":
        """Take some of the records, in the order given."""
        return replace(
            self,
            which=self.which[indices],
            offsets=self.offsets[indices],
            lengths=self.lengths[indices],
            plain=self.plain[indices],
        )

    def fingerprint(self) -> bytes:
        """List the files' names and where the records lie, so that a moved data set is the same."""
        names = "\n".join(os.path.basename(file) for file in self.files)
        return os.fsencode(names) + self.which.tobytes() + self.offsets.tobytes() + self.lengths.tobytes()

    def record(self, index: int) -> bytes:
        """Read a whole record, a serialised Example."""
        with open(self.files[self.which[index]], "rb") as file:
            file.seek(self.offsets[index])
            return file.read(self.lengths[index])

    def load(self, index: "tf.Tensor") -> "tf.Tensor":
        """Read the image of a record in a tf.data graph."""
        import tensorflow as tf

        record = tf.ensure_shape(call(self.record, [index], tf.string), ())
        return tf.io.parse_single_example(record, {self.feature: tf.io.FixedLenFeature((), tf.string)})[
            self.feature
        ]

    def read(self, index: int) -> bytes:
        """Read the image of a record."""
        return _values(_parse(self.record(index)), self.feature)[0]


def read_records(pattern: str, image_size: int, max_corrupt_share: float, progress: bool | None) -> Source:
    """Index TFRecord files and look at every image.

    Args:
        pattern: The files, as "x/train-*"; each Example holds one of `IMAGE_FEATURES` and one of
            `LABEL_FEATURES`. A labels.txt beside them may name the classes. Files whose names start with
            train, validation, val or test, or have it behind a dash, are that split if there are several.
        image_size: Side of the images in training.
        max_corrupt_share: Largest share of damaged images that may be left out.
        progress: Whether to show a bar while the images are looked at.

    Returns:
        The images, sorted by file, in the order of the records.

    Raises:
        ValueError: If files are cut off or no TFRecord files, features are missing, labels are out of range,
            or too many images are damaged.
    """
    files = sorted(
        path for path in glob.glob(pattern) if os.path.isfile(path) and Path(path).name != LABEL_FILE
    )
    names = [split_of(file) for file in files]
    splits = names if "" not in names and len(set(names)) > 1 else None
    found = index_files(pattern, files, progress)
    if not len(found):
        refuse(pattern, ["the files hold no records"])
    features = _parse(found.record(0)).features.feature
    image = next((name for name in IMAGE_FEATURES if name in features), IMAGE_FEATURES[0])
    label = next((name for name in LABEL_FEATURES if name in features), LABEL_FEATURES[0])
    known = read_class_names(Path(files[0]).parent / LABEL_FILE)
    source, reasons = look_at_records(
        pattern, replace(found, feature=image), label, known, image_size, progress
    )
    if splits is not None:
        source = replace(source, splits=np.array(splits)[found.which])
    return without_damaged(source, reasons, pattern, max_corrupt_share)


def split_of(file: str) -> str:
    """Tell the split from a name like train-00000-of-00004 or flowers-test.tfrecord; "" if there is none."""
    match = re.search(rf"(?:^|[-_])({'|'.join(SPLIT_NAMES)})(?=[-_.]|$)", Path(file).name)
    return SPLIT_NAMES[match[1]] if match else ""


def index_files(data: str, files: Sequence[str], progress: bool | None) -> Records:
    """Find all records of all files by reading their headers only.

    Args:
        data: What the user asked for, for messages.
        files: Paths of TFRecord files.
        progress: Whether to show a bar.

    Returns:
        The records; it is not known yet which are plain, nor the feature.

    Raises:
        ValueError: If a file is cut off or is no TFRecord file.
    """
    found = in_threads(lambda index: _index_file(files[index]), len(files), "indexing records", progress)
    refuse(data, [index.problem for index in found if index.problem])
    counts = [len(index.lengths) for index in found]
    return Records(
        files=tuple(files),
        which=np.repeat(np.arange(len(files), dtype=np.int32), counts),
        offsets=np.array([offset for index in found for offset in index.offsets], np.int64),
        lengths=np.array([length for index in found for length in index.lengths], np.int64),
        plain=np.zeros(sum(counts), bool),
        feature="",
    )


class _Index(NamedTuple):
    """Where the records of one file lie, and what is wrong with it."""

    offsets: list[int]
    lengths: list[int]
    problem: str


def _index_file(path: str) -> _Index:
    """Follow the lengths from record to record to the end of the file."""
    offsets, lengths = [], []
    end, position = os.path.getsize(path), 0
    with open(path, "rb", buffering=0) as file:
        while position < end:
            file.seek(position)
            header = file.read(HEADER.size)
            if len(header) < HEADER.size:
                return _Index([], [], f"{path} is cut off in the record at byte {position}")
            length, crc = HEADER.unpack(header)
            if crc != masked_crc(header[:8]):
                hint = "; compressed files cannot be read" if header.startswith(b"\x1f\x8b") else ""
                return _Index([], [], f"{path} has no TFRecord at byte {position}{hint}")
            offsets.append(position + HEADER.size)
            lengths.append(length)
            position += HEADER.size + length + FOOTER
    if position > end:
        start = offsets[-1] - HEADER.size
        return _Index(
            [], [], f"{path} is cut off in the record at byte {start}: it has {end} bytes of {position}"
        )
    return _Index(offsets, lengths, "")


def look_at_records(
    data: str,
    records: Records,
    label_feature: str,
    class_names: tuple[str, ...],
    image_size: int,
    progress: bool | None,
) -> tuple[Source, list[str]]:
    """Parse every record for its label and look at its image.

    Args:
        data: What the user asked for, for messages.
        records: Where the records lie.
        label_feature: Name of the feature that holds the label, a number or a text.
        class_names: All classes, () if they are not known.
        image_size: Side of the images in training.
        progress: Whether to show a bar.

    Returns:
        All images, and for each what is wrong with it, or an empty text.

    Raises:
        ValueError: If features are missing or labels are out of range.
    """
    size = checked_size(len(records), image_size)

    def look(index: int) -> tuple[str | int | None, Look | None]:
        example = _parse(records.record(index))
        images, labels = _values(example, records.feature), _values(example, label_feature)
        label = labels[0] if len(labels) == 1 else None
        label = label.decode(errors="replace") if isinstance(label, bytes) else label
        is_image = len(images) == 1 and isinstance(images[0], bytes)
        return label, look_at_bytes(images[0], size) if is_image else None

    found = in_threads(look, len(records), "checking images", progress)
    problems = []
    without = [index for index, (_, seen) in enumerate(found) if seen is None]
    if without:
        has = sorted(_parse(records.record(without[0])).features.feature)
        problems.append(
            f"{len(without)} of {len(records)} records have no image in {records.feature!r}: "
            f"{listing(records.names(without))}. The first has the features {has}"
        )
    labels, names, wrong = number_labels(
        [label for label, _ in found], class_names, lambda index: records.names([index])[0]
    )
    problems += [f"{problem} (feature {label_feature!r})" for problem in wrong]
    refuse(data, problems)
    looks = [seen for _, seen in found if seen is not None]
    plain = np.array([seen.plain for seen in looks], bool)
    return Source(replace(records, plain=plain), labels, names), [seen.reason for seen in looks]


def _parse(record: bytes) -> "tf.train.Example":
    """Parse an Example."""
    import tensorflow as tf

    return tf.train.Example.FromString(record)


def _values(example: "tf.train.Example", name: str) -> Sequence:
    """Give the values of a feature, whatever their kind; () if the Example lacks it."""
    if name not in example.features.feature:  # asking for it would create it
        return ()
    feature = example.features.feature[name]
    return getattr(feature, feature.WhichOneof("kind") or "bytes_list").value


def _crc_table() -> tuple[int, ...]:
    """The remainders of all bytes by the Castagnoli polynomial, bits reversed."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)
        table.append(byte)
    return tuple(table)


CRC_TABLE = _crc_table()


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated and shifted by a constant as TFRecord files have it, so that a CRC can hold CRCs.

    Args:
        data: A few bytes; this is slow.

    Returns:
        An unsigned number of 32 bits.
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
