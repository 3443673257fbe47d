"""Which layer loses the quality of an int8 model, and which few layers to keep in float for it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from converters.errors import ConversionError
from converters.flatbuffer import with_logits
from converters.graph import Graph, Op, Tensor, options
from converters.recipes import Tolerance
from converters.runners import TFLiteRunner, available_cores, dequantize
from converters.runners import quantize as to_integers
from keras_archs.quiet import quiet_tensorflow

Report = Callable[[str, int, int], None]
Quantize = Callable[[frozenset[str]], bytes]

# These hand values on as they are: a range that is bad before them is as bad behind them.
_PASSING_ON = frozenset(
    "AVERAGE_POOL_2D CONCATENATION MAX_POOL_2D MIRROR_PAD PAD PADV2 RELU RELU6 RESHAPE".split()
)
# What stands behind a layer's name in the name of a tensor, and the mark of the layer that has weights.
_INNER = re.compile(r"batchnorm|separable_conv2d|depthwise|convolution")
_GIVEN = ":given"
# Each costs a model; what is tried is the least useful, so that the rest would seldom go.
_MOST_GIVEN_BACK = 12
_DISTURBED = 2
_COMPARED = ("FLOAT32", "INT8", "UINT8", "INT16")
_OWN_RATIOS = ("own_sqnr_db", "channel_sqnr_db", "worst_channel_sqnr_db")
_WEIGHTED = re.compile(r"/(convolution|separable_conv2d|depthwise|MatMul)[^/]*(/|$)")


@dataclass(frozen=True)
class LayerError:
    """What int8 does to the output of one operation; ratios are signal to noise, in dB.

    Attributes:
        name: Of the layer that the operation was made of, for people.
        tensor: Of the output, for `denylisted_nodes`.
        kind: Name in the TFLite schema, such as CONV_2D.
        index: Place in the order of execution.
        shape: Of the output.
        sqnr_db: All of the error, that of the layers before included.
        input_sqnr_db: The same of the operation's worst input.
        own_sqnr_db: The error that is added here: the float operation on the int8 model's own inputs against
            the int8 model's output. NaN where the int8 model does not have all of its inputs.
        channel_sqnr_db: The same of the middle channel: half of them are worse. One large channel hides the
            loss of all others from the ratio above, though not from this one.
        worst_channel: The channel with the worst own ratio.
        worst_channel_sqnr_db: That ratio.
        excess_db: The error that is added here against what rounding the output to int8 adds at the least, in
            dB; far above 0, the weights or values that are clipped lose more than the step of the output.
        logits_sqnr_db: What the error that is added here, and no other, makes of the float model's logits.
        scale: One step of the output; NaN if it is float.
        clipped: Share of the float model's values that lie outside of what the output can say.
        range_used: Share of the output's integers between the least and the greatest that were seen.
        spread: Width of the float model's values, in standard deviations.
    """

    name: str
    tensor: str
    kind: str
    index: int
    shape: tuple[int, ...]
    sqnr_db: float
    input_sqnr_db: float
    own_sqnr_db: float
    channel_sqnr_db: float
    worst_channel: int
    worst_channel_sqnr_db: float
    excess_db: float
    logits_sqnr_db: float
    scale: float
    clipped: float
    range_used: float
    spread: float


_FIXED_STEP = (
    "TFLite fixes its step at 1/256, so that smaller probabilities become 0; convert the logits instead"
)
# Why a layer is rough and what helps; the first that applies is said.
_REASONS: tuple[tuple[Callable[[LayerError], bool], str], ...] = (
    (lambda e: math.isnan(e.scale), "it computes in float, its error is that of the layers before"),
    (lambda e: e.kind == "SOFTMAX", _FIXED_STEP),  # Behind the logits, whose quality it cannot spoil.
    (
        lambda e: e.logits_sqnr_db > 40 and e.own_sqnr_db - e.sqnr_db > 6,
        "its error comes from the layers before, its own has {own_sqnr_db:.1f} dB",
    ),
    (lambda e: e.logits_sqnr_db > 40, "nothing to repair"),
    (lambda e: e.kind == "LOGISTIC", _FIXED_STEP),
    (
        lambda e: e.clipped > 0.005,
        "{clipped:.1%} of its values lie outside of its range, which a pool or concatenation behind "
        "it may have set; try ranges='minmax', more data, or keep it in float",
    ),
    (
        lambda e: e.excess_db > 6,
        "its weights lose {excess_db:.0f} dB more than the rounding of its output; try equalization, bias "
        "correction, or keep it in float",
    ),
    (
        lambda e: e.own_sqnr_db - e.channel_sqnr_db > 6,
        "its channels differ in size: the middle one has {unlike:.0f} dB less than the whole, channel "
        "{worst_channel} has {worst_channel_sqnr_db:.1f} dB; try equalization or keep it in float",
    ),
    (
        lambda e: e.spread > 25,
        "its range is {spread:.0f} times its standard deviation; try ranges='percentile' or equalization",
    ),
    (
        lambda e: e.range_used < 0.5,
        "these samples use {used:.0%} of its range; try ranges='percentile' or representative data like them",
    ),
    (
        lambda e: e.kind == "CONCATENATION",
        "its inputs share one range; try equalization of the branches",
    ),
    (
        lambda e: True,
        "its step is too coarse, its own error has {own_sqnr_db:.1f} dB; try ranges='percentile' or keep "
        "it in float",
    ),
)


@dataclass(frozen=True)
class Measured:
    """How near a model's logits are to those of the float model.

    Attributes:
        sqnr_db: Signal to quantization noise ratio.
        agreement: Share of samples with the same top-1 class; None where there are no classes.
        max_relative_error: Largest absolute error, divided by the range of the float logits.
    """

    sqnr_db: float
    agreement: float | None
    max_relative_error: float

    def meets(self, tolerance: Tolerance) -> bool:
        """Whether all limits are kept; written so that a NaN keeps none."""
        limits = (
            (tolerance.min_sqnr_db, self.sqnr_db, 1),
            (tolerance.min_agreement, self.agreement, 1),
            (tolerance.max_relative_error, self.max_relative_error, -1),
        )
        return all(
            limit is None or value is None or sign * value >= sign * limit for limit, value, sign in limits
        )

    def __str__(self) -> str:
        agreement = "" if self.agreement is None else f", top-1 agreement {self.agreement:.1%}"
        return f"SQNR {self.sqnr_db:.1f} dB{agreement}, error {self.max_relative_error:.2g} of the range"


@dataclass(frozen=True)
class Sensitivity:
    """What it brings to keep one layer in float.

    Attributes:
        layer: The layer.
        nodes: The outputs of the operations that then compute in float: the layer, and those that read it.
        measured: The whole model with these in float; None where that was not tried.
        gain_db: By how much that raises the SQNR of the logits; NaN likewise.
    """

    layer: LayerError
    nodes: frozenset[str]
    measured: Measured | None
    gain_db: float


@dataclass(frozen=True)
class Choice:
    """The layers to keep in float.

    Attributes:
        nodes: The outputs of their operations, for `denylisted_nodes`; empty if int8 alone is good enough.
        measured: What the model is then like.
        int8: What it is like without.
        content: The model.
        trials: How many models were made to find it.
    """

    nodes: frozenset[str]
    measured: Measured
    int8: Measured
    content: bytes = field(repr=False)
    trials: int


def layer_errors(
    float_content: bytes,
    quantized_content: bytes,
    samples: np.ndarray,
    report: Report = lambda stage, done, total: None,
) -> list[LayerError]:
    """Compare a model with its int8 version, layer by layer.

    The first two samples also go once through the float model for each layer, with that layer's own error
    added to its output. This tells what no ratio of the layer itself does: whether the logits suffer.

    Args:
        float_content: The float flatbuffer.
        quantized_content: The same network as the quantizer made it, so that tensors have the same names.
        samples: float32 (N, H, W, C), preprocessed as in training. One is in memory at a time.
        report: Called with (stage, done, total).

    Returns:
        The layers whose outputs both have, the most suspicious first: by `logits_sqnr_db`.

    Raises:
        ValueError: There is no sample, or the two models have no layer in common.
    """
    if not len(samples):
        raise ValueError("samples is empty: at least one is needed to compare two models.")
    graph = Graph(float_content)
    exact, rounded = _Values(_with_all_outputs(graph)), _Values(_with_all_outputs(Graph(quantized_content)))
    alone = _Values(_taken_apart(Graph(float_content)))
    ops = [op for op in graph.ops if op.output.dtype == "FLOAT32" and op.output.name in rounded.outputs]
    if not ops:
        raise ValueError("quantized_content has no tensor of float_content: it is of another model.")
    image = graph.inputs[0].name
    sums = {op.output.name: _Sums(rounded.outputs[op.output.name]) for op in ops}
    sums[image] = _Sums(rounded.image)
    given = [name for name in rounded.outputs if name + _GIVEN in alone.inputs]
    known = {image, *given}
    disturbed = _Disturbed(Graph(float_content), [op.output.name for op in ops])
    for i in range(len(samples)):
        report("comparing layers", i, len(samples))
        sample = np.asarray(samples[i : i + 1], np.float32)
        rounded_sample = dequantize(to_integers(sample, rounded.image), rounded.image)
        exact.run({image: sample})
        rounded.run({rounded.image["name"]: sample})
        alone.run({image: rounded_sample} | {name + _GIVEN: rounded.get(name) for name in given})
        sums[image].add(sample, rounded_sample, sample)
        for op in ops:
            name = op.output.name
            own = alone.get(name) if known.issuperset(t.name for t in _activations(op)) else None
            values = rounded.get(name)
            sums[name].add(exact.get(name), values, own)
            if i < _DISTURBED and own is not None:
                disturbed.add(sample, name, values - own)
    errors = [
        _layer_error(i, op, sums, disturbed.sqnr_db(op.output.name))
        for i, op in enumerate(graph.ops)
        if op in ops
    ]
    return sorted(errors, key=lambda error: (_or(error.logits_sqnr_db, math.inf), error.index))


def sensitivity(
    float_content: bytes,
    errors: Sequence[LayerError],
    samples: np.ndarray,
    quantize: Quantize,
    most: int = 8,
    report: Report = lambda stage, done, total: None,
) -> list[Sensitivity]:
    """Measure what each of the most suspicious layers brings when it alone is kept in float.

    A layer is kept with the operations that read it: its output stays as rough as it was if only the layer
    computes in float and its output is rounded to int8 for the next.

    Args:
        float_content: The float flatbuffer.
        errors: Of `layer_errors`.
        samples: As there.
        quantize: Makes the model with some nodes in float. A call takes 1 to 4 s for a large network.
        most: How many layers to try.
        report: Called with (stage, done, total).

    Returns:
        The layers that were tried, the most useful first; then all others, in the order of `errors`.
    """
    graph, judge = Graph(float_content), _Judge(float_content, samples)
    rounded = [error for error in errors if not math.isnan(error.scale)]
    tried = rounded[:most]
    report("measuring int8", 0, len(tried))
    before = judge.measure(quantize(frozenset()))
    found = []
    for i, error in enumerate(tried):
        report(f"keeping {error.name} in float", i, len(tried))
        nodes = island(graph, error.tensor)
        measured = judge.measure(quantize(nodes))
        found.append(Sensitivity(error, nodes, measured, measured.sqnr_db - before.sqnr_db))
    others = [Sensitivity(error, island(graph, error.tensor), None, math.nan) for error in rounded[most:]]
    return [*sorted(found, key=lambda one: -_or(one.gain_db, -math.inf)), *others]


def choose_float_layers(
    float_content: bytes,
    ranking: Sequence[Sensitivity],
    samples: np.ndarray,
    quantize: Quantize,
    tolerance: Tolerance,
    report: Report = lambda stage, done, total: None,
) -> Choice:
    """Find few layers that have to stay in float for the logits to be good enough.

    The shortest start of the ranking that is, by doubling, then bisection; of that, what proves needless is
    given back to int8, the least useful first.

    Args:
        float_content: The float flatbuffer.
        ranking: Of `sensitivity`.
        samples: As for `layer_errors`.
        quantize: As for `sensitivity`.
        tolerance: What is good enough.
        report: Called with (stage, done, total).

    Returns:
        The nodes and the model.

    Raises:
        ConversionError: Not even all layers of the ranking are enough.
    """
    judge = _Judge(float_content, samples)
    trials = _Trials(judge, quantize, tolerance, report)
    int8 = trials.measure(frozenset())
    if int8.meets(tolerance):
        return trials.choice(frozenset(), int8)
    short, count = 0, 1
    while not trials.enough(_start(ranking, count)):
        if count >= len(ranking):
            raise ConversionError(
                f"tolerance: {_limits(tolerance)} not met by int8 with up to {len(ranking)} layers in float; "
                f"the best was {trials.best()}, int8 alone has {int8}. Try other ranges, equalization, or a "
                "recipe with int16 or float activations."
            )
        short, count = count, min(2 * count, len(ranking))
    while count - short > 1:
        middle = (short + count) // 2
        short, count = (short, middle) if trials.enough(_start(ranking, middle)) else (middle, count)
    nodes = _start(ranking, count)
    last = [node for one in reversed(ranking[:count]) for node in sorted(one.nodes)]
    for node in list(dict.fromkeys(last))[:_MOST_GIVEN_BACK]:
        if trials.enough(nodes - {node}):
            nodes -= {node}
    return trials.choice(nodes, int8)


def in_words(errors: Iterable[LayerError], choice: Choice | None = None, most: int = 5) -> list[str]:
    """The blame list as sentences.

    Args:
        errors: Of `layer_errors`.
        choice: Of `choose_float_layers`, if it was asked.
        most: How many layers to name.

    Returns:
        A sentence a layer, the most suspicious first, and one on the choice.
    """
    errors = list(errors)
    lines = [_sentence(error) for error in errors[:most]]
    if choice is None:
        return lines
    if not choice.nodes:
        return [*lines, f"No layer has to stay in float: {choice.measured}."]
    names = {error.tensor: error.name for error in errors}
    kept = ", ".join(sorted({names.get(node, node) for node in choice.nodes}))
    number = "operation stays" if len(choice.nodes) == 1 else "operations stay"
    return [
        *lines,
        f"{len(choice.nodes)} {number} in float ({kept}): {choice.measured}; before: {choice.int8}.",
    ]


def island(graph: Graph, tensor: str) -> frozenset[str]:
    """The nodes that have to compute in float so that a tensor need not be rounded to int8 at all.

    Args:
        graph: The float model.
        tensor: Name of the output of one of its operations.

    Returns:
        The names of the outputs of that operation and of all that read it, looking through those that
        hand values on as they are.
    """
    nodes: dict[str, None] = {}
    waiting = [op for op in graph.ops if op.output.name == tensor]
    first = True
    while waiting:
        op = waiting.pop()
        if op.output.name in nodes:
            continue
        nodes[op.output.name] = None
        if first or op.kind in _PASSING_ON:
            waiting += graph.consumers(op.output)
        first = False
    return frozenset(nodes)


def readable(op: Op) -> str:
    """The name of the layer that an operation was made of.

    TensorFlow's converter joins the names of all that it merged into an operation, the layer with weights and
    its activation among them, which may belong to the next layer.

    Args:
        op: An operation of a converted Keras model.

    Returns:
        The name of the layer with the weights, if there is one; the tensor's name, if it has no layer.
    """
    own = op.output.name.split(";")
    constants = [
        part
        for tensor in op.inputs
        if tensor is not None and tensor.is_constant
        for part in tensor.name.split(";")
    ]
    parts = [part for part in (*own, *constants) if "/" in part]
    part = next((part for part in parts if _WEIGHTED.search(part)), parts[0] if parts else own[0])
    scopes = part.split("/")
    layers = [scope for scope in scopes[1:-1] if not _INNER.fullmatch(scope)] or scopes[-1:]
    # Keras numbers the scopes of a model that is called a second time, as it is for the export.
    return re.sub(r"_\d+$", "", layers[-1]) if re.search(r"_\d+$", scopes[0]) else layers[-1]


class _Values:
    """A model in an interpreter, whose values are asked for by name, as float32."""

    def __init__(self, graph: Graph) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with quiet_tensorflow():
            self._interpreter = Interpreter(model_content=graph.to_bytes(), num_threads=available_cores())
            self._interpreter.allocate_tensors()
        self.inputs = _by_name(self._interpreter.get_input_details())
        for details in self.inputs.values():  # The memory holds whatever was there before.
            self._interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
        self.outputs = _by_name(self._interpreter.get_output_details())

    @property
    def image(self) -> dict[str, Any]:
        """The description of the first input."""
        return next(iter(self.inputs.values()))

    def set(self, name: str, values: np.ndarray) -> None:
        details = self.inputs[name]
        self._interpreter.set_tensor(details["index"], to_integers(values, details))

    def run(self, values: dict[str, np.ndarray]) -> None:
        for name, value in values.items():
            self.set(name, value)
        self._interpreter.invoke()

    def get(self, name: str) -> np.ndarray:
        details = self.outputs[name]
        return dequantize(self._interpreter.get_tensor(details["index"]), details)


class _Sums:
    """What is added up of one tensor, a channel each; memory does not grow with the samples."""

    def __init__(self, details: dict[str, Any]) -> None:
        self.scale, zero_point = details["quantization"]
        integers = np.iinfo(details["dtype"]) if self.scale else None
        self._low, self._high = -math.inf, math.inf
        if integers is not None:
            self._low, self._high = ((end - zero_point) * self.scale for end in (integers.min, integers.max))
        self._channels: np.ndarray | float = 0.0  # Rows: signal, noise, own signal, own noise.
        self._seen, self._exact = [math.inf, -math.inf], [math.inf, -math.inf]
        self._count = self._clipped = 0
        self._total = 0.0

    def add(self, exact: np.ndarray, rounded: np.ndarray, own: np.ndarray | None) -> None:
        """Take in one sample: float model's and int8 model's output, and the float operation's alone."""
        alone = np.full_like(rounded, np.nan) if own is None else own
        rows = (exact, exact - rounded, alone, alone - rounded)
        self._channels = self._channels + np.stack([_power(values) for values in rows])
        half = 0.5 * self.scale
        self._clipped += int(np.count_nonzero((exact < self._low - half) | (exact > self._high + half)))
        self._count += exact.size
        self._total += float(exact.sum(dtype=np.float64))
        for ends, values in ((self._seen, rounded), (self._exact, exact)):
            ends[:] = min(ends[0], float(values.min())), max(ends[1], float(values.max()))

    def sqnr_db(self) -> float:
        signal, noise = np.asarray(self._channels)[:2].sum(axis=1)
        return _db(signal, noise)

    def own(self) -> dict[str, Any]:
        """The fields of a `LayerError` on the error that is added here."""
        signal, noise = np.asarray(self._channels)[2:]
        rounding = self.scale**2 / 12 * self._count
        excess = {"excess_db": _db(noise.sum(), rounding) if rounding else math.nan}
        used = np.flatnonzero((signal > 0) | (noise > 0) | np.isnan(signal))
        if not len(used):  # All zero, and exactly so.
            return dict.fromkeys(_OWN_RATIOS, math.inf) | excess | {"worst_channel": 0}
        with np.errstate(divide="ignore"):
            lost = noise[used] / signal[used]
        worst = int(lost.argmax())
        ratios = _db(signal.sum(), noise.sum()), _db(1.0, float(np.median(lost))), _db(1.0, lost[worst])
        return dict(zip(_OWN_RATIOS, ratios, strict=True)) | excess | {"worst_channel": int(used[worst])}

    def range(self) -> dict[str, Any]:
        """The fields of a `LayerError` on scale and range."""
        mean = self._total / self._count
        variance = np.asarray(self._channels)[0].sum() / self._count - mean**2
        width = self._exact[1] - self._exact[0]
        whole = self._high - self._low
        return {
            "scale": self.scale or math.nan,
            "clipped": self._clipped / self._count,
            "range_used": (self._seen[1] - self._seen[0]) / whole if self.scale else math.nan,
            "spread": width / math.sqrt(variance) if variance > 0 else 0.0,
        }


