"""What a conversion results in: files that can be run, saved and loaded, and the record of their making."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from converters.flatbuffer import with_logits
from converters.folders import replace_folder
from converters.graph import schema_module
from converters.probe import probe
from converters.recipes import get_recipe
from converters.representative import batches
from converters.runners import SavedModelRunner, TFLiteRunner
from converters.untrusted import check_tflite

RECORD = "artifact.json"
TFLITE = "model.tflite"
_KEYS = {"recipe", "name", "files", "inputs", "outputs", "ends_in_softmax"}


@dataclass(frozen=True)
class Latency:
    """Time of one inference of one image.

    Attributes:
        median_ms: The middle run.
        p10_ms: A tenth of the runs were faster.
        p90_ms: A tenth of the runs were slower.
        runs: How many were timed.
        num_threads: Threads the runtime was given; 0 where it decides itself.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int
    num_threads: int


class Artifact:
    """A converted model.

    Attributes:
        record: How it was made and what is in it; what `artifact.json` holds.
        files: Relative name to content.
    """

    def __init__(self, record: dict[str, Any], files: dict[str, bytes]) -> None:
        self.record = record
        self.files = files
        self._runners: dict[str, TFLiteRunner | SavedModelRunner] = {}
        self._untried = ""  # The path of a model that this process did not make, until it was tried out.

    def __repr__(self) -> str:
        return f"<Artifact {self.record['name']!r}, {self.recipe}, {self.size_bytes:,} bytes>"

    def __call__(self, x: Any) -> np.ndarray | list[np.ndarray]:
        """Run images through the model.

        Args:
            x: Float images (N, H, W, C), preprocessed as in training; or an iterable of such batches.

        Returns:
            The float32 output (N, ...); a list of them for a model with several.
        """
        if "outputs" not in self._runners:
            self._runners["outputs"] = self._make_runner(num_threads=1)
        return self._run(self._runners["outputs"], x)

    def logits(self, x: Any) -> np.ndarray:
        """Run images through the model without its final softmax.

        Args:
            x: As for calling.

        Returns:
            float32 (N, ...); what calling returns when the model does not end in a softmax.

        Raises:
            ValueError: The model is a SavedModel that ends in a softmax, or has several outputs.
        """
        outputs = len(self.record["outputs"])
        if outputs != 1:
            raise ValueError(f"artifact {self.record['name']!r} has {outputs} outputs; one is accepted.")
        if not self.record["ends_in_softmax"]:
            result = self(x)
            return result if isinstance(result, np.ndarray) else result[0]
        content = with_logits(self.files[TFLITE]) if TFLITE in self.files else None
        if content is None:
            raise ValueError("A SavedModel does not give access to what its softmax is made of.")
        if "logits" not in self._runners:
            self._try_out()
            self._runners["logits"] = TFLiteRunner(content, num_threads=1)
        result = self._run(self._runners["logits"], x)
        return result if isinstance(result, np.ndarray) else result[0]

    @property
    def recipe(self) -> str:
        """The name of the recipe."""
        return self.record["recipe"]

    @property
    def size_bytes(self) -> int:
        """Size of the model's files together, without the record."""
        return sum(len(content) for content in self.files.values())

    def latency(self, runs: int = 30, num_threads: int = 1) -> Latency:
        """Time single images, after three runs that are not counted.

        Args:
            runs: How many to time.
            num_threads: Threads for one inference; a SavedModel decides itself.

        Returns:
            Median and spread.

        Raises:
            ValueError: `runs` or `num_threads` is less than one.
        """
        for argument, value in (("runs", runs), ("num_threads", num_threads)):
            if value < 1:
                raise ValueError(f"{argument}={value} must be at least 1.")
        runner = self._make_runner(num_threads)
        runner.set_input(np.zeros((1, *self._image_shape()), np.float32))
        times = []
        for _ in range(runs + 3):
            start = time.perf_counter()
            runner.invoke()
            times.append(1e3 * (time.perf_counter() - start))
        p10, median, p90 = (float(value) for value in np.percentile(times[3:], (10, 50, 90)))
        return Latency(median, p10, p90, runs, num_threads if TFLITE in self.files else 0)

    def save(self, folder: str | Path) -> Path:
        """Write the model and `artifact.json`, all of it or nothing.

        Args:
            folder: A new or empty folder, or one that holds nothing but an artifact, which is replaced.

        Returns:
            The folder.

        Raises:
            FileExistsError: The folder holds something else.
            OSError: It cannot be written; an artifact that was there is intact.
        """
        folder = Path(folder)
        record = json.dumps(self.record, indent=2).encode() + b"\n"
        replace_folder(folder, {**self.files, RECORD: record}, _files_of_artifact(folder))
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Artifact:
        """Read an artifact, and check that its files are the ones that were written.

        A TFLite model is checked as `converters.untrusted.check_tflite` says, and before its first run here
        it is run in another process, since a broken one can end the process that runs it. A SavedModel is a
        program: load only those that you trust.

        Args:
            folder: As given to `save`.

        Returns:
            The artifact.

        Raises:
            FileNotFoundError: The folder or one of its files is missing.
            ValueError: A file was changed, cannot be read, or is not a model that the record describes.
        """
        folder = Path(folder)
        record = _read_record(folder)
        get_recipe(record["recipe"])
        files = {}
        for name, facts in record["files"].items():
            path = folder / name
            if not path.is_file():
                raise FileNotFoundError(f"The artifact in {str(folder)!r} lacks its file {name!r}.")
            files[name] = path.read_bytes()
            if hashlib.sha256(files[name]).hexdigest() != facts["sha256"]:
                raise ValueError(f"{str(path)!r} is not the file that {RECORD} describes: its hash differs.")
        artifact = cls(record, files)
        if (get_recipe(record["recipe"]).format == "tflite") != (TFLITE in files):
            raise ValueError(f"{str(folder / RECORD)!r} is damaged: its files are not those of its recipe.")
        if TFLITE in files:
            artifact._untried = repr(str(folder / TFLITE))
            check_tflite(files[TFLITE], artifact._untried)
            _check_described(record, files[TFLITE], folder)
        return artifact

    def _image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.record["inputs"][0]["shape"][1:]
        return height, width, channels

    def _try_out(self) -> None:
        if self._untried:
            probe(self.files[TFLITE], self._untried)
        self._untried = ""

    def _make_runner(self, num_threads: int) -> TFLiteRunner | SavedModelRunner:
        if TFLITE in self.files:
            self._try_out()
            return TFLiteRunner(self.files[TFLITE], num_threads).in_signature_order()
        return SavedModelRunner(self.files)

    def _run(self, runner: TFLiteRunner | SavedModelRunner, x: Any) -> np.ndarray | list[np.ndarray]:
        parts = [runner.run(batch) for batch in batches(x, self._image_shape(), "x")]
        outputs = [np.concatenate(part) for part in zip(*parts, strict=True)]
        return outputs[0] if len(outputs) == 1 else outputs


