"""GoogLeNet (Inception v1) and Inception v2: branches as rows, one body, auxiliary heads, constructors.

Szegedy et al. (2014), "Going Deeper with Convolutions", arXiv:1409.4842.
Ioffe and Szegedy (2015), "Batch Normalization", arXiv:1502.03167.
"""

from dataclasses import dataclass
from functools import partial

from keras import layers

from keras_archs.assemble import Auxiliary, Head, Spec, constructor
from keras_archs.blocks import Pool, Tensor, Unit, apply, inception, relu
from keras_archs.conventions import PAPER_GOOGLENET, SLIM_INCEPTION, TORCH_GOOGLENET, Convention
from keras_archs.inception import Module
from keras_archs.layers import LocalResponseNormalization
from keras_archs.weights.layouts import SLIM_INCEPTION_V1, SLIM_INCEPTION_V2, TORCH_GOOGLENET_NAMES

REDUCE = Pool(layers.MaxPooling2D, 3, 2, "lineage")
# The last pool is 2x2 in torchvision's and in slim's files, 3x3 in the paper.
REDUCE_2X2 = Pool(layers.MaxPooling2D, 2, 2, "lineage")
AVERAGE = Pool(layers.AveragePooling2D)
MAX = Pool(layers.MaxPooling2D)


def module(one: int, three: tuple[int, int], five: tuple[int, int], pooled: int, size: int) -> Module:
    """Figure 2b: 1x1, 3x3, `size` x `size` and pooled branches, each behind a 1x1 that narrows."""
    return (
        (Unit(one, 1),),
        (Unit(three[0], 1), Unit(three[1], 3)),
        (Unit(five[0], 1), Unit(five[1], size)),
        (MAX, Unit(pooled, 1)),
    )


Entry = tuple[str, Pool | Module]


def v1_modules(size: int, last_pool: Pool) -> tuple[Entry, ...]:
    """Table 1 of the paper; `size` is 5 there, and 3 in every implementation with batch normalization."""
    return (
        ("mixed3a", module(64, (96, 128), (16, 32), 32, size)),
        ("mixed3b", module(128, (128, 192), (32, 96), 64, size)),
        ("pool3", REDUCE),
        ("mixed4a", module(192, (96, 208), (16, 48), 64, size)),
        ("mixed4b", module(160, (112, 224), (24, 64), 64, size)),
        ("mixed4c", module(128, (128, 256), (24, 64), 64, size)),
        ("mixed4d", module(112, (144, 288), (32, 64), 64, size)),
        ("mixed4e", module(256, (160, 320), (32, 128), 128, size)),
        ("pool4", last_pool),
        ("mixed5a", module(256, (160, 320), (32, 128), 128, size)),
        ("mixed5b", module(384, (192, 384), (48, 128), 128, size)),
    )


def v2_module(one: int, three: tuple[int, int], double: tuple[int, int], pool: Pool, pooled: int) -> Module:
    """The 5x5 as two 3x3."""
    return (
        (Unit(one, 1),),
        (Unit(three[0], 1), Unit(three[1])),
        (Unit(double[0], 1), Unit(double[1]), Unit(double[1])),
        (pool, Unit(pooled, 1)),
    )


def v2_reduction(three: tuple[int, int], double: tuple[int, int]) -> Module:
    """Halves the image; no 1x1 branch, and the pool passes through."""
    return (
        (Unit(three[0], 1), Unit(three[1], 3, 2)),
        (Unit(double[0], 1), Unit(double[1]), Unit(double[1], 3, 2)),
        (REDUCE,),
    )


V2_MODULES: tuple[Entry, ...] = (
    ("mixed3b", v2_module(64, (64, 64), (64, 96), AVERAGE, 32)),
    ("mixed3c", v2_module(64, (64, 96), (64, 96), AVERAGE, 64)),
    ("mixed4a", v2_reduction((128, 160), (64, 96))),
    ("mixed4b", v2_module(224, (64, 96), (96, 128), AVERAGE, 128)),
    ("mixed4c", v2_module(192, (96, 128), (96, 128), AVERAGE, 128)),
    ("mixed4d", v2_module(160, (128, 160), (128, 160), AVERAGE, 96)),
    ("mixed4e", v2_module(96, (128, 192), (160, 192), AVERAGE, 96)),
    ("mixed5a", v2_reduction((128, 192), (192, 256))),
    ("mixed5b", v2_module(352, (192, 320), (160, 224), AVERAGE, 128)),
    ("mixed5c", v2_module(352, (192, 320), (192, 224), MAX, 128)),
)


