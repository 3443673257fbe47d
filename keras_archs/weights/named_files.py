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
from keras_archs.weights.layouts import CLASSIFIER, Layout
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
# Dense layers of a head; a model without it has no use for their tensors.
HEAD = (CLASSIFIER, "fc1", "fc2")
IMAGENET = 1000


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
        class_offset: Classes of a published file in front of the model's.
        auxiliary: Names of the further classifiers that the model may have been built without.
        dropped: Number of classes of a classifier that is left in the file, since the model has others; None
            if the classifier has to fit.
    """

    layouts: Sequence[Layout]
    slim: bool
    class_offset: int
    auxiliary: Sequence[str]
    dropped: int | None

    @property
    def finals(self) -> tuple[str, ...]:
        """The layers that give the classes."""
        return CLASSIFIER, *self.auxiliary


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
        slots = _best(model, file, rules)
        left = _dropped(slots, file, rules)
        slots = [slot for slot in slots if slot.name not in left]
        differences = _differences(slots, file, (*_ignored(model, rules), *left))
        if differences:
            raise refusal(path, model.name, differences, _hint(slots, file))
        # Twice through the file instead of once with all of it in memory.
        for slot in slots:
            problem = _problem(file.read(slot.name))
            if problem:
                raise refusal(path, model.name, [f"{slot.name} {problem}"])
        for slot in slots:
            slot.variable.assign(slot.convert(file.read(slot.name)))


def _differences(slots: list[Slot], file: TensorFile, ignored: tuple[str, ...]) -> list[str]:
    used = {slot.name for slot in slots}
    surplus = [name for name in file.shapes if name not in used and not name.startswith(ignored)]
    return [
        *(f"{slot.name} is missing (for {slot.layer})" for slot in slots if slot.name not in file.shapes),
        *(f"{name} ({_text(file.shapes[name])}) is not in the model" for name in surplus),
        *(
            f"{slot.name}: {_text(file.shapes[slot.name])} in the file, {_text(slot.shapes[0])} in the model"
            for slot in slots
            if file.shapes.get(slot.name, slot.shapes[0]) not in slot.shapes
        ),
    ]


def _problem(array: np.ndarray) -> str:
    """What is wrong with the values of a tensor; empty if nothing."""
    if array.dtype.kind not in "fV":  # V: bfloat16 and the like, which numpy has from elsewhere
        return f"is of type {array.dtype}, not floating-point numbers"
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, and shows
        finite = np.isfinite(array.astype(np.float32, copy=False)).all()
    return "" if finite else "has values that are not finite"


def _best(model: keras.Model, file: TensorFile, rules: Rules) -> list[Slot]:
    """The slots by the layout that finds most of its names in the file."""
    candidates = [_slots(model, layout, rules) for layout in rules.layouts]
    return max(candidates, key=lambda slots: sum(slot.name in file.shapes for slot in slots))


def _dropped(slots: list[Slot], file: TensorFile, rules: Rules) -> tuple[str, ...]:
    """The tensors of a classifier that the model does not want; empty unless the file has just that one."""
    if rules.dropped is None:
        return ()
    axis = -1 if rules.slim else 0
    expected = (rules.dropped, rules.dropped + rules.class_offset)
    names = [slot.name for slot in slots if slot.layer in rules.finals]
    return tuple(name for name in names if file.shapes.get(name, (0,))[axis] in expected)


def _slots(model: keras.Model, layout: Layout, rules: Rules) -> list[Slot]:
    flattened = {id(layer.output): layer for layer in model.layers if isinstance(layer, layers.Flatten)}
    slots = []
    for layer in model.layers:
        if not layer.weights:
            continue
        module = layout(layer.name)
        if module is None:
            raise WeightsError(
                f"model={model.name!r}: its layer {layer.name!r} has no counterpart in files of this lineage."
            )
        map_shape = _map_shape(flattened.get(id(layer.input)))
        slots += (_slim_slots if rules.slim else _torch_slots)(layer, module, map_shape)
    slots = [
        _without_first(slot, rules.class_offset) if slot.layer in rules.finals else slot for slot in slots
    ]
    return _adapted(slots, rules.slim)


def _map_shape(flatten: layers.Flatten | None) -> Shape | None:
    """Height, width and channels of the map in front of a Flatten, which flattens them in this order."""
    if flatten is None:
        return None
    first, *others = flatten.input.shape[1:]
    return (*others, first) if flatten.data_format == "channels_first" else (first, *others)


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
    """The slot of ImageNet's classes, whose file may have `count` classes in front of them."""
    if not count or slot.shapes[0][-1] != IMAGENET:
        return slot
    ahead = tuple((*shape[:-1], shape[-1] + count) for shape in slot.shapes)
    classes = slot.shapes[0][-1]
    return replace(
        slot,
        shapes=(*ahead, *slot.shapes),  # a classifier trained anew has none
        convert=lambda tensor: slot.convert(tensor[..., -classes:]),
    )


def _adapted(slots: list[Slot], slim: bool) -> list[Slot]:
    """The slots, the first kernel's taking three channels, too, whatever the model has."""
    i = next(i for i, slot in enumerate(slots) if len(slot.variable.shape) == 4)
    first = slots[i]
    channels = first.variable.shape[2]
    if channels == 3:
        return slots
    axis = 2 if slim else 1
    shapes = tuple((*shape[:axis], 3, *shape[axis + 1 :]) for shape in first.shapes)

    def convert(tensor: np.ndarray) -> np.ndarray:
        kernel = first.convert(tensor) if not slim else tensor
        return kernel if kernel.shape[2] == channels else adapted_channels(kernel, channels)

    slots[i] = replace(first, shapes=(*first.shapes, *shapes), convert=convert)
    return slots


def _ignored(model: keras.Model, rules: Rules) -> tuple[str, ...]:
    """Beginnings of tensors that belong to layers that the model is built without."""
    there = {layer.name for layer in model.layers}
    separator = "/" if rules.slim else "."
    names = [layout(name) for layout in rules.layouts for name in HEAD if name not in there]
    # All layers of a further classifier stand below one module.
    names += [
        (layout(name) or "").split(separator)[0]
        for layout in rules.layouts
        for name in rules.auxiliary
        if name not in there
    ]
    return tuple(f"{name}{separator}" for name in names if name)


def _hint(slots: list[Slot], file: TensorFile) -> str:
    found = sum(slot.name in file.shapes for slot in slots)
    fit = f"{found} of {len(slots)} names fit: the file is of another"
    if 2 * found < len(slots):
        examples = ", ".join(list(file.shapes)[:3]) or "no tensors"
        return f"{fit} family or layout; it has {examples}."
    return f"{fit} variant of this family." if found < len(slots) else ""


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"
