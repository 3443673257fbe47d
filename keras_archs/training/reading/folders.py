"""Image folders: class sub-folders, or train, validation and test that each hold class sub-folders."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_archs.choices import nearest
from keras_archs.training.images import SUFFIXES
from keras_archs.training.reading.scan import look_at_files, without_damaged
from keras_archs.training.reading.source import SPLIT_NAMES, Source, listing, refuse


class Found(NamedTuple):
    """One image file of a folder."""

    path: str
    name: str
    split: str


def read_folder(folder: str, image_size: int, max_corrupt_share: float, progress: bool | None) -> Source:
    """Find the classes and images of a folder and look at every image.

    Args:
        folder: Its sub-folders are the classes, in sorted order, or "train", "val" or "validation", and
            "test" with the classes in each. Images may lie deeper in a class. Hidden files and files without
            an image suffix are ignored.
        image_size: Side of the images in training.
        max_corrupt_share: Largest share of damaged images that may be left out.
        progress: Whether to show a bar while the images are looked at.

    Returns:
        The images, sorted by split, class and path.

    Raises:
        ValueError: If a class has no image, there are fewer than two classes, images lie outside of the
            classes, or too many images are damaged.
    """
    root = Path(folder)
    parts = _split_folders(root)
    problems: list[str] = []
    files: list[Found] = []
    for split, part in (parts or {"train": root}).items():
        files += _find_images(root, part, split, problems)
    if parts:
        known = {file.name for file in files if file.split == "train"}
        unknown = sorted({f"{file.split}/{file.name}" for file in files if file.name not in known})
        if known and unknown:
            problems.append(f"classes that the training split lacks: {listing(unknown)}")
    names = tuple(sorted({file.name for file in files}))
    if not problems and len(names) < 2:
        problems.append(f"it has one class, {names[0]!r}; at least two are needed")
    refuse(folder, problems)

    images, reasons = look_at_files(str(root), [file.path for file in files], image_size, progress)
    numbers = {name: number for number, name in enumerate(names)}
    labels = np.array([numbers[file.name] for file in files], np.int32)
    splits = np.array([file.split for file in files]) if parts else None
    source = Source(images, labels, names, splits=splits)
    return without_damaged(source, reasons, folder, max_corrupt_share)


def _split_folders(root: Path) -> dict[str, Path]:
    """Map split names to folders if the folder is split; a class of photos may be called "test" too."""
    folders = {path.name: path for path in _subfolders(root)}
    if "train" not in folders or not set(folders) <= set(SPLIT_NAMES):
        return {}
    return {SPLIT_NAMES[name]: folders[name] for name in SPLIT_NAMES if name in folders}


def _find_images(root: Path, part: Path, split: str, problems: list[str]) -> list[Found]:
    """List the images of all classes of one part, and note what it lacks."""
    here = "" if part == root else f"{part.name}: "
    classes = {path.name: sorted(_images_below(path)) for path in _subfolders(part)}
    loose = sorted(path.name for path in part.iterdir() if path.is_file() and _is_image(path.name))
    if not classes:
        problems.append(
            f"{here}no class sub-folders ({len(loose)} images lie loose in it); "
            "make one sub-folder for each class"
        )
    elif loose:
        problems.append(f"{here}{len(loose)} images lie loose beside the class folders: {listing(loose)}")
    empty = [repr(name) for name, images in classes.items() if not images]
    if empty:
        problems.append(
            f"{here}no images ({', '.join(sorted(SUFFIXES))}) in {len(empty)} class folders: {listing(empty)}"
        )
    return [
        Found(os.path.relpath(path, root), name, split) for name, images in classes.items() for path in images
    ]


def _subfolders(folder: Path) -> list[Path]:
    """List the visible sub-folders, sorted."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _is_image(name: str) -> bool:
    """Tell by its name whether a file is to be taken for an image."""
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def _images_below(folder: Path) -> Iterator[str]:
    """Walk a folder for files with an image suffix; hidden files and folders do not count."""
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(here, name) for name in files if _is_image(name))


def explain_missing(source: str) -> str:
    """Say what a data set may be, and name the nearest that exists.

    Args:
        source: What the user gave.

    Returns:
        The message.
    """
    root = Path(source)
    siblings = [path.name for path in root.parent.glob("*") if path.is_dir() or path.suffix == ".csv"]
    return (
        f"data={source!r} is neither 'digits' nor 'shapes' nor a folder, a .csv file, TFRecord files or "
        f"tfds:NAME that exists.{nearest(root.name, ['digits', 'shapes', *siblings])}"
    )
