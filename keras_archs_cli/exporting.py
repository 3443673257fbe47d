"""What `keras-archs export --all` and `keras-archs inspect` do."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from converters.comparison import Candidate, Comparison, compare
from converters.delegates import DELEGATES
from converters.formats import byte_size
from converters.inspection import explain
from converters.metadata import Metadata, TensorMetadata, read_metadata
from converters.recipes import list_recipes
from converters.untrusted import check_tflite
from keras_archs.analysis.records import short
from keras_archs.modes import MODES
from keras_archs.training import Run
from keras_archs_cli.pipeline import ARTIFACTS, CALIBRATION_IMAGES, checked

REPORT = "report.html"
_APART = ("int16x8", "saved_model")
_MOST_LABELS = 5
_LONGEST = 60


def compare_run(run_dir: Path, recipes: Iterable[Candidate] | None = None, as_json: bool = False) -> None:
    """Converts the model of a run in several ways, measures them on the test images, and writes a report.

    Args:
        run_dir: Folder of a finished run. What meets its recipe's tolerance goes to `artifacts/<label>/`, the
            report to `artifacts/report.html` and `artifacts/report.json`.
        recipes: As for `converters.compare`; by default every recipe but int16x8, which is for
            micro-controllers: a phone's or desktop's runtime takes a hundred times as long for it.
        as_json: Print the report as JSON instead of a table.

    Raises:
        ValueError: If it is no finished run, or a candidate is wrong; nothing is converted then.
        OSError: If something cannot be written.
        ConversionError: If no candidate can be converted.
        typer.Exit: With 1, when everything is written and a candidate failed.
    """
    run = Run.open(run_dir)
    model, data = run.load_model(), run.data()
    calibration = data.images("train", min(CALIBRATION_IMAGES, len(data.train)))
    mode = MODES[data.mode] if calibration.shape[-1] == 3 else False
    usual: list[Candidate] = [*(name for name in list_recipes() if name not in _APART),
             ("saved_model", {"recipe": "saved_model", "include_preprocessing": mode})]  # fmt: skip
    comparison = compare(
        model,
        data.dataset("test"),
        data.labels("test"),
        recipes=usual if recipes is None else recipes,
        representative_data=calibration,
    )
    folder = run_dir / ARTIFACTS
    page = comparison.save(folder / REPORT, date=f"{date.today():%d %B %Y}")
    _print_comparison(comparison, page, as_json)
    failed = {row.label for row in comparison.failed}
    for label, artifact in comparison.artifacts.items():
        if label not in failed:
            checked(artifact, artifact.record["verification"]).save(folder / label)
    if failed or comparison.refused:
        raise typer.Exit(1)


def _print_comparison(comparison: Comparison, page: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps(comparison.to_dict(), indent=2, allow_nan=False))
        return
    console = Console(highlight=False)
    console.print(comparison.table())
    for sentence in ("", *comparison.headline(), ""):
        console.print(sentence, markup=False)
    console.print(f"Report: {page}", markup=False, soft_wrap=True)


def inspect_file(path: Path, as_json: bool = False) -> None:
    """Prints what a TFLite file is, ours or not: ends, operations, delegates, memory, metadata.

    Args:
        path: The file; it is checked before anything reads it, and not run.
        as_json: Print one JSON object instead of the tables.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no TFLite model, or a damaged one.
    """
    content = path.read_bytes()
    check_tflite(content, repr(str(path)))
    found = explain(content)
    try:
        metadata, unread = read_metadata(content), ""
    except ValueError as error:  # What a client would stumble over is worth knowing, and so is the rest.
        metadata, unread = None, str(error)
    if as_json:
        described = {"unread": unread} if unread else asdict(metadata) if metadata is not None else None
        print(json.dumps({"file": str(path), **found, "described": described}, indent=2, allow_nan=False))
        return
    console = Console(highlight=False)
    for part in (_head(path, found), *_of_the_graph(found), *_of_the_metadata(metadata, unread)):
        console.print(part)


def _head(path: Path, found: dict[str, Any]) -> Table:
    table = _facts()
    table.add_row("file", f"{_plain(path.name)}, {byte_size(found['bytes'])}")
    if found["description"]:
        table.add_row("made by", _plain(found["description"]))
    for signature in found["signatures"]:
        ends = [", ".join(map(_plain, signature[end])) for end in ("inputs", "outputs")]
        table.add_row("signature", f"{_plain(signature['name'])}: {' -> '.join(ends)}")
    if "unread" in found:
        table.add_row("graph", f"not read: {_plain(found['unread'])}")
        return table
    for end in ("inputs", "outputs"):
        for tensor in found[end]:
            table.add_row(end[:-1], _tensor(tensor))
    types = Counter[str]()
    for counts in found["ops"].values():
        types.update(counts)
    computes = ", ".join(f"{dtype} ({number} operations)" for dtype, number in types.most_common())
    table.add_row("computes in", computes)
    numbers = [
        f"{short(row['number'])} {dtype} ({byte_size(row['bytes'])})"
        for dtype, row in found["parameters"].items()
    ]
    table.add_row("parameters", ", ".join(numbers) or "none")
    table.add_row("quantized", _quantized(found["weights"]))
    table.add_row("MACs", short(found["total_macs"]))
    arena = found["arena"]
    micro = f"{byte_size(arena['micro_planned_bytes'])} in TFLite Micro"
    table.add_row(
        "memory", f"{byte_size(arena['planned_bytes'])}, {micro}; most at {_plain(arena['peak_op'])}"
    )
    return table


def _of_the_graph(found: dict[str, Any]) -> list[Any]:
    if "unread" in found:
        return []
    ops = _table("operation", "#number", "types", "#MACs")
    for kind, types in sorted(found["ops"].items(), key=lambda item: -sum(item[1].values())):
        macs = found["macs"].get(kind)
        ops.add_row(kind, str(sum(types.values())), ", ".join(types), short(macs) if macs else "")
    delegates = _table("delegate", "#takes", "#parts", "leaves to the CPU", "what it is")
    for name, row in found["partitions"].items():
        taken = f"{row['taken']} of {row['total']}"
        delegates.add_row(name, taken, str(row["partitions"]), _left(row), DELEGATES[name].summary)
    return ["", ops, "", delegates]


def _left(row: dict[str, Any]) -> str:
    """What a delegate leaves to the CPU, a line a reason."""
    reasons: dict[str, list[str]] = {}
    for one in row["refused"]:
        reasons.setdefault(one["reason"], []).append(f"{one['ops']} {_plain(one['kind'])}")
    if len(reasons) == 1 and not row["taken"]:
        return f"all: {_plain(next(iter(reasons)))}"
    return "\n".join(f"{', '.join(kinds)}: {_plain(reason)}" for reason, kinds in reasons.items())


def _of_the_metadata(metadata: Metadata | None, unread: str) -> list[Any]:
    if unread:
        return ["", f"[bold]Metadata[/] not read: {_plain(unread, 300)}"]
    if metadata is None:
        return ["", "No metadata: clients have to know the preprocessing and the classes by themselves."]
    table = _facts()
    for field in ("name", "description", "version", "author", "license"):
        if value := getattr(metadata, field):
            table.add_row(field, _plain(value, 200))
    for end, tensors in (("input", metadata.inputs), ("output", metadata.outputs)):
        for tensor in tensors:
            table.add_row(end, _described(tensor))
    return ["", "[bold]Metadata[/]", table]


def _described(tensor: TensorMetadata) -> str:
    """One tensor's metadata in words."""
    parts = [_plain(tensor.name)]
    if tensor.color_space:
        parts.append(tensor.color_space)
    if tensor.mean:
        parts.append(f"(pixel - {_numbers(tensor.mean)}) / {_numbers(tensor.std)}")
    for labels in tensor.labels:
        shown = ", ".join(_plain(name, 20) for name in labels.names[:_MOST_LABELS])
        more = ", …" if len(labels.names) > _MOST_LABELS else ""
        locale = f" [{_plain(labels.locale)}]" if labels.locale else ""
        parts.append(f"{len(labels.names)} labels{escape(locale)}: {shown}{more}")
    if tensor.calibration is not None:
        parts.append("with a calibration of the scores")
    return "; ".join(parts)


