"""Fields of configuration records: each a line with its default, what it accepts, and what it means."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

from keras_archs.choices import nearest

Check = tuple[str, Callable[[Any], bool]]


def declared(default: Any, check: Check, meaning: str) -> Any:
    """A field of a frozen record.

    Args:
        default: Its default.
        check: What it accepts, in words and as a predicate.
        meaning: For people.

    Returns:
        What `dataclasses` wants.
    """
    return dataclasses.field(default=default, metadata={"check": check, "meaning": meaning})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def integer(minimum: int, maximum: float = math.inf) -> Check:
    """An integer in a range; True is none."""
    limit = "" if maximum == math.inf else f" and at most {maximum}"
    return f"an integer, at least {minimum}{limit}", lambda v: _is_integer(v) and minimum <= v <= maximum


def number(minimum: float = -math.inf, maximum: float = math.inf) -> Check:
    """A finite number in a closed range."""
    limit = "" if maximum == math.inf else f" to {maximum:g}"
    return f"a number from {minimum:g}{limit}", lambda v: _is_number(v) and minimum <= v <= maximum


def above_zero() -> Check:
    """A finite number above 0."""
    return "a number above 0", lambda v: _is_number(v) and v > 0


def part() -> Check:
    """A number above 0, at most 1."""
    return "a number above 0, at most 1", lambda v: _is_number(v) and 0 < v <= 1


def share() -> Check:
    """A number from 0 to below 1."""
    return "a number from 0 to below 1", lambda v: _is_number(v) and 0 <= v < 1


def boolean() -> Check:
    """True or False."""
    return "true or false", lambda v: isinstance(v, bool)


def text() -> Check:
    """A string with something in it."""
    return "a non-empty string", lambda v: isinstance(v, str) and bool(v.strip())


def one_of(accepted: Iterable[str]) -> Check:
    """A word of a list."""
    words = tuple(accepted)
    return f"one of {', '.join(words)}", lambda v: isinstance(v, str) and v in words


def optional(check: Check) -> Check:
    """Null, or what another check accepts."""
    return f"null or {check[0]}", lambda v: v is None or check[1](v)


def either(some: Check, other: Check) -> Check:
    """What one of two checks accepts."""
    return f"{some[0]} or {other[0]}", lambda v: some[1](v) or other[1](v)


def several(check: Check, length: int | None = None) -> Check:
    """A list of values, of a fixed length if one is given."""
    size = "a list" if length is None else f"a list of {length}"
    return (
        f"{size}, each {check[0]}",
        lambda v: isinstance(v, tuple) and (length is None or len(v) == length) and all(map(check[1], v)),
    )


def check_fields(record: Any, section: str) -> None:
    """Check every value of a record on its own.

    Args:
        record: A record whose fields were `declared`.
        section: What its fields are called by, in front of a dot.

    Raises:
        ValueError: For the first value that is not accepted.
    """
    for field in dataclasses.fields(record):
        accepted, holds = field.metadata["check"]
        value = getattr(record, field.name)
        if not holds(value):
            words = accepted.removeprefix("null or ").removeprefix("one of ").split(", ")
            hint = nearest(value, words) if isinstance(value, str) else ""
            raise ValueError(f"{section}.{field.name}={value!r} must be {accepted}.{hint}")


def from_mapping(kind: type, values: Any, section: str, suggest: Callable[[str], str]) -> Any:
    """Make a record of what was read from a file or a command line.

    Args:
        kind: The record's class.
        values: Some or all fields by name; the others keep their defaults.
        section: What its fields are called by, in front of a dot.
        suggest: Says which field an unknown one, with its section, may mean.

    Returns:
        The record.

    Raises:
        ValueError: If a field is unknown or its value is not accepted.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{section}={values!r:.80} must hold fields: {', '.join(_names(kind))}")
    for name in values:
        if name not in _names(kind):
            raise ValueError(
                f"{section}.{name} is no field.{suggest(f'{section}.{name}')} Fields of {section}: "
                f"{', '.join(_names(kind))}."
            )
    types = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    return kind(**{name: _converted(value, types[name]) for name, value in values.items()})


def _names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _converted(value: Any, type_name: str) -> Any:
    """YAML's lists as tuples, and its 1e-3, which it takes for text, as a number where one is wanted."""
    if isinstance(value, list):
        return tuple(_converted(item, type_name) for item in value)
    if isinstance(value, str) and "float" in type_name:
        try:
            return float(value)
        except ValueError:
            return value
    return value