class _Disturbed:
    """The float model with an error added to the output of one operation at a time."""

    def __init__(self, graph: Graph, names: list[str]) -> None:
        logits = graph.outputs[0]
        last = graph.producer(logits)
        if last is not None and last.kind == "SOFTMAX":
            logits = last.inputs[0] or logits
        sums: dict[Tensor, Tensor] = {}
        for op in [op for op in graph.ops if op.output.name in names]:
            old = op.output
            error = Tensor(old.name + _GIVEN, old.shape, old.dtype)
            new = Tensor(old.name + ":disturbed", old.shape, old.dtype)
            graph.redirect(old, new)
            graph.inputs.append(error)
            graph.ops.insert(graph.ops.index(op) + 1, Op("ADD", [old, error], [new], options("AddOptions")))
            sums[old] = new
        self._output = sums.get(logits, logits).name
        if sums.get(logits, logits) not in graph.outputs:
            graph.outputs.append(sums.get(logits, logits))
        self._image = graph.inputs[0].name
        self._values = _Values(graph)
        self._squares: dict[str, np.ndarray] = {name: np.zeros(2) for name in names}
        self._tried: set[str] = set()
        self._sample: np.ndarray | None = None
        self._exact = np.empty(0)

    def add(self, sample: np.ndarray, name: str, error: np.ndarray) -> None:
        """Run one sample with one operation's error."""
        if self._sample is not sample:
            self._sample = sample
            self._values.run({self._image: sample})
            self._exact = self._values.get(self._output).astype(np.float64)
        got = self._exact
        if error.any():
            self._values.run({name + _GIVEN: error})
            got = self._values.get(self._output)
            self._values.set(name + _GIVEN, np.zeros_like(error))
        self._squares[name] += np.sum(self._exact**2), np.sum((self._exact - got) ** 2)
        self._tried.add(name)

    def sqnr_db(self, name: str) -> float:
        return _db(*self._squares[name]) if name in self._tried else math.nan


