"""Xception: rows of separable convolutions, one body, the constructor.

Chollet (2016), "Xception: Deep Learning with Depthwise Separable Convolutions", arXiv:1610.02357.
"""

from dataclasses import dataclass
from functools import partial

from keras import layers

from keras_archs.assemble import Spec, constructor
from keras_archs.blocks import Tensor, Unit, apply, identity, projection, residual, separable
from keras_archs.conventions import KERAS_XCEPTION


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


XCEPTIONS = {
    # Figure 5: entry flow, middle flow (eight times), exit flow.
    "xception": XceptionSpec(
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
        preprocessing="tf",
        size=299,
        min_size=71,
        source="Chollet (2016), figure 5, arXiv:1610.02357",
    )
}


def separable_chain(x: Tensor, row: Row, spec: XceptionSpec) -> Tensor:
    """F of a block: (ReLU, separable convolution) for each width, then the max pool of a strided block."""
    for k, filters in enumerate(row.filters, 1):
        name = f"block{row.index}_sepconv{k}"
        if k > 1 or row.lead_relu:
            x = layers.Activation("relu", name=f"{name}_act")(x)
        x = separable(x, filters, spec.convention, name)
    if row.stride > 1:
        x = layers.MaxPooling2D(3, row.stride, "same", name=f"block{row.index}_pool")(x)
    return x


def xception_body(x: Tensor, spec: XceptionSpec) -> Tensor:
    """Entry, middle and exit flow: images (N, H, W, C) to features (N, H', W', 2048)."""
    for k, unit in enumerate(spec.stem, 1):
        x = apply(x, unit, spec.convention, f"block1_conv{k}")
    for row in spec.blocks:
        F = partial(separable_chain, row=row, spec=spec)
        W_s = partial(
            projection if row.stride > 1 else identity,
            filters=row.filters[-1],
            stride=row.stride,
            convention=spec.convention,
            name=f"block{row.index}",
        )
        x = residual(x, F, W_s, spec.convention, f"block{row.index}_add")
    index = spec.blocks[-1].index + 1
    for k, filters in enumerate(spec.exit, 1):
        name = f"block{index}_sepconv{k}"
        x = separable(x, filters, spec.convention, name)
        x = layers.Activation("relu", name=f"{name}_act")(x)
    return x


Xception = constructor("Xception", "xception", table=XCEPTIONS, body=xception_body)
