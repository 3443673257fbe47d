"""Comparing an artifact with the Keras model it was made from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from converters.artifact import Artifact, Latency
from converters.errors import VerificationError
from converters.formats import jsonable, percent
from converters.keras_model import call, check_model, float32_twin, load_model, model_end
from converters.pixels import normalised
from converters.recipes import Tolerance, get_recipe
from converters.representative import batches
from keras_archs.modes import Mode


@dataclass(frozen=True)
class Report:
    """How an artifact compares to its model.

    Attributes:
        recipe: The recipe's name.
        samples: How many samples both ran.
        compared: logits, or outputs where a model ends in something else than class scores.
        sqnr_db: Signal to quantization noise ratio in dB; inf when the two are equal.
        agreement: Share of samples with the same top-1 class; None where there are no classes.
        max_error: Largest absolute difference.
        max_relative_error: The same, divided by the range of the model's values.
        keras_accuracy: Of the model, when labels were given.
        artifact_accuracy: Of the artifact, when labels were given.
        size_bytes: Size of the artifact.
        latency: Time of one image on this machine.
        failures: What is not as the recipe says, a sentence each; empty when the artifact passed.
    """

    recipe: str
    samples: int
    compared: Literal["logits", "outputs"]
    sqnr_db: float
    agreement: float | None
    max_error: float
    max_relative_error: float
    keras_accuracy: float | None
    artifact_accuracy: float | None
    size_bytes: int
    latency: Latency
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the artifact is as its recipe says."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON, which has no infinity or NaN: those become text."""
        return jsonable(self) | {"passed": self.passed}

    def __str__(self) -> str:
        time = self.latency
        rows = {
            f"{self.recipe}, {self.samples} samples": "passed" if self.passed else "FAILED",
            f"SQNR of the {self.compared}": f"{self.sqnr_db:.1f} dB",
            "top-1 agreement": percent(self.agreement),
            "maximum error": f"{self.max_error:.3g} ({self.max_relative_error:.2g} of the range)",
            "accuracy of the Keras model": percent(self.keras_accuracy),
            "accuracy of the artifact": percent(self.artifact_accuracy),
            "size": f"{self.size_bytes / 1e6:.2f} MB",
            "latency": f"{time.median_ms:.2f} ms ({time.p10_ms:.2f} to {time.p90_ms:.2f})",
        }
        return "\n".join(f"{name:<30}{value}" for name, value in rows.items() if value)


def verify(
    artifact: Artifact, model: keras.Model | str | Path, data: Any, labels: np.ndarray | None = None
) -> Report:
    """Run an artifact and its model on the same images, and compare.

    Args:
        artifact: What `convert` made, or `Artifact.load` read.
        model: The Keras model, or the path of its file. In mixed precision, its float32 twin is run.
        data: Images (N, H, W, C), preprocessed as in training, or 0..255 for an artifact that normalises
            them itself; or an iterable of such batches.
        labels: The true classes, integers of the shape of the top-1 classes, usually (N,).

    Returns:
        The report, when the recipe's tolerance is met.

    Raises:
        VerificationError: It is not met, or there is nothing to compare; carries the report.
        ValueError: The artifact cannot be of this model, or an argument does not fit.
    """
    tolerance = get_recipe(artifact.recipe).tolerance
    expected, got, kind, compared = _run_both(artifact, load_model(model), data)
    classes = [_classes(values, kind) for values in (expected, got)]
    count = max(2, expected.shape[-1])  # a single sigmoid tells two classes apart
    accuracies = [_accuracy(values, labels, count) for values in classes]
    error = np.abs(expected - got)
    span = float(np.ptp(expected))
    report = Report(
        recipe=artifact.recipe,
        samples=len(expected),
        compared=compared,
        sqnr_db=_sqnr_db(expected, got),
        agreement=None if classes[0] is None else float(np.mean(classes[0] == classes[1])),
        max_error=float(error.max()),
        max_relative_error=float(error.max()) / span if span else math.nan,
        keras_accuracy=accuracies[0],
        artifact_accuracy=accuracies[1],
        size_bytes=artifact.size_bytes,
        latency=artifact.latency(),
        failures=(),
    )
    if failures := [*_meaningless(expected, got, compared), *_exceeded(report, tolerance)]:
        raise VerificationError(Report(**{**vars(report), "failures": tuple(failures)}))
    return report


