"""Activation ranges from typical inputs: one pass, in bounded memory, the same for the same data.

The quantizer of TensorFlow takes the least and the greatest value that ever occurred; one outlier
in a million then costs all other values their precision. The methods here:

* minmax: the same, for comparison and as the default.
* moving_average: of the least and greatest value of 32 samples at a time (Jacob et al. 2018, section 3.1,
  arXiv 1712.05877).
* percentile: what holds all but a small share of the values (McKinstry et al. 2018, arXiv 1809.04191).
* mse: the range with the least expected squared error (Nagel et al. 2021, section 3.1, arXiv 2106.08295).
* entropy: the range whose quantized distribution is nearest to the original (Kullback-Leibler;
  Migacz 2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from converters.errors import ConversionError
from converters.graph import Graph, Tensor
from converters.runners import available_cores
from keras_archs.choices import check_choice

Method = Literal["minmax", "moving_average", "percentile", "mse", "entropy"]
METHODS: tuple[Method, ...] = ("minmax", "moving_average", "percentile", "mse", "entropy")
Range = tuple[float, float]
Report = Callable[[str, int, int], None]

PERCENTILE = 99.999
_SMOOTHING = 0.95
_GROUP = 32  # The paper averages the extremes of training batches; those of single images are far narrower.
_BINS = 2048
_LEVELS = 256
_SHRINKS = np.linspace(0.02, 1.0, 99)


@dataclass
class Histogram:
    """Counts of values in equal bins; the bins double when a value lies outside.

    Attributes:
        low: Where the first bin starts.
        width: Of a bin.
        counts: (2048,).
    """

    low: float = 0.0
    width: float = 0.0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    def add(self, values: np.ndarray, low: float, high: float) -> None:
        """Count values.

        Args:
            values: float32, any shape.
            low: The least of them.
            high: The greatest.
        """
        if not self.width:
            # A power of two, no finer than float32 is: bins are exact, before a doubling and after.
            finest = max(abs(low), abs(high), 1e-30) * 2**-22
            self.width = 2.0 ** math.ceil(math.log2(max((high - low) / _BINS, finest)))
            self.low = math.floor(low / self.width) * self.width
        while low < self.low:
            self._double(downwards=True)
        while high >= self.low + self.width * _BINS:
            self._double(downwards=False)
        self.counts += np.bincount(self._bins(values.reshape(-1)), minlength=_BINS)

    def _bins(self, values: np.ndarray) -> np.ndarray:
        """The bin of each float32 value."""
        steps = (values - np.float32(self.low)) * np.float32(1 / self.width)
        return np.clip(steps, 0, _BINS - 1).astype(np.int32)

    def _double(self, downwards: bool) -> None:
        pairs = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts = np.zeros(_BINS, np.int64)
        if downwards:
            self.counts[_BINS // 2 :] = pairs
            self.low -= self.width * _BINS
        else:
            self.counts[: _BINS // 2] = pairs
        self.width *= 2

    def without_zero(self) -> np.ndarray:
        """The counts, with the bin of 0 as its neighbour: a ReLU's zeros, which any range holds exactly."""
        counts = self.counts.copy()
        if self.low <= 0 < self.low + self.width * _BINS:
            zero = int(self._bins(np.zeros(1, np.float32))[0])
            counts[zero] = min(counts[zero], counts[min(zero + 1, _BINS - 1)])
        return counts

    @property
    def centers(self) -> np.ndarray:
        """The middle of each bin, (2048,)."""
        return self.low + self.width * (np.arange(_BINS) + 0.5)


@dataclass
class Statistics:
    """What was seen of one tensor.

    Attributes:
        low: Least value.
        high: Greatest value.
        average: Moving averages of the least and the greatest value of 32 samples.
        histogram: Of all values, where the method needs it.
        channels: Least, greatest and summed values of each channel, (3, C), and how many were summed.
        group: Least and greatest value of the samples since the last average.
    """

    low: float = np.inf
    high: float = -np.inf
    average: Range | None = None
    histogram: Histogram = field(default_factory=Histogram)
    channels: np.ndarray | None = None
    summed: int = 0
    group: Range | None = None

    def close_group(self) -> None:
        """Let the samples since the last time count in the averages."""
        assert self.group is not None
        before = self.average or self.group
        low, high = (
            _SMOOTHING * old + (1 - _SMOOTHING) * new for old, new in zip(before, self.group, strict=True)
        )
        self.average, self.group = (low, high), None

    @property
    def channel_low(self) -> np.ndarray:
        """Least value of each channel, (C,)."""
        assert self.channels is not None
        return self.channels[0]

    @property
    def channel_high(self) -> np.ndarray:
        """Greatest value of each channel, (C,)."""
        assert self.channels is not None
        return self.channels[1]

    @property
    def channel_mean(self) -> np.ndarray:
        """Mean of each channel, (C,)."""
        assert self.channels is not None
        return self.channels[2] / self.summed


