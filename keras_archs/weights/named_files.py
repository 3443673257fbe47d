"""Loads files whose tensors have names into a model: check all, then assign.

Every variable of the model gets one tensor of the file, found by the family's layout, with the axes in Keras'
order. Names, counts, shapes and values are checked before the first assignment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_archs.weights.adapt import adapted_channels
from keras_archs.weights.errors import WeightsError, refusal
from keras_archs.weights.layouts import Layout
from keras_archs.weights.tensor_files import Shape, TensorFile, opened

# Axes of a tensor of PyTorch in the order of Keras' variable, by rank: (O, I, H, W) to (H, W, I, O).
AXES = {1: (0,), 2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0)}
DEPTHWISE = (2, 3, 0, 1)  # (C, 1, H, W) to (H, W, C, 1)
TORCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# Dense layers that a classifier may consist of; a model without it has no use for their tensors.
CLASSIFIER = ("predictions", "fc1", "fc2")


@dataclass(frozen=True)
class Slot:
    """A variable of the model, and the tensor that belongs into it.

    Attributes:
        variable: Of the model.
        layer: Name of its layer.
        name: Of the tensor in the file.
        shapes: Accepted shapes of the tensor.
        convert: From the tensor to the variable's value.
    """

    variable: Any
    layer: str
    name: str
    shapes: tuple[Shape, ...]
    convert: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Rules:
    """How a file's tensors are found, and what of it may be left.

    Attributes:
        layouts: Names of the layers in the file, tried in order.
        slim: Whether it is a checkpoint of slim's instead of PyTorch's.
        class_offset: Classes of the file in front of the model's.
        auxiliary: Names of the further classifiers that the model may have been built without.
        adapts: Whether the classifier may have another number of classes, and the image of channels.
    """

    layouts: Sequence[Layout]
    slim: bool
    class_offset: int
    auxiliary: Sequence[str]
    adapts: bool


def load_named(model: keras.Model, path: Path, rules: Rules) -> None:
    """Loads a file of named tensors into a model, all of it or nothing.

    Args:
        model: A built model.
        path: A .safetensors or .pth file, or a TF-slim checkpoint.
        rules: Those of the model's family and lineage.

    Raises:
        WeightsError: If the file is damaged, or if a name, count, shape or value is wrong. The model is
            unchanged.
    """
    with opened(path) as file:
        slots, layout = _best(model, file, rules)
        finals, left = ("predictions", *rules.auxiliary), tuple[str, ...]()
        if rules.adapts:
            other = {s.layer for s in slots if s.layer in finals and file.shapes.get(s.name) not in s.shapes}
            left = tuple(slot.name for slot in slots if slot.layer in other)
            slots = [slot for slot in slots if slot.layer not in other]
        ignored = (*_ignored(model, layout, rules), *left)
        used = {slot.name for slot in slots}
        surplus = [name for name in file.shapes if name not in used and not name.startswith(ignored)]
        differences = [
            f"{slot.name} is missing (for {slot.layer})" for slot in slots if slot.name not in file.shapes
        ]
        differences += [f"{name} ({_text(file.shapes[name])}) is not in the model" for name in surplus]
        differences += [
            f"{slot.name}: {_text(file.shapes[slot.name])} in the file, {_text(slot.shapes[0])} in the model"
            for slot in slots
            if file.shapes.get(slot.name, slot.shapes[0]) not in slot.shapes
        ]
        if differences:
            raise refusal(path, model.name, differences, _hint(slots, file))
        # Twice through the file instead of once with all of it in memory.
        for slot in slots:
            if not np.isfinite(file.read(slot.name)).all():
                raise refusal(path, model.name, [f"{slot.name} has values that are not finite"])
        for slot in slots:
            slot.variable.assign(slot.convert(file.read(slot.name)))


def _best(model: keras.Model, file: TensorFile, rules: Rules) -> tuple[list[Slot], Layout]:
    """The slots by the layout that finds most of its names in the file."""
    candidates = [(_slots(model, layout, rules), layout) for layout in rules.layouts]
    return max(candidates, key=lambda pair: sum(slot.name in file.shapes for slot in pair[0]))


def _slots(model: keras.Model, layout: Layout, rules: Rules) -> list[Slot]:
    flattened = {id(layer.output): layer for layer in model.layers if isinstance(layer, layers.Flatten)}
    slots = []
    for layer in model.layers:
        if not layer.weights:
            continue
        module = layout(layer.name)
        if module is None:
            raise WeightsError(f"the layer {layer.name!r} has no counterpart in files of this lineage.")
        before = flattened.get(id(layer.input))
        map_shape = tuple(before.input.shape[1:]) if before else None
        slots += (_slim_slots if rules.slim else _torch_slots)(layer, module, map_shape)
    finals = ("predictions", *rules.auxiliary)
    slots = [_without_first(slot, rules.class_offset) if slot.layer in finals else slot for slot in slots]
    return _adapted(slots, rules.slim) if rules.adapts else slots


def _torch_slots(layer: keras.Layer, module: str, map_shape: Shape | None) -> list[Slot]:
    slots = []
    for variable in layer.weights:
        kind, shape = variable.name, tuple(variable.shape)
        name, axes = f"{module}.{TORCH_NORM.get(kind, 'weight')}", AXES[len(shape)]
        if kind == "bias":
            name = f"{module}.bias"
        elif kind == "depthwise_kernel":
            name, axes = f"{module}.conv1.weight", DEPTHWISE
        elif kind == "pointwise_kernel":
            name = f"{module}.pointwise.weight"
        elif isinstance(layer, layers.DepthwiseConv2D):
            axes = DEPTHWISE
        shapes = [tuple(shape[axes.index(i)] for i in range(len(axes)))]
        convert = partial(np.transpose, axes=axes)
        if isinstance(layer, layers.Dense) and kind == "kernel":
            # PyTorch flattens (C, H, W) where Keras flattens (H, W, C); timm writes either as a convolution.
            high, wide, depth = map_shape or (1, 1, shape[0])
            shapes.append((shape[1], depth, high, wide))
            convert = partial(_dense, shape=shape, map_shape=(depth, high, wide))
        slots.append(Slot(variable, layer.name, name, tuple(shapes), convert))
    return slots


def _dense(tensor: np.ndarray, shape: Shape, map_shape: Shape) -> np.ndarray:
    return tensor.reshape(shape[1], *map_shape).transpose(2, 3, 1, 0).reshape(shape)


SLIM_NAMES = {
    "kernel": "weights",
    "depthwise_kernel": "depthwise_weights",
    "pointwise_kernel": "pointwise_weights",
    "bias": "biases",
}


def _slim_slots(layer: keras.Layer, scope: str, map_shape: Shape | None) -> list[Slot]:
    slots = []
    for variable in layer.weights:
        shape = tuple(variable.shape)
        shapes = [shape]
        if isinstance(layer, layers.Dense) and variable.name == "kernel":
            # slim's classifiers are convolutions, too.
            shapes.append((*(map_shape or (1, 1, shape[0])), shape[1]))
        name = f"{scope}/{SLIM_NAMES.get(variable.name, variable.name)}"
        slots.append(Slot(variable, layer.name, name, tuple(shapes), partial(np.reshape, shape=shape)))
    return slots


def _without_first(slot: Slot, count: int) -> Slot:
    """The slot of a classifier whose file may have `count` classes in front of the model's."""
    ahead = tuple((*shape[:-1], shape[-1] + count) for shape in slot.shapes)
    classes = slot.shapes[0][-1]
    return replace(
        slot,
        shapes=(*ahead, *slot.shapes),  # a classifier trained anew has none
        convert=lambda tensor: slot.convert(tensor[..., -classes:]),
    )


