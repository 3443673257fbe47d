"""Parameters, multiply-accumulates and activations against hand counts and against timm."""

import json
import math
import os
import subprocess
import sys
import time

import keras
import pytest
from keras import Input, Model, Sequential, applications, layers

import keras_archs
from keras_archs.analysis import analyze

# Ours, timm's, pixels, GMACs of timm 1.0.29's results/benchmark-infer-*.csv, and what hooks on all Conv2d and
# Linear modules of timm 1.0.31 count: multiply-accumulates and outputs.
TIMM = [
    ("resnet18", "resnet18", 160, 0.93, 925_798_400, 1_268_200),
    ("resnet34", "resnet34", 160, 1.87, 1_869_516_800, 1_908_200),
    ("vgg16", "vgg16", 224, 15.47, 15_470_264_320, 13_556_712),
    ("vgg19", "vgg19", 224, 19.63, None, None),
    ("inception_v3", "inception_v3", 299, 5.73, 5_713_216_096, 8_968_488),
    ("xception", "legacy_xception", 299, 8.4, 8_357_403_496, 35_825_968),
    ("inception_resnet_v2", "inception_resnet_v2", 299, 13.18, 13_155_794_016, 25_059_976),
]


@pytest.mark.parametrize(("name", "peer", "size", "gmacs", "macs", "activations"), TIMM)
def test_timm_counts_the_same(name, peer, size, gmacs, macs, activations):
    model = keras_archs.create_model(name, weights=None)
    analysis = analyze(model, size)
    assert analysis.parameters == model.count_params()
    # timm's benchmark counts normalization, too.
    assert analysis.macs == pytest.approx(gmacs * 1e9, rel=0.01)
    if macs:
        assert (analysis.macs, analysis.activations) == (macs, activations)


def test_resnet50_by_hand():
    """Version 1 strides in the first 1x1 convolution: 3.86 GMACs, not the 4.1 of torchvision's."""
    macs, channels, side = 112**2 * 7**2 * 3 * 64, 64, 56
    for stage, depth in enumerate((3, 4, 6, 3)):
        width, side = 64 * 2**stage, 56 // 2**stage
        macs += side**2 * channels * 4 * width  # the projection
        for _ in range(depth):
            macs += side**2 * (channels * width + 9 * width * width + width * 4 * width)
            channels = 4 * width
    macs += 2048 * 1000
    analysis = analyze(keras_archs.ResNet50(weights=None))
    assert analysis.macs == macs
    assert round(analysis.macs / 1e9, 2) == 3.86
    # Biased convolutions, and a scale, an offset and two statistics a channel.
    assert analysis.parameters - analysis.trainable == 2 * 26_560


