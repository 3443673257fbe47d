"""A file of named tensors loads exactly or is refused, and then nothing has changed."""

import pickle
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from golden.values import parameter
from safetensors.numpy import save_file

import keras_archs
from keras_archs.weights import WeightsError, find
from keras_archs.weights.adapt import adapted_channels
from keras_archs.weights.layouts import layout

RNG = np.random.default_rng(0)


def state(model, layouts, classes=1000):
    """What a PyTorch file of the model holds, from the golden rule, for our layers and their layout."""
    tensors = {}
    for layer in model.layers:
        module = layouts(layer.name) if layer.weights else None
        for variable in layer.weights:
            kind, shape = variable.name, tuple(variable.shape)
            name = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean"}.get(kind, kind)
            name = {"moving_variance": "running_var", "kernel": "weight"}.get(name, name)
            shape = (
                {4: (3, 2, 0, 1), 2: (1, 0)}.get(len(shape))
                and tuple(shape[i] for i in {4: (3, 2, 0, 1), 2: (1, 0)}[len(shape)])
            ) or shape
            tensors[f"{module}.{name}"] = parameter(f"{module}.{name}", shape)
    return tensors


@pytest.fixture(scope="module")
def resnet18():
    model = keras_archs.ResNet18()
    (rules,) = keras_archs.get_spec("resnet18").layouts["torch"]
    return state(model, rules)


@pytest.fixture
def saved(resnet18, tmp_path):
    """Saves the tensors of ResNet-18, changed as asked, and gives the path."""

    def save(without=(), **changes):
        tensors = {name: value for name, value in resnet18.items() if name not in without} | changes
        save_file(tensors, tmp_path / "model.safetensors")
        return tmp_path / "model.safetensors"

    return save


@pytest.fixture
def published(saved, monkeypatch):
    """ResNet-18's default entry, downloaded from nowhere."""
    monkeypatch.setattr("keras_archs.weights.download", lambda entry, include_top: saved())


def refused(path, message, name="resnet18", error=WeightsError, **arguments):
    with pytest.raises(error, match=message):
        keras_archs.create_model(name, weights=path, **arguments)


def test_every_tensor_lands(saved, resnet18):
    model = keras_archs.ResNet18(weights=saved())
    kernel = model.get_layer("conv3_block1_0_conv").kernel
    np.testing.assert_array_equal(kernel, resnet18["layer2.0.downsample.0.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(model.get_layer("predictions").kernel, resnet18["fc.weight"].T)
    norm = model.get_layer("conv5_block2_2_bn")
    for name, variable in (("weight", norm.gamma), ("bias", norm.beta)):
        np.testing.assert_array_equal(variable, resnet18[f"layer4.1.bn2.{name}"])
    np.testing.assert_array_equal(norm.moving_variance, resnet18["layer4.1.bn2.running_var"])


def test_without_the_classifier(saved, resnet18):
    model = keras_archs.ResNet18(weights=saved(), include_top=False)
    np.testing.assert_array_equal(
        model.get_layer("conv1_conv").kernel, resnet18["conv1.weight"].transpose(2, 3, 1, 0)
    )
    features = keras_archs.ResNet18(weights=saved(), features_only=True)
    np.testing.assert_array_equal(features.get_layer("conv1_bn").gamma, resnet18["bn1.weight"])


def test_refusals(saved, resnet18):
    refused(
        saved(without=["layer3.1.bn2.bias"]), r"layer3\.1\.bn2\.bias is missing \(for conv4_block2_2_bn\)"
    )
    refused(saved(more=np.zeros((2, 3), "float32")), r"more \(2x3\) is not in the model")
    wrong = np.zeros((64, 3, 5, 5), "float32")
    refused(saved(**{"conv1.weight": wrong}), r"conv1\.weight: 64x3x5x5 in the file, 64x3x7x7 in the model")
    bad = resnet18["bn1.weight"].copy()
    bad[3] = np.nan
    refused(saved(**{"bn1.weight": bad}), r"bn1\.weight has values that are not finite")
    refused(saved(), "102 of 182 names fit: the file is of another variant of this family", name="resnet34")
    refused(
        saved(),
        "0 of .* names fit: the file is of another family or layout; it has bn1.bias, ",
        name="resnetv2_18",
    )
    refused(saved(), "which has no resnet18v2; .* is 'resnetv2_18'", "resnet18v2", ValueError)
    refused(saved(), "convention='keras' does not fit", "resnet50", ValueError, convention="keras")
    refused(saved(), "no files of the torch lineage are known for 'plain18'", name="plain18")
    integers = np.ones(64, "int32")
    refused(saved(**{"bn1.bias": integers}), r"bn1\.bias is of type int32, not floating-point numbers")
    refused(saved(**{"bn1.bias": np.full(64, 1e300)}), "has values that are not finite")
    refused(saved(**{"conv1.weight": np.zeros((64, 4, 7, 7), "float32")}), "64x4x7x7 in the file, 64x3x7x7")
    five = {"fc.weight": np.zeros((500, 512), "float32"), "fc.bias": np.zeros(500, "float32")}
    refused(saved(**five), r"fc\.weight: 500x512 in the file, 1000x512 in the model")
    refused(saved(**five), r"fc\.weight: 500x512 in the file, 7x512 in the model", classes=7)
    refused(saved(without=["fc.bias"]), r"fc\.bias is missing", classes=7)


def test_a_refused_file_changes_nothing(saved, resnet18, monkeypatch):
    models = []
    load = keras_archs.assemble.load
    monkeypatch.setattr(
        "keras_archs.assemble.load",
        lambda model, *rest: (models.append((model, model.get_weights())), load(model, *rest)),
    )
    last = {"fc.bias": np.full(1000, np.inf, "float32")}
    refused(saved(**last), "not finite")
    refused(saved(without=["fc.bias"]), "is missing")
    for model, before in models:
        assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))
    assert len(models) == 2


