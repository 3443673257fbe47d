"""ResNet v1 and what grew from it: rows, one body, constructors.

He et al. (2015), "Deep Residual Learning for Image Recognition", arXiv:1512.03385.

A row is a combination of published ideas: depth, stem, shortcut, width, groups, attention, anti-aliasing.
Pre-activated networks (v2) are in resnet_preact.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from keras import layers

from keras_archs.assemble import Spec, constructor
from keras_archs.blocks import (
    Attention,
    Pool,
    Shortcut,
    Step,
    Tensor,
    Unit,
    apply,
    averaged,
    chain,
    efficient_attention,
    identity,
    projection,
    relu,
    residual,
    squeeze_excite,
    wide_projection,
    zero_pad,
)
from keras_archs.conventions import (
    CIFAR,
    KERAS_RESNET,
    SLIM_RESNET,
    TORCH_RESNET,
    TORCH_RESNET_GN,
    Padding,
)
from keras_archs.layers import BlurPooling2D, channel_axis
from keras_archs.weights.layouts import SLIM_RESNET_V1, TORCH_RESNET_V1, TORCH_RESNET_V1_POOLED


@dataclass(frozen=True)
class Place:
    """Where a block stands.

    Attributes:
        stage: Number of the stage, from 0.
        block: Number of the block in it, from 0.
        halves: Whether the network, undilated, halves the image here.
        stride: Step of F: 2 where it halves the image, 1 where it dilates instead.
        before: Dilation that F starts with.
        dilation: Dilation that F ends with.
        rate: Share of images that lose F in training.
    """

    stage: int
    block: int
    halves: bool
    stride: int
    before: int
    dilation: int
    rate: float

    @property
    def dilates(self) -> bool:
        """Whether F dilates here instead of striding."""
        return self.before != self.dilation

    @property
    def name(self) -> str:
        """First part of the block's layer names."""
        return f"conv{self.stage + 2}_block{self.block + 1}"


def places(depths: tuple[int, ...], spec: Spec) -> Iterator[Place]:
    """The blocks of a network in order.

    Args:
        depths: Blocks in each stage; each stage but the first halves the image.
        spec: Its convention says whether the first block of a stage strides, or the last of the one before;
            its `output_stride` from where on blocks dilate instead, its `drop_path_rate` how often they drop.

    Yields:
        A place for each block.
    """
    total = sum(depths)
    stride, dilation, count = spec.output_strides[-1] >> len(depths) - 1, 1, 0
    for i, depth in enumerate(depths):
        for j in range(depth):
            if spec.convention.stride_unit == "last":
                halves = j == depth - 1 and i < len(depths) - 1
            else:
                halves = j == 0 and i > 0
            before, step = dilation, 1
            if halves and stride < spec.output_stride:
                stride, step = 2 * stride, 2
            elif halves:
                dilation *= 2
            rate = spec.drop_path_rate * count / (total - 1)
            yield Place(i, j, halves, step, before, dilation, rate)
            count += 1


def unit3x3(
    width: int, stride: int, dilation: int, groups: int = 1, blur: Pool | None = None, dilates: bool = False
) -> Unit:
    """A 3x3 convolution that strides; `blur` strides in its place after the ReLU.

    Args:
        width: Filters.
        stride: Step.
        dilation: Distance between the samples of the kernel.
        groups: Groups of channels.
        blur: Anti-aliasing pool.
        dilates: Whether the block dilates where the network would stride: a filter then still blurs, a mean
            of what is skipped has nothing to do.

    Returns:
        The unit.
    """
    pool = None
    if blur and (stride > 1 or (dilates and blur.kind is BlurPooling2D)):
        pool, stride = replace(blur, stride=stride), 1
    pad: Padding = "explicit" if stride > 1 else "same"
    return Unit(width, 3, stride, pad, groups=groups, dilation=dilation, pool=pool)


Stem = tuple[tuple[str, Step], ...]


