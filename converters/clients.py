"""What a conversion owes the client that will run its result: types, preprocessing, metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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
from converters.recipes import Recipe, get_recipe
from converters.rewrite.roots_in_float import roots_in_float
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


def target_fields(target: str | None, recipe: Recipe, mode: Mode | None) -> dict[str, Any]:
    """What a target settles.

    Args:
        target: A name of `list_targets`, or None.
        recipe: The recipe.
        mode: The preprocessing inside of the artifact.

    Returns:
        Fields of a `Plan`.

    Raises:
        ValueError: There is no such target, it does not run such a recipe, or it feeds pixels to a model that
            does not take them.
    """
    if target is None:
        return {"input_type": "int8", "output_type": "int8"}
    row = get_target(target)
    if recipe.name not in row.recipes:
        raise ValueError(
            f"recipe={recipe.name!r} makes no sense for target={target!r}; accepted: "
            f"{', '.join(row.recipes)}."
        )
    if row.metadata and recipe.activations == "int8" and mode is None:
        raise ValueError(
            f"target={target!r} feeds pixels 0..255 to an integer model: give include_preprocessing, so that "
            "the model normalises them, and images 0..255 as representative_data."
        )
    return {
        "input_type": row.input_type,
        "output_type": row.output_type,
        "per_channel_dense": row.per_channel_dense,
    }


def rewrites_for(target: str | None, rewrites: Iterable[str]) -> tuple[str, ...]:
    """The rewrites without those that put float operations into what has to be integer throughout."""
    integer = target is not None and "float32" not in get_target(target).activations
    return tuple(name for name in rewrites if not (integer and name == roots_in_float.__name__))


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
        ValueError: The labels do not match the classes, or the recipe makes no TFLite file.
    """
    recipe = get_recipe(plan.recipe)
    if recipe.format != "tflite":
        if labels is not None or metadata is not None:
            raise ValueError(f"labels and metadata are for TFLite files; recipe {recipe.name!r} makes none.")
        return None
    wanted = target is not None and get_target(target).metadata
    if metadata is not None or not (wanted or labels is not None):
        return metadata
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        raise ValueError(f"model {model.name!r} has no single vector of scores that labels could name.")
    integer = recipe.activations == "int8"
    # What takes images 0..255 has nothing for the client to do; so has what nobody knows the arithmetic of.
    mode = MODES["raw"] if plan.image else _known_mode(model) or MODES["raw"]
    several = len({*mode.mean}) > 1 or len({*mode.deviation}) > 1
    if mode.bgr or (wanted and several):
        raise ValueError(
            f"model {model.name!r} wants {mode}, but metadata has no BGR, and the clients of target='mobile' "
            "take one mean and deviation for all colours: give include_preprocessing."
        )
    image = image_input(plan.input_type if integer else "float32", mode.mean, mode.deviation)
    output = _output(model, plan.output_type if integer else "float32", labels)
    return Metadata(name=name, inputs=(image,), outputs=(output,))


def _known_mode(model: keras.Model) -> Mode | None:
    try:
        return MODES[preprocessing_mode(model)]
    except ValueError:
        return None


def _output(model: keras.Model, dtype: str, labels: Labels | None) -> TensorMetadata:
    classes = int(model.outputs[0].shape[1])
    by_locale = labels if isinstance(labels, Mapping) else {} if labels is None else {"": labels}
    files = [make_labels(names, classes, locale) for locale, names in by_locale.items()]
    if model_end(model).kind in ("softmax", "sigmoid"):
        return score_output(dtype, files)
    return logits_output(files)
