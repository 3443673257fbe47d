"""Input -> body -> head -> weights: what every constructor does, written once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import keras
from keras import layers

from keras_archs import arguments
from keras_archs.arguments import Activation, Shape, Tensor
from keras_archs.building import building
from keras_archs.conventions import Convention
from keras_archs.modes import preprocess_layer
from keras_archs.weights import Layout, default, entries, load, resolve
from keras_archs.weights.layouts import CLASSIFIER


@dataclass(frozen=True)
class Head:
    """What a classifier is built with.

    Attributes:
        classes: Outputs.
        activation: Activation of the outputs; None gives logits.
        drop_rate: Dropout in front of a dense layer.
        name: Name of the last dense layer, and prefix of the others.
    """

    classes: int
    activation: Activation
    drop_rate: float = 0.0
    name: str = CLASSIFIER


@dataclass(frozen=True)
class Auxiliary:
    """A second classifier on an inner layer.

    Attributes:
        tap: Name of the layer whose output (N, H, W, C) it classifies.
        build: Its layers, `(x, head, convention) -> (N, classes)`.
        name: First part of its layers' names.
        min_size: Smallest height and width of the images that leave it features.
        flattens: Whether it needs to know the size of the images.
    """

    tap: str
    build: Callable[[Tensor, Head, Convention], Tensor]
    name: str
    min_size: int
    flattens: bool = False


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What every row of a family says besides its layers.

    Attributes:
        source: Paper, section or table, arXiv number.
        convention: Numbers and names of the layers where no weights say otherwise: what the name implies.
        others: Further lineages that have weights of this architecture.
        layouts: For each lineage that has files of its own, how they name our layers, tried in order.
        size: Default height and width of the images.
        min_size: Smallest height and width that leave features.
        classes: Default number of classes.
        flattens: Whether the head needs to know the size of the images.
        residual: Whether there are residual sums, so that paths can be dropped and scales start at zero.
        auxiliary: Further classifiers of `aux_heads=True`.
        strides: Of the tensors of `features_only`: input size divided by feature size.
        output_strides: Accepted ratios of input size to feature size; the largest is the network as it is.
        output_stride: The one in use.
        drop_path_rate: Of the last residual function; it grows linearly from zero at the first.
    """

    source: str
    convention: Convention
    others: tuple[Convention, ...] = ()
    layouts: Mapping[str, tuple[Layout, ...]] = field(default_factory=dict, repr=False, hash=False)
    size: int = 224
    min_size: int = 32
    classes: int = 1000
    flattens: bool = False
    residual: bool = True
    auxiliary: tuple[Auxiliary, ...] = ()
    strides: tuple[int, ...] = (2, 4, 8, 16, 32)
    output_strides: tuple[int, ...] = (32,)
    output_stride: int = 32
    drop_path_rate: float = 0.0

    @property
    def preprocessing(self) -> str:
        """Mode of `preprocess_input`."""
        return self.convention.preprocessing

    @property
    def conventions(self) -> dict[str, Convention]:
        """The lineages by name."""
        return {convention.name: convention for convention in (self.convention, *self.others)}


Body = Callable[[Tensor, Any], list[Tensor]]
HeadBuilder = Callable[[Tensor, Head], Tensor]


class Builder(Protocol):
    """A public constructor: keras.applications' arguments, names and order, then keywords of our own."""

    __name__: str

    def __call__(  # noqa: PLR0913
        self,
        include_top: bool = ...,
        weights: str | Path | None = ...,
        input_tensor: Tensor = ...,
        input_shape: Shape | None = ...,
        pooling: str | None = ...,
        classes: int = ...,
        classifier_activation: Activation = ...,
        name: str = ...,
        *,
        convention: str | None = ...,
        include_preprocessing: bool = ...,
        features_only: bool = ...,
        out_indices: Sequence[int] | None = ...,
        output_stride: int = ...,
        aux_heads: bool = ...,
        drop_rate: float = ...,
        drop_path_rate: float = ...,
        zero_init_residual: bool = ...,
        kernel_regularizer: Any = ...,
    ) -> keras.Model:
        """Builds the model."""


# Filled by `constructor`: registry name -> row, registry name -> constructor.
SPECS: dict[str, Spec] = {}
CONSTRUCTORS: dict[str, Builder] = {}


def pooled_head(x: Tensor, head: Head) -> Tensor:
    """Global average pool, dropout and one dense layer: (N, H, W, C) to (N, classes)."""
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    if head.drop_rate:
        x = layers.Dropout(head.drop_rate, name="dropout")(x)
    return layers.Dense(head.classes, activation=head.activation, name=head.name)(x)


