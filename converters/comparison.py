"""One model converted in several ways, measured side by side."""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from converters.arena import op_name
from converters.artifact import TFLITE, Artifact, Latency
from converters.blame import LayerError, layer_errors, readable
from converters.convert import convert
from converters.errors import ConversionError, VerificationError
from converters.formats import byte_size, decibels, jsonable, milliseconds, percent
from converters.graph import Graph
from converters.inspection import explain
from converters.keras_model import check_model, load_model
from converters.metadata import Metadata, read_metadata
from converters.options import settle
from converters.probe import probe
from converters.progress import show_stages
from converters.recipes import RECIPES, get_recipe
from converters.representative import batches
from converters.runners import SavedModelRunner, TFLiteRunner
from converters.targets import TARGETS, Finding, lint
from converters.verify import Report, verify
from keras_archs.choices import check_choice

if TYPE_CHECKING:
    from rich.table import Table

Candidate = str | tuple[str, Mapping[str, Any]]
Stages = Callable[[str, int, int], None]

USUAL = ("float32", "float16", "dynamic_int8", "int8")
RUNS = 30
BLAMED_IMAGES = 8
# Arguments of `convert` that are the same for all candidates.
_COMMON = frozenset(("model_or_path", "representative_data", "progress"))
# Arguments that shape the float graph which an integer model is made from.
_OF_THE_FLOAT_GRAPH = ("rewrite", "include_preprocessing", "input_shape")
# These move values between layers, so that no float model has the same tensors.
_MOVING = frozenset(("equalization", "bias_absorption"))
_PACKAGES = ("keras-archs", "keras", "tensorflow", "ai-edge-litert")


