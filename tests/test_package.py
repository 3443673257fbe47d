"""What the package exports, and what importing it costs."""

import inspect
import os
import subprocess
import sys

import pytest

import converters
import keras_archs

CONSTRUCTORS = """
    Plain18 Plain20 Plain32 Plain34 Plain44 Plain56 Plain110 ResNet18 ResNet20 ResNet32 ResNet34 ResNet44
    ResNet50 ResNet50V2 ResNet56 ResNet101 ResNet101V2 ResNet110 ResNet152 ResNet152V2 InceptionResNetV2
    InceptionV3 VGG16 VGG19 Xception
""".split()
ARGUMENTS = "include_top weights input_tensor input_shape pooling classes classifier_activation name".split()


def test_public_names():
    others = "blocks create_model decode_predictions get_spec list_models preprocess_input training".split()
    assert sorted(keras_archs.__all__) == sorted(CONSTRUCTORS + others)
    assert all(hasattr(keras_archs, name) for name in keras_archs.__all__)


def test_signatures():
    def parameters(function):
        return list(inspect.signature(function).parameters)

    for name in CONSTRUCTORS:
        assert parameters(getattr(keras_archs, name)) == ARGUMENTS
    assert parameters(keras_archs.create_model) == ["name", "arguments"]
    assert parameters(keras_archs.list_models) == ["pattern"]
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
        "for name in 'resnet20 resnet50v2 inception_v3 inception_resnet_v2 xception vgg16'.split():\n"
        "    model = keras_archs.create_model(name, weights=None, include_top=False)\n"
        "    print(keras.backend.backend(), model.count_params())\n"
    )
    expected = [271_098 - 650, 23_564_800, 21_802_784, 54_336_736, 20_861_480, 14_714_688]
    assert run(code).split("\n")[:-1] == [f"jax {count}" for count in expected]
