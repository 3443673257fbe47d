"""Files that keras.applications saved load here."""

import h5py
import keras
import numpy as np
import pytest
from keras_peer import BUILDERS, ELEVEN

import keras_archs
from keras_archs.weights import WeightsError, load_file


def save_legacy_weights(model, path):
    """The format of the published files: weights alone, layers listed in an attribute."""
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


def save_legacy_model(model, path):
    from keras.src.legacy.saving import legacy_h5_format

    legacy_h5_format.save_model_to_hdf5(model, path)


SAVERS = {
    "published.h5": save_legacy_weights,
    "whole.keras": lambda model, path: model.save(path),
    "only.weights.h5": lambda model, path: model.save_weights(path),
    "whole.h5": save_legacy_model,
}
CASES = [(name, "published.h5") for name in ELEVEN] + [(name, "whole.keras") for name in BUILDERS]
# The last two share their readers with the first two: one model is enough.
CASES += [("Xception", "only.weights.h5"), ("Xception", "whole.h5")]


@pytest.mark.parametrize(("name", "file"), CASES)
def test_files_of_keras_load_here(name, file, tmp_path):
    theirs = getattr(keras.applications, name)(weights=None, include_top=False)
    expected = theirs.get_weights()
    SAVERS[file](theirs, tmp_path / file)
    ours = getattr(keras_archs, name)(weights=None, include_top=False)
    assert not np.array_equal(ours.get_weights()[0], expected[0])
    load_file(ours, tmp_path / file)
    assert all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), expected, strict=True))


def test_weights_argument_takes_a_file_with_the_classifier(tmp_path):
    theirs = keras.applications.ResNet50(weights=None, classes=5)
    theirs.save(tmp_path / "x.keras")
    ours = keras_archs.ResNet50(weights=tmp_path / "x.keras", classes=5)
    assert all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True))
    with pytest.raises(WeightsError, match=r"predictions: 2048x5 \+ 5 in the file"):
        keras_archs.ResNet50(weights=tmp_path / "x.keras", classes=6)
