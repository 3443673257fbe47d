"""What the package exports, and what importing it costs."""

import inspect
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import converters
import keras_archs
from keras_archs import layers

CONSTRUCTORS = """
    VGG11 VGG11BN VGG13 VGG13BN VGG16 VGG16BN VGG19 VGG19BN BiT_R50x1 BiT_R50x3 BiT_R101x1 BiT_R101x3
    BiT_R152x2 BiT_R152x4 ECAResNeXt26T_32x4d ECAResNeXt50T_32x4d ECAResNet26T ECAResNet50D ECAResNet50T
    ECAResNet101D ECAResNet200D ECAResNet269D ECAResNetLight GoogLeNet GoogLeNet2014 InceptionResNetV1
    InceptionResNetV2 InceptionV1 InceptionV2 InceptionV3 InceptionV4 Plain18 Plain20 Plain32 Plain34
    Plain44 Plain56 Plain110 PreactResNet110 PreactResNet164 PreactResNet1001 ResNeXt50D_32x4d
    ResNeXt50_32x4d ResNeXt101_32x4d ResNeXt101_32x8d ResNeXt101_32x16d ResNeXt101_32x32d ResNeXt101_64x4d
    ResNet10 ResNet10T ResNet14T ResNet18 ResNet18D ResNet18V2 ResNet20 ResNet20OptionB ResNet20OptionC
    ResNet26 ResNet26D ResNet26T ResNet32 ResNet32OptionB ResNet32OptionC ResNet34 ResNet34D ResNet34V2
    ResNet44 ResNet44OptionB ResNet44OptionC ResNet50 ResNet50C ResNet50D ResNet50GN ResNet50S ResNet50T
    ResNet50V2 ResNet56 ResNet56OptionB ResNet56OptionC ResNet101 ResNet101C ResNet101D ResNet101S
    ResNet101V2 ResNet110 ResNet110OptionB ResNet110OptionC ResNet152 ResNet152C ResNet152D ResNet152S
    ResNet152V2 ResNet200 ResNet200D ResNet200V2 ResNet1202 ResNet1202OptionB ResNet1202OptionC
    ResNetAA34D ResNetAA50 ResNetAA50D ResNetAA101D ResNetBlur18 ResNetBlur50 ResNetBlur50D ResNetBlur101D
    ResNetRS50 ResNetRS101 ResNetRS152 ResNetRS200 ResNetRS270 ResNetRS350 ResNetRS420 ResNetV2_18
    ResNetV2_18D ResNetV2_34 ResNetV2_34D ResNetV2_50 ResNetV2_50D ResNetV2_50D_GN ResNetV2_50T
    ResNetV2_101 ResNetV2_101D ResNetV2_152 ResNetV2_152D SENet154 SEResNeXt26D_32x4d SEResNeXt26T_32x4d
    SEResNeXt50_32x4d SEResNeXt101D_32x8d SEResNeXt101_32x4d SEResNeXt101_32x8d SEResNeXt101_64x4d
    SEResNeXtAA101D_32x8d SEResNeXtAA201D_32x8d SEResNet18 SEResNet34 SEResNet50 SEResNet50T SEResNet101
    SEResNet152 SEResNet152D SEResNet200D SEResNet269D SEResNetAA50D WideResNet16_4 WideResNet16_8
    WideResNet28_2 WideResNet28_10 WideResNet40_2 WideResNet40_4 WideResNet50_2 WideResNet101_2 Xception
    Xception41 Xception41P Xception65 Xception65P Xception71
""".split()
ARGUMENTS = """
    include_top weights input_tensor input_shape pooling classes classifier_activation name
    convention include_preprocessing features_only out_indices output_stride aux_heads drop_rate
    drop_path_rate zero_init_residual kernel_regularizer
""".split()


def test_public_names():
    others = """
        analysis blocks create_model decode_predictions freeze get_spec list_models preprocess_input
        replace_classifier training unfreeze
    """.split()
    assert sorted(keras_archs.__all__) == sorted(CONSTRUCTORS + others)
    assert all(hasattr(keras_archs, name) for name in keras_archs.__all__)


