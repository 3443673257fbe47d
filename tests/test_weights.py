"""A weights file loads exactly or is refused, and then nothing has changed."""

import hashlib
import shutil
import zipfile
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

import keras_archs
from keras_archs.weights import WeightsError, find, load_file
from keras_archs.weights.download import BASE_URLS


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    model = keras_archs.ResNet20()
    model.save_weights(folder / "good.weights.h5")
    model.save(folder / "good.keras")
    return folder


@pytest.fixture
def refused():
    """Loads a file that must be refused, and checks that the model stays as it was."""

    def refuse(path, message, error=WeightsError):
        model = keras_archs.ResNet20()
        before = model.get_weights()
        with pytest.raises(error, match=message):
            load_file(model, path)
        assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))

    return refuse


def test_the_same_model_loads(saved):
    for name in ("good.weights.h5", "good.keras"):
        model = keras_archs.ResNet20(weights=saved / name)
        other = keras.saving.load_model(saved / "good.keras")
        assert all(
            np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True)
        )


def test_the_classifier_of_a_file_goes_with_softmax_or_none(saved):
    path = saved / "good.weights.h5"
    for activation in (None, keras.activations.softmax):
        model = keras_archs.ResNet20(weights=path, classifier_activation=activation)
        assert model.layers[-1].activation is keras.activations.get(activation)
    with pytest.raises(ValueError, match="classifier_activation='relu' does not fit pretrained weights"):
        keras_archs.ResNet20(weights=path, classifier_activation="relu")


def test_a_legacy_file_whose_lists_of_names_are_split_loads(tmp_path, monkeypatch):
    from keras.src.legacy.saving import legacy_h5_format

    theirs, ours = keras_archs.ResNet20(), keras_archs.ResNet20()
    monkeypatch.setattr(legacy_h5_format, "HDF5_OBJECT_HEADER_LIMIT", 64)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, theirs)
        assert "layer_names" not in file.attrs
        assert "layer_names2" in file.attrs
        assert "weight_names1" in file["conv1_bn"].attrs
    ours.set_weights([w + 1 for w in ours.get_weights()])
    load_file(ours, tmp_path / "x.h5")
    assert all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True))


