"""Labels that come as text or numbers: checked, and turned into class numbers."""

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from keras_archs.choices import nearest
from keras_archs.training.reading.source import listing

LABEL_FILE = "labels.txt"
MOST_CLASSES = 2**20  # a label beyond is a mistake, not a class


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read one class name a line; lines as "7:name" state the number.

    Args:
        path: The file.

    Returns:
        Names by class number; () if there is no such file.
    """
    if not path.is_file():
        return ()
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    numbered = [re.fullmatch(r"(\d+):(.+)", line) for line in lines]
    names = {int(match[1]): match[2].strip() for match in numbered if match}
    if sorted(names) == list(range(len(lines))):
        return tuple(names[number] for number in range(len(lines)))
    return tuple(lines)


def numbers_or_names(texts: Sequence[str], class_names: tuple[str, ...]) -> list[str | int | None]:
    """Take texts for numbers if all are and the classes are not called so.

    Args:
        texts: Labels as they stand in a file; "" is a missing one.
        class_names: All classes, () if they are not known.

    Returns:
        A number, a name or None for each text.
    """
    distinct = set(texts) - {""}
    if all(re.fullmatch(r"[+-]?\d+", text) for text in distinct) and not distinct <= set(class_names):
        return [int(text) if text else None for text in texts]
    return [text or None for text in texts]


def number_labels(
    given: Sequence[str | int | None], class_names: tuple[str, ...], place: Callable[[int], str]
) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    """Turn labels into class numbers.

    Args:
        given: A number or a name for each image; None is a missing one.
        class_names: All classes if they are known. If not, () makes them from the labels: numbers stay as
            they are, names are sorted.
        place: Says where an image comes from, for messages.

    Returns:
        Class numbers as int32, shape (N,), names by class number, and what is wrong with the labels.
    """
    distinct = set(given) - {None}
    if all(isinstance(label, int) for label in distinct):
        limit = len(class_names) or MOST_CLASSES
        valid = [label for label in distinct if isinstance(label, int) and 0 <= label < limit]
        numbers: dict[str | int | None, int] = {label: label for label in valid}
        class_names = class_names or tuple(map(str, range(max(valid, default=-1) + 1)))
        accepted = f"0..{limit - 1}"
    else:
        class_names = class_names or tuple(sorted(map(str, distinct)))
        numbers = {name: number for number, name in enumerate(class_names)}
        accepted = f"the {len(class_names)} class names"
    labels = np.array([numbers.get(label, -1) for label in given], np.int32)
    bad = np.flatnonzero(labels < 0).tolist()
    problems = []
    if bad:
        wrong = [f"{place(index)}: {given[index]!r}" for index in bad]
        hint = nearest(given[bad[0]], numbers)
        problems.append(f"{len(bad)} labels are missing or not in {accepted}: {listing(wrong)}.{hint}")
    elif len(set(labels.tolist())) < 2:
        problems.append(f"it has one class, {class_names[labels[0]]!r}; at least two are needed")
    _warn_of_empty(labels, class_names)
    return labels, class_names, problems


def _warn_of_empty(labels: np.ndarray, class_names: tuple[str, ...]) -> None:
    """Log classes without an image: label numbers may start at 1, or a list may be part of a larger one."""
    empty = np.flatnonzero(np.bincount(labels[labels >= 0], minlength=len(class_names)) == 0)
    if len(empty):
        names = [repr(class_names[label]) for label in empty]
        logging.getLogger(__name__).warning("%d classes have no image: %s", len(empty), listing(names))