def file_facts(files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """Size and hash of files, as the record holds them."""
    return {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    }


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    if not path.is_file():
        raise FileNotFoundError(f"{str(folder)!r} is not an artifact: it has no {RECORD}.")
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is not JSON: {error}") from error
    if not isinstance(record, dict) or not record.keys() >= _KEYS:
        raise ValueError(f"{str(path)!r} is not the record of an artifact: it lacks some of {sorted(_KEYS)}.")
    if not _is_well_formed(record):
        raise ValueError(
            f"{str(path)!r} is damaged: its files, inputs or outputs are not as they were written."
        )
    for name in record["files"]:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{str(path)!r} names {name!r}, which lies outside of the folder.")
    return record


def _is_well_formed(record: dict[str, Any]) -> bool:
    """Whether the parts of a record that are relied on have the form in which they were written."""
    files, tensors = record["files"], (record["inputs"], record["outputs"])
    return (
        all(isinstance(record[key], str) for key in ("recipe", "name"))
        and isinstance(files, dict)
        and all(isinstance(facts, dict) and "sha256" in facts for facts in files.values())
        and all(isinstance(part, list) and part for part in tensors)
        and all(
            isinstance(tensor, dict) and _is_shape(tensor.get("shape")) for part in tensors for tensor in part
        )
        and len(record["inputs"][0]["shape"]) == 4
        and None not in record["inputs"][0]["shape"][1:]
    )


def _is_shape(value: Any) -> bool:
    """Whether this is a list of sizes, where None is an open one."""
    return isinstance(value, list) and all(size is None or type(size) is int for size in value)


def _check_described(record: dict[str, Any], content: bytes, folder: Path) -> None:
    """Refuse a record that is of another model."""
    graph = schema_module().Model.GetRootAs(content, 0).Subgraphs(0)
    inputs = [graph.Tensors(graph.Inputs(i)) for i in range(graph.InputsLength())]
    outputs = [graph.Tensors(graph.Outputs(i)) for i in range(graph.OutputsLength())]
    for key, tensors in (("inputs", inputs), ("outputs", outputs)):
        # The record has the outputs in the order of the Keras model, the file in any.
        described = sorted((tensor["shape"] for tensor in record[key]), key=str)
        shapes = [[tensor.Shape(i) for i in range(tensor.ShapeLength())] for tensor in tensors]
        found = sorted(shapes, key=str)
        if described != found:
            raise ValueError(
                f"{str(folder / RECORD)!r} describes {key} {described}, but {TFLITE!r} has {found}."
            )
    if bool(record["ends_in_softmax"]) != (len(outputs) == 1 and with_logits(content) is not None):
        raise ValueError(f"{str(folder / RECORD)!r} is wrong about whether {TFLITE!r} ends in a softmax.")


def _files_of_artifact(folder: Path) -> set[str]:
    """The files that may be replaced: those of an artifact, if there is one."""
    try:
        return {RECORD, *_read_record(folder)["files"]}
    except (FileNotFoundError, ValueError):
        return set()
