"""Input -> body -> head -> weights: what every constructor does, and every argument check, written once."""

import gc
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
from keras import layers

from keras_archs.choices import check_choice, nearest
from keras_archs.conventions import Convention
from keras_archs.layers import channel_axis
from keras_archs.weights import PUBLISHED, check_file, download, load_file

Tensor = Any
Activation = str | Callable[[Tensor], Tensor] | None
Shape = tuple[int | None, ...]
POOLINGS = (None, "avg", "max")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What every row of a family table says besides its layers.

    Attributes:
        convention: Numbers and names of the layers.
        preprocessing: Mode of `preprocess_input`.
        source: Paper, section or table, arXiv number.
        size: Default height and width of the images.
        min_size: Smallest height and width that leave features.
        classes: Default number of classes.
        flattens: Whether the head needs to know the size of the images.
    """

    convention: Convention
    preprocessing: str
    source: str
    size: int = 224
    min_size: int = 32
    classes: int = 1000
    flattens: bool = False


class Builder(Protocol):
    """A public constructor: keras.applications' arguments, names and order."""

    def __call__(
        self,
        include_top: bool = ...,
        weights: str | Path | None = ...,
        input_tensor: Tensor = ...,
        input_shape: Shape | None = ...,
        pooling: str | None = ...,
        classes: int = ...,
        classifier_activation: Activation = ...,
        name: str = ...,
    ) -> keras.Model:
        """Builds the model."""


# Filled by `constructor`: registry name -> row, registry name -> constructor.
SPECS: dict[str, Spec] = {}
CONSTRUCTORS: dict[str, Builder] = {}


def pooled_head(x: Tensor, classes: int, activation: Activation) -> Tensor:
    """Global average pool and one dense layer: (N, H, W, C) to (N, classes)."""
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    return layers.Dense(classes, activation=activation, name="predictions")(x)


def constructor(
    display_name: str,
    key: str,
    table: Mapping[str, Any],
    body: Callable[[Tensor, Any], Tensor],
    head: Callable[[Tensor, int, Activation], Tensor] = pooled_head,
) -> Builder:
    """Makes and registers the public constructor of one row.

    Args:
        display_name: Name of the constructor.
        key: Name of the row in `table`, of the model, and in the registry.
        table: The family's rows.
        body: Layers between the input and the head.
        head: Layers of `include_top=True`.

    Returns:
        A function with keras.applications' arguments.

    Raises:
        ValueError: If `key` is registered already.
    """
    if key in CONSTRUCTORS:
        raise ValueError(f"key={key!r} is registered already.")
    spec: Spec = table[key]

    def build(
        include_top: bool = True,
        weights: str | Path | None = "imagenet" if key in PUBLISHED else None,
        input_tensor: Tensor = None,
        input_shape: Shape | None = None,
        pooling: str | None = None,
        classes: int = spec.classes,
        classifier_activation: Activation = "softmax",
        name: str = key,
    ) -> keras.Model:
        check_choice("include_top", include_top, (True, False))
        check_choice("pooling", pooling, POOLINGS)
        _check_weights(weights, key)
        classes = _checked_classes(classes, include_top, weights)
        _check_activation(classifier_activation, include_top, weights)
        shape = _checked_shape(input_tensor, input_shape, spec, include_top, weights)
        # The name says which weights fit, also after saving; the number lets two models meet in a third.
        uid = keras.backend.get_uid(f"{key}_input")
        image = layers.Input(shape, name=f"{key}_input_{uid}") if input_tensor is None else input_tensor

        with _collector_paused():
            x = body(image, spec)
            if include_top:
                x = head(x, classes, classifier_activation)
            elif pooling == "avg":
                x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
            elif pooling == "max":
                x = layers.GlobalMaxPooling2D(name="max_pool")(x)
            model = keras.Model(_sources(image), x, name=name)
        model.keras_archs_name = key  # where the input is the user's

        if weights == "imagenet":
            load_file(model, download(key, include_top))
        elif weights is not None:
            load_file(model, weights)
        return model

    build.__name__ = build.__qualname__ = display_name
    build.__doc__ = _docstring(display_name, key, spec)
    SPECS[key] = spec
    CONSTRUCTORS[key] = build
    return build


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keeps the garbage collector from looking for cycles: building allocates much and frees nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _docstring(display_name: str, key: str, spec: Spec) -> str:
    published = 'None, "imagenet" (the files that Keras publishes)' if key in PUBLISHED else "None (random)"
    return f"""Builds {display_name} as a Keras functional model.

Source: {spec.source}.
Numbers and names: the {spec.convention.name} convention.
Input: `preprocess_input(x, "{key}")` of RGB images 0..255, (N, H, W, C).

Args:
    include_top: Whether the classifier ends the model.
    weights: {published} or the path of a .weights.h5, legacy .h5 or .keras file.
    input_tensor: A Keras tensor to build on, instead of a new Input.
    input_shape: (H, W, C), at least {spec.min_size} high and wide. Default ({spec.size}, {spec.size}, 3) with
        the classifier, (None, None, 3) without.
    pooling: Without the classifier: None for the feature map, "avg" or "max" for global pooling.
    classes: Outputs of the classifier.
    classifier_activation: Its activation; None gives logits.
    name: Name of the model.

Returns:
    A keras.Model from (N, H, W, C) to (N, classes), (N, H', W', F) or (N, F).

Raises:
    ValueError: If an argument's value is not accepted, or if the weights do not fit the model.
"""


