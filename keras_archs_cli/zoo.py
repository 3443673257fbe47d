"""keras-archs list: the zoo as one table."""

import csv
import json
from collections.abc import Callable
from importlib import resources
from typing import Any

from rich.console import Console
from rich.table import Table

from keras_archs import get_spec, list_models
from keras_archs.assemble import CONSTRUCTORS
from keras_archs.choices import nearest
from keras_archs.weights import entries

# Key of a row, heading of the table, how a value is written; keys that are not here are in the JSON only.
COLUMNS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "name": ("name", str),
    "parameters": ("params M", lambda value: f"{value / 1e6:.2f}"),
    "macs": ("GMACs", lambda value: f"{value / 1e9:.2f}"),
    "size": ("px", str),
    "conventions": ("lineages", " ".join),
    "preprocessing": ("input", str),
    "weights": ("weights", len),
    "default": ("default", lambda value: value or "-"),
    "top1": ("top-1", lambda value: f"{value:.1f}" if value else "-"),
    "top1_size": ("at px", lambda value: str(value or "-")),
}
WIDTH = 120
NUMBERS = ("parameters", "macs", "size", "weights", "top1", "top1_size")


def list_zoo(pattern: str, as_json: bool) -> None:
    """Prints the models that match a pattern.

    Args:
        pattern: With the wildcards of a shell.
        as_json: Whether to print JSON, with sources, classes and all tags.

    Raises:
        ValueError: If none matches.
    """
    names = list_models(pattern)
    if not names:
        known = list_models()
        hint = nearest(pattern, known)
        raise ValueError(f"pattern={pattern!r} matches none of the {len(known)} models.{hint}")
    with resources.files("keras_archs").joinpath("figures.csv").open(encoding="utf-8") as file:
        figures = {row["model"]: row for row in csv.DictReader(file)}
    rows = [_row(name, figures[name]) for name in names]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(box=None, header_style="bold")
    for key, (heading, _) in COLUMNS.items():
        table.add_column(heading, justify="right" if key in NUMBERS else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(str(write(row[key])) for key, (_, write) in COLUMNS.items()))
    # Never cut: a narrower window wraps the lines.
    console = Console(width=max(WIDTH, Console().width))
    console.print(table)
    console.print(
        f"\n{len(rows)} models. Parameters include moving statistics; GMACs are multiply-accumulates at the "
        "size in px; top-1 is that of the default weights, as published.",
        style="dim",
    )


def _row(name: str, figures: dict[str, str]) -> dict[str, Any]:
    spec, known = get_spec(name), entries(name)
    default = known[0] if known else None
    return {
        "name": name,
        "constructor": CONSTRUCTORS[name].__name__,
        "parameters": int(figures["parameters"]),
        "macs": int(figures["macs"]),
        "size": spec.size,
        "classes": spec.classes,
        "conventions": list(spec.conventions),
        "preprocessing": spec.preprocessing,
        "weights": [entry.tag for entry in known],
        "default": default.tag if default else None,
        "top1": default.top1 if default else None,
        "top1_size": default.top1_size if default else None,
        "source": spec.source,
    }
