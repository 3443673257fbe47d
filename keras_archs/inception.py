"""Inception v3 and Inception-ResNet v2: branches as rows, two bodies, constructors.

Szegedy et al. (2015), "Rethinking the Inception Architecture for Computer Vision", arXiv:1512.00567.
Szegedy et al. (2016), "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
arXiv:1602.07261.
"""

from dataclasses import dataclass

from keras import layers

from keras_archs.assemble import Spec, constructor
from keras_archs.blocks import Branch, Fork, Pool, Step, Tensor, Unit, apply, inception
from keras_archs.conventions import KERAS_INCEPTION, KERAS_INCEPTION_RESNET
from keras_archs.layers import ScaledAdd, channel_axis

Module = tuple[Branch, ...]

AVERAGE = Pool(layers.AveragePooling2D)
REDUCE = Pool(layers.MaxPooling2D, 3, 2, "valid")

STEM: tuple[tuple[str, Step], ...] = (
    ("conv1", Unit(32, 3, 2, "valid")),
    ("conv2", Unit(32, 3, 1, "valid")),
    ("conv3", Unit(64)),
    ("pool1", REDUCE),
    ("conv4", Unit(80, 1, 1, "valid")),
    ("conv5", Unit(192, 3, 1, "valid")),
    ("pool2", REDUCE),
)


def mixed_a(pooled: int) -> Module:
    """Arxiv 1512.00567, figure 5, with the 5x5 kept."""
    return (
        (Unit(64, 1),),
        (Unit(48, 1), Unit(64, 5)),
        (Unit(64, 1), Unit(96), Unit(96)),
        (AVERAGE, Unit(pooled, 1)),
    )


def mixed_b(width: int) -> Module:
    """Arxiv 1512.00567, figure 6: a 7x7 factorised into 1x7 and 7x1."""
    return (
        (Unit(192, 1),),
        (Unit(width, 1), Unit(width, (1, 7)), Unit(192, (7, 1))),
        (
            Unit(width, 1),
            Unit(width, (7, 1)),
            Unit(width, (1, 7)),
            Unit(width, (7, 1)),
            Unit(192, (1, 7)),
        ),
        (AVERAGE, Unit(192, 1)),
    )


def mixed_c(fork: str) -> Module:
    """Arxiv 1512.00567, figure 7: branches that fork again; `fork` names the first fork's concatenation."""
    split = ((Unit(384, (1, 3)),), (Unit(384, (3, 1)),))
    return (
        (Unit(320, 1),),
        (Unit(384, 1), Fork(split, fork)),
        (Unit(448, 1), Unit(384), Fork(split)),
        (AVERAGE, Unit(192, 1)),
    )


REDUCTION_A: Module = (
    (Unit(384, 3, 2, "valid"),),
    (Unit(64, 1), Unit(96), Unit(96, 3, 2, "valid")),
    (REDUCE,),
)
REDUCTION_B: Module = (
    (Unit(192, 1), Unit(320, 3, 2, "valid")),
    (Unit(192, 1), Unit(192, (1, 7)), Unit(192, (7, 1)), Unit(192, 3, 2, "valid")),
    (REDUCE,),
)


@dataclass(frozen=True, kw_only=True)
class InceptionSpec(Spec):
    """A row: the inception modules after the stem, module i named `mixed{i}`."""

    modules: tuple[Module, ...]


INCEPTIONS = {
    "inception_v3": InceptionSpec(
        modules=(
            mixed_a(32),
            mixed_a(64),
            mixed_a(64),
            REDUCTION_A,
            mixed_b(128),
            mixed_b(160),
            mixed_b(160),
            mixed_b(192),
            REDUCTION_B,
            # keras.applications calls the inner forks of modules 9 and 10 mixed9_0 and mixed9_1.
            mixed_c("mixed9_0"),
            mixed_c("mixed9_1"),
        ),
        convention=KERAS_INCEPTION,
        preprocessing="tf",
        size=299,
        min_size=75,
        source="Szegedy et al. (2015), table 1, arXiv:1512.00567",
    )
}