@pytest.mark.parametrize("name", ["good.weights.h5", "good.keras"])
def test_truncated(saved, tmp_path, refused, name):
    data = (saved / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    refused(tmp_path / name, "is damaged or no Keras weights file")


@pytest.mark.parametrize("name", ["x.weights.h5", "x.keras", "x.h5"])
def test_not_a_weights_file(tmp_path, refused, name):
    (tmp_path / name).write_bytes(b"")
    refused(tmp_path / name, "is damaged or no Keras weights file")
    (tmp_path / name).write_text("<html>not found</html>")
    refused(tmp_path / name, "is damaged or no Keras weights file")


def test_archive_and_hdf5_of_something_else(tmp_path, refused):
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("hello.txt", "hello")
    refused(tmp_path / "x.keras", "model.weights.h5")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["numbers"] = np.arange(3)
    refused(tmp_path / "x.h5", "no group `layers`")


def test_a_flipped_bit_in_an_archive(saved, tmp_path, refused):
    data = bytearray((saved / "good.keras").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "x.keras").write_bytes(data)
    refused(tmp_path / "x.keras", "Bad CRC-32")


def test_an_encrypted_archive(tmp_path, refused):
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("model.weights.h5", "secret")
    data = bytearray((tmp_path / "x.keras").read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1  # A flag in the table of contents.
    (tmp_path / "x.keras").write_bytes(data)
    refused(tmp_path / "x.keras", "is encrypted")


def test_of_another_model(tmp_path, refused):
    keras_archs.ResNet32().save_weights(tmp_path / "x.weights.h5")
    refused(tmp_path / "x.weights.h5", "63 layers with weights in the file, 39 in the model")
    keras_archs.ResNet20(include_top=False).save_weights(tmp_path / "x.weights.h5")
    refused(tmp_path / "x.weights.h5", "38 layers with weights in the file, 39 in the model")
    keras_archs.ResNet20(classes=7).save_weights(tmp_path / "x.weights.h5")
    refused(
        tmp_path / "x.weights.h5",
        r"predictions: 64x7 \+ 7 in the file \(layers/dense\), 64x10 \+ 10 in the model",
    )
    keras_archs.ResNet20(input_shape=(32, 32, 1)).save_weights(tmp_path / "x.weights.h5")
    refused(tmp_path / "x.weights.h5", "conv1_conv: 3x3x1x16 in the file")


@pytest.mark.parametrize("name", ["x.weights.h5", "x.keras", "x.h5"])
def test_of_the_plain_twin(tmp_path, refused, name):
    """The same weights, another function."""
    plain = keras_archs.Plain20()
    if name == "x.h5":
        legacy_h5_format.save_model_to_hdf5(plain, tmp_path / name)
    else:
        save = plain.save if name == "x.keras" else plain.save_weights
        save(tmp_path / name)
    refused(tmp_path / name, "0 residual sums in the file, 9 in the model")


def test_a_model_in_the_model(tmp_path, refused):
    base = keras_archs.ResNet20(include_top=False, pooling="avg")
    head = keras.Sequential([keras.layers.Dropout(0.5), keras.layers.Dense(10)])
    model = keras.Model(base.input, head(base.output))
    model.save_weights(tmp_path / "x.weights.h5")
    before = model.get_weights()
    model.set_weights([w + 1 for w in before])
    load_file(model, tmp_path / "x.weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))
    with pytest.raises(WeightsError, match="39 layers with weights in the file, 38 in the model"):
        load_file(base, tmp_path / "x.weights.h5")


def test_files_of_bfloat16_models(tmp_path):
    keras.config.set_dtype_policy("bfloat16")
    try:
        model = keras_archs.ResNet20()
    finally:
        keras.config.set_dtype_policy("float32")
    model.save_weights(tmp_path / "x.weights.h5")
    ours, theirs = keras_archs.ResNet20(), keras_archs.ResNet20()
    load_file(ours, tmp_path / "x.weights.h5")
    theirs.load_weights(tmp_path / "x.weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True))


@pytest.mark.parametrize("bias", [np.array([b"x"] * 10), np.ones(10, "complex64")])
def test_no_numbers(saved, tmp_path, refused, bias):
    shutil.copy(saved / "good.weights.h5", tmp_path / "x.weights.h5")
    with h5py.File(tmp_path / "x.weights.h5", "a") as file:
        del file["layers/dense/vars/1"]
        file["layers/dense/vars/1"] = bias
    refused(tmp_path / "x.weights.h5", "not real numbers")


def test_strange_groups(saved, tmp_path, refused):
    shutil.copy(saved / "good.weights.h5", tmp_path / "x.weights.h5")
    with h5py.File(tmp_path / "x.weights.h5", "a") as file:
        file.move("layers/dense/vars/1", "layers/dense/vars/one")
    refused(tmp_path / "x.weights.h5", "is damaged or no Keras weights file")
    with h5py.File(tmp_path / "x.weights.h5", "w") as file:
        file["layers"] = 1.0
    refused(tmp_path / "x.weights.h5", "is damaged or no Keras weights file")


def test_many_differences_are_cut(tmp_path, refused):
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for _ in range(12):
        x = keras.layers.Conv2D(5, 3)(x)
    keras.Model(inputs, x).save_weights(tmp_path / "x.weights.h5")
    refused(tmp_path / "x.weights.h5", r"and \d+ more")


def test_paths(tmp_path, refused):
    refused(tmp_path / "none.h5", "nor the path of an existing file", ValueError)
    refused(tmp_path, "unknown suffix", ValueError)
    (tmp_path / "x.pkl").write_bytes(b"pickle")
    refused(tmp_path / "x.pkl", "unknown suffix; accepted: .weights.h5", ValueError)


def test_values_that_are_not_finite(refused, tmp_path):
    model = keras_archs.ResNet20()
    model.get_layer("conv1_bn").gamma.assign(np.full(16, np.nan))
    model.save_weights(tmp_path / "x.weights.h5")
    model.save(tmp_path / "x.keras")
    for name in ("x.weights.h5", "x.keras"):
        refused(tmp_path / name, "conv1_bn has values that are not finite")


def test_a_file_of_the_usual_classes_gives_all_but_the_classifier(saved):
    model = keras_archs.ResNet20(weights=saved / "good.weights.h5", classes=3)
    other = keras_archs.ResNet20(weights=saved / "good.weights.h5")
    assert model.output_shape == (None, 3)
    np.testing.assert_array_equal(model.get_weights()[0], other.get_weights()[0])
    grey = keras_archs.ResNet20(weights=saved / "good.keras", input_shape=(32, 32, 1))
    np.testing.assert_allclose(
        grey.get_weights()[0], np.sum(other.get_weights()[0], 2, keepdims=True), rtol=1e-5, atol=1e-7
    )


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A server in a folder: the published file of a small stand-in, Keras' cache empty."""
    monkeypatch.setattr("keras.src.backend.config.keras_home", lambda: str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "server" / "resnet").mkdir(parents=True)
    monkeypatch.setitem(BASE_URLS, "keras", f"file://{tmp_path}/server/")
    theirs = keras.applications.ResNet50(weights=None, include_top=False)
    entry = find("resnet50", "imagenet")
    path = tmp_path / "server" / entry.notop
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, theirs)
    entry = replace(entry, notop_hash=f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}")
    monkeypatch.setattr("keras_archs.weights.source.find", lambda model, weights: entry)
    return theirs, path


def test_imagenet_is_downloaded_once_and_checked(published):
    theirs, path = published
    model = keras_archs.ResNet50(include_top=False)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), theirs.get_weights(), strict=True))
    path.unlink()
    keras_archs.ResNet50(include_top=False)  # from the cache


def test_imagenet_with_a_wrong_hash(published):
    _, path = published
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="does not match"):
        keras_archs.ResNet50(include_top=False)


def test_imagenet_without_a_connection(published):
    with pytest.raises(WeightsError, match=r"URL fetch failure(.|\n)*Without a connection, put the file"):
        keras_archs.ResNet50()