@dataclass(frozen=True, kw_only=True)
class GoogLeNetSpec(Spec):
    """A row: what follows the stem.

    Attributes:
        modules: Names and inception modules or pools.
        separable_stem: Whether the first 7x7 is a separable convolution of eight kernels a channel.
    """

    modules: tuple[Entry, ...]
    separable_stem: bool = False


def googlenet_body(x: Tensor, spec: GoogLeNetSpec) -> list[Tensor]:
    """Stem and modules: images (N, H, W, C) to features at strides 2 to 32."""
    convention = spec.convention
    if spec.separable_stem:
        # slim's argument scope names convolutions only: this layer has a bias and no normalization.
        x = relu(
            layers.SeparableConv2D(64, 7, 2, "same", depth_multiplier=8, name="conv1_conv")(x), "conv1_relu"
        )
    else:
        x = apply(x, Unit(64, 7, 2, "lineage"), convention, "conv1")
    features = [x]
    x = apply(x, REDUCE, convention, "pool1")
    x = x if convention.normalizes else LocalResponseNormalization(name="norm1")(x)
    x = apply(x, Unit(64, 1), convention, "conv2")
    x = apply(x, Unit(192), convention, "conv3")
    x = x if convention.normalizes else LocalResponseNormalization(name="norm2")(x)
    features.append(x)
    x = apply(x, REDUCE, convention, "pool2")
    for name, step in spec.modules:
        if isinstance(step, Pool):
            features.append(x)
            x = apply(x, step, convention, name)
            continue
        if step[-1] == (REDUCE,):
            features.append(x)
        x = inception(x, step, convention, name)
    return [*features, x]


def auxiliary_head(x: Tensor, head: Head, convention: Convention) -> Tensor:
    """Section 5: average pool to 4x4, 128 1x1 convolutions, 1024 units, the classes.

    Args:
        x: Features of stride 16, (N, H, W, C).
        head: Classes and activation; dropout of 70 % as in the paper.
        convention: torchvision pools any size to 4x4; the paper's 5x5 windows of stride 3 make 4x4 of 14x14.

    Returns:
        (N, classes).
    """
    name = head.name
    if convention.name == "torch":
        x = layers.AdaptiveAveragePooling2D(4, name=f"{name}_pool")(x)
    else:
        x = layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x)
    x = apply(x, Unit(128, 1), convention, f"{name}_conv")
    x = layers.Flatten(name=f"{name}_flatten")(x)
    x = layers.Dense(1024, activation="relu", name=f"{name}_fc1")(x)
    x = layers.Dropout(0.7, name=f"{name}_dropout")(x)
    return layers.Dense(head.classes, activation=head.activation, name=name)(x)


_row = partial(
    GoogLeNetSpec,
    residual=False,
    auxiliary=(
        Auxiliary("mixed4a", auxiliary_head, "aux1", 80, flattens=True),
        Auxiliary("mixed4d", auxiliary_head, "aux2", 80, flattens=True),
    ),
    source="Szegedy et al. (2014), table 1, arXiv:1409.4842",
)
_constructor = partial(constructor, body=googlenet_body)

# torchvision's and slim's: batch normalization, and a 3x3 in the place of the 5x5 (vision#906).
GoogLeNet = _constructor(
    "GoogLeNet",
    "googlenet",
    _row(
        modules=v1_modules(3, REDUCE_2X2),
        convention=TORCH_GOOGLENET,
        others=(SLIM_INCEPTION,),
        layouts={"torch": (TORCH_GOOGLENET_NAMES,), "slim": (SLIM_INCEPTION_V1,)},
    ),
)
InceptionV1 = GoogLeNet
# The network of the paper: biases, local response normalization, true 5x5.
GoogLeNet2014 = _constructor(
    "GoogLeNet2014", "googlenet_2014", _row(modules=v1_modules(5, REDUCE), convention=PAPER_GOOGLENET)
)
# slim's. The paper does not place its auxiliary heads: here behind the first and last module of stride 16.
InceptionV2 = _constructor(
    "InceptionV2",
    "inception_v2",
    _row(
        modules=V2_MODULES,
        separable_stem=True,
        convention=SLIM_INCEPTION,
        layouts={"slim": (SLIM_INCEPTION_V2,)},
        auxiliary=(
            Auxiliary("mixed4b", auxiliary_head, "aux1", 80, flattens=True),
            Auxiliary("mixed4e", auxiliary_head, "aux2", 80, flattens=True),
        ),
        source="Ioffe and Szegedy (2015), section 4.2 and figure 5, arXiv:1502.03167",
    ),
)