H, W, C = 12, 10, 8
BY_HAND = {
    "plain": (layers.Conv2D(6, 3), 10 * 8 * 9 * C * 6, 10 * 8 * 6),
    "strided": (layers.Conv2D(6, (1, 7), 2, "same"), 6 * 5 * 7 * C * 6, 6 * 5 * 6),
    "grouped": (layers.Conv2D(16, 3, padding="same", groups=4), H * W * 9 * (C // 4) * 16, H * W * 16),
    "dilated": (layers.Conv2D(6, 3, dilation_rate=2), 8 * 6 * 9 * C * 6, 8 * 6 * 6),
    "depthwise": (layers.DepthwiseConv2D(3, 2, "same", depth_multiplier=2), 6 * 5 * 9 * C * 2, 6 * 5 * C * 2),
    "grouped depthwise": (layers.Conv2D(C, 5, padding="same", groups=C), H * W * 25 * C, H * W * C),
    "separable": (
        layers.SeparableConv2D(6, 3, padding="same", depth_multiplier=2),
        H * W * (9 * C * 2 + 2 * C * 6),
        H * W * (2 * C + 6),
    ),
    "transposed": (layers.Conv2DTranspose(6, 3, 2, "same"), H * W * 9 * C * 6, 4 * H * W * 6),
    "dense on a map": (layers.Dense(6), H * W * C * 6, H * W * 6),
    "standardized": (keras_archs.layers.StandardizedConv2D(6, 3), 10 * 8 * 9 * C * 6, 10 * 8 * 6),
    "normalization": (layers.GroupNormalization(4), 0, 0),
    "activation": (layers.PReLU(), 0, 0),
    "pooling": (layers.AveragePooling2D(2), 0, 0),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_layers_by_hand(case):
    layer, macs, activations = BY_HAND[case]
    layer = type(layer).from_config(layer.get_config())
    image = Input((H, W, C))
    row = analyze(Model(image, layer(image))).layers[-1]
    assert (row.macs, row.activations) == (macs, activations)
    assert row.parameters == layer.count_params()
    assert row.output_shape == layer.output.shape[1:]


def test_depthwise_by_another_name():
    image = Input((H, W, C))
    x = layers.Conv2D(2 * C, 3, groups=C)(layers.Conv2D(C, 3, groups=C // 2)(image))
    analysis = analyze(Model(image, x))
    assert [layer.kind for layer in analysis.layers] == ["input", "conv", "depthwise"]
    assert analysis.stages[0].separable == 1


def test_conv1d_over_channels():
    image = Input((4, 4, 16))
    x = layers.Reshape((16, 1))(layers.GlobalAveragePooling2D()(image))
    row = analyze(Model(image, layers.Conv1D(1, 3, padding="same")(x))).layers[-1]
    assert (row.macs, row.activations) == (16 * 3, 16)


def small(data_format):
    layers_ = [
        Input((3, 24, 20) if data_format == "channels_first" else (24, 20, 3)),
        layers.Conv2D(8, 3, 2, "same", data_format=data_format, name="conv"),
        layers.SeparableConv2D(12, 3, data_format=data_format, name="separable"),
        layers.MaxPooling2D(2, data_format=data_format, name="pool"),
        layers.Conv2DTranspose(4, 2, 2, data_format=data_format, name="up"),
        layers.Flatten(data_format=data_format, name="flatten"),
        layers.Dense(5, name="dense"),
    ]
    return Sequential(layers_, name="small")


def test_order_of_the_axes():
    last, first = analyze(small("channels_last")), analyze(small("channels_first"))
    assert first.input_shape == (3, 24, 20)
    assert first.layers[2].output_shape == (12, 10, 8)
    for field in ("parameters", "macs", "activations", "receptive_field", "stride"):
        assert getattr(first, field) == getattr(last, field)
    assert [layer.channels for layer in first.layers] == [layer.channels for layer in last.layers]
    assert first.layers[-1].macs == 10 * 8 * 4 * 5


def test_nested_and_shared_layers():
    image = Input((16, 16, 3))
    conv = layers.Conv2D(3, 3, padding="same", name="conv")
    inner = Sequential([Input((None, None, 3)), conv], name="inner")
    x = inner(inner(image))
    analysis = analyze(Model(image, layers.Conv2D(2, 1, name="last")(x)))
    assert [layer.name for layer in analysis.layers][1:] == ["inner/conv", "inner/conv", "last"]
    assert [layer.parameters for layer in analysis.layers] == [0, 84, 0, 8]
    assert [layer.macs for layer in analysis.layers] == [0, *(16 * 16 * 81,) * 2, 16 * 16 * 6]
    assert analysis.receptive_field == (5, 5)


def test_of_several_outputs_the_longest_way_counts():
    image = Input((16, 16, 3))
    x = layers.Conv2D(4, 3, name="first")(image)
    side = layers.Dense(7, name="side")(layers.GlobalAveragePooling2D()(x))
    main = layers.Dense(5, name="main")(layers.Flatten()(layers.Conv2D(4, 3, name="second")(x)))
    for outputs in ([main, side], [side, main]):
        names = [layer.name for layer in analyze(Model(image, outputs)).layers]
        assert {"first", "second", "main"} < set(names)
        assert "side" not in names


def test_frozen_weights_are_no_trainable_ones():
    model = small("channels_last")
    model.get_layer("conv").trainable = False
    analysis = analyze(model)
    assert analysis.parameters - analysis.trainable == 3 * 3 * 3 * 8 + 8


def test_size_of_the_image():
    model = keras_archs.ResNet50(include_top=False, weights=None)
    assert analyze(model).input_shape == (224, 224, 3)  # of the row, for the model is open
    assert analyze(model, 320).stages[-1].output_shape == (10, 10, 2048)
    assert analyze(model, (64, 96)).stages[-1].output_shape == (2, 3, 2048)
    fixed = applications.MobileNetV2((96, 96, 3), weights=None)
    assert analyze(fixed).input_shape == (96, 96, 3)
    assert analyze(fixed, 192).macs - 1_280_000 == 4 * (analyze(fixed).macs - 1_280_000)


def lonely(layer):
    image = Input((16, 16, 3))
    return Model(image, layer(image), name="lonely")


class Subclassed(keras.Model):
    pass


def two_inputs():
    images = [Input((8, 8, 3)), Input((8, 8, 3))]
    return Model(images, layers.Add()(images), name="pair")


class Mixer(layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]))

    def call(self, x):
        return x @ self.kernel


ERRORS = {
    "open": (
        lambda: applications.MobileNetV2((None, None, 3), include_top=False, weights=None),
        None,
        "input_size is needed: model='mobilenetv2_.*' is open",
    ),
    "zero": (lambda: lonely(layers.Conv2D(2, 3)), 0, "input_size=0 must be a positive integer, or 2 of them"),
    "three": (lambda: lonely(layers.Conv2D(2, 3)), (8, 8, 3), r"input_size=\(8, 8, 3\) must be"),
    "float": (lambda: lonely(layers.Conv2D(2, 3)), 8.0, "input_size=8.0 must be"),
    "small": (lambda: lonely(layers.Conv2D(2, 5, name="wide")), 4, r"\(4, 4, 3\) does not fit layer 'wide'"),
    "flat": (lambda: small("channels_last"), 32, r"\(32, 32, 3\) does not fit layer 'dense'.* \(320,\)"),
    "empty": (lambda: lonely(lambda image: image), None, "model='lonely' has no layers"),
    "no model": (lambda: "resnet50", None, "model='resnet50' of class str has no graph of layers"),
    "inputs": (two_inputs, None, "model='pair' has 2 inputs"),
    "graph": (lambda: Subclassed(name="sub"), None, "model='sub' of class Subclassed has no graph of layers"),
    "inner": (
        lambda: lonely(layers.TimeDistributed(layers.Dense(4), name="each")),
        None,
        "'each' of class TimeDistributed has weights",
    ),
    "unknown": (lambda: lonely(Mixer(name="mixer")), None, "'mixer' of class Mixer has weights of shape"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_say_what_is_wrong(case):
    build, size, message = ERRORS[case]
    model = build()
    with pytest.raises(ValueError, match=message):
        analyze(model, size)


def test_resnet152_takes_less_than_a_second():
    model = keras_archs.ResNet152(weights=None)
    start = time.perf_counter()
    analyze(model)
    assert time.perf_counter() - start < 1


def test_it_needs_no_tensorflow(tmp_path):
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "import keras, keras_archs\n"
        "from keras_archs.analysis import analyze, draw\n"
        "analysis = analyze(keras_archs.ResNet20(weights=None))\n"
        "print(keras.backend.backend(), analysis.macs, draw(analysis, sys.argv[1]))"
    )
    path = str(tmp_path / "resnet20.svg")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, env=environment
    )
    assert result.stdout.split() == ["jax", "40551040", path]


def test_totals_are_those_of_stages_and_layers():
    for model in (keras_archs.InceptionV3(weights=None), applications.EfficientNetB0(weights=None)):
        analysis = analyze(model)
        for field in ("parameters", "trainable", "macs", "activations"):
            total = getattr(analysis, field)
            assert total == sum(getattr(layer, field) for layer in analysis.layers)
            assert total == sum(getattr(stage, field) for stage in analysis.stages)


def test_to_dict_is_json():
    analysis = analyze(small("channels_last"))
    record = json.loads(json.dumps(analysis.to_dict()))
    assert record["macs"] == analysis.macs
    assert record["layers"][1]["kernel"] == [3, 3]
    assert math.prod(record["stages"][0]["output_shape"]) == 12 * 10 * 8
