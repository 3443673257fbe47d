"""Replacing a folder as a whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path


def replace_folder(folder: Path, files: dict[str, bytes], replaceable: set[str]) -> None:
    """Write files into a folder of their own, replacing an older version of it.

    Args:
        folder: Where to write; parents are made.
        files: Relative name to content.
        replaceable: The files of the older version. Anything else in the folder belongs to someone else.

    Raises:
        FileExistsError: The folder holds files that are not `replaceable`, or is a file.
        OSError: It cannot be written; then the older version is intact.
    """
    folder = folder.resolve()  # What a link points to is replaced, not the link.
    if folder in (Path.cwd(), *Path.cwd().parents):
        raise FileExistsError(f"{str(folder)!r} is in use as the current folder: choose a folder below it.")
    if folder.exists():
        _check_contents(folder, replaceable)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            write_files(files, beside / "new")
            _exchange(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise OSError(error.errno, f"cannot write to the folder ({error.strerror})", str(folder)) from error


def _check_contents(folder: Path, replaceable: set[str]) -> None:
    if not folder.is_dir():
        raise FileExistsError(f"{str(folder)!r} is a file; the name of a folder is accepted.")
    inside = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    if foreign := sorted(inside - replaceable):
        raise FileExistsError(
            f"{str(folder)!r} holds {foreign[0]!r}, which is not part of an artifact: choose a new or empty "
            "folder, or one that holds an artifact and nothing else."
        )


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files below a folder.

    Args:
        files: Relative name to content; parents are made.
        folder: Where.

    Raises:
        OSError: One cannot be written.
    """
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _exchange(beside: Path, folder: Path) -> None:
    """Put the new folder in the place of the old one; the old one goes back if that fails."""
    if not folder.exists():
        os.replace(beside / "new", folder)
        return
    os.replace(folder, beside / "old")
    try:
        os.replace(beside / "new", folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.replace(beside / "old", folder)
        raise
