"""What a conversion owes the client that will run its result: preprocessing and metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras

from converters.keras_model import model_end
from converters.metadata import (
    Metadata,
    TensorMetadata,
    image_input,
    logits_output,
    make_labels,
    score_output,
)
from converters.plan import Plan
from converters.recipes import get_recipe
from converters.targets import get_target
from keras_archs.choices import check_choice
from keras_archs.modes import MODES, Mode
from keras_archs.preprocessing import preprocessing_mode

Labels = Sequence[str] | Mapping[str, Sequence[str]]


def image_mode(model: keras.Model, include: bool | str | Mode, channels: int) -> Mode | None:
    """The preprocessing that an artifact takes in.

    Args:
        model: The Keras model.
        include: As `convert` takes it.
        channels: Of the image.

    Returns:
        The arithmetic; None when the artifact is to take preprocessed images.

    Raises:
        TypeError: This is no mode.
        ValueError: There is no such mode, or it does not fit.
    """
    if include is False:
        return None
    if include is not True and not isinstance(include, (str, Mode)):
        raise TypeError(
            f"include_preprocessing={include!r} is not accepted: True, False, the name of a mode "
            f"({', '.join(MODES)}) or a keras_archs.modes.Mode is."
        )
    if isinstance(include, str):
        check_choice("include_preprocessing", include, MODES)
    mode = (
        include if isinstance(include, Mode) else MODES[include if isinstance(include, str) else _own(model)]
    )
    for field in ("mean", "deviation"):
        if len(getattr(mode, field)) not in (1, channels):
            raise ValueError(
                f"include_preprocessing: {field}={getattr(mode, field)} is for {len(getattr(mode, field))} "
                f"channels; the image has {channels}."
            )
    if not all(mode.deviation):
        raise ValueError(f"include_preprocessing: deviation={mode.deviation} divides by zero.")
    return mode


def _own(model: keras.Model) -> str:
    try:
        return preprocessing_mode(model)
    except ValueError as error:
        raise ValueError(
            "include_preprocessing=True is for models of keras_archs, which know their preprocessing; give "
            f"the name of a mode ({', '.join(MODES)}) or a keras_archs.modes.Mode."
        ) from error


def describe_for_clients(
    model: keras.Model,
    plan: Plan,
    target: str | None,
    name: str,
    labels: Labels | None,
    metadata: Metadata | None,
) -> Metadata | None:
    """The metadata of an artifact.

    Args:
        model: The Keras model.
        plan: Its conversion.
        target: A name of `list_targets`, or None.
        name: Of the artifact.
        labels: As `convert` takes them.
        metadata: Of the caller's own.

    Returns:
        What to write into the file; None for nothing.

    Raises:
        ValueError: The labels do not match the classes, the recipe makes no TFLite file, or nobody knows what
            the client has to do to its images.
    """
    recipe = get_recipe(plan.recipe)
    if recipe.format != "tflite":
        if labels is not None or metadata is not None:
            raise ValueError(f"labels and metadata are for TFLite files; recipe {recipe.name!r} makes none.")
        return None
    if labels is not None and metadata is not None:
        raise ValueError(
            "labels and metadata were both given: put the labels into metadata, as "
            "converters.metadata.make_labels makes them, or leave it out."
        )
    wanted = target is not None and get_target(target).metadata
    if metadata is not None or not (wanted or labels is not None):
        return metadata
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        raise ValueError(f"model {model.name!r} has no single vector of scores that labels could name.")
    integer = recipe.activations == "int8"
    image = _image(model, plan.input_type if integer else "float32", _clients_mode(model, plan, target))
    output = _output(model, plan.output_type if integer else "float32", labels)
    return Metadata(name=name, inputs=(image,), outputs=(output,))


def _clients_mode(model: keras.Model, plan: Plan, target: str | None) -> Mode | None:
    """What the client has to do to its pixels; None where nobody knows."""
    mode = MODES["raw"] if plan.image or _normalises(model) else _known_mode(model)
    wanted = target is not None and get_target(target).metadata
    if mode is None:
        if wanted:
            raise ValueError(
                f"target={target!r} tells clients how to normalise images, and {model.name!r} does not say: "
                "give include_preprocessing, or metadata with converters.metadata.image_input."
            )
        return None
    several = len({*mode.mean}) > 1 or len({*mode.deviation}) > 1
    if mode.bgr or (wanted and several):
        raise ValueError(
            f"model {model.name!r} wants {mode}, but metadata has no BGR, and the clients that read it take "
            "one mean and deviation for all colours: give include_preprocessing."
        )
    return mode


def _normalises(model: keras.Model) -> bool:
    """Whether a layer of Keras's own takes the image and normalises it."""
    kinds = (keras.layers.Rescaling, keras.layers.Normalization)
    return any(isinstance(layer, kinds) and layer.input is model.inputs[0] for layer in model.layers)


def _known_mode(model: keras.Model) -> Mode | None:
    try:
        return MODES[preprocessing_mode(model)]
    except ValueError:
        return None


def _image(model: keras.Model, dtype: str, mode: Mode | None) -> TensorMetadata:
    channels = model.inputs[0].shape[-1]
    colors = {1: "GRAYSCALE", 3: "RGB"}.get(channels, "UNKNOWN")
    if mode is None:
        return TensorMetadata("image", "Input image to be processed.", colors)
    return image_input(dtype, mode.mean, mode.deviation, colors)


def _output(model: keras.Model, dtype: str, labels: Labels | None) -> TensorMetadata:
    classes = int(model.outputs[0].shape[1])
    by_locale = labels if isinstance(labels, Mapping) else {} if labels is None else {"": labels}
    files = [make_labels(names, classes, locale) for locale, names in by_locale.items()]
    if model_end(model).kind in ("softmax", "sigmoid"):
        return score_output(dtype, files)
    return logits_output(files)
