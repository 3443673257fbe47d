"""ResNets, Inceptions and Xceptions for Keras 3, from the lecture's ideas to the phone."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from keras_archs import blocks
from keras_archs.inception import InceptionResNetV2, InceptionV3
from keras_archs.preprocessing import decode_predictions, preprocess_input
from keras_archs.registry import create_model, get_spec, list_models
from keras_archs.resnet import (
    Plain18,
    Plain20,
    Plain32,
    Plain34,
    Plain44,
    Plain56,
    Plain110,
    ResNet18,
    ResNet20,
    ResNet32,
    ResNet34,
    ResNet44,
    ResNet50,
    ResNet50V2,
    ResNet56,
    ResNet101,
    ResNet101V2,
    ResNet110,
    ResNet152,
    ResNet152V2,
)
from keras_archs.vgg import VGG16, VGG19
from keras_archs.xception import Xception

if TYPE_CHECKING:
    from keras_archs import training

__version__ = "0.1.0"

__all__ = [
    "VGG16",
    "VGG19",
    "InceptionResNetV2",
    "InceptionV3",
    "Plain18",
    "Plain20",
    "Plain32",
    "Plain34",
    "Plain44",
    "Plain56",
    "Plain110",
    "ResNet18",
    "ResNet20",
    "ResNet32",
    "ResNet34",
    "ResNet44",
    "ResNet50",
    "ResNet50V2",
    "ResNet56",
    "ResNet101",
    "ResNet101V2",
    "ResNet110",
    "ResNet152",
    "ResNet152V2",
    "Xception",
    "blocks",
    "create_model",
    "decode_predictions",
    "get_spec",
    "list_models",
    "preprocess_input",
    "training",
]


def __getattr__(name: str) -> Any:
    # Training needs more than building does; it is imported when it is first named.
    if name == "training":
        return import_module("keras_archs.training")
    raise AttributeError(f"module 'keras_archs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