def _tensor(tensor: dict[str, Any]) -> str:
    shape = "x".join(map(str, tensor["shape"]))
    scale = ""
    if "scale" in tensor:
        scale = f", value = {tensor['scale']:.6g} * (integer {-tensor['zero_point']:+d})"
    return f"{_plain(tensor['name'])}: {shape} {tensor['dtype']}{scale}"


def _quantized(weights: dict[str, int]) -> str:
    words = {
        "per_channel": "with a scale a channel",
        "per_tensor": "with one scale",
        "not_quantized": "in float",
    }
    counts = [f"{number} {words[how]}" for how, number in weights.items() if number]
    return f"weights of layers: {', '.join(counts)}" if counts else "no layer has weights"


def _numbers(values: tuple[float, ...]) -> str:
    shown = ", ".join(f"{value:g}" for value in values)
    return shown if len(values) == 1 else f"({shown})"


def _facts() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _table(*names: str) -> Table:
    """A table; a name that begins with # stands above numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name.lstrip("#"), justify="right" if name.startswith("#") else "left")
    return table


def _plain(text: str, longest: int = _LONGEST) -> str:
    """Text of a file that may be hostile, for the terminal: no markup, no control characters."""
    printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return escape(printable if len(printable) <= longest else printable[: longest - 1] + "…")