def test_signatures():
    def parameters(function):
        return list(inspect.signature(function).parameters)

    for name in CONSTRUCTORS:
        assert parameters(getattr(keras_archs, name)) == ARGUMENTS
    assert parameters(keras_archs.create_model) == ["name", "arguments"]
    assert parameters(keras_archs.list_models) == ["pattern", "weights"]
    assert parameters(keras_archs.freeze) == ["model", "until"]
    assert parameters(keras_archs.unfreeze) == ["model", "since", "batch_norm"]
    assert parameters(keras_archs.replace_classifier) == [
        "model",
        "classes",
        "classifier_activation",
        "drop_rate",
    ]
    assert parameters(keras_archs.get_spec) == ["name"]
    assert parameters(keras_archs.preprocess_input) == ["x", "model"]
    assert parameters(keras_archs.decode_predictions) == ["predictions", "top"]
    assert parameters(converters.verify) == ["artifact", "model", "data", "labels"]


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="ResNet51"):
        keras_archs.ResNet51  # noqa: B018


def run(code):
    """On JAX, on a machine without TensorFlow."""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    code = "import sys; sys.modules['tensorflow'] = None\n" + code
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout


def test_importing_the_builders_imports_nothing_heavy():
    code = (
        "import keras; before = set(sys.modules); import keras_archs, converters; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    new = set(run(code).split())
    assert "keras_archs" in new
    assert not new & {"sklearn", "matplotlib", "PIL", "ai_edge_litert", "rich", "typer", "yaml", "scipy"}


def test_every_family_builds_without_tensorflow():
    code = (
        "import keras, keras_archs\n"
        "names = 'resnet20 resnet50v2 inception_v3 inception_resnet_v2 xception vgg16'\n"
        "with keras.StatelessScope(initialize_variables=False):\n"  # JAX compiles for each shape of a weight
        "    for name in names.split():\n"
        "        model = keras_archs.create_model(name, weights=None, include_top=False)\n"
        "        print(keras.backend.backend(), model.count_params())\n"
    )
    expected = [271_098 - 650, 23_564_800, 21_802_784, 54_336_736, 20_861_480, 14_714_688]
    assert run(code).split("\n")[:-1] == [f"jax {count}" for count in expected]


def test_the_layers_of_our_own_answer_the_same_on_jax(tmp_path):
    """All of them in one model, each with an output of its own."""
    x = keras.Input((12, 12, 3))
    outputs = [layers.Preprocess((100.0, 120.0, 140.0), (50.0, 60.0, 70.0), bgr=True)(x)]
    for layer in (
        layers.StandardizedConv2D(8, 3),
        layers.LocalResponseNormalization(alpha=1.0),
        layers.BlurPooling2D(),
        layers.ChannelPad(11),
    ):
        outputs.append(layer(outputs[-1]))
    update = keras.layers.Conv2D(11, 1)(outputs[-1])
    outputs += [
        layers.ScaledAdd(0.3)([outputs[-1], update]),
        layers.StochasticAdd(0.5)([outputs[-1], update]),
    ]
    model = keras.Model(x, outputs)
    ours = {value for value in vars(layers).values() if getattr(value, "__module__", "") == layers.__name__}
    assert ours - {layers.channel_axis} <= {type(layer) for layer in model.layers}

    images = np.random.default_rng(0).uniform(0, 255, (2, 12, 12, 3)).astype("float32")
    np.savez(tmp_path / "arrays.npz", images, *model(images))
    model.save(tmp_path / "model.keras")
    code = (
        "import keras, keras_archs, numpy as np\n"
        f"images, *expected = np.load('{tmp_path}/arrays.npz').values()\n"
        f"found = keras.saving.load_model('{tmp_path}/model.keras')(images)\n"
        "for y, z in zip(found, expected, strict=True):\n"
        "    print(keras.backend.backend(), np.abs(np.asarray(y) - z).max() < 1e-5 * np.abs(z).max())\n"
    )
    assert run(code).split("\n")[:-1] == ["jax True"] * len(outputs)
