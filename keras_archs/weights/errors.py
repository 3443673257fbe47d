"""What is wrong with a weights file, said so that a person can act on it."""

import re
from collections.abc import Iterable
from pathlib import Path

from keras_archs.choices import nearest

KERAS_SUFFIXES = (".weights.h5", ".h5", ".hdf5", ".keras")
TORCH_SUFFIXES = (".safetensors", ".pth")
# A TF-slim checkpoint is a prefix of files: model.ckpt.index, model.ckpt.data-00000-of-00001.
SLIM_SUFFIXES = (".ckpt", ".ckpt.index")
# The trainer appends its step: model.ckpt-250000.index.
SLIM_NAME = re.compile(r".*\.ckpt(-\d+)?(\.index)?")
SUFFIXES = (*KERAS_SUFFIXES, *TORCH_SUFFIXES, *SLIM_SUFFIXES)
SHOWN = 8


class WeightsError(ValueError):
    """A weights file that can't be read, or that does not fit the model."""


def check_file(path: str | Path) -> Path:
    """Checks that a path names an existing file of a known format.

    Args:
        path: What the user gave as `weights`.

    Returns:
        The path.

    Raises:
        ValueError: If there is no such file, or if its suffix is unknown.
    """
    if not isinstance(path, str | Path):
        raise ValueError(f"weights={path!r} is not accepted: give None, 'imagenet', a tag or a path.")
    slim = SLIM_NAME.fullmatch(Path(path).name)
    if not slim and not str(path).endswith(SUFFIXES):
        raise ValueError(f"weights={str(path)!r} has an unknown suffix; accepted: {', '.join(SUFFIXES)}.")
    # A prefix of index and data, or one file of TensorFlow's first format.
    if not Path(path).is_file() and not (slim and Path(f"{path}.index").is_file()):
        raise ValueError(
            f"weights={str(path)!r} is neither None, 'imagenet', a tag nor the path of an existing file."
            f"{nearest(path, ['imagenet'])}"
        )
    return Path(path)


def refusal(path: Path, model: str, differences: Iterable[str], hint: str = "") -> WeightsError:
    """The error of a file that does not fit.

    Args:
        path: Of the file.
        model: Name of the model.
        differences: A line each.
        hint: What the file may be instead.

    Returns:
        An error that shows the first differences and counts the others.
    """
    differences = list(differences)
    shown = "\n  ".join(differences[:SHOWN])
    more = f"\n  and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
    return WeightsError(
        f"weights={str(path)!r} does not fit the model {model!r}; nothing was loaded:\n  {shown}{more}"
        + (f"\n{hint}" if hint else "")
    )
