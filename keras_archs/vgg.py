"""VGG, the plain network to compare with: rows, body, head, constructors.

Simonyan and Zisserman (2014), "Very Deep Convolutional Networks for Large-Scale Image Recognition",
arXiv:1409.1556.
"""

from dataclasses import dataclass
from functools import partial

from keras import layers

from keras_archs.assemble import Activation, Spec, constructor
from keras_archs.blocks import Tensor
from keras_archs.conventions import KERAS_VGG


@dataclass(frozen=True, kw_only=True)
class VGGSpec(Spec):
    """A row: how many 3x3 convolutions stand before each of the five max pools."""

    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)


_vgg = partial(
    VGGSpec,
    convention=KERAS_VGG,
    preprocessing="caffe",
    flattens=True,
    source="Simonyan and Zisserman (2014), table 1, arXiv:1409.1556",
)
VGGS: dict[str, VGGSpec] = {
    "vgg16": _vgg(depths=(2, 2, 3, 3, 3)),  # column D
    "vgg19": _vgg(depths=(2, 2, 4, 4, 4)),  # column E
}


def vgg_body(x: Tensor, spec: VGGSpec) -> Tensor:
    """Five blocks of convolutions and a max pool: images (N, H, W, C) to features (N, H/32, W/32, 512)."""
    for i, (depth, width) in enumerate(zip(spec.depths, spec.widths, strict=True), 1):
        for k in range(1, depth + 1):
            # The activation inside the layer: the published files count no separate ReLU here.
            x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"block{i}_conv{k}")(x)
        x = layers.MaxPooling2D(2, 2, name=f"block{i}_pool")(x)
    return x


def vgg_head(x: Tensor, classes: int, activation: Activation) -> Tensor:
    """Three dense layers on the flattened features: (N, H, W, 512) to (N, classes)."""
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(4096, activation="relu", name="fc1")(x)
    x = layers.Dense(4096, activation="relu", name="fc2")(x)
    return layers.Dense(classes, activation=activation, name="predictions")(x)


VGG16 = constructor("VGG16", "vgg16", table=VGGS, body=vgg_body, head=vgg_head)
VGG19 = constructor("VGG19", "vgg19", table=VGGS, body=vgg_body, head=vgg_head)
