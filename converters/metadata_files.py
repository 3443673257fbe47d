"""The files at the end of a TFLite model, and what is in those that belong to its metadata."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_MOST_BYTES = 16 << 20
# What zipfile was seen to raise, or says that it raises: NotImplementedError is a RuntimeError.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Sigmoid:
    """Calibration of one class: f(x) = scale / (1 + exp(-(slope * g(x) + offset))).

    Attributes:
        scale: At least 0.
        slope: Any number.
        offset: Any number.
        min_score: Scores of at most this become the default score.
    """

    scale: float
    slope: float
    offset: float
    min_score: float | None = None

    @property
    def numbers(self) -> list[float]:
        """Its three or four numbers."""
        numbers = (self.scale, self.slope, self.offset, self.min_score)
        return [float(number) for number in numbers if number is not None]


def read_associated_files(content: bytes) -> dict[str, bytes]:
    """Read the files at the end of a model.

    Args:
        content: The TFLite model, from any source.

    Returns:
        Name to content; empty for a model without files.

    Raises:
        ValueError: The files are damaged, encrypted, named like places outside of a folder, or together
            larger than 16 MiB.
    """
    stream = io.BytesIO(content)
    if not zipfile.is_zipfile(stream):
        return {}
    with _damage_named():
        archive = zipfile.ZipFile(stream)
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    _check_entries(entries)
    with _damage_named():
        return {entry.filename: archive.read(entry) for entry in entries}


def append_files(model: bytes, files: dict[str, bytes]) -> bytes:
    """Put files at the end of a model that has none.

    Args:
        model: The flatbuffer.
        files: Name to content.

    Returns:
        The model, which is a ZIP archive as well; the same arguments give the same bytes.
    """
    if not files:
        return model
    stream = io.BytesIO()
    stream.write(model)
    with zipfile.ZipFile(stream, "a") as archive:  # Stored, not compressed: clients read them in place.
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)  # Of 1980, so that the bytes do not depend on the time,
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # nor on the operating system.
            archive.writestr(entry, data)
    return stream.getvalue()


def check_file(name: str) -> None:
    """Check that the name of a file stays in its folder.

    Args:
        name: The name.

    Raises:
        ValueError: It does not, or is none.
    """
    path = PurePosixPath(name)
    if not path.name or path.is_absolute() or ".." in path.parts or re.search(r"[\\:\0]", name):
        raise ValueError(
            f"the model's file {name!r} leads elsewhere; a name such as 'labels.txt' is accepted."
        )


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Read a text file with one label a line.

    Args:
        path: In UTF-8, with or without a byte order mark.

    Returns:
        The labels; an empty last line is none.

    Raises:
        ValueError: It is not UTF-8.
        OSError: It cannot be read.
    """
    return label_lines(str(path), Path(path).read_bytes())


def label_lines(name: str, data: bytes) -> tuple[str, ...]:
    """The labels in a file.

    Args:
        name: Of the file, for the message.
        data: Its content.

    Returns:
        One a line; an empty last line is none.

    Raises:
        ValueError: It is not UTF-8.
    """
    lines = _lines(name, data)
    return lines if lines[-1] else lines[:-1]


def sigmoid_lines(name: str, data: bytes) -> tuple[Sigmoid | None, ...]:
    """The sigmoids in a file.

    Args:
        name: Of the file, for the message.
        data: Its content.

    Returns:
        One a line, None for an empty line, even if it is the last: so do clients count.

    Raises:
        ValueError: A line has something else than no, three or four numbers.
    """
    return tuple(_sigmoid(name, i, line) for i, line in enumerate(_lines(name, data)))


@contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise ValueError(f"the model's files are damaged: {error}.") from error


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    # What an entry says of its size is what is read of it at most.
    total = sum(entry.file_size for entry in entries)
    if total > _MOST_BYTES:
        raise ValueError(f"the model's files have {total:,} bytes unpacked; {_MOST_BYTES:,} are accepted.")
    for entry in entries:
        check_file(entry.filename)
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
            raise ValueError(f"the model's file {entry.filename!r} is encrypted or compressed in a rare way.")


def _lines(name: str, data: bytes) -> tuple[str, ...]:
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"the file {name!r} is not UTF-8: {error}.") from error
    return tuple(line.removesuffix("\r") for line in lines)


def _sigmoid(name: str, index: int, line: str) -> Sigmoid | None:
    if not line:
        return None
    try:
        scale, slope, offset, *rest = map(float, line.split(","))
        (min_score,) = rest or (None,)
    except ValueError:
        raise ValueError(
            f"line {index + 1} of the file {name!r} is {line[:40]!r}; nothing, or three or four numbers "
            "with commas between, are accepted."
        ) from None
    return Sigmoid(scale, slope, offset, min_score)