def inception_body(x: Tensor, spec: InceptionSpec) -> Tensor:
    """Stem and modules: images (N, H, W, C) to features (N, H', W', 2048)."""
    for name, step in STEM:
        x = apply(x, step, spec.convention, name)
    for i, module in enumerate(spec.modules):
        x = inception(x, module, spec.convention, f"mixed{i}")
    return x


@dataclass(frozen=True)
class Stage:
    """An inception module that changes the size, then residual blocks that keep it.

    Attributes:
        reduction: Name of the concatenation, and its branches.
        block: Name of the residual blocks, and the branches of their F.
        scales: Scale of F in each block.
    """

    reduction: tuple[str, Module]
    block: tuple[str, Module]
    scales: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class InceptionResNetSpec(Spec):
    """A row: three stages of scaled residual inception blocks, and the last convolution."""

    stages: tuple[Stage, ...]
    head: Unit


INCEPTION_RESNETS = {
    "inception_resnet_v2": InceptionResNetSpec(
        stages=(
            Stage(
                reduction=("mixed_5b", ((Unit(96, 1),), *mixed_a(64)[1:])),
                block=(
                    "block35",
                    (
                        (Unit(32, 1),),
                        (Unit(32, 1), Unit(32)),
                        (Unit(32, 1), Unit(48), Unit(64)),
                    ),
                ),
                scales=(0.17,) * 10,
            ),
            Stage(
                reduction=(
                    "mixed_6a",
                    (
                        (Unit(384, 3, 2, "valid"),),
                        (Unit(256, 1), Unit(256), Unit(384, 3, 2, "valid")),
                        (REDUCE,),
                    ),
                ),
                block=(
                    "block17",
                    ((Unit(192, 1),), (Unit(128, 1), Unit(160, (1, 7)), Unit(192, (7, 1)))),
                ),
                scales=(0.1,) * 20,
            ),
            Stage(
                reduction=(
                    "mixed_7a",
                    (
                        (Unit(256, 1), Unit(384, 3, 2, "valid")),
                        (Unit(256, 1), Unit(288, 3, 2, "valid")),
                        (Unit(256, 1), Unit(288), Unit(320, 3, 2, "valid")),
                        (REDUCE,),
                    ),
                ),
                block=(
                    "block8",
                    ((Unit(192, 1),), (Unit(192, 1), Unit(224, (1, 3)), Unit(256, (3, 1)))),
                ),
                # The last block is neither scaled nor activated.
                scales=(*(0.2,) * 9, 1.0),
            ),
        ),
        head=Unit(1536, 1),
        convention=KERAS_INCEPTION_RESNET,
        preprocessing="tf",
        size=299,
        min_size=75,
        source="Szegedy et al. (2016), figure 15, arXiv:1602.07261",
    )
}


def inception_resnet_block(
    x: Tensor, branches: Module, scale: float, spec: InceptionResNetSpec, name: str
) -> Tensor:
    """y = relu(x + scale * conv1x1(inception(x))); a block of scale 1 ends without the ReLU."""
    mixed = inception(x, branches, spec.convention, f"{name}_mixed")
    up = Unit(x.shape[channel_axis()], 1, norm=False, relu=False)
    update = apply(mixed, up, spec.convention, f"{name}_conv")
    x = ScaledAdd(scale, name=f"{name}_add")([x, update])
    return x if scale == 1.0 else layers.Activation("relu", name=f"{name}_ac")(x)


def inception_resnet_body(x: Tensor, spec: InceptionResNetSpec) -> Tensor:
    """Stem, stages and last convolution: images (N, H, W, C) to features (N, H', W', 1536)."""
    for name, step in STEM:
        x = apply(x, step, spec.convention, name)
    for stage in spec.stages:
        name, reduction = stage.reduction
        x = inception(x, reduction, spec.convention, name)
        name, branches = stage.block
        for i, scale in enumerate(stage.scales, 1):
            x = inception_resnet_block(x, branches, scale, spec, f"{name}_{i}")
    return apply(x, spec.head, spec.convention, "conv_7b")


InceptionV3 = constructor("InceptionV3", "inception_v3", table=INCEPTIONS, body=inception_body)
InceptionResNetV2 = constructor(
    "InceptionResNetV2", "inception_resnet_v2", table=INCEPTION_RESNETS, body=inception_resnet_body
)
