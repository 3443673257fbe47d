"""Checkpoints: one safetensors file each, whole or not at all, the last two kept, no pickle.

A file holds arrays by name and, in its header, a record of plain values. A checksum of both tells a file that
the disk has damaged from a good one.
"""

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_archs.training.atomic import written_whole

FOLDER = "checkpoints"
KEPT = 2
FORMAT = 1
_NAME = re.compile(r"step-(\d{9})\.safetensors")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a training between two steps.

    Attributes:
        arrays: Values of all variables, by name.
        record: Everything else, as JSON holds it.
    """

    arrays: dict[str, np.ndarray]
    record: dict[str, Any]


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint to the disk itself, then remove all but it and the one before.

    Files of later steps go, too: they are damaged, or their steps were counted with smaller batches, and
    would be taken for newer ones.

    Args:
        folder: Where checkpoints lie; made if it is missing.
        step: Steps done since the start of the training.
        checkpoint: What to write.

    Returns:
        The file.

    Raises:
        OSError: If it cannot be written; the earlier checkpoints are untouched.
    """
    from safetensors.numpy import save_file

    folder.mkdir(exist_ok=True)
    path = folder / f"step-{step:09d}.safetensors"
    arrays = {name: np.asarray(value, order="C") for name, value in checkpoint.arrays.items()}
    record = json.dumps(checkpoint.record)
    header = {"format": str(FORMAT), "checksum": str(_checksum(record, arrays)), "record": record}
    with written_whole(path) as beside:
        try:
            save_file(arrays, beside, header)
        except Exception as error:  # safetensors has an error of its own for a full disk
            raise error if isinstance(error, OSError) else OSError(str(error)) from error
    earlier = sorted(other for other in found_checkpoints(folder) if other < path)
    kept = {path, *earlier[-(KEPT - 1) :]}
    for other in found_checkpoints(folder):
        if other not in kept:
            other.unlink(missing_ok=True)
    return path


def newest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Read the newest checkpoint that is whole.

    Args:
        folder: Where checkpoints lie; it may be missing.

    Returns:
        The checkpoint, or None if there is none; and "path: reason" of each newer file that is damaged.
    """
    damaged: list[str] = []
    for path in sorted(found_checkpoints(folder), reverse=True):
        try:
            return load_checkpoint(path), damaged
        except ValueError as error:
            damaged.append(f"{path}: {error}")
    return None, damaged


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and check a file.

    Args:
        path: The file.

    Returns:
        The checkpoint.

    Raises:
        ValueError: If it is damaged, or of a later version of this package.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
        record = json.loads(header["record"])
        expected, version = int(header["checksum"]), int(header["format"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"not a whole checkpoint ({type(error).__name__}: {error})") from error
    if version > FORMAT:
        raise ValueError(f"format {version} is newer than this version of keras-archs, which reads {FORMAT}")
    if _checksum(header["record"], arrays) != expected:
        raise ValueError("record and arrays do not have the checksum they were written with")
    return Checkpoint(arrays, record)


def found_checkpoints(folder: Path) -> list[Path]:
    """The checkpoint files of a folder.

    Args:
        folder: It may be missing.

    Returns:
        Paths, in no order; by name they sort by step.
    """
    return [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)]


def _checksum(record: str, arrays: Mapping[str, np.ndarray]) -> int:
    """CRC-32 over the record, and names, types, shapes and bytes in the order of the names."""
    total = zlib.crc32(record.encode())
    for name in sorted(arrays):
        total = zlib.crc32(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode(), total)
        total = zlib.crc32(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data, total)
    return total