def observe(
    content: bytes, samples: np.ndarray, method: Method, channels: bool, report: Report
) -> dict[str, Statistics]:
    """Run a float model on samples and look at every tensor.

    Args:
        content: A float TFLite model with one image input and batch size 1.
        samples: (N, H, W, C), may be mapped from a file.
        method: What the statistics are for.
        channels: Keep those of each channel, too.
        report: Called with ("calibrating", done, total).

    Returns:
        Tensor name to what was seen.

    Raises:
        ConversionError: A value is infinite or not a number: no range holds it.
    """
    names, interpreter = _with_all_outputs(content)
    indices = [tensor["index"] for tensor in interpreter.get_output_details()]
    image = interpreter.get_input_details()[0]["index"]
    seen = {name: Statistics() for name in names}
    for i in range(len(samples)):
        report("calibrating", i, len(samples))
        interpreter.set_tensor(image, np.array(samples[i : i + 1]))
        interpreter.invoke()
        for name, index in zip(names, indices, strict=True):
            # A view of the interpreter's memory: valid until the next sample.
            if not _look(seen[name], interpreter.tensor(index)(), method, channels):
                raise ConversionError(
                    f"{name!r} becomes NaN or infinite for sample {i} of representative_data: no integer "
                    "stands for that."
                )
        if i % _GROUP == _GROUP - 1 or i == len(samples) - 1:
            for what in seen.values():
                what.close_group()
    return seen


def _with_all_outputs(content: bytes) -> tuple[list[str], Any]:
    """An interpreter that gives every activation; with them as outputs XNNPACK still runs the whole."""
    from ai_edge_litert.interpreter import Interpreter

    from keras_archs.quiet import quiet_tensorflow

    graph = Graph(content)
    values = [tensor for tensor in graph.tensors() if not tensor.is_constant and tensor.dtype == "FLOAT32"]
    graph.outputs = values
    with quiet_tensorflow():
        interpreter = Interpreter(model_content=graph.to_bytes(), num_threads=available_cores())
        interpreter.allocate_tensors()
    return [tensor.name for tensor in values], interpreter


def _look(seen: Statistics, values: np.ndarray, method: Method, channels: bool) -> bool:
    """Take a sample's values in; returns False, and takes nothing in, if one is not finite."""
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        return False
    seen.low, seen.high = min(seen.low, low), max(seen.high, high)
    before = seen.group or (low, high)
    seen.group = min(before[0], low), max(before[1], high)
    if method in ("percentile", "mse", "entropy"):
        seen.histogram.add(values, low, high)
    if channels and values.ndim:
        flat = values.reshape(-1, values.shape[-1])
        now = np.stack([flat.min(axis=0), flat.max(axis=0), flat.sum(axis=0, dtype=np.float64)])
        old = now if seen.channels is None else seen.channels
        total = now[2] if seen.channels is None else old[2] + now[2]
        seen.channels = np.stack([np.minimum(old[0], now[0]), np.maximum(old[1], now[1]), total])
        seen.summed += len(flat)
    return True


def set_ranges(graph: Graph, seen: dict[str, Statistics], method: Method) -> None:
    """Write the ranges into a graph.

    The images and the results keep all that occurred: cutting a logit off would change the answer.

    Args:
        graph: The float graph that was observed; its tensors get their `range`.
        seen: What `observe` returned.
        method: One of METHODS.

    Raises:
        ValueError: There is no such method; the message names the nearest.
    """
    check_choice("ranges", method, dict.fromkeys(METHODS))
    whole = {*graph.inputs, *(tensor for output in graph.outputs for tensor in _handed_on(graph, output))}
    for tensor in graph.tensors():
        if tensor.name in seen and not tensor.is_constant:
            tensor.range = choose_range(seen[tensor.name], "minmax" if tensor in whole else method)