def _positive(value: Any) -> int:
    """A positive integer, of Python's or of numpy's; 0 for anything else."""
    return operator.index(value) if hasattr(value, "__index__") and value is not True and value > 0 else 0


def _checked_classes(classes: int, include_top: bool, weights: str | Path | None) -> int:
    if not _positive(classes):
        raise ValueError(f"classes={classes!r} must be a positive integer.")
    if weights == "imagenet" and include_top and classes != 1000:
        raise ValueError(
            f"classes={classes} does not fit weights='imagenet', which has 1000 classes. Use classes=1000, "
            "or include_top=False and your own classifier."
        )
    return _positive(classes)


def _check_activation(activation: Activation, include_top: bool, weights: str | Path | None) -> None:
    if not include_top:
        return
    try:
        function = keras.activations.get(activation)
    except ValueError:
        no_names = ("get", "serialize", "deserialize")
        known = [n for n in dir(keras.activations) if n[0] != "_" and n not in no_names]
        raise ValueError(
            f"classifier_activation={activation!r} is not an activation.{nearest(activation, known)}"
        ) from None
    if weights is not None and function not in (keras.activations.softmax, keras.activations.linear):
        raise ValueError(
            f"classifier_activation={activation!r} does not fit pretrained weights: only 'softmax' or None."
        )


def _check_weights(weights: str | Path | None, key: str) -> None:
    if weights == "imagenet":
        if key not in PUBLISHED:
            raise ValueError(
                f"weights='imagenet' is not published for {key}; accepted: None or a path. "
                f"Published for: {', '.join(sorted(PUBLISHED))}."
            )
    elif weights is not None:
        check_file(weights)


def _sources(image: Tensor) -> Tensor:
    """The inputs that an image tensor comes from: itself, or those of the layers that the user put before."""
    inputs = keras.utils.get_source_inputs(image)
    return inputs[0] if len(inputs) == 1 else inputs


def _checked_shape(
    input_tensor: Tensor,
    input_shape: Shape | None,
    spec: Spec,
    include_top: bool,
    weights: str | Path | None,
) -> Shape:
    """The shape of one image, in the order of Keras' data format."""
    channels_last = channel_axis() == 3
    what, shape = "input_shape", input_shape
    if input_tensor is not None:
        what, shape = "shape of input_tensor", _shape_of(input_tensor, input_shape)
    elif input_shape is None:
        side = spec.size if include_top else None
        shape = (side, side, 3) if channels_last else (3, side, side)

    layout = "(height, width, channels)" if channels_last else "(channels, height, width)"
    if not isinstance(shape, tuple | list) or len(shape) != 3 or 0 in map(_positive_or_open, shape):
        raise ValueError(f"{what}={shape!r} must be {layout}, three positive integers.")
    shape = tuple(map(_positive_or_open, shape))
    *sides, channels = shape if channels_last else (*shape[1:], shape[0])
    if channels is None:
        raise ValueError(f"{what}={shape} must say how many channels: {layout}.")
    if weights == "imagenet" and channels != 3:
        raise ValueError(f"{what}={shape} must have 3 channels, as weights='imagenet' has.")
    if any(n is not None and n < spec.min_size for n in sides):
        raise ValueError(f"{what}={shape} is too small: height and width must be at least {spec.min_size}.")
    if include_top and spec.flattens:
        if None in sides:
            raise ValueError(f"{what}={shape} must say height and width: the classifier flattens features.")
        if weights == "imagenet" and sides != [spec.size, spec.size]:
            raise ValueError(
                f"{what}={shape} must be {spec.size} high and wide, as the classifier of weights='imagenet'."
            )
    return shape


def _positive_or_open(size: Any) -> int | None:
    return None if size is None else _positive(size)


def _shape_of(input_tensor: Tensor, input_shape: Shape | None) -> Shape:
    if not keras.backend.is_keras_tensor(input_tensor):
        raise ValueError(
            f"input_tensor of type {type(input_tensor).__name__} must be a Keras tensor, "
            "e.g. keras.Input((224, 224, 3))."
        )
    shape = tuple(input_tensor.shape[1:])
    if input_shape is not None:
        pairs = zip(shape, input_shape, strict=False)
        if len(shape) != len(input_shape) or any(None not in pair and pair[0] != pair[1] for pair in pairs):
            raise ValueError(f"input_shape={input_shape} disagrees with the shape {shape} of input_tensor.")
    return shape
