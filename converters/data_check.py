"""Whether representative data looks like what the model was trained on: a wrong range ruins int8 silently."""

from __future__ import annotations

import keras
import numpy as np

from converters.pixels import normalised
from keras_archs.modes import MODES, Mode
from keras_archs.preprocessing import preprocessing_mode

# 0..255 in place of -1..1 multiplies variances by 16,000, in place of ImageNet's mean and deviation by 3,400;
# data of another kind, or of another contrast, stays far below.
_MOST = 1000.0
_SAMPLES = 8
# Of the width of the range that images can have: what resizing may add, and what no picture is as flat as.
_BEYOND, _FLAT = 0.1, 0.02


def check_range(model: keras.Model, samples: np.ndarray, mode: Mode | None) -> None:
    """Compare the images with what the model was made for.

    A model of ours says what range its preprocessing gives. In any, what reaches the first batch norm is
    compared with what that saw in training.

    Args:
        model: A functional model, or one that begins with such a model. One of somebody else's without a
            batch norm behind its first layers, or whose batch norm was never trained, is not judged.
        samples: Representative data (N, H, W, C).
        mode: What the artifact will do to images 0..255; None for data that is preprocessed.

    Raises:
        ValueError: The samples lie outside of the range that the preprocessing gives, or are flat in it; the
            variance is more than a thousand times greater or smaller than in training; or the samples are
            not images 0..255 where they are to be.
    """
    low, high = float(samples.min()), float(samples.max())
    if mode is not None and (low < -1 or high > 256 or high <= 1):  # Rounding may go a little beyond.
        raise ValueError(
            f"representative_data goes from {low:g} to {high:g}, but with include_preprocessing it has to be "
            "images 0..255, which the artifact normalises itself."
        )
    model = _first_model(model)
    if mode is None:
        _check_mode(model, low, high)
    norm = _first_norm(model)
    if norm is None:
        return
    expected = np.asarray(keras.ops.convert_to_numpy(norm.moving_variance))
    if np.all(expected == 1):  # As it is initialised.
        return
    before = keras.Model(model.inputs[0], norm.input)
    some = np.array(samples[:_SAMPLES])
    if mode is not None:
        some = normalised(some, mode)
    seen = np.asarray(keras.ops.convert_to_numpy(before(some, training=False)))
    axes = tuple(axis for axis in range(seen.ndim) if axis != norm.axis % seen.ndim)
    alive = expected > 1e-8
    if not alive.any():
        return
    ratio = float(np.median(seen.var(axis=axes)[alive] / expected[alive]))
    if 1 / _MOST <= ratio <= _MOST:
        return
    size = f"{ratio:,.0f} times" if ratio > 1 else f"1/{1 / max(ratio, 1e-12):,.0f} of"
    advice = "0..255 were given to a model of normalised images" if ratio > 1 else "it wants a wider range"
    raise ValueError(
        f"representative_data goes from {low:g} to {high:g}, which gives the first batch norm "
        f"({norm.name!r}) {size} the variance it was trained with: most likely {advice}. Preprocess the "
        "data as in training, or give include_preprocessing and images 0..255."
    )


def _first_model(model: keras.Model) -> keras.Model:
    """The model inside that takes the image, such as the backbone of a Sequential."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    inner = layers[0] if layers and isinstance(layers[0], keras.Model) else None
    return model if inner is None or len(inner.inputs or ()) != 1 else _first_model(inner)


def _check_mode(model: keras.Model, low: float, high: float) -> None:
    """Judge a range by the preprocessing of a model of ours."""
    try:
        name = preprocessing_mode(model)
    except ValueError:
        return
    mode = MODES[name]
    ends = np.array([(value - np.array(mode.mean)) / mode.deviation for value in (0, 255)])
    least, greatest = float(ends.min()), float(ends.max())
    width = greatest - least
    beyond = low < least - _BEYOND * width or high > greatest + _BEYOND * width
    if beyond or high - low < _FLAT * width:
        raise ValueError(
            f"representative_data goes from {low:g} to {high:g}, but the preprocessing {name!r} of model "
            f"{model.name!r} gives {least:.3g} to {greatest:.3g}: preprocess it with "
            "keras_archs.preprocess_input, or give include_preprocessing and images 0..255."
        )


def _first_norm(model: keras.Model) -> keras.layers.BatchNormalization | None:
    """The batch norm nearest to the image, when nothing but a chain of layers lies between."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            return layer if len(layer._inbound_nodes) == 1 else None
        if len(layer._inbound_nodes) > 1 or isinstance(layer, keras.Model):
            return None
    return None