def _handed_on(graph: Graph, tensor: Tensor | None) -> Iterator[Tensor]:
    """A result, and the values that it is made of one by one, back to the last layer."""
    while tensor is not None:
        yield tensor
        maker = graph.producer(tensor)
        hands_on = maker is not None and maker.kind in ("SOFTMAX", "LOGISTIC", "RESHAPE", "SQUEEZE")
        tensor = maker.inputs[0] if maker is not None and hands_on else None


def choose_range(seen: Statistics, method: Method) -> Range:
    """The range of one tensor; 0 always lies in it.

    Args:
        seen: Its statistics.
        method: One of METHODS.

    Returns:
        Least and greatest value that int8 shall stand for.
    """
    low, high = {
        "minmax": lambda: (seen.low, seen.high),
        "moving_average": lambda: seen.average or (seen.low, seen.high),
        "percentile": lambda: _percentile(seen.histogram),
        "mse": lambda: _search(seen, _squared_error),
        "entropy": lambda: _search(seen, _divergence),
    }[method]()
    low, high = max(low, seen.low), min(high, seen.high)
    return min(low, 0.0), max(high, 0.0)


def around_zero(limits: Range) -> Range:
    """Widen a range that is symmetric but for a hair, such as an image's from -1 to 1, so that int8's 0 is 0.

    XNNPACK takes a PAD into the convolution behind it only if the padding is the integer 0.

    Args:
        limits: Of a tensor.

    Returns:
        A range whose zero point is 0, less than 1 % wider; or the same range, where it would take more.
    """
    low, high = limits
    step = max(-low / 128, high / 127)
    return (-128 * step, 127 * step) if 255 * step <= 1.01 * (high - low) else limits


def _percentile(histogram: Histogram) -> Range:
    shares = np.cumsum(histogram.counts) / histogram.counts.sum()
    tail = 1 - PERCENTILE / 100
    first = int(np.searchsorted(shares, tail, side="right"))
    last = int(np.searchsorted(shares, 1 - tail, side="left"))
    return histogram.low + first * histogram.width, histogram.low + (last + 1) * histogram.width


def _search(seen: Statistics, cost: Callable[[Histogram, float, float], float]) -> Range:
    """Shrink the greater side, then the other, then the first again, each time to the least cost."""
    sides = [min(seen.low, 0.0), max(seen.high, 0.0)]
    order = (0, 1, 0) if -sides[0] > sides[1] else (1, 0, 1)
    for side in order:
        if sides[side] == 0:
            continue
        whole = (seen.low, seen.high)[side]
        candidates = [whole * shrink for shrink in _SHRINKS]
        costs = [
            cost(seen.histogram, *((value, sides[1]) if side == 0 else (sides[0], value)))
            for value in candidates
        ]
        sides[side] = candidates[int(np.argmin(costs))]
    return sides[0], sides[1]


def _squared_error(histogram: Histogram, low: float, high: float) -> float:
    """What is cut off, squared, and the noise of rounding, a twelfth of a squared step."""
    values, counts = histogram.centers, histogram.without_zero()
    cut = np.maximum(low - values, 0) + np.maximum(values - high, 0)
    step = (high - low) / (_LEVELS - 1)
    inside = counts[cut == 0].sum()
    return float((counts * cut**2).sum() + inside * step**2 / 12)


def _divergence(histogram: Histogram, low: float, high: float) -> float:
    """Kullback-Leibler divergence of the values from their quantized selves."""
    values, counts = histogram.centers, histogram.without_zero().astype(np.float64)
    inside = (values >= low) & (values <= high)
    if not inside.any():
        return np.inf
    clipped = counts[inside]
    clipped[0] += counts[values < low].sum()
    clipped[-1] += counts[values > high].sum()
    step = max((high - low) / (_LEVELS - 1), 1e-30)
    levels = np.round((values[inside] - low) / step).astype(int)
    filled = counts[inside] > 0
    # Each level's count is spread evenly over those of its bins that hold anything.
    share = np.bincount(levels, counts[inside], _LEVELS + 1) / np.maximum(
        np.bincount(levels, filled, _LEVELS + 1), 1
    )
    quantized = share[levels] * filled
    total = quantized.sum()
    if not total:
        return np.inf
    p, q = clipped / clipped.sum(), quantized / total
    used = p > 0
    return float(np.sum(p[used] * np.log(p[used] / np.maximum(q[used], 1e-12))))
