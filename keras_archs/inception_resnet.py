"""Inception-ResNet v1 and v2: stages as rows, one body, constructors.

Szegedy et al. (2016), "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
arXiv:1602.07261.
"""

from dataclasses import dataclass
from functools import partial

from keras_archs.assemble import Auxiliary, Spec, constructor
from keras_archs.blocks import Step, Tensor, Unit, apply, inception, relu
from keras_archs.conventions import (
    FACENET_INCEPTION_RESNET,
    KERAS_INCEPTION_RESNET,
    SLIM_INCEPTION_RESNET,
    TORCH_INCEPTION_RESNET,
)
from keras_archs.inception import REDUCE, STEM, Module, auxiliary_head, halves, mixed_a
from keras_archs.layers import ScaledAdd, StochasticAdd, channel_axis
from keras_archs.weights.layouts import (
    SLIM_INCEPTION_RESNET_V1,
    SLIM_INCEPTION_RESNET_V2,
    TORCH_INCEPTION_RESNET_V2,
)


@dataclass(frozen=True)
class Stage:
    """An inception module that changes the width, then residual blocks that keep it.

    Attributes:
        block: Name of the residual blocks, and the branches of their F.
        scales: Scale of F in each block.
        entry: Name of the module in front, and its branches; None if the blocks follow the stem.
    """

    block: tuple[str, Module]
    scales: tuple[float, ...]
    entry: tuple[str, Module] | None = None


@dataclass(frozen=True, kw_only=True)
class InceptionResNetSpec(Spec):
    """A row: the steps of the stem, stages of scaled residual inception blocks, the last convolution."""

    stem: tuple[tuple[str, Step], ...]
    stages: tuple[Stage, ...]
    last: Unit | None


def inception_resnet_body(x: Tensor, spec: InceptionResNetSpec) -> list[Tensor]:
    """Stem, stages and last convolution: images (N, H, W, C) to features at strides 2 to 32."""
    features = []
    for name, step in spec.stem:
        if step == REDUCE or name == "conv6":
            features.append(x)
        x = apply(x, step, spec.convention, name)
    total, count = sum(len(stage.scales) for stage in spec.stages), 0
    for stage in spec.stages:
        if stage.entry:
            name, module = stage.entry
            if halves(module):
                features.append(x)
            x = inception(x, module, spec.convention, name)
        name, branches = stage.block
        for i, scale in enumerate(stage.scales, 1):
            rate = spec.drop_path_rate * count / (total - 1)
            x = inception_resnet_block(x, branches, scale, rate, spec, f"{name}_{i}")
            count += 1
    if spec.last:
        x = apply(x, spec.last, spec.convention, "conv_7b")
    return [*features, x]


def inception_resnet_block(
    x: Tensor, branches: Module, scale: float, rate: float, spec: InceptionResNetSpec, name: str
) -> Tensor:
    """y = relu(x + scale * conv1x1(inception(x))); a block of scale 1 ends without the ReLU."""
    mixed = inception(x, branches, spec.convention, f"{name}_mixed")
    up = Unit(x.shape[channel_axis()], 1, norm=False, relu=False, last=True)
    update = apply(mixed, up, spec.convention, f"{name}_conv")
    add = (
        StochasticAdd(rate, scale=scale, name=f"{name}_add") if rate else ScaledAdd(scale, name=f"{name}_add")
    )
    x = add([x, update])
    return x if scale == 1.0 else relu(x, f"{name}_ac")


# Figures 10 to 13 and 3: v1, as facenet has it.
V1_STEM = (*STEM[:-1], ("conv6", Unit(256, 3, 2, "valid")))
V1_STAGES = (
    Stage(
        block=("block35", ((Unit(32, 1),), (Unit(32, 1), Unit(32)), (Unit(32, 1), Unit(32), Unit(32)))),
        scales=(0.17,) * 5,
    ),
    Stage(
        entry=(
            "mixed_6a",
            (
                (Unit(384, 3, 2, "valid"),),
                (Unit(192, 1), Unit(192), Unit(256, 3, 2, "valid")),
                (REDUCE,),
            ),
        ),
        block=("block17", ((Unit(128, 1),), (Unit(128, 1), Unit(128, (1, 7)), Unit(128, (7, 1))))),
        scales=(0.1,) * 10,
    ),
    Stage(
        entry=(
            "mixed_7a",
            (
                (Unit(256, 1), Unit(384, 3, 2, "valid")),
                (Unit(256, 1), Unit(256, 3, 2, "valid")),
                (Unit(256, 1), Unit(256), Unit(256, 3, 2, "valid")),
                (REDUCE,),
            ),
        ),
        block=("block8", ((Unit(192, 1),), (Unit(192, 1), Unit(192, (1, 3)), Unit(192, (3, 1))))),
        # The last block is neither scaled nor activated.
        scales=(*(0.2,) * 5, 1.0),
    ),
)
# Figures 16 to 19 and 3: v2.
V2_STAGES = (
    Stage(
        entry=("mixed_5b", ((Unit(96, 1),), *mixed_a(64)[1:])),
        block=("block35", ((Unit(32, 1),), (Unit(32, 1), Unit(32)), (Unit(32, 1), Unit(48), Unit(64)))),
        scales=(0.17,) * 10,
    ),
    Stage(
        entry=(
            "mixed_6a",
            (
                (Unit(384, 3, 2, "valid"),),
                (Unit(256, 1), Unit(256), Unit(384, 3, 2, "valid")),
                (REDUCE,),
            ),
        ),
        block=("block17", ((Unit(192, 1),), (Unit(128, 1), Unit(160, (1, 7)), Unit(192, (7, 1))))),
        scales=(0.1,) * 20,
    ),
    Stage(
        entry=(
            "mixed_7a",
            (
                (Unit(256, 1), Unit(384, 3, 2, "valid")),
                (Unit(256, 1), Unit(288, 3, 2, "valid")),
                (Unit(256, 1), Unit(288), Unit(320, 3, 2, "valid")),
                (REDUCE,),
            ),
        ),
        block=("block8", ((Unit(192, 1),), (Unit(192, 1), Unit(224, (1, 3)), Unit(256, (3, 1))))),
        scales=(*(0.2,) * 9, 1.0),
    ),
)

_row = partial(InceptionResNetSpec, size=299, min_size=75)
_inception_resnet = partial(constructor, body=inception_resnet_body)

InceptionResNetV1 = _inception_resnet(
    "InceptionResNetV1",
    "inception_resnet_v1",
    _row(
        stem=V1_STEM,
        stages=V1_STAGES,
        last=None,
        convention=FACENET_INCEPTION_RESNET,
        layouts={"slim": (SLIM_INCEPTION_RESNET_V1,)},
        auxiliary=(Auxiliary("block17_10_ac", auxiliary_head, "aux", 299),),
        source="Szegedy et al. (2016), figure 15 left, arXiv:1602.07261",
    ),
)
InceptionResNetV2 = _inception_resnet(
    "InceptionResNetV2",
    "inception_resnet_v2",
    _row(
        stem=STEM,
        stages=V2_STAGES,
        last=Unit(1536, 1),
        convention=KERAS_INCEPTION_RESNET,
        others=(TORCH_INCEPTION_RESNET, SLIM_INCEPTION_RESNET),
        layouts={"torch": (TORCH_INCEPTION_RESNET_V2,), "slim": (SLIM_INCEPTION_RESNET_V2,)},
        auxiliary=(Auxiliary("block17_20_ac", auxiliary_head, "aux", 299),),
        source="Szegedy et al. (2016), figure 15, arXiv:1602.07261",
    ),
)
