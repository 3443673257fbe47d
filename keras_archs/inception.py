"""Inception v3 and v4: branches as rows, one body, the auxiliary head, constructors.

Szegedy et al. (2015), "Rethinking the Inception Architecture for Computer Vision", arXiv:1512.00567.
Szegedy et al. (2016), "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
arXiv:1602.07261.
"""

from dataclasses import dataclass
from functools import partial

from keras import layers

from keras_archs.assemble import Auxiliary, Head, Spec, constructor
from keras_archs.blocks import Branch, Fork, Pool, Step, Tensor, Unit, apply, inception
from keras_archs.conventions import (
    KERAS_INCEPTION,
    SLIM_INCEPTION,
    TORCH_INCEPTION,
    TORCH_INCEPTION_V3,
    Convention,
)
from keras_archs.weights.layouts import (
    SLIM_INCEPTION_V3,
    SLIM_INCEPTION_V4,
    TORCH_INCEPTION_V3_NAMES,
    TORCH_INCEPTION_V4_NAMES,
)

Module = tuple[Branch, ...]

AVERAGE = Pool(layers.AveragePooling2D, pad="lineage")
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


V3_MODULES: tuple[Module, ...] = (
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
)

# Arxiv 1602.07261, figures 3 to 9: v4.
V4_STEM: tuple[tuple[str, Step], ...] = (
    ("conv1", Unit(32, 3, 2, "valid")),
    ("conv2", Unit(32, 3, 1, "valid")),
    ("conv3", Unit(64)),
)
V4_STEM_3A: Module = ((REDUCE,), (Unit(96, 3, 2, "valid"),))
V4_STEM_4A: Module = (
    (Unit(64, 1), Unit(96, 3, 1, "valid")),
    (Unit(64, 1), Unit(64, (1, 7)), Unit(64, (7, 1)), Unit(96, 3, 1, "valid")),
)
V4_STEM_5A: Module = ((Unit(192, 3, 2, "valid"),), (REDUCE,))
V4_A: Module = (
    (Unit(96, 1),),
    (Unit(64, 1), Unit(96)),
    (Unit(64, 1), Unit(96), Unit(96)),
    (AVERAGE, Unit(96, 1)),
)
V4_REDUCTION_A: Module = (
    (Unit(384, 3, 2, "valid"),),
    (Unit(192, 1), Unit(224), Unit(256, 3, 2, "valid")),
    (REDUCE,),
)
V4_B: Module = (
    (Unit(384, 1),),
    (Unit(192, 1), Unit(224, (1, 7)), Unit(256, (7, 1))),
    (Unit(192, 1), Unit(192, (7, 1)), Unit(224, (1, 7)), Unit(224, (7, 1)), Unit(256, (1, 7))),
    (AVERAGE, Unit(128, 1)),
)
V4_REDUCTION_B: Module = (
    (Unit(192, 1), Unit(192, 3, 2, "valid")),
    (Unit(256, 1), Unit(256, (1, 7)), Unit(320, (7, 1)), Unit(320, 3, 2, "valid")),
    (REDUCE,),
)
V4_FORK = Fork(((Unit(256, (1, 3)),), (Unit(256, (3, 1)),)))
V4_C: Module = (
    (Unit(256, 1),),
    (Unit(384, 1), V4_FORK),
    (Unit(384, 1), Unit(448, (3, 1)), Unit(512, (1, 3)), V4_FORK),
    (AVERAGE, Unit(256, 1)),
)
V4_MODULES = (
    V4_STEM_3A,
    V4_STEM_4A,
    V4_STEM_5A,
    *(V4_A,) * 4,
    V4_REDUCTION_A,
    *(V4_B,) * 7,
    V4_REDUCTION_B,
    *(V4_C,) * 3,
)


@dataclass(frozen=True, kw_only=True)
class InceptionSpec(Spec):
    """A row: the steps of the stem, then the inception modules, module i named `mixed{i}`."""

    stem: tuple[tuple[str, Step], ...]
    modules: tuple[Module, ...]


def halves(module: Module) -> bool:
    """Whether a module halves the image: then its max pool passes through."""
    return (REDUCE,) in module


def inception_body(x: Tensor, spec: InceptionSpec) -> list[Tensor]:
    """Stem and modules: images (N, H, W, C) to features at strides 2 to 32."""
    features = []
    for name, step in spec.stem:
        if step == REDUCE:
            features.append(x)
        x = apply(x, step, spec.convention, name)
    for i, module in enumerate(spec.modules):
        if halves(module):
            features.append(x)
        x = inception(x, module, spec.convention, f"mixed{i}")
    return [*features, x]


def auxiliary_head(x: Tensor, head: Head, convention: Convention) -> Tensor:
    """Arxiv 1512.00567, section 4, and slim: pool, 1x1, a convolution of the whole 5x5, the classes.

    Args:
        x: Features of stride 16, (N, H, W, C), at least 17 high and wide.
        head: Classes and activation.
        convention: Numbers and names of the layers.

    Returns:
        (N, classes).
    """
    name = head.name
    x = layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x)
    x = apply(x, Unit(128, 1), convention, f"{name}_conv1")
    x = apply(x, Unit(768, 5, 1, "valid"), convention, f"{name}_conv2")
    x = layers.GlobalAveragePooling2D(name=f"{name}_avg_pool")(x)
    return layers.Dense(head.classes, activation=head.activation, name=name)(x)


_row = partial(
    InceptionSpec,
    size=299,
    min_size=75,
    residual=False,
)
_inception = partial(constructor, body=inception_body)

InceptionV3 = _inception(
    "InceptionV3",
    "inception_v3",
    _row(
        stem=STEM,
        modules=V3_MODULES,
        convention=KERAS_INCEPTION,
        others=(TORCH_INCEPTION_V3, SLIM_INCEPTION),
        layouts={"torch": (TORCH_INCEPTION_V3_NAMES,), "slim": (SLIM_INCEPTION_V3,)},
        auxiliary=(Auxiliary("mixed7", auxiliary_head, "aux", 299),),
        source="Szegedy et al. (2015), table 1, arXiv:1512.00567",
    ),
)
InceptionV4 = _inception(
    "InceptionV4",
    "inception_v4",
    _row(
        stem=V4_STEM,
        modules=V4_MODULES,
        convention=TORCH_INCEPTION,
        others=(SLIM_INCEPTION,),
        layouts={"torch": (TORCH_INCEPTION_V4_NAMES,), "slim": (SLIM_INCEPTION_V4,)},
        auxiliary=(Auxiliary("mixed14", auxiliary_head, "aux", 299),),
        source="Szegedy et al. (2016), figure 9, arXiv:1602.07261",
    ),
)
