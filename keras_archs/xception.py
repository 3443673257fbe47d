"""Xception: rows of separable convolutions, one body, the constructor.

Chollet (2016), "Xception: Deep Learning with Depthwise Separable Convolutions", arXiv:1610.02357.
"""

from dataclasses import dataclass, replace

from keras import layers

from keras_archs.assemble import Spec, constructor
from keras_archs.blocks import (
    Pool,
    Tensor,
    Unit,
    apply,
    identity,
    projection,
    relu,
    residual,
    separable,
)
from keras_archs.conventions import KERAS_XCEPTION, TORCH_XCEPTION
from keras_archs.weights.layouts import TORCH_XCEPTION_NAMES


@dataclass(frozen=True)
class Row:
    """One residual block of separable convolutions.

    Attributes:
        index: Number of the block in the layer names.
        filters: Width of each separable convolution.
        stride: 2 ends F with a max pool and makes the shortcut a projection.
        lead_relu: Whether F starts with a ReLU; the stem has already applied one before the first block.
    """

    index: int
    filters: tuple[int, ...]
    stride: int = 1
    lead_relu: bool = True


@dataclass(frozen=True, kw_only=True)
class XceptionSpec(Spec):
    """A row: stem, residual blocks, and the separable convolutions of the exit."""

    stem: tuple[Unit, ...]
    blocks: tuple[Row, ...]
    exit: tuple[int, ...]


POOL = Pool(layers.MaxPooling2D, 3, 2, "lineage")


def xception_body(x: Tensor, spec: XceptionSpec) -> list[Tensor]:
    """Entry, middle and exit flow: images (N, H, W, C) to features at strides 2 to 32."""
    for k, unit in enumerate(spec.stem, 1):
        x = apply(x, unit, spec.convention, f"block1_conv{k}")
    features = []
    for i, row in enumerate(spec.blocks):
        if row.stride > 1:
            features.append(x)
        # Only the last reduction can dilate: the pools before it have no dilated form in Keras.
        dilates = row.stride > 1 and len(features) == len(spec.strides) - 1 and spec.output_stride < 32
        rate = spec.drop_path_rate * i / (len(spec.blocks) - 1)
        x = xception_block(x, row, 1 if dilates else row.stride, rate, spec)
    dilation = spec.output_strides[-1] // spec.output_stride
    for k, filters in enumerate(spec.exit, 1):
        name = f"block{spec.blocks[-1].index + 1}_sepconv{k}"
        x = relu(separable(x, filters, spec.convention, name, dilation), f"{name}_act")
    return [*features, x]


def xception_block(x: Tensor, row: Row, stride: int, rate: float, spec: XceptionSpec) -> Tensor:
    """y = F(x) + W_s x, F a chain of ReLU and separable convolution: (N, H, W, C) to (N, H', W', C')."""
    name, convention = f"block{row.index}", spec.convention

    def F(x: Tensor) -> Tensor:
        for k, filters in enumerate(row.filters, 1):
            if k > 1 or row.lead_relu:
                x = relu(x, f"{name}_sepconv{k}_act")
            x = separable(x, filters, convention, f"{name}_sepconv{k}", last=k == len(row.filters))
        if row.stride > 1:
            x = apply(x, replace(POOL, stride=stride), convention, name)
        return x

    def W_s(x: Tensor) -> Tensor:
        shortcut = projection if row.stride > 1 else identity
        return shortcut(x, row.filters[-1], stride, convention, name)

    return residual(x, F, W_s, convention, f"{name}_add", rate)


# Figure 5: entry flow, middle flow (eight times), exit flow.
Xception = constructor(
    "Xception",
    "xception",
    XceptionSpec(
        stem=(Unit(32, 3, 2, "valid"), Unit(64, 3, 1, "valid")),
        blocks=(
            Row(2, (128, 128), 2, lead_relu=False),
            Row(3, (256, 256), 2),
            Row(4, (728, 728), 2),
            *(Row(i, (728, 728, 728)) for i in range(5, 13)),
            Row(13, (728, 1024), 2),
        ),
        exit=(1536, 2048),
        convention=KERAS_XCEPTION,
        others=(TORCH_XCEPTION,),
        layouts={"torch": (TORCH_XCEPTION_NAMES,)},
        size=299,
        min_size=71,
        output_strides=(16, 32),
        source="Chollet (2016), figure 5, arXiv:1610.02357",
    ),
    xception_body,
)