@dataclass(frozen=True)
class Row:
    """One way to convert the model, measured.

    Attributes:
        label: What the user called it.
        recipe: Its recipe.
        accuracy: Share of images in the class of their label; None without labels.
        agreement: Share of images in the class that the Keras model says; None where there are no classes.
        sqnr_db: Signal to quantization noise ratio in dB, against the Keras model.
        size_bytes: Of its files.
        latency: Time of one image, one for each of the comparison's thread counts.
        partitions: Into how many parts the XNNPACK delegate takes it, as the runtime has it; None where there
            is no such delegate.
        outside: Operations that it leaves out, and how many.
        arena_bytes: Memory that the runtime plans for tensors; None where it is not known.
        arena_op: The operation that needs most of it.
        delegates: What each delegate takes, by `converters.inspection.explain`.
        lint: Target to what breaks it or costs there, for the targets that the recipe is for.
        rewrites: Which applied, and how often.
        float_layers: Outputs of the operations that a tolerance kept in float.
        failures: What is not as the recipe says.
    """

    label: str
    recipe: str
    accuracy: float | None
    agreement: float | None
    sqnr_db: float
    size_bytes: int
    latency: tuple[Latency, ...]
    partitions: int | None
    outside: dict[str, int]
    arena_bytes: int | None
    arena_op: str
    delegates: dict[str, Any]
    lint: dict[str, tuple[Finding, ...]]
    rewrites: dict[str, int]
    float_layers: tuple[str, ...]
    failures: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Several ways to convert a model, side by side.

    Attributes:
        model_name: Of the Keras model.
        samples: How many images all ran.
        compared: logits or outputs: what the noise ratio is of.
        keras_accuracy: Of the Keras model, when labels were given.
        threads: Thread counts of the latencies.
        rows: One a candidate.
        blame: Label to its layers, the most suspicious first; of integer rows whose float graph is known.
        refused: Label to the reason why it could not be converted.
        calls: How to convert each again.
        machine: Processor and number of cores.
        versions: Package to version.
        artifacts: Label to artifact, with the report of `verify` in its record.
    """

    model_name: str
    samples: int
    compared: str
    keras_accuracy: float | None
    threads: tuple[int, ...]
    rows: tuple[Row, ...]
    blame: dict[str, tuple[LayerError, ...]]
    refused: dict[str, str]
    calls: dict[str, str]
    machine: str
    versions: dict[str, str]
    artifacts: dict[str, Artifact] = field(repr=False)

    @property
    def baseline(self) -> Row:
        """The row that others are compared with: the first of recipe float32, or else the first."""
        return next((row for row in self.rows if row.recipe == "float32"), self.rows[0])

    @property
    def usual_threads(self) -> int:
        """The place in `threads` of the count with which the baseline is fastest."""
        times = [latency.median_ms for latency in self.baseline.latency]
        return times.index(min(times))

    def headline(self) -> list[str]:
        """What was found, as sentences.

        Returns:
            One on each integer row, or on each row if there is none; then what failed.
        """
        others = [row for row in self.rows if row is not self.baseline]
        integers = [row for row in others if get_recipe(row.recipe).needs_data]
        sentences = [_sentence(row, self) for row in integers or others or self.rows]
        failed = [f"{row.label} is not as its recipe says: {'; '.join(row.failures)}." for row in self.failed]
        return [
            *sentences,
            *failed,
            *(f"{label} could not be converted: {why}" for label, why in self.refused.items()),
        ]

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows that are out of their recipe's tolerance."""
        return tuple(row for row in self.rows if row.failures)

    def to_dict(self) -> dict[str, Any]:
        """The comparison for JSON, which has no infinity or NaN: those become text. Without the artifacts."""
        kept = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "artifacts"}
        return {"headline": self.headline(), **{name: jsonable(value) for name, value in kept.items()}}

    def save(self, path: str | Path, date: str = "") -> Path:
        """Write a page for a browser, and the same as JSON beside it.

        Args:
            path: Ends in .html; parents are made.
            date: What to write under the title.

        Returns:
            The path of the page; the JSON has its name and ends in .json.

        Raises:
            ValueError: The path does not end in .html.
            OSError: A file cannot be written.
        """
        from converters.report import write_page

        return write_page(self, Path(path), date)

    def table(self) -> Table:
        """The numbers as a table for the terminal."""
        from rich.table import Table

        threads = [f"{count} thread{'s' * (count > 1)}" for count in self.threads]
        table = Table(box=None, header_style="bold", pad_edge=False)
        heads = ["candidate", "accuracy", "agreement", "SQNR", "size", *threads, "XNNPACK", "memory", ""]
        rows = [[row.label, *cells(row), "FAILED" if row.failures else ""] for row in self.rows]
        if self.keras_accuracy is not None:
            rows.insert(0, ["Keras", percent(self.keras_accuracy), *[""] * (len(heads) - 2)])
        heads, rows = filled(heads, rows)
        for name in heads:
            table.add_column(name, justify="left" if name in ("candidate", "") else "right")
        for row in rows:
            table.add_row(*map(_unmarked, row))
        return table

    def __str__(self) -> str:
        from rich.console import Console

        text = StringIO()
        Console(file=text, width=120).print(self.table())
        return "\n".join([*(line.rstrip() for line in text.getvalue().splitlines()), "", *self.headline()])


def compare(
    model: keras.Model | str | Path,
    data: Any,
    labels: np.ndarray | None = None,
    *,
    recipes: Iterable[Candidate] = USUAL,
    representative_data: Any = None,
    threads: Sequence[int] = (1, 2),
    runs: int = RUNS,
    progress: bool | None = None,
) -> Comparison:
    """Convert a model in several ways, and measure all of them on the same images.

    Args:
        model: As for `convert`.
        data: Images as for `verify`, all of them for every candidate: no iterator that is used up.
        labels: The true classes, as for `verify`.
        recipes: Names of `list_recipes`, or pairs of a label and arguments of `convert`, such as
            `("int8 percentile", {"recipe": "int8", "ranges": "percentile"})`.
        representative_data: As for `convert`.
        threads: Thread counts to measure the latency with.
        runs: How often to measure each; the candidates take turns, so that a busy moment meets them all.
        progress: Show the stages on stderr; by default when it is a terminal.

    Returns:
        The comparison. What is out of tolerance, or cannot be converted, is in it and no error.

    Raises:
        ValueError: An argument does not fit; nothing is converted then.
        TypeError: Likewise.
        ConversionError: No candidate could be converted; says why the first could not.
    """
    options = _settled(recipes)
    _check_timing(threads, runs)
    _check_reusable(data, "data")
    _check_data(options, representative_data)
    network = load_model(model)
    _check_images(network, options, data, labels)
    artifacts: dict[str, Artifact] = {}
    refused: dict[str, ConversionError | ValueError] = {}
    with show_stages(progress) as report:
        for i, (label, chosen) in enumerate(options.items()):
            report(f"converting {label}", i, len(options))
            try:
                artifacts[label] = _convert(network, representative_data, chosen)
            except (ConversionError, ValueError) as error:
                refused[label] = error
        if not artifacts:
            raise next(iter(refused.values()))
        floats = _floats(network, options, artifacts, report)
    found = compare_artifacts(
        artifacts, network, data, labels, floats=floats, threads=threads, runs=runs, progress=progress
    )
    calls = {label: _call(options[label], representative_data is not None) for label in artifacts}
    return replace(found, refused={label: str(error) for label, error in refused.items()}, calls=calls)


