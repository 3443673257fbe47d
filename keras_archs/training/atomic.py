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
        os.replace(beside, path)
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        beside.unlink(missing_ok=True)
