"""Reads .weights.h5, legacy .h5 and .keras files into a model: check all, then assign.

Both formats are positional. A legacy file lists the layers in the order of `model.layers`; a `.weights.h5`
file addresses them by class and running number (`layers/conv2d_3/vars/0`). Names are never compared, so files
of keras.applications fit the models here; counts and shapes are, all of them, before the first assignment.
"""

import io
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

import h5py
import keras
import numpy as np

# One stored layer: its name in the file, and its arrays in order.
Stored = tuple[str, list[np.ndarray]]
SUFFIXES = (".weights.h5", ".h5", ".hdf5", ".keras")
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
        raise ValueError(f"weights={path!r} is not accepted: give None, 'imagenet' or a path.")
    if not Path(path).is_file():
        raise ValueError(
            f"weights={str(path)!r} is neither None, 'imagenet' nor the path of an existing file."
        )
    if not str(path).endswith(SUFFIXES):
        raise ValueError(f"weights={str(path)!r} has an unknown suffix; accepted: {', '.join(SUFFIXES)}.")
    return Path(path)


def load_file(model: keras.Model, path: str | Path) -> None:
    """Loads a weights file into a model, all of it or nothing.

    Args:
        model: A built model.
        path: A `.weights.h5`, legacy `.h5` or `.keras` file.

    Raises:
        ValueError: If there is no such file.
        WeightsError: If the file is damaged, or if a count or a shape differs. The model is unchanged.
    """
    path = check_file(path)
    owners = [layer for layer in model.layers if layer.weights]
    try:
        stored = _read(path, owners, model.layers)
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise WeightsError(f"weights={str(path)!r} is damaged or no Keras weights file: {error}") from error
    differences = _differences(owners, stored)
    if differences:
        shown = "\n  ".join(differences[:SHOWN])
        more = f"\n  and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
        raise WeightsError(
            f"weights={str(path)!r} does not fit the model {model.name!r}; nothing was loaded:"
            f"\n  {shown}{more}"
        )
    for layer, (_, arrays) in zip(owners, stored, strict=True):
        for variable, array in zip(layer.weights, arrays, strict=True):
            variable.assign(array)


def _read(path: Path, owners: list[keras.Layer], layers: list[keras.Layer]) -> list[Stored]:
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            data = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(data, "r") as file:
            return _read_by_class(file, owners, layers)
    with h5py.File(path, "r") as file:
        if "layer_names" in file.attrs or "layer_names0" in file.attrs:
            return _read_legacy(file)
        if "model_weights" in file:
            return _read_legacy(file["model_weights"])
        return _read_by_class(file, owners, layers)


def _read_legacy(group: h5py.Group) -> list[Stored]:
    stored = []
    for name in _text_attribute(group, "layer_names"):
        arrays = [np.asarray(group[name][weight]) for weight in _text_attribute(group[name], "weight_names")]
        if arrays:
            stored.append((name, arrays))
    return stored


def _text_attribute(group: h5py.Group, name: str) -> list[str]:
    """A list of strings; Keras splits one of more than 64 KiB into `name0`, `name1`, ..."""
    if name in group.attrs:
        values: Iterable[bytes | str] = group.attrs[name]
    else:
        parts: list[Iterable[bytes | str]] = []
        while f"{name}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{name}{len(parts)}"])
        values = [value for part in parts for value in part]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _read_by_class(file: h5py.File, owners: list[keras.Layer], layers: list[keras.Layer]) -> list[Stored]:
    """The layers of a `.weights.h5` file in the model's order, then those that the model does not have."""
    if "layers" not in file:
        raise KeyError("it has no group `layers`")
    groups = {name: group for name, group in file["layers"].items() if len(group.get("vars", ()))}
    names = dict(zip(map(id, layers), _class_names(layers), strict=True))
    order = [names[id(layer)] for layer in owners if names[id(layer)] in groups]
    order += [name for name in groups if name not in set(order)]
    return [
        (name, [np.asarray(groups[name]["vars"][k]) for k in _numbers(groups[name]["vars"])])
        for name in order
    ]


def _numbers(group: h5py.Group) -> list[str]:
    return sorted(group, key=int)


def _class_names(layers: list[keras.Layer]) -> list[str]:
    """How Keras addresses layers in a `.weights.h5` file: conv2d, conv2d_1, batch_normalization, ..."""
    counts: dict[str, int] = {}
    names = []
    for layer in layers:
        snake = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
        snake = re.sub(r"([a-z])([A-Z])", r"\1_\2", snake).lower()
        count = counts[snake] = counts.get(snake, -1) + 1
        names.append(f"{snake}_{count}" if count else snake)
    return names


def _differences(owners: list[keras.Layer], stored: list[Stored]) -> list[str]:
    differences = []
    if len(owners) != len(stored):
        differences.append(f"{len(stored)} layers with weights in the file, {len(owners)} in the model")
    for layer, (name, arrays) in zip(owners, stored, strict=False):
        ours = [tuple(weight.shape) for weight in layer.weights]
        theirs = [array.shape for array in arrays]
        if ours != theirs:
            differences.append(
                f"{layer.name}: {_shapes(theirs)} in the file ({name}), {_shapes(ours)} in the model"
            )
    return differences


def _shapes(shapes: list[tuple[int, ...]]) -> str:
    return " + ".join("x".join(map(str, shape)) for shape in shapes)
