"""What the weights expect of an image, and what their outputs mean."""

import json
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_archs.choices import check_choice
from keras_archs.layers import Preprocess, channel_axis
from keras_archs.modes import MODES
from keras_archs.registry import SPECS, list_models
from keras_archs.weights import fetch, lineage_of

CLASS_INDEX_URL = "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json"
CLASS_INDEX_MD5 = "c2c37ea517e94d9795004a39431a14cb"


def preprocessing_mode(model: str | keras.Model, weights: str | Path | None = None) -> str:
    """The preprocessing mode of a model.

    Args:
        model: A name of `list_models()`, a mode, or a model made by this package.
        weights: What a model of this name is built with, as its constructor takes it; weights of another
            lineage want another input.

    Returns:
        One of "caffe", "slim", "tf", "torch", "raw".

    Raises:
        ValueError: If the name or the weights are unknown, or if the model is not one of ours.
    """
    if isinstance(model, keras.Model):
        if any(isinstance(layer, Preprocess) for layer in getattr(model, "layers", ())):
            return "raw"
        stem = getattr(model, "keras_archs_name", None) or _name_of_input(model)
        name, _, mode = stem.rpartition("_")
        if name not in SPECS or mode not in MODES:
            raise ValueError(
                f"model={model.name!r} does not say which of our models it is: give the name instead, one of "
                f"`keras_archs.list_models()`, or a mode: {', '.join(MODES)}."
            )
        return mode
    if isinstance(model, str) and model in MODES:
        return model
    check_choice("model", model, [*list_models(), *MODES])
    return lineage_of(model, weights, None, SPECS[model].conventions).preprocessing


def _name_of_input(model: keras.Model) -> str:
    """The registry name and mode in that of the input layer, which stays when a model is saved or cloned."""
    inputs = getattr(model, "inputs", None)  # a Sequential that is not built has none
    return re.sub(r"_input_\d+$", "", inputs[0].name) if inputs else ""


def preprocess_input(x: Any, model: str | keras.Model) -> Any:
    """Turns images into what a model's weights expect. The caller's array is never changed.

    Args:
        x: RGB images 0..255, (N, H, W, 3) or (H, W, 3), integer or float; an array, a tensor or a Keras
            tensor. Mode "tf" takes any number of channels.
        model: A name of `list_models()` or a model made by this package; it picks the mode. Also a mode:
            "caffe" (BGR minus ImageNet's mean), "slim" (RGB minus it), "tf" (-1..1), "torch" (ImageNet's mean
            and deviation), "raw" (nothing, for models with `include_preprocessing=True`).

    Returns:
        A new float array or tensor of the shape of `x`.

    Raises:
        ValueError: If the model is unknown, or if `x` has not 3 channels where the mode needs them.
    """
    mode = MODES[preprocessing_mode(model)]
    if not hasattr(x, "dtype"):  # a list, or an image of Pillow's
        x = np.asarray(x)
    if len(x.shape) not in (3, 4):
        raise ValueError(f"x of shape {tuple(x.shape)} must be images (N, H, W, C) or one image (H, W, C).")
    axis = channel_axis() - 4 + len(x.shape)
    if len(mode.mean) not in (1, x.shape[axis]):
        raise ValueError(
            f"x of shape {tuple(x.shape)} must have 3 channels on axis {axis} for mode "
            f"{preprocessing_mode(model)!r}."
        )
    shape = [1] * len(x.shape)
    shape[axis] = len(mode.mean)
    if mode.bgr:
        x = np.flip(x, axis) if isinstance(x, np.ndarray) else ops.flip(x, axis)
    return _scaled(x, np.reshape(mode.mean, shape), np.reshape(mode.deviation, shape))


def _scaled(x: Any, mean: Any, deviation: Any) -> Any:
    if isinstance(x, np.ndarray):
        dtype = x.dtype if np.issubdtype(x.dtype, np.floating) else keras.config.floatx()
        return (x.astype(dtype) - np.asarray(mean, dtype)) / np.asarray(deviation, dtype)
    dtype = keras.backend.standardize_dtype(x.dtype)
    dtype = dtype if "float" in dtype else keras.config.floatx()
    x = ops.cast(x, dtype)
    return (x - ops.convert_to_tensor(mean, dtype)) / ops.convert_to_tensor(deviation, dtype)


def decode_predictions(predictions: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """The most probable ImageNet classes of each image, with their names.

    Args:
        predictions: (N, 1000).
        top: How many classes, 1 to 1000.

    Returns:
        For each image, (WordNet id, name, score) from the highest score down.

    Raises:
        ValueError: If the shape or `top` is wrong.
        WeightsError: If the file of class names can't be downloaded.
    """
    scores = ops.convert_to_numpy(predictions)
    if scores.ndim != 2 or scores.shape[1] != 1000:
        raise ValueError(f"predictions of shape {scores.shape} must be (N, 1000).")
    if not isinstance(top, int) or not 1 <= top <= 1000:
        raise ValueError(f"top={top!r} must be an integer between 1 and 1000.")
    with open(fetch("imagenet_class_index.json", CLASS_INDEX_URL, CLASS_INDEX_MD5)) as file:
        names = json.load(file)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [[(*names[str(i)], row[i]) for i in best] for row, best in zip(scores, order, strict=True)]