class _Judge:
    """Compares the logits of models with those of the float model."""

    def __init__(self, float_content: bytes, samples: np.ndarray) -> None:
        graph = Graph(float_content)
        if len(graph.outputs) != 1:
            raise ValueError(f"float_content has {len(graph.outputs)} outputs; models with one are accepted.")
        last = graph.producer(graph.outputs[0])
        self._is_probability = last is not None and last.kind == "LOGISTIC"
        self._samples = samples
        self._expected = self._logits(float_content)

    def _logits(self, content: bytes) -> np.ndarray:
        runner = TFLiteRunner(with_logits(content) or content, num_threads=available_cores())
        return runner.run(self._samples)[0].astype(np.float64)

    def measure(self, content: bytes) -> Measured:
        expected, got = self._expected, self._logits(content)
        error, span = np.abs(expected - got), float(np.ptp(expected))
        agreement = None
        if expected.ndim == 2 and expected.shape[1] > 1:
            agreement = float(np.mean(expected.argmax(axis=1) == got.argmax(axis=1)))
        elif self._is_probability:
            agreement = float(np.mean((expected > 0.5) == (got > 0.5)))
        relative = float(error.max()) / span if span else math.nan
        return Measured(_db(np.sum(expected**2), np.sum(error**2)), agreement, relative)


