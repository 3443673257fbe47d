"""Reads .weights.h5, legacy .h5 and .keras files into a model: check all, then assign.

Both formats are positional. A legacy file lists the layers in the order of `model.layers`; a `.weights.h5`
file addresses them by class and running number (`layers/conv2d_3/vars/0`). Names of layers are not compared,
so files of keras.applications fit the models here. Counts and shapes are, and the number of residual sums,
which alone tells a residual network from its plain twin; all of them before the first assignment.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import ml_dtypes
import numpy as np

from keras_archs.weights.adapt import adapted_channels
from keras_archs.weights.errors import WeightsError, check_file, refusal
from keras_archs.weights.layouts import CLASSIFIER

# What changes a layer's answer without changing the shape of its weights.
ARITHMETIC = ("strides", "dilation_rate", "epsilon")
# Classes of residual sums as the files spell them: of Keras, of this package, of keras.applications.
SUMS = ("add", "scaled_add", "stochastic_add", "custom_scale_layer")


@dataclass(frozen=True)
class Stored:
    """One layer of a file: its name there, and its arrays in order."""

    name: str
    arrays: list[np.ndarray]


@dataclass(frozen=True)
class Target:
    """One layer of the model: its name, and its variables in the order of the format."""

    name: str
    variables: list[Any]


@dataclass(frozen=True)
class Match:
    """What a file holds beside what the model has; `sums` counts residual sums where the file tells."""

    stored: list[Stored]
    targets: list[Target]
    sums: tuple[int, int] | None


def load_file(model: keras.Model, path: str | Path, dropped: int | None = None) -> None:
    """Loads a weights file into a model, all of it or nothing.

    Args:
        model: A built model.
        path: A `.weights.h5`, legacy `.h5` or `.keras` file.
        dropped: Number of classes of a classifier that is not loaded, since the model has others.

    Raises:
        ValueError: If there is no such file.
        WeightsError: If the file is damaged, or if a count, a shape or a value is wrong. The model is
            unchanged.
    """
    path = check_file(path)
    try:
        with _opened(path) as file:
            match = _read(file, model)
        config = _config(path)
    except Exception as error:  # h5py, zipfile and zlib raise nearly anything on damaged files
        raise WeightsError(f"weights={str(path)!r} is damaged or no Keras weights file: {error}") from error
    match = _adapted(match, dropped)
    differences = _differences(match) or _other_arithmetic(config, model) or _not_finite(match)
    if differences:
        raise refusal(path, model.name, differences)
    for target, stored in zip(match.targets, match.stored, strict=True):
        for variable, array in zip(target.variables, stored.arrays, strict=True):
            variable.assign(array)


def _adapted(match: Match, dropped: int | None) -> Match:
    """Without the classifier if its classes differ; with the first kernel for the model's channels."""
    stored, targets = list(match.stored), list(match.targets)
    whole = len(stored) == len(targets) and targets[-1].name == CLASSIFIER
    if whole and stored[-1].arrays[-1].shape == (dropped,):
        stored, targets = stored[:-1], targets[:-1]
    if stored and targets:
        ours, theirs = targets[0].variables[0].shape, stored[0].arrays[0].shape
        if len(ours) == len(theirs) == 4 and ours[2] != 3 == theirs[2]:
            kernel, *others = stored[0].arrays
            stored[0] = Stored(stored[0].name, [adapted_channels(kernel, ours[2]), *others])
    return Match(stored, targets, match.sums)


def _not_finite(match: Match) -> list[str]:
    return [
        f"{target.name} has values that are not finite"
        for target, stored in zip(match.targets, match.stored, strict=True)
        if not all(np.isfinite(array).all() for array in stored.arrays)
    ]


def _config(path: Path) -> dict[str, Any]:
    """What a .keras file says of its layers, by name; the other formats hold numbers only."""
    if path.suffix != ".keras":
        return {}
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))["config"]
    return {layer["config"].get("name"): layer["config"] for layer in config.get("layers", ())}


def _other_arithmetic(stored: dict[str, Any], model: keras.Model) -> list[str]:
    """Strides, epsilons and input that a .keras file states otherwise: v1 and v1.5 have equal shapes.

    Layers that the file names otherwise are not compared.
    """
    pairs = [(layer.name, _as_json(layer.get_config()), stored.get(layer.name, {})) for layer in model.layers]
    differences = [
        f"{name}: {key}={theirs[key]} in the file, {ours[key]} in the model"
        for name, ours, theirs in pairs
        for key in ARITHMETIC
        if key in ours and key in theirs and ours[key] != theirs[key]
    ]
    modes = _modes(stored), _modes(layer.name for layer in model.layers)
    if all(modes) and "raw" not in (*modes[0], *modes[1]) and modes[0] != modes[1]:
        differences.append(f"input: mode {modes[0][0]!r} in the file, {modes[1][0]!r} in the model")
    return differences