def _adapted(slots: list[Slot], slim: bool) -> list[Slot]:
    """The slots, the first kernel's taking three channels whatever the model has."""
    i = next(i for i, slot in enumerate(slots) if len(slot.variable.shape) == 4)
    first = slots[i]
    channels = first.variable.shape[2]
    if channels == 3:
        return slots
    axis = 2 if slim else 1
    shapes = tuple((*shape[:axis], 3, *shape[axis + 1 :]) for shape in first.shapes)
    convert = (lambda tensor: tensor) if slim else partial(np.transpose, axes=AXES[4])
    slots[i] = replace(
        first, shapes=shapes, convert=lambda tensor: adapted_channels(convert(tensor), channels)
    )
    return slots


def _ignored(model: keras.Model, layout: Layout, rules: Rules) -> tuple[str, ...]:
    """Beginnings of tensors that belong to layers that the model is built without."""
    there = {layer.name for layer in model.layers}
    separator = "/" if rules.slim else "."
    names = [layout(name) for name in CLASSIFIER if name not in there]
    # All layers of a further classifier stand below one module.
    names += [(layout(name) or "").split(separator)[0] for name in rules.auxiliary if name not in there]
    return tuple(f"{name}{separator}" for name in names if name)


def _hint(slots: list[Slot], file: TensorFile) -> str:
    found = sum(slot.name in file.shapes for slot in slots)
    if not found:
        examples = ", ".join(list(file.shapes)[:3])
        return f"No name fits: the file is of another family or layout; it has {examples}, ..."
    if all(slot.name in file.shapes for slot in slots):
        return ""
    return f"{found} of {len(slots)} names fit: the file is of another variant of this family."


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"
