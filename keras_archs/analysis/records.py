# ruff: noqa: RUF001, RUF002 (a multiplication sign is meant)
"""What an analysis says: one record a layer, one a stage, one a model."""

from dataclasses import asdict, dataclass
from typing import Any

Shape = tuple[int, ...]
# Height and width (or one length); a stride of upsampled maps may be a fraction.
Extent = tuple[int | float, ...]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One call of one layer.

    Attributes:
        name: Name of the layer, that of the nested model before it: `backbone/conv1`.
        kind: What it does: a key of `count.KINDS`, "input", "sum", "concat", "gate" or "other".
        class_name: Its class.
        inputs: Positions of the layers it reads in `Analysis.layers`.
        output_shape: For one image, as Keras orders it: (H, W, C) or (C, H, W).
        channels: Channels of the output.
        kernel: Of a convolution or pooling: height and width of the window.
        step: Its own stride.
        dilation: Distance between the positions its window reads.
        groups: Groups of a convolution.
        parameters: All weights; 0 where a shared layer is called again.
        trainable: The trainable ones of them.
        macs: Multiply-accumulates for one image.
        activations: Numbers that convolutions and dense layers put out for one image.
        receptive_field: Pixels that an output sees, as (height, width); None means the whole image.
        stride: Pixels from one output to the next; None after global pooling.
    """

    name: str
    kind: str
    class_name: str
    inputs: tuple[int, ...]
    output_shape: Shape
    channels: int
    kernel: Shape | None = None
    step: Shape | None = None
    dilation: Shape | None = None
    groups: int = 1
    parameters: int = 0
    trainable: int = 0
    macs: int = 0
    activations: int = 0
    receptive_field: Extent | None = None
    stride: Extent | None = None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Consecutive blocks whose outputs have one stride.

    Attributes:
        name: Its first and its last block.
        sums: Residual sums.
        concatenations: Concatenations of branches, e.g. inception modules.
        separable: Separable and depthwise convolutions.
        output_shape: As in `Layer`, and so are the others.
        parameters: Sum over its layers.
        trainable: Sum over its layers.
        macs: Sum over its layers.
        activations: Sum over its layers.
        receptive_field: Of its output.
        stride: Of its output.
    """

    name: str
    sums: int
    concatenations: int
    separable: int
    output_shape: Shape
    parameters: int
    trainable: int
    macs: int
    activations: int
    receptive_field: Extent | None
    stride: Extent | None


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """A model's layers, stages and totals.

    Attributes:
        name: Name of the model.
        input_shape: Shape of one image, as Keras orders it.
        parameters: Sum over the layers, and so are the next three.
        trainable: The trainable ones of them.
        macs: Multiply-accumulates for one image.
        activations: Numbers that convolutions and dense layers put out.
        receptive_field: Of the last feature map, before global pooling or flattening.
        stride: Of the last feature map.
        stages: From the image to the output.
        layers: In Keras' order; each reads earlier ones only.
    """

    name: str
    input_shape: Shape
    parameters: int
    trainable: int
    macs: int
    activations: int
    receptive_field: Extent
    stride: Extent
    stages: tuple[Stage, ...]
    layers: tuple[Layer, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything as dictionaries, lists and numbers, for JSON."""
        return asdict(self)


def short(number: float) -> str:
    """A count for people: 25_636_712 is '25.6 M'."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            digits = 0 if number >= 100 * size else 1 if number >= 10 * size else 2
            return f"{number / size:.{digits}f}{unit}"
    return f"{number:g}"


def times(sizes: Extent | Shape) -> str:
    """Sizes for people: '56 × 56 × 256'."""
    return " × ".join(f"{size:g}" for size in sizes)


def square(extent: Extent | None) -> str:
    """Height and width for people: '483', '7 × 1', or 'image' for the whole image."""
    if extent is None:
        return "image"
    return f"{extent[0]:g}" if len(set(extent)) == 1 else times(extent)