def _modes(names: Iterable[str]) -> list[str]:
    """Modes of `preprocess_input` in the names of input layers: resnet50_torch_input_0."""
    return re.findall(r"_([a-z]+)_input_\d+$", "\n".join(filter(None, names)), re.MULTILINE)


def _as_json(config: dict[str, Any]) -> dict[str, Any]:
    """What stands in a file: lists for tuples."""
    return json.loads(json.dumps({key: config[key] for key in ARITHMETIC if key in config}))


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    if path.suffix != ".keras":
        with h5py.File(path, "r") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        data = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(data, "r") as file:
        yield file


def _read(file: h5py.File, model: keras.Model) -> Match:
    if "layer_names" in file.attrs or "layer_names0" in file.attrs:
        return _read_legacy(file, model)
    if "model_weights" in file:
        return _read_legacy(file["model_weights"], model)
    return _read_by_class(file, model)


def _read_legacy(group: h5py.Group, model: keras.Model) -> Match:
    names = _text_attribute(group, "layer_names")
    stored = []
    for name in names:
        arrays = [_array(group[name][weight]) for weight in _text_attribute(group[name], "weight_names")]
        if arrays:
            stored.append(Stored(name, arrays))
    targets = [
        Target(layer.name, layer.trainable_weights + layer.non_trainable_weights)
        for layer in model.layers
        if layer.weights
    ]
    # Layers without weights differ between Keras' own versions; only files with our names are compared.
    ours = [target.name for target in targets] == [layer.name for layer in stored]
    sums = (_count_named_sums(names), _count_named_sums([layer.name for layer in model.layers]))
    return Match(stored, targets, sums if ours else None)


def _count_named_sums(names: list[str]) -> int:
    return sum(name.endswith("_add") for name in names)


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


def _read_by_class(file: h5py.File, model: keras.Model) -> Match:
    """The layers of a `.weights.h5` file in the model's order, then those that the model does not have."""
    if "layers" not in file:
        raise KeyError("it has no group `layers`")
    groups = dict(_groups(file["layers"], "layers"))
    leaves = dict(_leaves(model, "layers"))
    owners = {path: layer for path, layer in leaves.items() if layer.weights}
    filled = {path: group for path, group in groups.items() if len(group.get("vars", ()))}
    order = [path for path in owners if path in filled] + [path for path in filled if path not in owners]
    stored = [Stored(path, _arrays(filled[path]["vars"])) for path in order]
    targets = [Target(layer.name, layer.weights) for layer in owners.values()]
    return Match(stored, targets, (_count_sums(groups), _count_sums(leaves)))


def _groups(group: h5py.Group, path: str) -> Iterator[tuple[str, h5py.Group]]:
    """The layers of a file with their paths; those of a model inside the model, too."""
    for name, inner in group.items():
        if "layers" in inner:
            yield from _groups(inner["layers"], f"{path}/{name}/layers")
        else:
            yield f"{path}/{name}", inner


def _leaves(model: keras.Model, path: str) -> Iterator[tuple[str, keras.Layer]]:
    """The layers of a model with the paths that a file has for them."""
    counts: dict[str, int] = {}
    for layer in model.layers:
        snake = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
        snake = re.sub(r"([a-z])([A-Z])", r"\1_\2", snake).lower()
        count = counts[snake] = counts.get(snake, -1) + 1
        name = f"{path}/{snake}_{count}" if count else f"{path}/{snake}"
        if isinstance(layer, keras.Model):
            yield from _leaves(layer, f"{name}/layers")
        else:
            yield name, layer


def _count_sums(paths: Iterable[str]) -> int:
    return sum(re.sub(r"_\d+$", "", path.rsplit("/", 1)[-1]) in SUMS for path in paths)


def _arrays(group: h5py.Group) -> list[np.ndarray]:
    return [_array(group[key]) for key in sorted(group, key=int)]


def _array(dataset: h5py.Dataset) -> np.ndarray:
    array = np.asarray(dataset)
    if dataset.attrs.get("dtype") == "bfloat16":  # HDF5 has no such type; Keras stores the two bytes
        array = array.view(ml_dtypes.bfloat16).astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{dataset.name} is of type {array.dtype}, not real numbers")
    return array


def _differences(match: Match) -> list[str]:
    differences = []
    if len(match.targets) != len(match.stored):
        differences.append(
            f"{len(match.stored)} layers with weights in the file, {len(match.targets)} in the model"
        )
    if match.sums and match.sums[0] != match.sums[1]:
        differences.append(f"{match.sums[0]} residual sums in the file, {match.sums[1]} in the model")
    for target, stored in zip(match.targets, match.stored, strict=False):
        ours = [tuple(variable.shape) for variable in target.variables]
        theirs = [array.shape for array in stored.arrays]
        if ours != theirs:
            differences.append(
                f"{target.name}: {_shapes(theirs)} in the file ({stored.name}), {_shapes(ours)} in the model"
            )
    return differences


def _shapes(shapes: list[tuple[int, ...]]) -> str:
    return " + ".join("x".join(map(str, shape)) for shape in shapes)
