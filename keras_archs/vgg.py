"""VGG, the plain network to compare with: rows, body, head, constructors.

Simonyan and Zisserman (2014), "Very Deep Convolutional Networks for Large-Scale Image Recognition",
arXiv:1409.1556.
"""

from dataclasses import dataclass
from functools import partial

from keras import layers

from keras_archs.assemble import Head, Spec, constructor
from keras_archs.blocks import Tensor, Unit, apply
from keras_archs.conventions import KERAS_VGG, SLIM_VGG, TORCH_VGG
from keras_archs.weights.layouts import SLIM_VGG_NAMES, vgg_layouts


@dataclass(frozen=True, kw_only=True)
class VGGSpec(Spec):
    """A row: how many 3x3 convolutions stand before each of the five max pools, normalized or not."""

    depths: tuple[int, ...]
    normalized: bool = False
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)


def vgg_body(x: Tensor, spec: VGGSpec) -> list[Tensor]:
    """Five blocks of convolutions and a max pool: images (N, H, W, C) to features at strides 2 to 32."""
    features = []
    for i, (depth, width) in enumerate(zip(spec.depths, spec.widths, strict=True), 1):
        for k in range(1, depth + 1):
            name = f"block{i}_conv{k}"
            if spec.normalized:
                x = apply(x, Unit(width), spec.convention, name)
            else:
                # The activation inside the layer: the published files count no separate ReLU here.
                x = layers.Conv2D(width, 3, padding="same", activation="relu", name=name)(x)
        x = layers.MaxPooling2D(2, 2, name=f"block{i}_pool")(x)
        features.append(x)
    return features


def vgg_head(x: Tensor, head: Head) -> Tensor:
    """Three dense layers on the flattened features: (N, H, W, 512) to (N, classes)."""
    x = layers.Flatten(name="flatten")(x)
    for name in ("fc1", "fc2"):
        x = layers.Dense(4096, activation="relu", name=name)(x)
        if head.drop_rate:
            x = layers.Dropout(head.drop_rate, name=f"{name}_dropout")(x)
    return layers.Dense(head.classes, activation=head.activation, name=head.name)(x)


# Columns A, B, D and E of table 1.
A, B, D, E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)


def _row(depths: tuple[int, ...], normalized: bool = False, keras: bool = False) -> VGGSpec:
    layouts = {"torch": vgg_layouts(depths, normalized)}
    return VGGSpec(
        depths=depths,
        normalized=normalized,
        convention=KERAS_VGG if keras else TORCH_VGG,
        others=(TORCH_VGG, SLIM_VGG) if keras else (),
        layouts={**layouts, "slim": (SLIM_VGG_NAMES,)} if keras else layouts,
        flattens=True,
        residual=False,
        source="Simonyan and Zisserman (2014), table 1, arXiv:1409.1556",
    )


_vgg = partial(constructor, body=vgg_body, head=vgg_head)

VGG11 = _vgg("VGG11", "vgg11", _row(A))
VGG13 = _vgg("VGG13", "vgg13", _row(B))
VGG16 = _vgg("VGG16", "vgg16", _row(D, keras=True))
VGG19 = _vgg("VGG19", "vgg19", _row(E, keras=True))
VGG11BN = _vgg("VGG11BN", "vgg11_bn", _row(A, normalized=True))
VGG13BN = _vgg("VGG13BN", "vgg13_bn", _row(B, normalized=True))
VGG16BN = _vgg("VGG16BN", "vgg16_bn", _row(D, normalized=True))
VGG19BN = _vgg("VGG19BN", "vgg19_bn", _row(E, normalized=True))
