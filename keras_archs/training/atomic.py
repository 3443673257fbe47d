"""Writing files so that a reader finds the old one or the new one, never half of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to; it takes the place of `path` only if the block succeeds.

    The suffix stays the last one, because Keras and matplotlib choose the format by it.

    Args:
        path: The file that is to be written.

    Yields:
        The temporary path.

    Raises:
        OSError: If it cannot be written; the message names `path`.
    """
    beside = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield beside
        _flush(beside)
        os.replace(beside, path)
        _flush(path.parent)
    except OSError as error:
        if error.filename is not None:
            raise
        if error.errno is None:  # a text alone
            raise OSError(f"{path} cannot be written: {error}") from error
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file or folder is on the disk: a rename may outrun the data, and then the power fails."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
