"""The eleven of keras.applications, in this process and without network: what the parity tests share."""

import keras
import numpy as np
import pytest

import keras_archs

ELEVEN = {
    "ResNet50": 25_636_712,
    "ResNet101": 44_707_176,
    "ResNet152": 60_419_944,
    "ResNet50V2": 25_613_800,
    "ResNet101V2": 44_675_560,
    "ResNet152V2": 60_380_648,
    "InceptionV3": 23_851_784,
    "InceptionResNetV2": 55_873_736,
    "Xception": 22_910_480,
    "VGG16": 138_357_544,
    "VGG19": 143_667_240,
}
eleven = pytest.mark.parametrize("name", ELEVEN)
# One for each builder: the deeper ones are more of the same blocks, whose number is seen at one size.
BUILDERS = ("ResNet50", "ResNet50V2", "InceptionV3", "InceptionResNetV2", "Xception", "VGG16")
builders = pytest.mark.parametrize("name", BUILDERS)
ODD, EVEN = 97, 96


def signature(model):
    """Class and shapes of the weighted layers, in order: what a weight file relies on."""
    return [(type(x).__name__, [tuple(w.shape) for w in x.weights]) for x in model.layers if x.weights]


def pair(name, **arguments):
    """Theirs and ours with the same weights, the normalization statistics far from their initial values."""
    theirs = getattr(keras.applications, name)(weights=None, **arguments)
    ours = getattr(keras_archs, name)(weights=None, **arguments)
    assert signature(ours) == signature(theirs)
    rng = np.random.default_rng(0)
    values = theirs.get_weights()
    for i, variable in enumerate(theirs.weights):
        if variable.name in ("gamma", "beta", "moving_mean", "moving_variance", "bias"):
            low, high = (0.5, 1.5) if variable.name in ("gamma", "moving_variance") else (-0.2, 0.2)
            values[i] = rng.uniform(low, high, variable.shape).astype("float32")
    theirs.set_weights(values)
    ours.set_weights(theirs.get_weights())
    return theirs, ours


def images(*sizes, channels=3):
    return [np.random.default_rng(1).uniform(-1, 1, (2, s, s, channels)).astype("float32") for s in sizes]


def largest_difference(theirs, ours, x):
    expected = keras.ops.convert_to_numpy(theirs(x, training=False))
    actual = keras.ops.convert_to_numpy(ours(x, training=False))
    assert np.ptp(expected) > 0
    return np.abs(actual - expected).max()
