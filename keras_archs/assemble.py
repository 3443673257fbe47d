"""Input -> body -> head -> weights: what every constructor does, and every argument check, written once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


# Filled by `constructor`: registry name -> row, registry name -> constructor.
SPECS: dict[str, Spec] = {}
CONSTRUCTORS: dict[str, Callable[..., keras.Model]] = {}


def pooled_head(x: Tensor, classes: int, activation: Activation) -> Tensor:
    """Global average pool and one dense layer: (N, H, W, C) to (N, classes)."""
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    return layers.Dense(classes, activation=activation, name="predictions")(x)


def constructor(  # type: ignore[no-untyped-def]  # inferred: an annotation would copy the argument list
    display_name: str,
    key: str,
    table: Mapping[str, Any],
    body: Callable[[Tensor, Any], Tensor],
    head: Callable[[Tensor, int, Activation], Tensor] = pooled_head,
):
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
        check_choice("pooling", pooling, POOLINGS)
        _check_classes(classes, include_top, weights)
        _check_activation(classifier_activation, include_top, weights)
        _check_weights(weights, key)
        image = _image(input_tensor, input_shape, spec, include_top, weights)

        x = body(image, spec)
        if include_top:
            x = head(x, classes, classifier_activation)
        elif pooling == "avg":
            x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        elif pooling == "max":
            x = layers.GlobalMaxPooling2D(name="max_pool")(x)
        model = keras.Model(_sources(image), x, name=name)
        model.keras_archs_name = key

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


def _docstring(display_name: str, key: str, spec: Spec) -> str:
    published = 'None, "imagenet" (the files that Keras publishes)' if key in PUBLISHED else "None (random)"
    return f"""Builds {display_name} as a Keras functional model.

Source: {spec.source}.
Numbers: the {spec.convention.name} convention, batch norm epsilon {spec.convention.epsilon:g}.
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


def _check_classes(classes: int, include_top: bool, weights: str | Path | None) -> None:
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 1:
        raise ValueError(f"classes={classes!r} must be a positive integer.")
    if weights == "imagenet" and include_top and classes != 1000:
        raise ValueError(
            f"classes={classes} does not fit weights='imagenet', which has 1000 classes. Use classes=1000, "
            "or include_top=False and your own classifier."
        )


def _check_activation(activation: Activation, include_top: bool, weights: str | Path | None) -> None:
    if not include_top:
        return
    try:
        keras.activations.get(activation)
    except ValueError:
        known = [
            n for n in dir(keras.activations) if n[0] != "_" and n not in ("get", "serialize", "deserialize")
        ]
        raise ValueError(
            f"classifier_activation={activation!r} is not an activation.{nearest(activation, known)}"
        ) from None
    if weights is not None and activation not in (None, "softmax", keras.activations.softmax):
        raise ValueError(
            f"classifier_activation={activation!r} does not fit pretrained weights: only 'softmax' or None."
        )


def _check_weights(weights: str | Path | None, key: str) -> None:
    if weights is None:
        return
    if weights == "imagenet":
        if key not in PUBLISHED:
            raise ValueError(
                f"weights='imagenet' is not published for {key}; accepted: None or a path. "
                f"Published for: {', '.join(sorted(PUBLISHED))}."
            )
        return
    check_file(weights)


def _sources(image: Tensor) -> Tensor:
    """The inputs that an image tensor comes from: itself, or those of the layers that the user put before."""
    inputs = keras.utils.get_source_inputs(image)
    return inputs[0] if len(inputs) == 1 else inputs


def _image(
    input_tensor: Tensor,
    input_shape: Shape | None,
    spec: Spec,
    include_top: bool,
    weights: str | Path | None,
) -> Tensor:
    """The tensor that the body starts from, its shape checked."""
    if input_tensor is not None and not keras.backend.is_keras_tensor(input_tensor):
        raise ValueError(
            f"input_tensor of type {type(input_tensor).__name__} must be a Keras tensor, "
            "e.g. keras.Input((224, 224, 3))."
        )
    channels_last = channel_axis() == 3
    if input_tensor is not None:
        shape = tuple(input_tensor.shape[1:])
        if input_shape is not None and tuple(input_shape) != shape:
            raise ValueError(f"input_shape={input_shape} disagrees with the shape {shape} of input_tensor.")
        what = "shape of input_tensor"
    elif input_shape is not None:
        shape, what = tuple(input_shape), "input_shape"
    else:
        side = spec.size if include_top else None
        shape, what = ((side, side, 3) if channels_last else (3, side, side)), "input_shape"

    layout = "(height, width, channels)" if channels_last else "(channels, height, width)"
    if len(shape) != 3 or not all(n is None or (isinstance(n, int) and n > 0) for n in shape):
        raise ValueError(f"{what}={shape} must be {layout}, three positive integers.")
    *sides, channels = shape if channels_last else (*shape[1:], shape[0])
    if channels is None:
        raise ValueError(f"{what}={shape} must say how many channels: {layout}.")
    if weights == "imagenet" and channels != 3:
        raise ValueError(f"{what}={shape} must have 3 channels, as weights='imagenet' has.")
    if any(n is not None and n < spec.min_size for n in sides):
        raise ValueError(f"{what}={shape} is too small: height and width must be at least {spec.min_size}.")
    if include_top and spec.flattens:
        if None in sides:
            raise ValueError(
                f"{what}={shape} must say height and width: the classifier flattens the features."
            )
        if weights == "imagenet" and sides != [spec.size, spec.size]:
            raise ValueError(
                f"{what}={shape} must be {spec.size} high and wide, as the classifier of weights='imagenet'."
            )
    return layers.Input(shape, name="images") if input_tensor is None else input_tensor