@dataclass(frozen=True, kw_only=True)
class ResNetSpec(Spec):
    """A row: stages of residual blocks.

    Attributes:
        block: The residual function F of the block at a place.
        depths: Blocks in each stage.
        first: Shortcut of a block that widens. None builds the plain network: the same layers without any
            shortcut.
        rest: Shortcut of all other blocks.
        width: Filters of the first stage; each stage doubles them and halves the image.
        groups: Groups of a bottleneck's 3x3 convolution.
        group_width: Width of a bottleneck of 64 filters, for each group.
        squeeze: Divides the width of a bottleneck's first convolution (SENet-154).
        attention: Channel attention at the end of F.
        blur: Pool that strides in place of convolutions.
        stem: Steps before the first stage; the features of stride 2 stand before "pool1".
    """

    block: "Callable[[ResNetSpec, Place], tuple[Unit, ...]]"
    depths: tuple[int, ...]
    first: Shortcut | None = projection
    rest: Shortcut = identity
    width: int = 64
    groups: int = 1
    group_width: int = 64
    squeeze: int = 1
    attention: Attention | None = None
    blur: Pool | None = None
    stem: Stem


def basic(spec: ResNetSpec, place: Place) -> tuple[Unit, ...]:
    """F of ResNet-18 and 34: two 3x3 convolutions (He et al. 2015, figure 5 left)."""
    width = spec.width << place.stage
    return (
        unit3x3(width, place.stride, place.before, 1, spec.blur, place.dilates),
        Unit(width, dilation=place.dilation, relu=False, last=True),
    )