def constructor(
    display_name: str, key: str, spec: Spec, body: Body, head: HeadBuilder = pooled_head
) -> Builder:
    """Makes and registers the public constructor of one row.

    Args:
        display_name: Name of the constructor.
        key: Name of the model, and in the registry.
        spec: The row.
        body: Layers between the input and the head: image and row to the features at growing strides, the
            last of them for the head.
        head: Layers of `include_top=True`.

    Returns:
        A function with keras.applications' arguments, then keywords of our own.

    Raises:
        ValueError: If `key` is registered already.
    """
    if key in CONSTRUCTORS:
        raise ValueError(f"key={key!r} is registered already.")
    default_weights = "imagenet" if published_by_keras(key) else None

    def build(  # noqa: PLR0913
        include_top: bool = True,
        weights: str | Path | None = default_weights,
        input_tensor: Tensor = None,
        input_shape: Shape | None = None,
        pooling: str | None = None,
        classes: int = spec.classes,
        classifier_activation: Activation = "softmax",
        name: str = key,
        *,
        convention: str | None = None,
        include_preprocessing: bool = False,
        features_only: bool = False,
        out_indices: Sequence[int] | None = None,
        output_stride: int = spec.output_strides[-1],
        aux_heads: bool = False,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        zero_init_residual: bool = False,
        kernel_regularizer: Any = None,
    ) -> keras.Model:
        arguments.check_flags(
            include_top=include_top,
            include_preprocessing=include_preprocessing,
            features_only=features_only,
            aux_heads=aux_heads,
            zero_init_residual=zero_init_residual,
        )
        arguments.check_top(key, spec, include_top, features_only, aux_heads, pooling)
        include_top = include_top and not features_only
        source = resolve(key, weights, convention, spec.conventions)
        row = arguments.chosen(
            key, spec, source.convention, output_stride, drop_path_rate, zero_init_residual
        )
        arguments.check_rate("drop_rate", drop_rate)
        classes = arguments.checked_classes(classes)
        dropped = arguments.dropped_classes(classes, spec, source, include_top, aux_heads)
        pretrained = not source.random and dropped is None
        activation = arguments.checked_activation(classifier_activation, include_top, pretrained)
        final = Head(classes, activation, drop_rate)
        regularizer = arguments.checked_regularizer(kernel_regularizer)
        taps = arguments.checked_indices(out_indices, features_only, len(spec.strides))
        min_size = max(a.min_size for a in spec.auxiliary) if aux_heads else spec.min_size
        flattens = spec.flattens or (aux_heads and any(a.flattens for a in spec.auxiliary))
        shape = arguments.checked_shape(input_tensor, input_shape, spec, min_size, include_top, flattens)
        arguments.check_fit(shape, spec, source, include_top, include_preprocessing)

        # The name says which input fits, also after saving; the number lets two models meet in a third.
        stem = f"{key}_raw" if include_preprocessing else f"{key}_{source.preprocessing}"
        uid = keras.backend.get_uid(f"{stem}_input")
        image = layers.Input(shape, name=f"{stem}_input_{uid}") if input_tensor is None else input_tensor
        with building():
            features = body(
                preprocess_layer(source.preprocessing)(image) if include_preprocessing else image, row
            )
            output = head(features[-1], final) if include_top else _pooled(features[-1], pooling)
            model = keras.Model(_sources(image), output, name=name)
            model = _with_auxiliary(model, row, final) if aux_heads else model
        load(model, source, spec.layouts, [a.name for a in spec.auxiliary], include_top, dropped)
        model = _pyramid(model, features, row, taps) if features_only else model
        if regularizer is not None:
            before = () if input_tensor is None else keras.Model(_sources(image), image).layers
            _regularize([layer for layer in model.layers if layer not in before], regularizer)
        model.keras_archs_name = stem  # where the input is the user's
        return model

    build.__name__ = build.__qualname__ = display_name
    build.__doc__ = _docstring(display_name, key, spec)
    SPECS[key] = spec
    CONSTRUCTORS[key] = build
    return build


def _pooled(x: Tensor, pooling: str | None) -> Tensor:
    if pooling == "avg":
        return layers.GlobalAveragePooling2D(name="avg_pool")(x)
    return layers.GlobalMaxPooling2D(name="max_pool")(x) if pooling == "max" else x