@pytest.mark.parametrize("size", [0, 5, 1000, 40_000_000])
def test_a_truncated_file(saved, size):
    path = saved()
    path.write_bytes(path.read_bytes()[:size])
    refused(path, "is damaged or of another format")


def test_half_precision_loads(saved, resnet18):
    path = saved(**{name: value.astype("float16") for name, value in resnet18.items()})
    model = keras_archs.ResNet18(weights=path)
    np.testing.assert_array_equal(
        model.get_layer("conv1_bn").gamma, resnet18["bn1.weight"].astype("float16").astype("float32")
    )


def test_a_pickle_is_never_opened(tmp_path, monkeypatch):
    (tmp_path / "x.pth").write_bytes(pickle.dumps({"a": 1}))
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(pickle, "Unpickler", None)
    refused(tmp_path / "x.pth", "needs torch: pip install torch")


@pytest.fixture
def torch():
    """PyTorch, where it is installed (extra `parity`); nothing here depends on it."""
    return pytest.importorskip("torch")


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_of_torch_loads(torch, resnet18, tmp_path, wrapped):
    tensors = {name: torch.from_numpy(value) for name, value in resnet18.items()}
    tensors["bn1.num_batches_tracked"] = torch.tensor(3)
    if wrapped:
        tensors = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in tensors.items()}}
    torch.save(tensors, tmp_path / "x.pth")
    model = keras_archs.ResNet18(weights=tmp_path / "x.pth")
    np.testing.assert_array_equal(model.get_layer("predictions").kernel, resnet18["fc.weight"].T)


def test_a_file_of_torch_that_holds_code_is_refused(torch, tmp_path):
    class Code:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"fc.weight": Code()}, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "holds objects beside tensors, which are never opened")
    assert not (tmp_path / "ran").exists()
    torch.save([torch.ones(3)], tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "holds no state_dict")


def test_published_weights_without_their_classifier_are_refused(monkeypatch, saved):
    path = saved(without=["fc.weight", "fc.bias"])
    monkeypatch.setattr("keras_archs.weights.download", lambda entry, include_top: path)
    refused("imagenet", r"fc\.weight is missing")
    refused("imagenet", r"fc\.weight is missing", classes=7)
    with pytest.raises(ValueError, match=r"classes=1000 does not fit .*goog_in21k', which have 21843"):
        keras_archs.create_model("resnetv2_50x1_bit.goog_in21k")
    with pytest.raises(
        ValueError, match=r"aux_heads=True does not go with weights='inception_v3.keras_in1k'"
    ):
        keras_archs.InceptionV3(weights="imagenet", aux_heads=True)
    with pytest.raises(ValueError, match="both say which weights"):
        keras_archs.create_model("resnet18.a1_in1k", weights=None)


def test_a_file_of_published_classes_gives_all_but_the_classifier(saved, resnet18):
    model = keras_archs.ResNet18(weights=saved(), classes=7, classifier_activation="sigmoid")
    assert model.output_shape == (None, 7)
    np.testing.assert_array_equal(model.get_layer("conv1_bn").beta, resnet18["bn1.bias"])
    grey = keras_archs.ResNet18(weights=saved(), input_shape=(64, 64, 1))
    expected = resnet18["conv1.weight"].transpose(2, 3, 1, 0).sum(2, keepdims=True)
    np.testing.assert_allclose(grey.get_layer("conv1_conv").kernel, expected, rtol=1e-6)


@pytest.mark.parametrize("layout", [0, 1])
def test_vgg_without_its_classifier_from_torchvision_and_timm(tmp_path, layout):
    base = keras_archs.VGG11(include_top=False, input_shape=(32, 32, 3))
    rules = keras_archs.get_spec("vgg11").layouts["torch"][layout]
    tensors = state(base, rules)
    for name in ("fc1", "fc2", "predictions"):
        tensors[f"{rules(name)}.weight"] = np.zeros((2, 2), "float32")
        tensors[f"{rules(name)}.bias"] = np.zeros(2, "float32")
    save_file(tensors, tmp_path / "x.safetensors")
    model = keras_archs.VGG11(weights=tmp_path / "x.safetensors", include_top=False)
    kernel = model.get_layer("block5_conv2").kernel
    np.testing.assert_array_equal(kernel, tensors[f"{rules('block5_conv2')}.weight"].transpose(2, 3, 1, 0))