def compare_artifacts(
    artifacts: Mapping[str, Artifact],
    model: keras.Model | str | Path,
    data: Any,
    labels: np.ndarray | None = None,
    *,
    floats: Mapping[str, bytes] | None = None,
    threads: Sequence[int] = (1, 2),
    runs: int = RUNS,
    progress: bool | None = None,
) -> Comparison:
    """Measure artifacts of one model on the same images.

    Args:
        artifacts: Label to artifact.
        model: The Keras model that all of them were made from.
        data: As for `compare`.
        labels: As for `compare`.
        floats: Label of an integer artifact to the float flatbuffer that it was made from, to find the layers
            that lose its quality; by default, an artifact of recipe float32 with the same rewrites, if there
            is one.
        threads: As for `compare`.
        runs: As for `compare`.
        progress: As for `compare`.

    Returns:
        The comparison.

    Raises:
        ValueError: There is no artifact, or an argument does not fit.
        TypeError: `data` is used up by going through it once.
    """
    if not artifacts:
        raise ValueError("artifacts is empty: at least one is needed for a comparison.")
    _check_timing(threads, runs)
    _check_reusable(data, "data")
    network = load_model(model)
    floats = {**_floats_among(artifacts), **(floats or {})}
    shape = next(iter(artifacts.values())).record["inputs"][0]["shape"][1:]
    images = _first(data, shape, BLAMED_IMAGES)
    with show_stages(progress) as stage:
        reports = {}
        for i, (label, artifact) in enumerate(artifacts.items()):
            stage(f"verifying {label}", i, len(artifacts))
            reports[label] = _report(artifact, network, data, labels)
        latencies = _latencies(artifacts, images[:1], threads, runs, stage)
        blame = {}
        for label in floats.keys() & artifacts.keys():
            content = artifacts[label].files[TFLITE]
            blame[label] = tuple(layer_errors(floats[label], content, images, stage))
        rows = []
        for i, (label, artifact) in enumerate(artifacts.items()):
            stage(f"inspecting {label}", i, len(artifacts))
            rows.append(_row(label, artifact, reports[label], latencies[label]))
    first = next(iter(reports.values()))
    return Comparison(
        model_name=network.name,
        samples=first.samples,
        compared=first.compared,
        keras_accuracy=first.keras_accuracy,
        threads=tuple(threads),
        rows=tuple(rows),
        blame={label: blame[label] for label in artifacts if label in blame},
        refused={},
        calls={},
        machine=_machine(),
        versions={"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in _PACKAGES},
        artifacts={
            label: Artifact(artifact.record | {"verification": reports[label].to_dict()}, artifact.files)
            for label, artifact in artifacts.items()
        },
    )


def cells(row: Row) -> list[str]:
    """The numbers of a row as the tables show them.

    Args:
        row: One of a comparison.

    Returns:
        Accuracy, agreement, SQNR, size, a latency for each thread count, partitions, memory.
    """
    return [
        percent(row.accuracy),
        percent(row.agreement),
        decibels(row.sqnr_db),
        byte_size(row.size_bytes),
        *(milliseconds(latency.median_ms) for latency in row.latency),
        "" if row.partitions is None else f"{row.partitions} part{'s' * (row.partitions != 1)}",
        "" if row.arena_bytes is None else byte_size(row.arena_bytes),
    ]


def filled(heads: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Leave the columns of a table out that are empty.

    Args:
        heads: One a column.
        rows: As long as `heads`.

    Returns:
        The heads and rows that are left.
    """
    kept = [i for i in range(len(heads)) if any(row[i] for row in rows)]
    return [heads[i] for i in kept], [[row[i] for i in kept] for row in rows]


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points no other beats in both: as fast and better, or as good and faster.

    Args:
        points: Pairs of a time and a quality.

    Returns:
        Their places, the fastest first.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    kept: list[int] = []
    for i in order:
        if not kept or points[i][1] > points[kept[-1]][1]:
            kept.append(i)
    return kept


def _settled(recipes: Iterable[Candidate]) -> dict[str, dict[str, Any]]:
    """Label to arguments of `convert`, checked."""
    options: dict[str, dict[str, Any]] = {}
    accepted = {name: None for name in inspect.signature(convert).parameters if name not in _COMMON}
    for candidate in [recipes] if isinstance(recipes, str) else recipes:
        label, chosen = (candidate, {"recipe": candidate}) if isinstance(candidate, str) else candidate
        if label in options:
            raise ValueError(f"recipes has {label!r} twice: give each candidate a label of its own.")
        for argument in chosen:
            check_choice(f"argument of {label!r}", argument, accepted)
        options[label] = {**chosen, "recipe": _check_candidate(label, chosen)}
    if not options:
        raise ValueError(f"recipes is empty; names are {', '.join(RECIPES)}.")
    # A SavedModel takes preprocessed images, too, whatever else it takes.
    files = [chosen for chosen in options.values() if get_recipe(chosen["recipe"]).format == "tflite"]
    if len({bool(chosen.get("include_preprocessing")) for chosen in files}) > 1:
        raise ValueError(
            "include_preprocessing is set for some candidates only: they would take other images than the "
            "others. Compare those with it and those without it apart."
        )
    return options


def _check_candidate(label: str, chosen: Mapping[str, Any]) -> str:
    """The recipe of a candidate whose arguments go together."""
    names = ("recipe", "target", "rewrite", "ranges", "corrections", "tolerance", "engine")
    arguments = {name: chosen[name] for name in names if name in chosen}
    try:
        return settle(**arguments, takes_pixels=bool(chosen.get("include_preprocessing")))["recipe"]
    except (TypeError, ValueError) as error:
        raise type(error)(f"candidate {label!r}: {error}") from error


def _check_timing(threads: Sequence[int], runs: int) -> None:
    if not threads or any(count < 1 for count in threads) or len(set(threads)) < len(threads):
        raise ValueError(f"threads={threads!r}: different numbers from 1 up are accepted.")
    if runs < 1:
        raise ValueError(f"runs={runs} must be at least 1.")


def _check_reusable(data: Any, argument: str) -> None:
    if isinstance(data, Iterator):
        raise TypeError(
            f"{argument} is a {type(data).__name__}, which is used up by the first candidate: give an array, "
            "a list or a data set."
        )


def _check_images(
    model: keras.Model, options: Mapping[str, Mapping[str, Any]], data: Any, labels: np.ndarray | None
) -> None:
    """Find out before hours of conversions what `verify` would say behind them."""
    if len(model.outputs or ()) != 1:
        raise ValueError(
            f"compare is for models with one output; model {model.name!r} has {len(model.outputs or ())}."
        )
    shape = check_model(model, next(iter(options.values())).get("input_shape"))
    _first(data, shape, 1)
    if labels is not None and isinstance(data, np.ndarray) and len(labels) != len(data):
        raise ValueError(f"labels has {len(labels)} entries, data {len(data)} images: as many are accepted.")


def _check_data(options: Mapping[str, Mapping[str, Any]], data: Any) -> None:
    hungry = [label for label, chosen in options.items() if get_recipe(chosen["recipe"]).needs_data]
    if hungry and data is None:
        raise ValueError(
            f"representative_data=None, but {hungry[0]!r} chooses its ranges from typical inputs: give an "
            "array (N, H, W, C) or an iterable of batches, preprocessed as in training."
        )
    if len(hungry) > 1:
        _check_reusable(data, "representative_data")


def _convert(model: keras.Model, data: Any, options: Mapping[str, Any]) -> Artifact:
    return convert(model, representative_data=data, progress=False, **options)


def _floats(
    model: keras.Model,
    options: Mapping[str, Mapping[str, Any]],
    artifacts: Mapping[str, Artifact],
    report: Any,
) -> dict[str, bytes]:
    """The float side of every integer artifact that has one, converted where no candidate is it."""
    floats = _floats_among(artifacts)
    made: dict[str, bytes] = {}
    for label, artifact in artifacts.items():
        if label in floats or not _has_float_side(artifact):
            continue
        chosen = {name: options[label][name] for name in _OF_THE_FLOAT_GRAPH if name in options[label]}
        if repr(chosen) not in made:
            report(f"converting the float side of {label}", 0, 0)
            made[repr(chosen)] = _convert(model, None, {"recipe": "float32", **chosen}).files[TFLITE]
        floats[label] = made[repr(chosen)]
    return floats


def _floats_among(artifacts: Mapping[str, Artifact]) -> dict[str, bytes]:
    """Label of an integer artifact to the content of a float32 one that was rewritten as it was."""
    exact = [artifact for artifact in artifacts.values() if artifact.recipe == "float32"]
    return {
        label: other.files[TFLITE]
        for label, artifact in artifacts.items()
        if _has_float_side(artifact)
        for other in exact
        if _graph_of(other) == _graph_of(artifact)
    }


def _has_float_side(artifact: Artifact) -> bool:
    moved = _MOVING & set(artifact.record.get("plan", {}).get("corrections", ()))
    return get_recipe(artifact.recipe).needs_data and not moved


def _graph_of(artifact: Artifact) -> tuple[Any, ...]:
    """What shaped the float graph."""
    plan = artifact.record.get("plan", {})
    return tuple(repr(plan.get(name)) for name in ("rewrites", "image"))


def _report(artifact: Artifact, model: keras.Model, data: Any, labels: np.ndarray | None) -> Report:
    try:
        return verify(artifact, model, data, labels)
    except VerificationError as error:
        return error.report


def _first(data: Any, shape: Sequence[int], count: int) -> np.ndarray:
    height, width, channels = shape
    images = (image for batch in batches(data, (height, width, channels), "data") for image in batch)
    return np.stack(list(islice(images, count)))


def _latencies(
    artifacts: Mapping[str, Artifact], image: np.ndarray, threads: Sequence[int], runs: int, report: Stages
) -> dict[str, tuple[Latency, ...]]:
    """Time all artifacts in turns."""
    found: dict[str, list[Latency]] = {label: [] for label in artifacts}
    for count in threads:
        runners = {label: _runner(artifact, count) for label, artifact in artifacts.items()}
        times: dict[str, list[float]] = {label: [] for label in artifacts}
        for runner in runners.values():
            runner.set_input(image)
            runner.invoke()
        for i in range(runs):
            report(f"timing, {count} thread{'s' * (count > 1)}", i, runs)
            for label, runner in runners.items():
                runner.invoke()  # What the others left in the caches is not this model's time.
                start = time.perf_counter()
                runner.invoke()
                times[label].append(1e3 * (time.perf_counter() - start))
        for label, artifact in artifacts.items():
            p10, median, p90 = (float(value) for value in np.percentile(times[label], (10, 50, 90)))
            known = count if TFLITE in artifact.files else 0
            found[label].append(Latency(median, p10, p90, runs, known))
    return {label: tuple(latencies) for label, latencies in found.items()}


def _runner(artifact: Artifact, threads: int) -> TFLiteRunner | SavedModelRunner:
    if TFLITE in artifact.files:
        return TFLiteRunner(artifact.files[TFLITE], threads)
    return SavedModelRunner(artifact.files)


def _row(label: str, artifact: Artifact, report: Report, latency: tuple[Latency, ...]) -> Row:
    content = artifact.files.get(TFLITE)
    tried, failures = _tried(content, label)
    found = {} if content is None else explain(content)
    graph = None if content is None else Graph(content)
    arena = found.get("arena", {})
    return Row(
        label=label,
        recipe=artifact.recipe,
        accuracy=report.artifact_accuracy,
        agreement=report.agreement,
        sqnr_db=report.sqnr_db,
        size_bytes=artifact.size_bytes,
        latency=latency,
        partitions=tried.get("partitions"),
        outside=tried.get("ops_outside", {}),
        arena_bytes=arena.get("planned_bytes"),
        arena_op="" if graph is None else _layer(graph, arena["peak_op"]),
        delegates=found.get("partitions", {}),
        lint={} if graph is None else _lint(artifact.recipe, graph, read_metadata(artifact.files[TFLITE])),
        rewrites=dict(artifact.record.get("rewrites") or {}),
        float_layers=tuple(artifact.record.get("float_layers") or ()),
        failures=(*report.failures, *failures),
    )


def _tried(content: bytes | None, label: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What the runtime says of a file, and why it does not run in the time that a probe has."""
    if content is None:
        return {}, ()
    try:
        return probe(content, repr(label)), ()
    except ValueError as error:
        return {}, (str(error),)


def _layer(graph: Graph, name: str) -> str:
    """An operation as `arena` names it -> its kind and the layer that it was made of."""
    return next((f"{op.kind} {readable(op)}" for op in graph.ops if op_name(op) == name), "")


def _lint(recipe: str, graph: Graph, metadata: Metadata | None) -> dict[str, tuple[Finding, ...]]:
    targets = [name for name, target in TARGETS.items() if recipe in target.recipes]
    return {name: tuple(lint(graph, name, metadata)) for name in targets}


def _sentence(row: Row, comparison: Comparison) -> str:
    """One row against the baseline and the Keras model."""
    base = comparison.baseline
    parts = []
    if row is not base:
        place = comparison.usual_threads
        size = _times(base.size_bytes / row.size_bytes, "smaller", "larger")
        speed = _times(base.latency[place].median_ms / row.latency[place].median_ms, "faster", "slower")
        count = comparison.threads[place]
        parts.append(f"is {size} and {speed} than {base.label} ({count} thread{'s' * (count > 1)})")
    if row.agreement is not None:
        share = "all" if row.agreement == 1 else f"{row.agreement:.1%} of"
        parts.append(f"agrees with the Keras model on {share} {comparison.samples:,} images")
    if row.accuracy is not None and comparison.keras_accuracy is not None:
        parts.append(f"has an accuracy of {row.accuracy:.2%} against {comparison.keras_accuracy:.2%}")
    if row.agreement is None:
        parts.append(f"has a signal to noise ratio of {row.sqnr_db:.1f} dB on {comparison.samples:,} images")
    *rest, end = parts
    return f"{row.label} {', '.join(rest)}{' and ' if rest else ''}{end}."


def _times(ratio: float, more: str, less: str) -> str:
    if 0.95 < ratio < 1.05:
        return f"not {more}"
    return f"{ratio:.1f} times {more}" if ratio > 1 else f"{1 / ratio:.1f} times {less}"


def _call(options: Mapping[str, Any], with_data: bool) -> str:
    """The call of `convert` that makes a candidate again."""
    rest = dict(options)
    recipe = rest.pop("recipe")
    data = ["representative_data=images"] if with_data and get_recipe(recipe).needs_data else []
    arguments = [*data, *(f"{name}={value!r}" for name, value in rest.items())]
    return f"converters.convert(model, {', '.join([repr(recipe), *arguments])})"


def _machine() -> str:
    """The processor and its cores."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # Not on Linux.
        lines = []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def _unmarked(text: str) -> str:
    from rich.markup import escape

    return escape(text)
