"""Aligned Xception 41, 65 and 71, and the pre-activated 41p and 65p: rows, one body, constructors.

Chen et al. (2018), "Encoder-Decoder with Atrous Separable Convolution", figure 4, arXiv:1802.02611; the
numbers are those of timm, whose weights are in use.
"""

from dataclasses import dataclass
from functools import partial

from keras import layers

from keras_archs.assemble import Spec, constructor
from keras_archs.blocks import Tensor, Unit, apply, conv, norm, relu, residual
from keras_archs.conventions import TORCH_ALIGNED, TORCH_ALIGNED_41P, Convention
from keras_archs.layers import channel_axis
from keras_archs.weights.layouts import TORCH_XCEPTION_ALIGNED, TORCH_XCEPTION_PREACT


@dataclass(frozen=True)
class Row:
    """One block of three separable convolutions.

    Attributes:
        filters: Width of each.
        stride: Step of the third.
        shortcut: Whether the block is residual.
        inner_relu: Whether a ReLU follows each convolution instead of standing before each separable one.
    """

    filters: tuple[int, int, int]
    stride: int = 1
    shortcut: bool = True
    inner_relu: bool = False


@dataclass(frozen=True, kw_only=True)
class AlignedSpec(Spec):
    """A row: the blocks; `preactivated` ones normalize in front of each separable convolution."""

    blocks: tuple[Row, ...]
    preactivated: bool = False


def depthwise(x: Tensor, stride: int, dilation: int, name: str) -> Tensor:
    """A 3x3 convolution of each channel, padded alike on both sides: (N, H, W, C) to (N, H', W', C)."""
    pad = "same"
    if stride > 1:
        x, pad = layers.ZeroPadding2D(1, name=f"{name}_pad")(x), "valid"
    return layers.DepthwiseConv2D(3, stride, pad, dilation_rate=dilation, use_bias=False, name=f"{name}_dw")(
        x
    )


def separable_chain(
    x: Tensor, row: Row, stride: int, dilation: int, convention: Convention, name: str
) -> Tensor:
    """F of 41, 65 and 71: depthwise, pointwise, each normalized, three times."""
    for k, filters in enumerate(row.filters, 1):
        part = f"{name}_sepconv{k}"
        if not row.inner_relu:
            x = relu(x, f"{part}_act")
        x = depthwise(x, stride if k == 3 else 1, dilation, part)
        x = norm(x, convention, f"{part}_dw_bn")
        x = relu(x, f"{part}_dw_act") if row.inner_relu else x
        x = apply(
            x, Unit(filters, 1, relu=row.inner_relu, last=k == 3 and row.shortcut), convention, f"{part}_pw"
        )
    return x


def preactivated_chain(
    x: Tensor, row: Row, stride: int, dilation: int, convention: Convention, name: str
) -> Tensor:
    """F of 41p and 65p: normalization, ReLU, depthwise, pointwise, thrice; the block has the first two."""
    for k, filters in enumerate(row.filters, 1):
        part = f"{name}_sepconv{k}"
        if k > 1:
            x = relu(norm(x, convention, f"{part}_bn"), f"{part}_act")
        x = depthwise(x, stride if k == 3 else 1, dilation, part)
        x = conv(x, Unit(filters, 1, norm=False, last=k == 3 and row.shortcut), convention, f"{part}_pw")
    return x


def aligned_block(
    x: Tensor, row: Row, stride: int, dilation: int, rate: float, spec: AlignedSpec, name: str
) -> Tensor:
    """y = F(x) + W_s x, or F(x) alone in the exit: (N, H, W, C) to (N, H', W', C')."""
    convention, filters = spec.convention, row.filters[-1]
    if spec.preactivated:
        # The shortcut, too, starts from the activated tensor.
        x = relu(norm(x, convention, f"{name}_preact_bn"), f"{name}_preact_act")
    chain = preactivated_chain if spec.preactivated else separable_chain
    F = partial(chain, row=row, stride=stride, dilation=dilation, convention=convention, name=name)

    def W_s(x: Tensor) -> Tensor:
        if x.shape[channel_axis()] == filters and row.stride == 1:
            return x
        unit = Unit(filters, 1, stride, norm=not spec.preactivated, relu=False)
        return apply(x, unit, convention, f"{name}_0")

    return residual(x, F, W_s, convention, f"{name}_add", rate) if row.shortcut else F(x)


def aligned_body(x: Tensor, spec: AlignedSpec) -> list[Tensor]:
    """Entry, middle and exit flow: images (N, H, W, C) to features at strides 2 to 32."""
    bare = spec.preactivated
    x = apply(x, Unit(32, 3, 2, "explicit"), spec.convention, "block1_conv1")
    x = apply(x, Unit(64, norm=not bare, relu=not bare), spec.convention, "block1_conv2")
    features, reached, dilation = [], 2, 1
    for i, row in enumerate(spec.blocks):
        stride, after = row.stride, dilation
        if row.stride > 1:
            features.append(x)
            if 2 * reached > spec.output_stride:
                stride, after = 1, 2 * dilation
            reached *= stride
        rate = spec.drop_path_rate * i / (len(spec.blocks) - 1)
        x = aligned_block(x, row, stride, dilation, rate, spec, f"block{i + 2}")
        dilation = after
    x = relu(x, "exit_act") if spec.preactivated else x
    return [*features, x]


ENTRY_41 = (Row((128,) * 3, 2), Row((256,) * 3, 2), Row((728,) * 3, 2))
ENTRY_71 = (Row((128,) * 3, 2), Row((256,) * 3), Row((256,) * 3, 2), Row((728,) * 3), Row((728,) * 3, 2))
MIDDLE = Row((728,) * 3)
EXIT = (
    Row((728, 1024, 1024), 2),
    Row((1536, 1536, 2048), shortcut=False, inner_relu=True),
)

_row = partial(
    AlignedSpec,
    convention=TORCH_ALIGNED,
    layouts={"torch": (TORCH_XCEPTION_ALIGNED,)},
    size=299,
    min_size=33,
    output_strides=(8, 16, 32),
    source="Chen et al. (2018), figure 4, arXiv:1802.02611",
)
_aligned = partial(constructor, body=aligned_body)

Xception41 = _aligned("Xception41", "xception41", _row(blocks=(*ENTRY_41, *(MIDDLE,) * 8, *EXIT)))
Xception65 = _aligned("Xception65", "xception65", _row(blocks=(*ENTRY_41, *(MIDDLE,) * 16, *EXIT)))
Xception71 = _aligned("Xception71", "xception71", _row(blocks=(*ENTRY_71, *(MIDDLE,) * 16, *EXIT)))
# With the ReLUs of pre-activation, timm's.
_preact = partial(_row, preactivated=True, layouts={"torch": (TORCH_XCEPTION_PREACT,)})
Xception41P = _aligned(
    "Xception41P",
    "xception41p",
    _preact(blocks=(*ENTRY_41, *(MIDDLE,) * 8, *EXIT), convention=TORCH_ALIGNED_41P),
)
Xception65P = _aligned("Xception65P", "xception65p", _preact(blocks=(*ENTRY_41, *(MIDDLE,) * 16, *EXIT)))
