"""The eleven against keras.applications, in one process, without network: order, shapes, numbers, files."""

import h5py
import keras
import numpy as np
import pytest

import keras_archs
from keras_archs.weights import WeightsError, load_file

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


@eleven
def test_with_the_classifier_at_the_default_size(name):
    theirs, ours = pair(name)
    assert ours.count_params() == ELEVEN[name]
    assert (ours.name, ours.input_shape) == (theirs.name, theirs.input_shape)
    (x,) = images(theirs.input_shape[1])
    assert largest_difference(theirs, ours, x) <= 1e-6

    ours.set_weights([0.9 * w for w in ours.get_weights()])
    assert largest_difference(theirs, ours, x) > 1e-6
    theirs.set_weights(ours.get_weights())
    assert largest_difference(theirs, ours, x) <= 1e-6


@eleven
@pytest.mark.parametrize(("size", "channels"), [(ODD, 1), (EVEN, 4)])
def test_with_the_classifier_at_other_sizes(name, size, channels, recwarn):
    theirs, ours = pair(name, input_shape=(size, size, channels), classes=7, classifier_activation=None)
    assert largest_difference(theirs, ours, images(size, channels=channels)[0]) <= 1e-6


@eleven
@pytest.mark.parametrize("pooling", [None, "avg", "max"])
def test_features(name, pooling):
    theirs, ours = pair(name, include_top=False, pooling=pooling)
    for x in images(ODD, EVEN):
        assert largest_difference(theirs, ours, x) <= 1e-6


@eleven
def test_layer_names_of_keras_are_kept(name):
    theirs = getattr(keras.applications, name)(weights=None, include_top=False)
    ours = getattr(keras_archs, name)(weights=None, include_top=False)
    automatic = (
        "input_layer",
        "conv2d",
        "batch_normalization",
        "activation",
        "max_pooling2d",
        "average_pooling2d",
    )
    automatic += ("add", "concatenate", "custom_scale_layer")
    explicit = {layer.name for layer in theirs.layers if layer.name.rstrip("0123456789_") not in automatic}
    assert explicit <= {layer.name for layer in ours.layers}
    assert not [layer.name for layer in ours.layers if layer.name.rstrip("0123456789_") in automatic]


def save_legacy_weights(model, path):
    """The format of the published files: weights alone, layers listed in an attribute."""
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


def save_legacy_model(model, path):
    from keras.src.legacy.saving import legacy_h5_format

    legacy_h5_format.save_model_to_hdf5(model, path)


def load_back(model, path):
    """By Keras itself."""
    if path.name == "whole.h5":
        with h5py.File(path) as file:
            from keras.src.legacy.saving import legacy_h5_format

            legacy_h5_format.load_weights_from_hdf5_group(file["model_weights"], model)
    else:
        model.load_weights(path)


SAVERS = {
    "published.h5": save_legacy_weights,
    "whole.keras": lambda model, path: model.save(path),
    "only.weights.h5": lambda model, path: model.save_weights(path),
    "whole.h5": save_legacy_model,
}
# The last two share their readers with the first two: one model is enough.
CASES = [(name, file) for name in ELEVEN for file in list(SAVERS)[:2]]
CASES += [("Xception", "only.weights.h5"), ("Xception", "whole.h5")]


@pytest.mark.parametrize(("name", "file"), CASES)
def test_files_of_keras_load_here(name, file, tmp_path):
    theirs = getattr(keras.applications, name)(weights=None, include_top=False)
    ours = getattr(keras_archs, name)(weights=None, include_top=False)
    SAVERS[file](theirs, tmp_path / file)
    changed = [w + 1 for w in theirs.get_weights()]
    theirs.set_weights(changed)
    ours.set_weights(changed)
    load_file(ours, tmp_path / file)
    load_back(theirs, tmp_path / file)
    assert all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True))
    assert not np.array_equal(ours.get_weights()[0], changed[0])


def test_weights_argument_takes_a_file_with_the_classifier(tmp_path):
    theirs = keras.applications.ResNet50(weights=None, classes=5)
    theirs.save(tmp_path / "x.keras")
    ours = keras_archs.ResNet50(weights=tmp_path / "x.keras", classes=5)
    assert all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True))
    with pytest.raises(WeightsError, match=r"predictions: 2048x5 \+ 5 in the file"):
        keras_archs.ResNet50(weights=tmp_path / "x.keras", classes=6)