def test_flattened_features_keep_their_order_in_both_data_formats(tmp_path):
    """PyTorch and channels_first flatten differently: Keras' Flatten turns the map first."""
    arguments = {"weights": None, "aux_heads": True, "classes": 1000}
    model = keras_archs.GoogLeNet(**arguments)
    (rules,) = keras_archs.get_spec("googlenet").layouts["torch"]
    save_file(state(model, rules), tmp_path / "x.safetensors")
    arguments["weights"] = tmp_path / "x.safetensors"
    last = keras_archs.GoogLeNet(**arguments)
    keras.config.set_image_data_format("channels_first")
    try:
        first = keras_archs.GoogLeNet(**arguments)
    finally:
        keras.config.set_image_data_format("channels_last")
    for a, b in zip(first.get_weights(), last.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_number_of_classes_keeps_all_but_the_classifier(published, resnet18):
    model = keras_archs.ResNet18(weights="imagenet", classes=7)
    assert model.output_shape == (None, 7)
    np.testing.assert_array_equal(model.get_layer("conv5_block2_2_bn").beta, resnet18["layer4.1.bn2.bias"])


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_another_number_of_channels_adapts_the_first_kernel(published, resnet18, channels):
    model = keras_archs.ResNet18(weights="a1_in1k", input_shape=(64, 64, channels))
    kernel = resnet18["conv1.weight"].transpose(2, 3, 1, 0)
    expected = kernel.sum(2, keepdims=True)
    if channels > 1:
        expected = np.stack([kernel[:, :, i % 3] for i in range(channels)], 2) * (3 / channels)
    np.testing.assert_allclose(model.get_layer("conv1_conv").kernel, expected, rtol=1e-6)
    np.testing.assert_allclose(
        np.sum(adapted_channels(kernel, 6), 2), np.sum(kernel, 2), rtol=1e-4, atol=1e-6
    )


def test_an_entry_brings_its_lineage(monkeypatch):
    monkeypatch.setattr("keras_archs.assemble.load", lambda *arguments: None)
    model = keras_archs.ResNet50(weights="timm/resnet50.a1_in1k")
    assert model.get_layer("conv3_block1_2_conv").strides == (2, 2)
    assert not model.get_layer("conv3_block1_2_conv").use_bias
    assert model.get_layer("conv1_bn").epsilon == 1e-5
    assert keras_archs.preprocessing.preprocessing_mode(model) == "torch"
    keras_v1 = keras_archs.ResNet50(weights="imagenet")
    assert keras_v1.get_layer("conv3_block1_1_conv").strides == (2, 2)
    assert keras_v1.get_layer("conv1_bn").epsilon == 1.001e-5
    assert keras_archs.preprocessing.preprocessing_mode(keras_v1) == "caffe"
    tagged = keras_archs.create_model("resnet50.tv2_in1k", include_top=False)
    assert keras_archs.preprocessing.preprocessing_mode(tagged) == "torch"
    legacy = keras_archs.create_model("legacy_xception", include_top=False)
    assert legacy.get_layer("block2_sepconv1_bn").epsilon == 1e-5
    assert find("xception", "timm/legacy_xception.tf_in1k").convention == "torch"


def test_a_layout_fills_its_templates():
    names = layout(((r"a(\d)_(x|y)", "b{1-1}.{2=x?left:right}.{1+2}"), (r"c(_z)?", "d{1=_z?!:}")))
    assert names("a3_x") == "b2.left.5"
    assert names("a1_y") == "b0.right.3"
    assert (names("c"), names("c_z"), names("a1_xy"), names("e")) == ("d", "d!", None, None)


def test_v1_and_later_lineages_of_one_shape_are_told_apart(tmp_path):
    arguments = {"weights": None, "include_top": False, "input_shape": (32, 32, 3)}
    slim = keras_archs.ResNet50(convention="slim", **arguments)
    slim.save(tmp_path / "x.keras")
    again = keras_archs.ResNet50(**{**arguments, "weights": tmp_path / "x.keras"}, convention="slim")
    np.testing.assert_array_equal(again.get_weights()[0], slim.get_weights()[0])
    with pytest.raises(WeightsError, match=r"conv2_block3_2_conv: strides=\[2, 2\] in the file, \[1, 1\] in"):
        keras_archs.ResNet50(**{**arguments, "weights": tmp_path / "x.keras"}, convention="torch")
    with pytest.raises(WeightsError, match="in the file"):
        keras_archs.ResNet50(**{**arguments, "weights": tmp_path / "x.keras"})
    vgg = keras_archs.VGG16(convention="torch", **arguments)  # no stride, no epsilon: another input
    vgg.save(tmp_path / "vgg.keras")
    with pytest.raises(WeightsError, match="input: mode 'torch' in the file, 'caffe' in the model"):
        keras_archs.VGG16(**{**arguments, "weights": tmp_path / "vgg.keras"})
