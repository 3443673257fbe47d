"""ResNet v1 and v2, the CIFAR ResNets and their plain twins: rows, two bodies, constructors.

He et al. (2015), "Deep Residual Learning for Image Recognition", arXiv:1512.03385.
He et al. (2016), "Identity Mappings in Deep Residual Networks", arXiv:1603.05027.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from keras import layers

from keras_archs.assemble import Spec, constructor
from keras_archs.blocks import (
    Pool,
    Shortcut,
    Step,
    Tensor,
    Unit,
    apply,
    chain,
    conv,
    identity,
    norm,
    projection,
    residual,
    zero_pad,
)
from keras_archs.conventions import KERAS_RESNET, KERAS_RESNET_V2, TORCH_RESNET, Convention

Block = Callable[[int, int], tuple[Unit, ...]]


def basic(width: int, stride: int) -> tuple[Unit, ...]:
    """F of ResNet-18 and 34: two 3x3 convolutions (He et al. 2015, figure 5 left)."""
    return (
        Unit(width, 3, stride, "explicit"),
        Unit(width, relu=False),
    )


def bottleneck(width: int, stride: int) -> tuple[Unit, ...]:
    """F of ResNet-50 and deeper: 1x1 down, 3x3, 1x1 up (figure 5 right), the stride in the first 1x1."""
    return Unit(width, 1, stride), Unit(width), Unit(4 * width, 1, relu=False)


def preactivated(width: int, stride: int) -> tuple[Unit, ...]:
    """The bottleneck of v2: the stride in the 3x3, nothing after the last convolution."""
    return (
        Unit(width, 1),
        Unit(width, 3, stride, "explicit"),
        Unit(4 * width, 1, norm=False, relu=False),
    )


# Table 1 of the paper: conv1 and the pool in front of conv2_x.
IMAGENET_STEM: tuple[tuple[str, Step], ...] = (
    ("conv1", Unit(64, 7, 2, "explicit")),
    ("pool1", Pool(layers.MaxPooling2D, 3, 2, "explicit")),
)
# Section 4.2: one 3x3 convolution of 16 filters.
CIFAR_STEM: tuple[tuple[str, Step], ...] = (("conv1", Unit(16)),)


@dataclass(frozen=True, kw_only=True)
class ResNetSpec(Spec):
    """A row: stages of residual blocks.

    Attributes:
        block: The residual function F of a block of given width and stride.
        depths: Blocks in each stage.
        first: Shortcut of the first block of each stage; all later ones are the identity. None builds the
            plain network: the same layers without any shortcut.
        width: Filters of the first stage; each stage doubles them and halves the image.
        stem: Steps before the first stage.
    """

    block: Block
    depths: tuple[int, ...]
    first: tuple[Shortcut, ...] | None
    width: int = 64
    stem: tuple[tuple[str, Step], ...] = IMAGENET_STEM


@dataclass(frozen=True, kw_only=True)
class ResNetV2Spec(Spec):
    """A row: stages of pre-activated bottlenecks. Each but the last halves the image in its last block."""

    depths: tuple[int, ...]


_v1 = partial(
    ResNetSpec,
    block=bottleneck,
    first=(projection,) * 4,
    convention=KERAS_RESNET,
    preprocessing="caffe",
    source="He et al. (2015), table 1, arXiv:1512.03385",
)
_small = partial(
    _v1, block=basic, first=(identity, *(projection,) * 3), convention=TORCH_RESNET, preprocessing="torch"
)
_cifar = partial(
    _small,
    first=(identity, zero_pad, zero_pad),
    width=16,
    stem=CIFAR_STEM,
    size=32,
    min_size=8,
    classes=10,
    preprocessing="tf",
    source="He et al. (2015), section 4.2, option A, arXiv:1512.03385",
)
_v2 = partial(
    ResNetV2Spec,
    convention=KERAS_RESNET_V2,
    preprocessing="tf",
    source="He et al. (2016), figure 4e, arXiv:1603.05027",
)

RESNETS: dict[str, ResNetSpec] = {
    "resnet18": _small(depths=(2, 2, 2, 2)),
    "resnet34": _small(depths=(3, 4, 6, 3)),
    "resnet50": _v1(depths=(3, 4, 6, 3)),
    "resnet101": _v1(depths=(3, 4, 23, 3)),
    "resnet152": _v1(depths=(3, 8, 36, 3)),
    "plain18": _small(depths=(2, 2, 2, 2), first=None),
    "plain34": _small(depths=(3, 4, 6, 3), first=None),
    "resnet20": _cifar(depths=(3, 3, 3)),
    "resnet32": _cifar(depths=(5, 5, 5)),
    "resnet44": _cifar(depths=(7, 7, 7)),
    "resnet56": _cifar(depths=(9, 9, 9)),
    "resnet110": _cifar(depths=(18, 18, 18)),
    "plain20": _cifar(depths=(3, 3, 3), first=None),
    "plain32": _cifar(depths=(5, 5, 5), first=None),
    "plain44": _cifar(depths=(7, 7, 7), first=None),
    "plain56": _cifar(depths=(9, 9, 9), first=None),
    "plain110": _cifar(depths=(18, 18, 18), first=None),
}

RESNETS_V2: dict[str, ResNetV2Spec] = {
    "resnet50v2": _v2(depths=(3, 4, 6, 3)),
    "resnet101v2": _v2(depths=(3, 4, 23, 3)),
    "resnet152v2": _v2(depths=(3, 8, 36, 3)),
}


def resnet_body(x: Tensor, spec: ResNetSpec) -> Tensor:
    """Stem and stages of a v1 or plain network: images (N, H, W, C) to features."""
    for name, step in spec.stem:
        x = apply(x, step, spec.convention, name)
    for i, depth in enumerate(spec.depths):
        for j in range(depth):
            stride = 2 if i and not j else 1
            steps = spec.block(spec.width * 2**i, stride)
            name = f"conv{i + 2}_block{j + 1}"
            F = partial(chain, steps=steps, convention=spec.convention, name=name)
            if spec.first is None:
                x = F(x)
            else:
                W_s = partial(
                    identity if j else spec.first[i],
                    filters=steps[-1].filters,
                    stride=stride,
                    convention=spec.convention,
                    name=name,
                )
                x = residual(x, F, W_s, spec.convention, f"{name}_add")
            x = layers.Activation("relu", name=f"{name}_out")(x)
    return x


def preact_block(
    x: Tensor, width: int, stride: int, project: bool, convention: Convention, name: str
) -> Tensor:
    """y = F(relu(bn(x))) + W_s x, where a projection, too, starts from the activated tensor.

    He et al. (2016), section 4.1 (arXiv:1603.05027).

    Args:
        x: Input, (N, H, W, C).
        width: Filters inside the bottleneck; a quarter of the output's.
        stride: Step of the 3x3 convolution; the shortcut of a block that strides subsamples x.
        project: Whether W_s is a 1x1 convolution.
        convention: Numbers and names of the layers.
        name: First part of the layer names.

    Returns:
        (N, H / stride, W / stride, 4 * width), not activated.
    """
    active = norm(x, convention, f"{name}_preact_bn")
    active = layers.Activation("relu", name=f"{name}_preact_relu")(active)
    if project:
        W_s = conv(active, Unit(4 * width, 1, stride, norm=False), convention, f"{name}_0")
    elif stride > 1:
        W_s = layers.MaxPooling2D(1, stride, name=f"{name}_0_pool")(x)
    else:
        W_s = x
    F = chain(active, preactivated(width, stride), convention, name)
    return layers.Add(name=f"{name}_out")([W_s, F])


def resnet_v2_body(x: Tensor, spec: ResNetV2Spec) -> Tensor:
    """Stem, stages and final activation of a v2 network: images (N, H, W, C) to features."""
    stem = Unit(64, 7, 2, "explicit", norm=False, relu=False)
    x = apply(x, stem, spec.convention, "conv1")
    x = apply(x, Pool(layers.MaxPooling2D, 3, 2, "explicit"), spec.convention, "pool1")
    last_stage = len(spec.depths) - 1
    for i, depth in enumerate(spec.depths):
        for j in range(depth):
            # As Keras has it: the first block of a stage projects, the last one strides.
            stride = 2 if j == depth - 1 and i < last_stage else 1
            name = f"conv{i + 2}_block{j + 1}"
            x = preact_block(x, 64 * 2**i, stride, j == 0, spec.convention, name)
    x = norm(x, spec.convention, "post_bn")
    return layers.Activation("relu", name="post_relu")(x)


_resnet = partial(constructor, table=RESNETS, body=resnet_body)
_resnet_v2 = partial(constructor, table=RESNETS_V2, body=resnet_v2_body)

ResNet18 = _resnet("ResNet18", "resnet18")
ResNet34 = _resnet("ResNet34", "resnet34")
ResNet50 = _resnet("ResNet50", "resnet50")
ResNet101 = _resnet("ResNet101", "resnet101")
ResNet152 = _resnet("ResNet152", "resnet152")
ResNet50V2 = _resnet_v2("ResNet50V2", "resnet50v2")
ResNet101V2 = _resnet_v2("ResNet101V2", "resnet101v2")
ResNet152V2 = _resnet_v2("ResNet152V2", "resnet152v2")
ResNet20 = _resnet("ResNet20", "resnet20")
ResNet32 = _resnet("ResNet32", "resnet32")
ResNet44 = _resnet("ResNet44", "resnet44")
ResNet56 = _resnet("ResNet56", "resnet56")
ResNet110 = _resnet("ResNet110", "resnet110")
Plain18 = _resnet("Plain18", "plain18")
Plain34 = _resnet("Plain34", "plain34")
Plain20 = _resnet("Plain20", "plain20")
Plain32 = _resnet("Plain32", "plain32")
Plain44 = _resnet("Plain44", "plain44")
Plain56 = _resnet("Plain56", "plain56")
Plain110 = _resnet("Plain110", "plain110")
