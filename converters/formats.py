"""Numbers for people, and values for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def percent(share: float | None) -> str:
    """A share for people; nothing where it is not known."""
    return "" if share is None else f"{share:.2%}"


def decibels(ratio: float) -> str:
    """A noise ratio for people."""
    return "equal" if ratio == math.inf else f"{ratio:.1f} dB"


def byte_size(number: int) -> str:
    """A size for people, in decimal units."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= size:
            return f"{number / size:.3g} {unit}" if number < 999.5 * size else f"{number / size:.0f} {unit}"
    return f"{number} bytes"


def milliseconds(number: float) -> str:
    """A time for people, with three digits."""
    return f"{number:.3f} ms" if number < 1 else f"{number:.2f} ms" if number < 10 else f"{number:.1f} ms"


def jsonable(value: Any) -> Any:
    """What JSON can hold: data classes and named tuples become objects, infinity and NaN text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if is_dataclass(value):
        return {one.name: jsonable(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: jsonable(part) for key, part in value.items()}
    if hasattr(value, "_asdict"):
        return jsonable(value._asdict())
    return [jsonable(part) for part in value] if isinstance(value, list | tuple) else value
