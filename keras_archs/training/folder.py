"""The run folder: who may use it, and what happens to it when a run fails."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_archs.training.atomic import written_whole
from keras_archs.training.checkpoint import FOLDER, found_checkpoints
from keras_archs.training.config import TrainConfig, differences
from keras_archs.training.data import DAMAGED
from keras_archs.training.run import CONFIG, FILES, HISTORY, METRICS, TENSORBOARD

# What a restart may change: the same images are seen, in as many or fewer devices' portions.
CHANGEABLE = frozenset({"run.batch_size", "run.micro_batches", "run.checkpoint_steps"})


PART = ".*.part.*"  # the names of `atomic.written_whole`


class OtherRunError(FileExistsError):
    """The folder holds a run of another configuration."""


@contextmanager
def claimed(directory: Path, config: TrainConfig, is_chief: bool, force: bool) -> Iterator[Path]:
    """Take a folder for a run, new or interrupted; if a new run fails early, leave things as they were.

    Args:
        directory: It does not exist, is empty, or holds a run of this configuration.
        config: What is to be trained.
        is_chief: Whether this process writes; others look at nothing and write nothing.
        force: Remove a run of another configuration.

    Yields:
        The folder.

    Raises:
        OtherRunError: If it holds a run of another configuration; the message shows the difference.
        FileExistsError: If it holds something else.
        OSError: If it cannot be written.
    """
    if not is_chief:
        yield directory
        return
    existed = directory.exists()
    is_new = not (directory / CONFIG).is_file()
    if not is_new and _refuse_others(directory, config, force):
        _clear(directory)
        is_new = True
    elif is_new and existed and (not directory.is_dir() or any(_entries(directory))):
        raise FileExistsError(
            f"run_dir={str(directory)!r} exists and is neither an empty folder nor a run; choose another name"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _remove_parts(directory)
        if is_new:
            config.to_yaml(directory / CONFIG)
    except OSError as error:
        if is_new:
            _undo(directory, existed)
        raise OSError(f"run_dir={str(directory)!r} cannot be written: {error}") from error
    try:
        yield directory
    except BaseException:
        begun = (directory / HISTORY).exists() or (directory / DAMAGED).exists()
        if is_new and not begun and not found_checkpoints(directory / FOLDER):
            _undo(directory, existed)
        raise


def is_unfinished(directory: Path, config: TrainConfig) -> bool:
    """Whether the folder holds an interrupted run of this configuration.

    Args:
        directory: Any path.
        config: What is to be trained.

    Returns:
        Whether `train` would go on there.
    """
    try:
        same = not _changes(directory, config.located())
    except (OSError, ValueError):
        return False
    return same and not (directory / METRICS).exists()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Args:
        path: The file.
        text: What it shall hold.
    """
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _refuse_others(directory: Path, config: TrainConfig, force: bool) -> bool:
    """Whether another run is to be removed; an error if that was not asked for."""
    changes = _changes(directory, config)
    if not changes:
        return False
    if not force:
        lines = "".join(f"\n  {name}: {old!r} there, {new!r} now" for name, (old, new) in changes.items())
        raise OtherRunError(
            f"run_dir={str(directory)!r} holds a run of another configuration:{lines}\n"
            "Choose another folder, or let force (`train --force`) throw that run away"
        )
    return True


def _changes(directory: Path, config: TrainConfig) -> dict[str, tuple[object, object]]:
    found = differences(TrainConfig.from_yaml(directory / CONFIG), config)
    return {name: values for name, values in found.items() if name not in CHANGEABLE}


def _clear(directory: Path) -> None:
    """Remove what a run writes, and nothing else."""
    for name in FILES:
        (directory / name).unlink(missing_ok=True)
    for name in (FOLDER, TENSORBOARD):
        shutil.rmtree(directory / name, ignore_errors=True)


def _entries(directory: Path) -> list[Path]:
    """What lies in a folder, but for what a killed process had begun to write."""
    return [path for path in directory.iterdir() if not path.match(PART)]


def _remove_parts(directory: Path) -> None:
    """Remove what a killed process had begun to write."""
    for path in [*directory.glob(PART), *(directory / FOLDER).glob(PART)]:
        path.unlink(missing_ok=True)


def _undo(directory: Path, existed: bool) -> None:
    """Remove what a run without a complete epoch has written; a folder that the user made stays."""
    if directory.is_dir():
        _clear(directory)
        _remove_parts(directory)
        if not existed and not any(directory.iterdir()):  # a callback of the user's may have written
            directory.rmdir()