def bottleneck(spec: ResNetSpec, place: Place) -> tuple[Unit, ...]:
    """F of ResNet-50 and deeper: 1x1 down, 3x3, 1x1 up (figure 5 right).

    v1 strides in the first 1x1, v1.5 in the 3x3. ResNeXt: groups of the 3x3 (Xie et al. 2016, figure 3c,
    arXiv:1611.05431).
    """
    filters = spec.width << place.stage
    width = filters * spec.group_width // 64 * spec.groups
    down, stride, dilation = 1, place.stride, place.before
    if spec.convention.stride_in == "first":  # the 3x3 sees what the 1x1 left
        down, stride, dilation = place.stride, 1, place.dilation
    return (
        Unit(width // spec.squeeze, 1, down),
        unit3x3(width, stride, dilation, spec.groups, spec.blur, place.dilates),
        Unit(4 * filters, 1, relu=False, last=True),
    )


def stages(x: Tensor, spec: Any, block: Callable[[Tensor, Any, Place], Tensor]) -> list[Tensor]:
    """The stem and all blocks of a row, v1 or pre-activated.

    Args:
        x: Images, (N, H, W, C).
        spec: The row; its `stem` and `depths`.
        block: A block at a place.

    Returns:
        The features in front of every halving, then those of the last block.
    """
    features = []
    for name, step in spec.stem:
        if name == "pool1":
            features.append(x)
        x = apply(x, step, spec.convention, name)
    for place in places(spec.depths, spec):
        if place.halves:
            features.append(x)
        x = block(x, spec, place)
    return [*features, x]


def resnet_block(x: Tensor, spec: ResNetSpec, place: Place) -> Tensor:
    """y = relu(F(x) + W_s x), or relu(F(x)) in a plain network: (N, H, W, C)."""
    steps, name = spec.block(spec, place), place.name

    def F(x: Tensor) -> Tensor:
        y = chain(x, steps, spec.convention, name)
        return spec.attention(y, name) if spec.attention else y

    if spec.first is None:
        return relu(F(x), f"{name}_out")
    filters = steps[-1].filters
    W_s = partial(
        spec.rest if x.shape[channel_axis()] == filters else spec.first,
        filters=filters,
        stride=place.stride,
        convention=spec.convention,
        name=name,
        dilated=place.dilates,
    )
    y = residual(x, F, W_s, spec.convention, f"{name}_add", place.rate)
    return relu(y, f"{name}_out")


# Table 1 of the paper: conv1 and the pool in front of conv2_x.
POOL = ("pool1", Pool(layers.MaxPooling2D, 3, 2, "lineage"))
IMAGENET_STEM: Stem = (("conv1", Unit(64, 7, 2, "explicit")), POOL)
# Section 4.2: one 3x3 convolution of 16 filters.
CIFAR_STEM: Stem = (("conv1", Unit(16)),)


def deep_stem(first: int, second: int, third: int, pool: tuple[str, Step] = POOL) -> Stem:
    """Three 3x3 convolutions for the 7x7: ResNet-C, He et al. (2018), figure 2b (arXiv:1812.01187)."""
    return (
        ("conv1_1", Unit(first, 3, 2, "explicit")),
        ("conv1_2", Unit(second)),
        ("conv1_3", Unit(third)),
        pool,
    )


C_STEM = deep_stem(32, 32, 64)
S_STEM = deep_stem(64, 64, 128)
T_STEM = deep_stem(24, 32, 64)  # "tiered", from timm
RS_STEM = deep_stem(32, 32, 64, ("pool1", Unit(64, 3, 2, "explicit")))

# Anti-aliasing: a binomial filter (Zhang 2019, arXiv:1904.11486), or the mean of what the stride skips.
BLUR = Pool(BlurPooling2D, 3, 2, "reflect")
MEAN = Pool(layers.AveragePooling2D, 2, 2, "valid")


def _blurred(stem: Stem) -> Stem:
    return (*stem[:-1], ("pool1", Pool(layers.MaxPooling2D, 3, 1, "same")), ("blur1", BLUR))


def _averaged(stem: Stem) -> Stem:
    return (*stem[:-1], ("pool1", MEAN))


# Blocks in each stage, by the usual number of layers.
L10, L18, L34, L269 = (1, 1, 1, 1), (2, 2, 2, 2), (3, 4, 6, 3), (3, 30, 48, 8)
L50, L101, L152, L200 = L34, (3, 4, 23, 3), (3, 8, 36, 3), (3, 24, 36, 3)
TORCH = {"torch": (TORCH_RESNET_V1,)}
TORCH_POOLED = {"torch": (TORCH_RESNET_V1_POOLED,)}

# One idea a line; a row names its ideas.
_row = partial(
    ResNetSpec,
    block=bottleneck,
    stem=IMAGENET_STEM,
    convention=TORCH_RESNET,
    layouts=TORCH,
    output_strides=(8, 16, 32),
    source="He et al. (2015), table 1, arXiv:1512.03385",
)
_small = partial(_row, block=basic)
# The name ResNet50 implies Keras' v1 in a Keras package; torchvision's weights bring their own v1.5.
_three = partial(
    _row,
    convention=KERAS_RESNET,
    others=(TORCH_RESNET, SLIM_RESNET),
    layouts={**TORCH, "slim": (SLIM_RESNET_V1,)},
)
_c = partial(_row, stem=C_STEM, source="He et al. (2018), figure 2b, arXiv:1812.01187")
_s = partial(_row, stem=S_STEM, source="GluonCV model zoo, resnet_v1s")
_d = partial(
    _row,
    stem=C_STEM,
    first=averaged,
    layouts=TORCH_POOLED,
    source="He et al. (2018), figures 2b and 2c, arXiv:1812.01187",
)
_t = partial(_d, stem=T_STEM, source="timm, tiered stem; He et al. (2018), figure 2c, arXiv:1812.01187")
_x = partial(_row, groups=32, source="Xie et al. (2016), table 1, arXiv:1611.05431")
_wide = partial(_row, group_width=128, source="Zagoruyko and Komodakis (2016), arXiv:1605.07146")
SE_SOURCE = "Hu et al. (2017), table 1, arXiv:1709.01507"
_se = partial(_row, attention=squeeze_excite, source=SE_SOURCE)
_sed = partial(_d, attention=squeeze_excite, source=SE_SOURCE)
_sex = partial(_se, groups=32)
_sexd = partial(_sed, groups=32)
ECA_SOURCE = "Wang et al. (2019), table 3, arXiv:1910.03151"
_ecad = partial(_d, attention=efficient_attention, source=ECA_SOURCE)
_ecat = partial(_ecad, stem=T_STEM)
BLUR_SOURCE = "Zhang (2019), section 3.3, arXiv:1904.11486"
_blur = partial(_row, blur=BLUR, stem=_blurred(IMAGENET_STEM), source=BLUR_SOURCE)
_blurd = partial(_d, blur=BLUR, stem=_blurred(C_STEM), source=BLUR_SOURCE)
_aa = partial(_row, blur=MEAN, stem=_averaged(IMAGENET_STEM), source="timm, anti-aliased by average pools")
_aad = partial(_d, blur=MEAN, stem=_averaged(C_STEM), source="timm, anti-aliased by average pools")
_rs = partial(
    _d,
    stem=RS_STEM,
    attention=partial(squeeze_excite, ratio=1 / 4),
    source="Bello et al. (2021), table 8, arXiv:2103.07579",
)
# Section 4.2: images of 32 pixels, three stages, ten classes; options A, B and C differ in the shortcut only.
CIFAR_IMAGES: dict[str, Any] = {
    "size": 32,
    "min_size": 8,
    "classes": 10,
    "strides": (1, 2, 4),
    "output_strides": (4,),
    "output_stride": 4,
}
_cifar = partial(
    _small,
    first=zero_pad,
    width=16,
    stem=CIFAR_STEM,
    convention=CIFAR,
    layouts={},
    **CIFAR_IMAGES,
    source="He et al. (2015), section 4.2, option A, arXiv:1512.03385",
)
_cifar_b = partial(
    _cifar, first=projection, source="He et al. (2015), section 4.2, option B, arXiv:1512.03385"
)
_cifar_c = partial(
    _cifar_b, rest=projection, source="He et al. (2015), section 4.2, option C, arXiv:1512.03385"
)
_plain = partial(_small, first=None, residual=False, layouts={})
_plain_cifar = partial(_cifar, first=None, residual=False)

_resnet = partial(constructor, body=partial(stages, block=resnet_block))

ResNet10 = _resnet("ResNet10", "resnet10", _small(depths=L10, source="tf-models official/vision, resnet.py"))
ResNet18 = _resnet("ResNet18", "resnet18", _small(depths=L18))
# timm's: bottlenecks. That of tf-models has basic blocks 3, 3, 3, 3.
ResNet26 = _resnet("ResNet26", "resnet26", _row(depths=L18))
ResNet34 = _resnet("ResNet34", "resnet34", _small(depths=L34))
ResNet50 = _resnet("ResNet50", "resnet50", _three(depths=L50))
ResNet101 = _resnet("ResNet101", "resnet101", _three(depths=L101))
ResNet152 = _resnet("ResNet152", "resnet152", _three(depths=L152))
# 3, 24, 36, 3 as in timm and slim. PaddleClas has 3, 12, 48, 3.
ResNet200 = _resnet(
    "ResNet200",
    "resnet200",
    _row(depths=L200, others=(SLIM_RESNET,), layouts={**TORCH, "slim": (SLIM_RESNET_V1,)}),
)
ResNet50GN = _resnet(
    "ResNet50GN",
    "resnet50_gn",
    _row(depths=L50, convention=TORCH_RESNET_GN, source="Wu and He (2018), section 4.1, arXiv:1803.08494"),
)
ResNet50C = _resnet("ResNet50C", "resnet50c", _c(depths=L50))
ResNet101C = _resnet("ResNet101C", "resnet101c", _c(depths=L101))
ResNet152C = _resnet("ResNet152C", "resnet152c", _c(depths=L152))
ResNet18D = _resnet("ResNet18D", "resnet18d", _d(depths=L18, block=basic))
ResNet26D = _resnet("ResNet26D", "resnet26d", _d(depths=L18))
ResNet34D = _resnet("ResNet34D", "resnet34d", _d(depths=L34, block=basic))
ResNet50D = _resnet("ResNet50D", "resnet50d", _d(depths=L50))
ResNet101D = _resnet("ResNet101D", "resnet101d", _d(depths=L101))
ResNet152D = _resnet("ResNet152D", "resnet152d", _d(depths=L152))
ResNet200D = _resnet("ResNet200D", "resnet200d", _d(depths=L200))
ResNet50S = _resnet("ResNet50S", "resnet50s", _s(depths=L50))
ResNet101S = _resnet("ResNet101S", "resnet101s", _s(depths=L101))
ResNet152S = _resnet("ResNet152S", "resnet152s", _s(depths=L152))
ResNet10T = _resnet("ResNet10T", "resnet10t", _t(depths=L10, block=basic))
ResNet14T = _resnet("ResNet14T", "resnet14t", _t(depths=L10))
ResNet26T = _resnet("ResNet26T", "resnet26t", _t(depths=L18))
ResNet50T = _resnet("ResNet50T", "resnet50t", _t(depths=L50))

ResNeXt50_32x4d = _resnet("ResNeXt50_32x4d", "resnext50_32x4d", _x(depths=L50, group_width=4))
ResNeXt50D_32x4d = _resnet("ResNeXt50D_32x4d", "resnext50d_32x4d", _d(depths=L50, groups=32, group_width=4))
ResNeXt101_32x4d = _resnet("ResNeXt101_32x4d", "resnext101_32x4d", _x(depths=L101, group_width=4))
ResNeXt101_32x8d = _resnet("ResNeXt101_32x8d", "resnext101_32x8d", _x(depths=L101, group_width=8))
ResNeXt101_32x16d = _resnet("ResNeXt101_32x16d", "resnext101_32x16d", _x(depths=L101, group_width=16))
ResNeXt101_32x32d = _resnet("ResNeXt101_32x32d", "resnext101_32x32d", _x(depths=L101, group_width=32))
ResNeXt101_64x4d = _resnet("ResNeXt101_64x4d", "resnext101_64x4d", _x(depths=L101, groups=64, group_width=4))
WideResNet50_2 = _resnet("WideResNet50_2", "wide_resnet50_2", _wide(depths=L50))
WideResNet101_2 = _resnet("WideResNet101_2", "wide_resnet101_2", _wide(depths=L101))

SEResNet18 = _resnet("SEResNet18", "seresnet18", _se(depths=L18, block=basic))
SEResNet34 = _resnet("SEResNet34", "seresnet34", _se(depths=L34, block=basic))
SEResNet50 = _resnet("SEResNet50", "seresnet50", _se(depths=L50))
SEResNet50T = _resnet("SEResNet50T", "seresnet50t", _sed(depths=L50, stem=T_STEM))
SEResNet101 = _resnet("SEResNet101", "seresnet101", _se(depths=L101))
SEResNet152 = _resnet("SEResNet152", "seresnet152", _se(depths=L152))
SEResNet152D = _resnet("SEResNet152D", "seresnet152d", _sed(depths=L152))
SEResNet200D = _resnet("SEResNet200D", "seresnet200d", _sed(depths=L200))
SEResNet269D = _resnet("SEResNet269D", "seresnet269d", _sed(depths=L269))
SEResNeXt26D_32x4d = _resnet("SEResNeXt26D_32x4d", "seresnext26d_32x4d", _sexd(depths=L18, group_width=4))
SEResNeXt26T_32x4d = _resnet(
    "SEResNeXt26T_32x4d", "seresnext26t_32x4d", _sexd(depths=L18, group_width=4, stem=T_STEM)
)
SEResNeXt50_32x4d = _resnet("SEResNeXt50_32x4d", "seresnext50_32x4d", _sex(depths=L50, group_width=4))
SEResNeXt101_32x4d = _resnet("SEResNeXt101_32x4d", "seresnext101_32x4d", _sex(depths=L101, group_width=4))
SEResNeXt101_32x8d = _resnet("SEResNeXt101_32x8d", "seresnext101_32x8d", _sex(depths=L101, group_width=8))
SEResNeXt101D_32x8d = _resnet("SEResNeXt101D_32x8d", "seresnext101d_32x8d", _sexd(depths=L101, group_width=8))
SEResNeXt101_64x4d = _resnet(
    "SEResNeXt101_64x4d", "seresnext101_64x4d", _sex(depths=L101, groups=64, group_width=4)
)
SENet154 = _resnet(
    "SENet154",
    "senet154",
    _se(
        depths=L152,
        groups=64,
        group_width=4,
        squeeze=2,
        stem=S_STEM,
        first=wide_projection,
        output_strides=(32,),
        source="Hu et al. (2017), section 6.1, arXiv:1709.01507",
    ),
)
ECAResNet26T = _resnet("ECAResNet26T", "ecaresnet26t", _ecat(depths=L18))
ECAResNet50D = _resnet("ECAResNet50D", "ecaresnet50d", _ecad(depths=L50))
ECAResNet50T = _resnet("ECAResNet50T", "ecaresnet50t", _ecat(depths=L50))
ECAResNetLight = _resnet("ECAResNetLight", "ecaresnetlight", _ecad(depths=(1, 1, 11, 3), stem=IMAGENET_STEM))
ECAResNet101D = _resnet("ECAResNet101D", "ecaresnet101d", _ecad(depths=L101))
ECAResNet200D = _resnet("ECAResNet200D", "ecaresnet200d", _ecad(depths=L200))
ECAResNet269D = _resnet("ECAResNet269D", "ecaresnet269d", _ecad(depths=L269))
ECAResNeXt26T_32x4d = _resnet(
    "ECAResNeXt26T_32x4d", "ecaresnext26t_32x4d", _ecat(depths=L18, groups=32, group_width=4)
)
ECAResNeXt50T_32x4d = _resnet(
    "ECAResNeXt50T_32x4d", "ecaresnext50t_32x4d", _ecat(depths=L50, groups=32, group_width=4)
)

ResNetBlur18 = _resnet("ResNetBlur18", "resnetblur18", _blur(depths=L18, block=basic))
ResNetBlur50 = _resnet("ResNetBlur50", "resnetblur50", _blur(depths=L50))
ResNetBlur50D = _resnet("ResNetBlur50D", "resnetblur50d", _blurd(depths=L50))
ResNetBlur101D = _resnet("ResNetBlur101D", "resnetblur101d", _blurd(depths=L101))
ResNetAA34D = _resnet("ResNetAA34D", "resnetaa34d", _aad(depths=L34, block=basic))
ResNetAA50 = _resnet("ResNetAA50", "resnetaa50", _aa(depths=L50))
ResNetAA50D = _resnet("ResNetAA50D", "resnetaa50d", _aad(depths=L50))
ResNetAA101D = _resnet("ResNetAA101D", "resnetaa101d", _aad(depths=L101))
SEResNetAA50D = _resnet("SEResNetAA50D", "seresnetaa50d", _aad(depths=L50, attention=squeeze_excite))
SEResNeXtAA101D_32x8d = _resnet(
    "SEResNeXtAA101D_32x8d",
    "seresnextaa101d_32x8d",
    _aad(depths=L101, attention=squeeze_excite, groups=32, group_width=8),
)
SEResNeXtAA201D_32x8d = _resnet(
    "SEResNeXtAA201D_32x8d",
    "seresnextaa201d_32x8d",
    _aad(
        depths=(3, 24, 36, 4),
        attention=squeeze_excite,
        groups=32,
        group_width=8,
        stem=_averaged(S_STEM),
    ),
)

ResNetRS50 = _resnet("ResNetRS50", "resnetrs50", _rs(depths=L50))
ResNetRS101 = _resnet("ResNetRS101", "resnetrs101", _rs(depths=L101))
ResNetRS152 = _resnet("ResNetRS152", "resnetrs152", _rs(depths=L152))
ResNetRS200 = _resnet("ResNetRS200", "resnetrs200", _rs(depths=L200))
ResNetRS270 = _resnet("ResNetRS270", "resnetrs270", _rs(depths=(4, 29, 53, 4)))
ResNetRS350 = _resnet("ResNetRS350", "resnetrs350", _rs(depths=(4, 36, 72, 4)))
ResNetRS420 = _resnet("ResNetRS420", "resnetrs420", _rs(depths=(4, 44, 87, 4)))

ResNet20 = _resnet("ResNet20", "resnet20", _cifar(depths=(3, 3, 3)))
ResNet32 = _resnet("ResNet32", "resnet32", _cifar(depths=(5, 5, 5)))
ResNet44 = _resnet("ResNet44", "resnet44", _cifar(depths=(7, 7, 7)))
ResNet56 = _resnet("ResNet56", "resnet56", _cifar(depths=(9, 9, 9)))
ResNet110 = _resnet("ResNet110", "resnet110", _cifar(depths=(18, 18, 18)))
ResNet1202 = _resnet("ResNet1202", "resnet1202", _cifar(depths=(200, 200, 200)))
ResNet20OptionB = _resnet("ResNet20OptionB", "resnet20_option_b", _cifar_b(depths=(3, 3, 3)))
ResNet32OptionB = _resnet("ResNet32OptionB", "resnet32_option_b", _cifar_b(depths=(5, 5, 5)))
ResNet44OptionB = _resnet("ResNet44OptionB", "resnet44_option_b", _cifar_b(depths=(7, 7, 7)))
ResNet56OptionB = _resnet("ResNet56OptionB", "resnet56_option_b", _cifar_b(depths=(9, 9, 9)))
ResNet110OptionB = _resnet("ResNet110OptionB", "resnet110_option_b", _cifar_b(depths=(18, 18, 18)))
ResNet1202OptionB = _resnet("ResNet1202OptionB", "resnet1202_option_b", _cifar_b(depths=(200, 200, 200)))
ResNet20OptionC = _resnet("ResNet20OptionC", "resnet20_option_c", _cifar_c(depths=(3, 3, 3)))
ResNet32OptionC = _resnet("ResNet32OptionC", "resnet32_option_c", _cifar_c(depths=(5, 5, 5)))
ResNet44OptionC = _resnet("ResNet44OptionC", "resnet44_option_c", _cifar_c(depths=(7, 7, 7)))
ResNet56OptionC = _resnet("ResNet56OptionC", "resnet56_option_c", _cifar_c(depths=(9, 9, 9)))
ResNet110OptionC = _resnet("ResNet110OptionC", "resnet110_option_c", _cifar_c(depths=(18, 18, 18)))
ResNet1202OptionC = _resnet("ResNet1202OptionC", "resnet1202_option_c", _cifar_c(depths=(200, 200, 200)))

Plain18 = _resnet("Plain18", "plain18", _plain(depths=L18))
Plain34 = _resnet("Plain34", "plain34", _plain(depths=L34))
Plain20 = _resnet("Plain20", "plain20", _plain_cifar(depths=(3, 3, 3)))
Plain32 = _resnet("Plain32", "plain32", _plain_cifar(depths=(5, 5, 5)))
Plain44 = _resnet("Plain44", "plain44", _plain_cifar(depths=(7, 7, 7)))
Plain56 = _resnet("Plain56", "plain56", _plain_cifar(depths=(9, 9, 9)))
Plain110 = _resnet("Plain110", "plain110", _plain_cifar(depths=(18, 18, 18)))
