"""Pre-activated ResNets (v2): Keras' and timm's layout, Big Transfer, the CIFAR and the wide networks.

He et al. (2016), "Identity Mappings in Deep Residual Networks", arXiv:1603.05027.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from keras_archs.assemble import Spec, constructor
from keras_archs.blocks import (
    Shortcut,
    Tensor,
    Unit,
    average_2x2,
    chain,
    conv,
    identity,
    norm,
    relu,
    residual,
)
from keras_archs.conventions import (
    CIFAR_PREACT,
    KERAS_RESNET_V2,
    SLIM_RESNET_V2,
    TORCH_BIT,
    TORCH_RESNET_V2,
    TORCH_RESNET_V2_GN,
    Convention,
)
from keras_archs.layers import channel_axis
from keras_archs.resnet import (
    CIFAR_IMAGES,
    L18,
    L34,
    L50,
    L101,
    L152,
    L200,
    POOL,
    Place,
    Stem,
    stages,
    unit3x3,
)
from keras_archs.weights.layouts import SLIM_RESNET_PREACT, TORCH_RESNET_PREACT


@dataclass(frozen=True, kw_only=True)
class PreactSpec(Spec):
    """A row: stages of pre-activated blocks.

    Attributes:
        block: The residual function F, after its first normalization and ReLU, of the block at a place.
        depths: Blocks in each stage.
        shortcut: Shortcut of a block that widens; it starts from the activated tensor.
        width: Filters of the first stage's bottleneck or basic block; each stage doubles them.
        widen: Factor of all widths but the CIFAR stem's.
        stem: Steps before the first stage; the features of stride 2 stand before "pool1".
    """

    block: "Callable[[PreactSpec, Place], tuple[Unit, ...]]"
    depths: tuple[int, ...]
    shortcut: Shortcut
    width: int = 64
    widen: int = 1
    stem: Stem


def project(
    x: Tensor, filters: int, stride: int, convention: Convention, name: str, dilated: bool = False
) -> Tensor:
    """W_s = a 1x1 convolution without normalization: the sum is normalized by the next block."""
    return conv(x, Unit(filters, 1, stride, norm=False), convention, f"{name}_0")


def project_average(
    x: Tensor, filters: int, stride: int, convention: Convention, name: str, dilated: bool = False
) -> Tensor:
    """The same behind a 2x2 average pool that strides: ResNet-D, He et al. (2018), arXiv:1812.01187."""
    return project(average_2x2(x, stride, dilated, name), filters, 1, convention, name)


def basic(spec: PreactSpec, place: Place) -> tuple[Unit, ...]:
    """Two 3x3 convolutions, nothing after the second."""
    width = spec.width * spec.widen << place.stage
    return (
        unit3x3(width, place.stride, place.before),
        Unit(width, dilation=place.dilation, norm=False, relu=False, last=True),
    )


def bottleneck(spec: PreactSpec, place: Place) -> tuple[Unit, ...]:
    """1x1 down, 3x3 that strides, 1x1 up, nothing after the last."""
    width = spec.width * spec.widen << place.stage
    spatial = unit3x3(width, place.stride, place.before)
    if spec.convention.name == "keras":  # keras.applications pads each 3x3 in a layer of its own
        spatial = replace(spatial, pad="explicit")
    return (
        Unit(width, 1),
        spatial,
        Unit(4 * width, 1, norm=False, relu=False, last=True),
    )


def preact_block(x: Tensor, spec: PreactSpec, place: Place) -> Tensor:
    """y = F(relu(bn(x))) + W_s x, where a projection, too, starts from the activated tensor.

    He et al. (2016), section 4.1 (arXiv:1603.05027).

    Args:
        x: Input, (N, H, W, C).
        spec: The row.
        place: Where the block stands.

    Returns:
        (N, H / stride, W / stride, filters of the last convolution), not activated.
    """
    steps, convention, name = spec.block(spec, place), spec.convention, place.name
    active = relu(norm(x, convention, f"{name}_preact_bn"), f"{name}_preact_relu")
    widens = x.shape[channel_axis()] != steps[-1].filters

    def F(_: Tensor) -> Tensor:
        return chain(active, steps, convention, name)

    def W_s(x: Tensor) -> Tensor:
        shortcut = spec.shortcut if widens else identity
        start = active if widens else x
        return shortcut(start, steps[-1].filters, place.stride, convention, name, place.dilates)

    return residual(x, F, W_s, convention, f"{name}_out", place.rate)


def preact_body(x: Tensor, spec: PreactSpec) -> list[Tensor]:
    """Stem, stages and final activation of a v2 network: images (N, H, W, C) to features."""
    *features, x = stages(x, spec, preact_block)
    return [*features, relu(norm(x, spec.convention, "post_bn"), "post_relu")]


def bare(filters: int, kernel: int = 3, stride: int = 1) -> Unit:
    """A convolution alone: the first block normalizes."""
    return Unit(filters, kernel, stride, "explicit" if stride > 1 else "same", norm=False, relu=False)


CIFAR_STEM: Stem = (("conv1", bare(16)),)


def _stem(width: int = 64) -> Stem:
    return ("conv1", bare(width, 7, 2)), POOL


def _deep_stem(first: int, second: int, third: int) -> Stem:
    return (
        ("conv1_1", Unit(first, 3, 2, "explicit")),
        ("conv1_2", Unit(second)),
        ("conv1_3", bare(third)),
        POOL,
    )


TORCH = {"torch": (TORCH_RESNET_PREACT,)}
_row = partial(
    PreactSpec,
    block=bottleneck,
    shortcut=project,
    stem=_stem(),
    output_strides=(8, 16, 32),
    source="He et al. (2016), figure 4e, arXiv:1603.05027",
)
# Keras and slim stride in the last block of a stage, PyTorch in the first of the next: two graphs, two names.
_keras = partial(
    _row,
    convention=KERAS_RESNET_V2,
    others=(SLIM_RESNET_V2,),
    layouts={"slim": (SLIM_RESNET_PREACT,)},
)
_torch = partial(_row, convention=TORCH_RESNET_V2, layouts=TORCH)
_d = partial(_torch, stem=_deep_stem(32, 32, 64), shortcut=project_average)
_t = partial(_d, stem=_deep_stem(24, 32, 64))
_bit = partial(_torch, convention=TORCH_BIT, source="Kolesnikov et al. (2019), section 3, arXiv:1912.11370")
_cifar = partial(
    _row,
    block=basic,
    width=16,
    stem=CIFAR_STEM,
    convention=CIFAR_PREACT,
    **CIFAR_IMAGES,
    source="He et al. (2016), table 3, arXiv:1603.05027",
)
_wide = partial(_cifar, source="Zagoruyko and Komodakis (2016), table 1, arXiv:1605.07146")

_resnet = partial(constructor, body=preact_body)

ResNet18V2 = _resnet("ResNet18V2", "resnet18v2", _keras(depths=L18, block=basic))
ResNet34V2 = _resnet("ResNet34V2", "resnet34v2", _keras(depths=L34, block=basic))
ResNet50V2 = _resnet("ResNet50V2", "resnet50v2", _keras(depths=L50))
ResNet101V2 = _resnet("ResNet101V2", "resnet101v2", _keras(depths=L101))
ResNet152V2 = _resnet("ResNet152V2", "resnet152v2", _keras(depths=L152))
ResNet200V2 = _resnet("ResNet200V2", "resnet200v2", _keras(depths=L200))

ResNetV2_18 = _resnet("ResNetV2_18", "resnetv2_18", _torch(depths=L18, block=basic))
ResNetV2_18D = _resnet("ResNetV2_18D", "resnetv2_18d", _d(depths=L18, block=basic))
ResNetV2_34 = _resnet("ResNetV2_34", "resnetv2_34", _torch(depths=L34, block=basic))
ResNetV2_34D = _resnet("ResNetV2_34D", "resnetv2_34d", _d(depths=L34, block=basic))
ResNetV2_50 = _resnet("ResNetV2_50", "resnetv2_50", _torch(depths=L50))
ResNetV2_50D = _resnet("ResNetV2_50D", "resnetv2_50d", _d(depths=L50))
ResNetV2_50T = _resnet("ResNetV2_50T", "resnetv2_50t", _t(depths=L50))
ResNetV2_101 = _resnet("ResNetV2_101", "resnetv2_101", _torch(depths=L101))
ResNetV2_101D = _resnet("ResNetV2_101D", "resnetv2_101d", _d(depths=L101))
ResNetV2_152 = _resnet("ResNetV2_152", "resnetv2_152", _torch(depths=L152))
ResNetV2_152D = _resnet("ResNetV2_152D", "resnetv2_152d", _d(depths=L152))
ResNetV2_50D_GN = _resnet("ResNetV2_50D_GN", "resnetv2_50d_gn", _d(depths=L50, convention=TORCH_RESNET_V2_GN))

BiT_R50x1 = _resnet("BiT_R50x1", "resnetv2_50x1_bit", _bit(depths=L50))
BiT_R50x3 = _resnet("BiT_R50x3", "resnetv2_50x3_bit", _bit(depths=L50, widen=3, stem=_stem(192)))
BiT_R101x1 = _resnet("BiT_R101x1", "resnetv2_101x1_bit", _bit(depths=L101))
BiT_R101x3 = _resnet("BiT_R101x3", "resnetv2_101x3_bit", _bit(depths=L101, widen=3, stem=_stem(192)))
BiT_R152x2 = _resnet("BiT_R152x2", "resnetv2_152x2_bit", _bit(depths=L152, widen=2, stem=_stem(128)))
BiT_R152x4 = _resnet("BiT_R152x4", "resnetv2_152x4_bit", _bit(depths=L152, widen=4, stem=_stem(256)))

# 6n + 2 layers of basic blocks, 9n + 2 of bottlenecks.
PreactResNet110 = _resnet("PreactResNet110", "preact_resnet110", _cifar(depths=(18, 18, 18)))
PreactResNet164 = _resnet(
    "PreactResNet164", "preact_resnet164", _cifar(depths=(18, 18, 18), block=bottleneck)
)
PreactResNet1001 = _resnet(
    "PreactResNet1001", "preact_resnet1001", _cifar(depths=(111, 111, 111), block=bottleneck)
)
# 6n + 4 layers: the projections count.
WideResNet16_4 = _resnet("WideResNet16_4", "wide_resnet16_4", _wide(depths=(2, 2, 2), widen=4))
WideResNet16_8 = _resnet("WideResNet16_8", "wide_resnet16_8", _wide(depths=(2, 2, 2), widen=8))
WideResNet28_2 = _resnet("WideResNet28_2", "wide_resnet28_2", _wide(depths=(4, 4, 4), widen=2))
WideResNet28_10 = _resnet("WideResNet28_10", "wide_resnet28_10", _wide(depths=(4, 4, 4), widen=10))
WideResNet40_2 = _resnet("WideResNet40_2", "wide_resnet40_2", _wide(depths=(6, 6, 6), widen=2))
WideResNet40_4 = _resnet("WideResNet40_4", "wide_resnet40_4", _wide(depths=(6, 6, 6), widen=4))
