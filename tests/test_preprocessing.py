import hashlib
import json

import keras
import numpy as np
import pytest
from PIL import Image

import keras_archs
from keras_archs import preprocessing
from keras_archs.preprocessing import decode_predictions, preprocess_input

MODULES = {"caffe": keras.applications.resnet, "tf": keras.applications.xception}
NAMES = {
    "caffe": ["resnet50", "vgg16"],
    "tf": ["xception", "resnet50v2", "inception_v3", "inception_resnet_v2"],
}
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("mode", NAMES)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_equals_keras_and_leaves_the_array_alone(mode, dtype):
    x = RNG.integers(0, 256, (2, 5, 4, 3)).astype(dtype)
    before = x.copy()
    expected = MODULES[mode].preprocess_input(x.copy())
    for name in NAMES[mode]:
        actual = preprocess_input(x, name)
        np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-5)
        assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(x, before)
    np.testing.assert_allclose(preprocess_input(x[0], name), expected[0], rtol=1e-6, atol=1e-5)


def test_torch_mode_equals_keras():
    x = RNG.uniform(0, 255, (2, 5, 4, 3)).astype("float32")
    expected = keras.applications.imagenet_utils.preprocess_input(x.copy(), mode="torch")
    np.testing.assert_allclose(preprocess_input(x, "resnet18"), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_tensors_and_keras_tensors(mode):
    x = RNG.integers(0, 256, (2, 5, 4, 3)).astype("uint8")
    expected = preprocess_input(x, mode)
    tensor = preprocess_input(keras.ops.convert_to_tensor(x), mode)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(tensor), expected, rtol=1e-6, atol=1e-5)
    inputs = keras.Input((5, 4, 3), dtype="uint8")
    model = keras.Model(inputs, preprocess_input(inputs, mode))
    np.testing.assert_allclose(model(x), expected, rtol=1e-6, atol=1e-5)


def test_channels_first():
    x = RNG.uniform(0, 255, (2, 3, 5, 4)).astype("float32")
    expected = preprocess_input(np.moveaxis(x, 1, 3), "resnet50")
    keras.config.set_image_data_format("channels_first")
    try:
        np.testing.assert_array_equal(preprocess_input(x, "resnet50"), np.moveaxis(expected, 3, 1))
    finally:
        keras.config.set_image_data_format("channels_last")


def test_a_model_picks_its_mode(tmp_path):
    x = RNG.uniform(0, 255, (1, 4, 4, 3)).astype("float32")
    tensor = keras.Input((64, 64, 3))
    model = keras_archs.ResNet20(name="resnet50")
    model.save(tmp_path / "x.keras")
    loaded = keras.saving.load_model(tmp_path / "x.keras")
    for ours in (model, loaded, keras.models.clone_model(model)):
        np.testing.assert_array_equal(preprocess_input(x, ours), preprocess_input(x, "tf"))
    ours = keras_archs.ResNet18(input_tensor=tensor)
    np.testing.assert_array_equal(preprocess_input(x, ours), preprocess_input(x, "torch"))
    for other in (keras.Sequential(name="other"), keras.Model(tensor, tensor, name="other")):
        with pytest.raises(ValueError, match="'other' does not say which of our models it is"):
            preprocess_input(x, other)


def test_lists_and_pictures():
    x = RNG.integers(0, 256, (4, 4, 3)).astype("uint8")
    expected = preprocess_input(x, "xception")
    np.testing.assert_array_equal(preprocess_input(x.tolist(), "xception"), expected)
    np.testing.assert_array_equal(preprocess_input(Image.fromarray(x), "xception"), expected)


def test_bad_input():
    with pytest.raises(ValueError, match=r"model=\{\} is not accepted"):
        preprocess_input(np.zeros((1, 4, 4, 3)), {})
    with pytest.raises(ValueError, match=r"top=2\.5 must be an integer"):
        decode_predictions(np.zeros((2, 1000)), top=2.5)
    with pytest.raises(ValueError, match="Did you mean 'resnet50'"):
        preprocess_input(np.zeros((1, 4, 4, 3)), "resnet_50")
    with pytest.raises(ValueError, match="must have 3 channels"):
        preprocess_input(np.zeros((1, 4, 4, 1)), "resnet50")
    with pytest.raises(ValueError, match="must be images"):
        preprocess_input(np.zeros((4, 4)), "xception")
    with pytest.raises(ValueError, match=r"must be \(N, 1000\)"):
        decode_predictions(np.zeros((2, 10)))
    with pytest.raises(ValueError, match="top=0"):
        decode_predictions(np.zeros((2, 1000)), top=0)


def test_decode_predictions(tmp_path, monkeypatch):
    index = tmp_path / "index.json"
    index.write_text(json.dumps({str(i): [f"n{i:08d}", f"class {i}"] for i in range(1000)}))
    monkeypatch.setattr(preprocessing, "CLASS_INDEX_URL", f"file://{index}")
    monkeypatch.setattr(preprocessing, "CLASS_INDEX_MD5", hashlib.md5(index.read_bytes()).hexdigest())
    monkeypatch.setattr("keras.src.backend.config.keras_home", lambda: str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    scores = np.zeros((2, 1000), "float32")
    scores[0, 7], scores[0, 3], scores[1, 999] = 0.7, 0.2, 1.0
    (first, second) = decode_predictions(scores, top=2)
    assert decode_predictions(scores.tolist(), top=2) == [first, second]
    assert first == [("n00000007", "class 7", np.float32(0.7)), ("n00000003", "class 3", np.float32(0.2))]
    assert second[0] == ("n00000999", "class 999", 1.0)
