"""Errors that name the argument, its value, what is accepted and the nearest accepted value."""

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(value: Any, accepted: Iterable[Any]) -> str:
    """' Did you mean ...?' for the nearest accepted string, or an empty string."""
    names = {name.lower(): name for name in accepted if isinstance(name, str)}
    found = difflib.get_close_matches(str(value).lower(), names, n=1, cutoff=0.6)
    return f" Did you mean {names[found[0]]!r}?" if found else ""


def check_choice(argument: str, value: Any, accepted: Iterable[Any]) -> None:
    """Checks a value against a table.

    Args:
        argument: Name of the argument, for the message.
        value: What the user gave.
        accepted: All accepted values.

    Raises:
        ValueError: If `value` is none of them.
    """
    accepted = list(accepted)
    if value not in accepted:
        choices = ", ".join(repr(choice) for choice in accepted)
        raise ValueError(
            f"{argument}={value!r} is not accepted.{nearest(value, accepted)} Accepted: {choices}."
        )
