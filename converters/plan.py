"""What the worker process is told: a conversion, settled and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from converters.ai_edge import OURS, Engine
from converters.calibration import Method
from converters.io_types import IOType
from converters.recipes import Tolerance

CORRECTIONS = ("equalization", "bias_absorption", "bias_correction")


@dataclass(frozen=True)
class Plan:
    """One conversion; everything in it can be written as JSON.

    Attributes:
        recipe: A name of `list_recipes`.
        input_shape: (H, W, C).
        outputs: What the signature calls the results.
        rewrites: Names of `REWRITES`.
        ranges: How activation ranges are chosen.
        corrections: Some of CORRECTIONS.
        tolerance: What the fewest layers are kept in float for.
        image: The normalisation to take in, as the fields of a `Mode`.
        per_channel_dense: Let dense layers have a scale an output; micro-controllers have one in all.
        input_type: Of an integer model.
        output_type: Of an integer model.
        engine: What stores the weights.
    """

    recipe: str
    input_shape: tuple[int, int, int]
    outputs: tuple[str, ...]
    rewrites: tuple[str, ...] = ()
    ranges: Method = "minmax"
    corrections: tuple[str, ...] = ()
    tolerance: Tolerance | None = None
    image: dict[str, Any] | None = None
    per_channel_dense: bool = True
    input_type: IOType = "int8"
    output_type: IOType = "int8"
    engine: Engine = OURS

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Plan:
        """A plan that was written as JSON."""
        lists = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
        tolerance = Tolerance(**fields["tolerance"]) if fields["tolerance"] else None
        return cls(**{**fields, **lists, "tolerance": tolerance})