class _Trials:
    """Makes and measures models, each set of nodes once."""

    def __init__(self, judge: _Judge, quantize: Quantize, tolerance: Tolerance, report: Report) -> None:
        self._judge, self._quantize, self._tolerance, self._report = judge, quantize, tolerance, report
        self._measured: dict[frozenset[str], Measured] = {}
        self._good = b""  # The latest that met the tolerance: the search never goes back behind it.

    def measure(self, nodes: frozenset[str]) -> Measured:
        if nodes not in self._measured:
            self._report(f"trying {len(nodes)} operations in float", len(self._measured), 0)
            content = self._quantize(nodes)
            self._measured[nodes] = self._judge.measure(content)
            if self._measured[nodes].meets(self._tolerance):
                self._good = content
        return self._measured[nodes]

    def enough(self, nodes: frozenset[str]) -> bool:
        return self.measure(nodes).meets(self._tolerance)

    def best(self) -> str:
        nodes = max(self._measured, key=lambda nodes: _or(self._measured[nodes].sqnr_db, -math.inf))
        return f"{self._measured[nodes]} with {len(nodes)} operations in float"

    def choice(self, nodes: frozenset[str], int8: Measured) -> Choice:
        return Choice(nodes, self._measured[nodes], int8, self._good, len(self._measured))


