"""What the worker process is told: a conversion, settled and checked."""

from __future__ import annotations

from dataclasses import dataclass

from converters.calibration import Method
from converters.io_types import IOType


@dataclass(frozen=True)
class Plan:
    """One conversion; everything in it can be written as JSON.

    Attributes:
        recipe: A name of `list_recipes`.
        input_shape: (H, W, C).
        rewrites: Names of `REWRITES`.
        ranges: How activation ranges are chosen.
        equalize: Scale channels of neighbouring layers so that their ranges are alike.
        correct_bias: Take the mean error of the rounded weights out of the biases.
        absorb_bias: Move what every activation exceeds into the next layer's bias.
        per_channel_dense: Let dense layers have a scale an output; micro-controllers have one in all.
        input_type: Of an integer model.
        output_type: Of an integer model.
    """

    recipe: str
    input_shape: tuple[int, int, int]
    rewrites: tuple[str, ...] = ()
    ranges: Method = "minmax"
    equalize: bool = False
    correct_bias: bool = False
    absorb_bias: bool = False
    per_channel_dense: bool = True
    input_type: IOType = "int8"
    output_type: IOType = "int8"