def _with_auxiliary(model: keras.Model, spec: Spec, head: Head) -> keras.Model:
    """The model with its further classifiers, whose outputs follow the main one's."""
    outputs = [
        auxiliary.build(
            model.get_layer(auxiliary.tap).output, replace(head, name=auxiliary.name), spec.convention
        )
        for auxiliary in spec.auxiliary
    ]
    return keras.Model(model.input, [*model.outputs, *outputs], name=model.name)


def _pyramid(model: keras.Model, features: list[Tensor], spec: Spec, taps: list[int]) -> keras.Model:
    """The model with a list of features as outputs, each named after its stride."""
    outputs = []
    for tap in taps:
        stride = min(spec.strides[tap], spec.output_stride)
        dilation = spec.strides[tap] // stride
        name = f"stride_{stride}" if dilation == 1 else f"stride_{stride}_dilation_{dilation}"
        outputs.append(layers.Identity(name=name)(features[tap]))
    return keras.Model(model.input, outputs, name=model.name)


def _regularize(own: list[keras.Layer], regularizer: Any) -> None:
    """Gives every kernel of a convolution or a dense layer the regularizer, also in the configuration."""
    for layer in own:
        for name in ("kernel", "depthwise", "pointwise"):
            attribute = f"{name}_regularizer"
            if hasattr(layer, attribute):
                setattr(layer, attribute, regularizer)
        for weight in layer.trainable_weights:
            if "kernel" in weight.name:
                weight.regularizer = regularizer


def _sources(image: Tensor) -> Tensor:
    """The inputs that an image tensor comes from: itself, or those of the layers that the user put before."""
    inputs = keras.utils.get_source_inputs(image)
    return inputs[0] if len(inputs) == 1 else inputs


def published_by_keras(key: str) -> bool:
    """Whether `weights` is "imagenet" by default, as in keras.applications."""
    entry = default(key)
    return entry is not None and entry.source == "keras"


def _docstring(display_name: str, key: str, spec: Spec) -> str:
    known = entries(key)
    tags = ", ".join(repr(entry.tag) for entry in known[:3]) + (", ..." if len(known) > 3 else "")
    published = f'"imagenet" (= {known[0].name!r}), a tag ({tags}), ' if known else ""
    others = ", ".join(repr(name) for name in spec.conventions)
    strides = ", ".join(map(str, spec.output_strides))
    auxiliary = ", ".join(repr(auxiliary.name) for auxiliary in spec.auxiliary)
    return f"""Builds {display_name} as a Keras functional model.

Source: {spec.source}.
Numbers and names: the {spec.convention.name} convention, unless weights bring another.
Input: `preprocess_input(x, model)` of RGB images 0..255, (N, H, W, C).

Args:
    include_top: Whether the classifier ends the model.
    weights: None (random), {published}or the path of a .keras, .weights.h5, legacy .h5,
        .safetensors or .pth file, or of a TF-slim checkpoint.
    input_tensor: A Keras tensor to build on, instead of a new Input.
    input_shape: (H, W, C), at least {spec.min_size} high and wide. Default ({spec.size}, {spec.size}, 3) with
        the classifier, (None, None, 3) without.
    pooling: Without the classifier: None for the feature map, "avg" or "max" for global pooling.
    classes: Outputs of the classifier. If published weights have another number, all but the classifier is
        loaded.
    classifier_activation: Its activation; None gives logits.
    name: Name of the model.
    convention: Numbers of a lineage: {others}; None means that of the weights, without weights
        {spec.convention.name!r}.
    include_preprocessing: Whether the model takes raw RGB images 0..255.
    features_only: Whether the outputs are a list of feature maps, of strides
        {", ".join(map(str, spec.strides))}.
    out_indices: Which of them, counted from 0; default all.
    output_stride: Input size divided by feature size: {strides}. Smaller ones dilate instead of striding.
    aux_heads: Whether further classifiers follow as outputs: {auxiliary or "this model has none"}.
    drop_rate: Dropout in front of the classifier.
    drop_path_rate: Stochastic depth of the last residual function, growing linearly from the first.
    zero_init_residual: Whether each residual function starts as zero: its last scale, or its last kernel.
    kernel_regularizer: Regularizer of every convolution and dense kernel.

Returns:
    A keras.Model from (N, H, W, C) to (N, classes), (N, H', W', F), (N, F), or a list of such.

Raises:
    ValueError: If an argument's value is not accepted, or if the weights do not fit the model.
"""