def _with_all_outputs(graph: Graph) -> Graph:
    """The same model, which gives all that its operations make."""
    made = [tensor for op in graph.ops for tensor in op.outputs if tensor.dtype in _COMPARED]
    graph.outputs = [*graph.outputs, *(tensor for tensor in made if tensor not in graph.outputs)]
    return graph


def _taken_apart(graph: Graph) -> Graph:
    """Each float operation alone: it reads inputs of the graph, named like the tensors it read."""
    given: dict[Tensor, Tensor] = {}
    for op in graph.ops:
        for tensor in _activations(op):
            if tensor not in graph.inputs:
                given.setdefault(tensor, Tensor(tensor.name + _GIVEN, tensor.shape, tensor.dtype))
    for op in graph.ops:
        op.inputs = [tensor if tensor is None else given.get(tensor, tensor) for tensor in op.inputs]
    graph.inputs = [*graph.inputs, *given.values()]
    return _with_all_outputs(graph)


def _activations(op: Op) -> list[Tensor]:
    return [
        tensor
        for tensor in op.inputs
        if tensor is not None and tensor.dtype == "FLOAT32" and not tensor.is_constant
    ]


def _layer_error(index: int, op: Op, sums: dict[str, _Sums], logits_sqnr_db: float) -> LayerError:
    own = sums[op.output.name]
    before = [sums[tensor.name].sqnr_db() for tensor in _activations(op) if tensor.name in sums]
    return LayerError(
        name=readable(op),
        tensor=op.output.name,
        kind=op.kind,
        index=index,
        shape=op.output.shape,
        sqnr_db=own.sqnr_db(),
        input_sqnr_db=min(before, default=math.inf),
        logits_sqnr_db=logits_sqnr_db,
        **own.own(),
        **own.range(),
    )