def _run_both(
    artifact: Artifact, model: keras.Model, data: Any
) -> tuple[np.ndarray, np.ndarray, str, Literal["logits", "outputs"]]:
    """What the model and the artifact say, each (N, ...) in float64, and what that is."""
    if len(model.outputs or ()) != 1 or len(artifact.record["outputs"]) != 1:
        raise ValueError("verify compares models with one output; compare several by calling the artifact.")
    height, width, channels = artifact.record["inputs"][0]["shape"][1:]
    shape = check_model(model, (height, width, channels))
    exact = float32_twin(model)
    end = model_end(exact)
    raw = "preprocessing" in artifact.record  # The artifact normalises images itself.
    mode = Mode(**artifact.record["plan"]["image"]) if raw else None
    # A SavedModel does not give access to its logits, so there the probabilities are compared.
    strip = end.kind == "softmax" and artifact.record["ends_in_softmax"] and "ops" in artifact.record
    expected, got = [], []
    for batch in batches(data, shape, "data"):
        image = batch if mode is None else normalised(batch, mode)
        values = end.logits(image) if strip else call(exact, image)
        expected.append(np.asarray(keras.ops.convert_to_numpy(values), np.float64))
        got.append(np.asarray(artifact.logits(batch) if strip else artifact(batch), np.float64))
    ours, theirs = np.concatenate(expected), np.concatenate(got)
    if ours.shape != theirs.shape:
        raise ValueError(
            f"model {model.name!r} gives {ours.shape}, the artifact {theirs.shape}: it is of another model."
        )
    scores = strip or (end.kind == "linear" and ours.ndim == 2 and ours.shape[-1] > 1)
    return ours, theirs, end.kind, "logits" if scores else "outputs"


def _classes(values: np.ndarray, kind: str) -> np.ndarray | None:
    """The top-1 classes; of a single sigmoid, whether it is above one half; None of a feature map."""
    scores = kind == "softmax" or (kind in ("linear", "sigmoid") and values.ndim == 2)
    if scores and values.shape[-1] > 1:
        return values.argmax(axis=-1)
    return values.squeeze(-1) > 0.5 if kind == "sigmoid" and values.shape[-1] == 1 else None


def _accuracy(classes: np.ndarray | None, labels: np.ndarray | None, count: int) -> float | None:
    if labels is None:
        return None
    if classes is None:
        raise ValueError("labels were given, but the model has no classes: leave them out.")
    truth = np.asarray(labels)
    if truth.shape != classes.shape or not np.issubdtype(truth.dtype, np.integer):
        raise ValueError(
            f"labels has shape {truth.shape} and type {truth.dtype}; integers {classes.shape} are accepted."
        )
    if truth.min() < 0 or truth.max() >= count:
        raise ValueError(f"labels go from {truth.min()} to {truth.max()}; 0 to {count - 1} are accepted.")
    return float(np.mean(classes == truth))


def _sqnr_db(expected: np.ndarray, got: np.ndarray) -> float:
    signal, noise = np.sum(expected**2), np.sum((expected - got) ** 2)
    if not signal or not np.isfinite(signal + noise):
        return math.nan
    return float(10 * np.log10(signal / noise)) if noise else math.inf


def _meaningless(expected: np.ndarray, got: np.ndarray, compared: str) -> list[str]:
    """Why good numbers would say nothing."""
    for whose, values in (("Keras model", expected), ("artifact", got)):
        if not np.isfinite(values).all():
            return [f"the {compared} of the {whose} hold NaN or infinity"]
    varies = np.ptp(expected, axis=0).max() if len(expected) > 1 else np.ptp(expected)
    if varies <= 1e-6 * np.abs(expected).max():
        return [f"the {compared} of the Keras model do not depend on the data: there is nothing to compare"]
    return []


def _exceeded(report: Report, tolerance: Tolerance) -> list[str]:
    """What is out of tolerance; written so that a NaN is."""
    failures = []
    limit = tolerance.max_relative_error
    if limit is not None and not report.max_relative_error <= limit:
        failures.append(f"maximum error {report.max_relative_error:.2g} of the range exceeds {limit:g}")
    limit = tolerance.min_sqnr_db
    if limit is not None and not report.sqnr_db >= limit:
        failures.append(f"SQNR {report.sqnr_db:.1f} dB is below {limit:g} dB")
    limit = tolerance.min_agreement
    if limit is not None and report.agreement is not None and not report.agreement >= limit:
        failures.append(f"top-1 agreement {report.agreement:.1%} is below {limit:.0%}")
    return failures