def _sentence(error: LayerError) -> str:
    size = "x".join(str(size) for size in error.shape[1:])
    under = error.input_sqnr_db - error.sqnr_db
    drop = f", {under:.0f} dB under its input" if math.isfinite(under) and under >= 1 else ""
    reason = next(text for applies, text in _REASONS if applies(error))
    what = reason.format(
        **vars(error), unlike=error.own_sqnr_db - error.channel_sqnr_db, used=error.range_used
    )
    alone = f" and alone brings the logits to {error.logits_sqnr_db:.1f} dB"
    if not math.isfinite(error.logits_sqnr_db):
        alone = ""
    return f"{error.name} ({error.kind}, {size}) has {error.sqnr_db:.1f} dB{drop}{alone}: {what}."


def _power(values: np.ndarray) -> np.ndarray:
    """The sum of squares a channel, which is the last dimension."""
    rows = values.reshape(-1, values.shape[-1] if values.ndim else 1)
    return np.square(rows).sum(axis=0, dtype=np.float64)


def _db(signal: float, noise: float) -> float:
    if not math.isfinite(signal + noise):
        return math.nan
    if not noise:
        return math.inf
    return float(10 * np.log10(signal / noise)) if signal else -math.inf


def _or(value: float, instead_of_nan: float) -> float:
    return instead_of_nan if math.isnan(value) else value


def _start(ranking: Sequence[Sensitivity], count: int) -> frozenset[str]:
    return frozenset().union(*(one.nodes for one in ranking[:count]))


def _limits(tolerance: Tolerance) -> str:
    return ", ".join(f"{name}={limit:g}" for name, limit in vars(tolerance).items() if limit is not None)


def _by_name(details: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {tensor["name"]: tensor for tensor in details}
