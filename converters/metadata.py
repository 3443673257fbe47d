"""What a client needs to know about a TFLite model, kept inside of the file: metadata and label files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from converters import metadata_schema
from converters.graph import Graph, Tensor
from converters.metadata_files import (
    Sigmoid,
    append_files,
    check_file,
    label_lines,
    read_associated_files,
    sigmoid_lines,
)
from converters.metadata_schema import Tree
from keras_archs.choices import check_choice

ENTRY = "TFLITE_METADATA"
COLOR_SPACES = ("UNKNOWN", "RGB", "GRAYSCALE")
TRANSFORMATIONS = ("IDENTITY", "LOG", "INVERSE_LOGISTIC")
_LABELS_TYPE, _CALIBRATION_TYPE = 2, 4
_TEXTS = ("name", "description", "version", "author", "license")
_LOCALE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?")


@dataclass(frozen=True)
class Labels:
    """The names of the classes in one language.

    Attributes:
        names: One a class, in the order of the output.
        locale: Such as de or pt-BR; empty for the names that a program compares with.
        file: Name of the text file, one label a line.
    """

    names: tuple[str, ...]
    locale: str = ""
    file: str = "labels.txt"


@dataclass(frozen=True)
class ScoreCalibration:
    """Makes the scores of several classes comparable, so that one threshold serves for all.

    Attributes:
        sigmoids: One a class; None where the score is the default score always.
        transformation: The function g: IDENTITY, LOG (log x) or INVERSE_LOGISTIC (log x - log(1 - x)).
        default_score: For classes without a sigmoid and scores of at most `min_score`.
        file: Name of the text file, one sigmoid a line.
    """

    sigmoids: tuple[Sigmoid | None, ...]
    transformation: str = "IDENTITY"
    default_score: float = 0.0
    file: str = "score_calibration.txt"


@dataclass(frozen=True)
class TensorMetadata:
    """An input or an output.

    Attributes:
        name: For people and generated code; not the tensor's name in the graph.
        description: One sentence.
        color_space: RGB or GRAYSCALE (UNKNOWN in files of others) for an image, else None.
        mean: What a client subtracts from the pixels 0 to 255: one number, or one a channel. MediaPipe
            takes no numbers that differ between the channels.
        std: What it divides by afterwards, as many.
        minimum: The least value of the tensor, one number or one a channel; empty if unknown.
        maximum: The largest, as many.
        labels: Names of the classes; clients compare with the first and show the one of their locale.
        calibration: Of the scores.
    """

    name: str
    description: str = ""
    color_space: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    minimum: tuple[float, ...] = ()
    maximum: tuple[float, ...] = ()
    labels: tuple[Labels, ...] = ()
    calibration: ScoreCalibration | None = None


@dataclass(frozen=True)
class Metadata:
    """What a client needs to know about a model.

    Attributes:
        name: Of the model.
        description: What it does.
        version: Of the model, in any form.
        author: Who made it.
        license: Name or text.
        inputs: One an input, in the model's order.
        outputs: One an output, in the model's order.
    """

    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""
    inputs: tuple[TensorMetadata, ...] = ()
    outputs: tuple[TensorMetadata, ...] = ()


def image_input(
    dtype: str, mean: Sequence[float], std: Sequence[float], color_space: str = "RGB"
) -> TensorMetadata:
    """Describe an image that is fed as (pixel - mean) / std, the way MediaPipe's own writer does.

    A quantized input has the mean and std of the float model that it was made of, although clients feed
    uint8 with raw pixels: its scale and zero point stand for the same formula. A model that normalises
    inside has mean 0 and std 1.

    Args:
        dtype: Of the input, such as float32, uint8 or int8.
        mean: One number, or one a channel.
        std: As many.
        color_space: RGB or GRAYSCALE.

    Returns:
        The description; without the range for types that MediaPipe does not take.

    Raises:
        ValueError: `mean` and `std` differ in length, or a std is not above 0.
    """
    if len(mean) != len(std) or min(std, default=0) <= 0:
        raise ValueError(
            f"mean={mean!r} and std={std!r} are not accepted: as many numbers for both, and std above 0, are."
        )
    low = _shortest([(0 - m) / s for m, s in zip(mean, std, strict=True)])
    high = _shortest([(255 - m) / s for m, s in zip(mean, std, strict=True)])
    minimum, maximum = {"float32": (low, high), "uint8": ((0.0,), (255.0,))}.get(dtype, ((), ()))
    return TensorMetadata(
        "image", "Input image to be processed.", color_space, tuple(mean), tuple(std), minimum, maximum
    )


def score_output(
    dtype: str, labels: Iterable[Labels] = (), calibration: ScoreCalibration | None = None
) -> TensorMetadata:
    """Describe probabilities of classes, the way MediaPipe's own writer does.

    Args:
        dtype: Of the output, such as float32, uint8 or int8.
        labels: See `make_labels`.
        calibration: Of the scores.

    Returns:
        The description; without the range for types that MediaPipe does not take.
    """
    high = {"float32": (1.0,), "uint8": (255.0,)}.get(dtype, ())
    return TensorMetadata(
        "score",
        "Score of the labels respectively.",
        minimum=(0.0,) * len(high),
        maximum=high,
        labels=tuple(labels),
        calibration=calibration,
    )


def logits_output(labels: Iterable[Labels] = ()) -> TensorMetadata:
    """Describe logits of classes, which have no range.

    Args:
        labels: See `make_labels`.

    Returns:
        The description.
    """
    return TensorMetadata("logits", "Logit of the labels respectively.", labels=tuple(labels))


def make_labels(names: Sequence[str], classes: int, locale: str = "") -> Labels:
    """Labels under the usual file name: labels.txt, or labels_<locale>.txt.

    Args:
        names: One a class, in the order of the output.
        classes: How many the output has.
        locale: Such as de or pt-BR.

    Returns:
        The labels.

    Raises:
        ValueError: See `check_labels`; or the locale is none.
    """
    check_labels(names, classes)
    _check_locale(locale)
    return Labels(tuple(names), locale, f"labels_{locale}.txt" if locale else "labels.txt")


def check_labels(names: Sequence[str], classes: int) -> None:
    """Check that labels fit an output; equal ones are accepted: ImageNet has two cranes, two maillots.

    Args:
        names: The labels.
        classes: How many classes the output has.

    Raises:
        TypeError: `names` is a text, or holds something else than texts.
        ValueError: There are more or fewer than classes, or one is empty or has several lines.
    """
    if isinstance(names, str):
        raise TypeError(f"labels={names[:40]!r} is one text; a sequence of texts is accepted.")
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise TypeError(f"labels[{i}]={name!r} is {type(name).__name__}; a text is accepted.")
        if not name.strip() or re.search(r"[\n\r\0]", name):
            raise ValueError(f"labels[{i}]={name!r} is not accepted: one line of text, not empty, is.")
    if len(names) != classes:
        more = "the first without a class" if len(names) > classes else "the last"
        which = f"; {more} is {names[min(classes, len(names) - 1)]!r}" if names else ""
        raise ValueError(
            f"there are {len(names)} labels for {classes} classes{which}; one a class is accepted."
        )


def write_metadata(content: bytes, metadata: Metadata) -> bytes:
    """Put metadata and its files into a model, replacing older ones. What the model computes stays.

    Whatever writes the model again afterwards, such as a quantizer, cuts the files off: do this last.

    Args:
        content: The TFLite model, from a source that is trusted.
        metadata: What to write.

    Returns:
        The model; the same arguments give the same bytes.

    Raises:
        ValueError: The metadata does not fit the model, or is not accepted by clients.
        ConversionError: See `Graph`.
    """
    metadata_schema.find(content, ENTRY)  # Says in words what is no model.
    graph = Graph(content)
    _check_tensors("inputs", metadata.inputs, graph.inputs)
    _check_tensors("outputs", metadata.outputs, graph.outputs)
    files = _files(metadata)
    tree = _metadata_tree(metadata)
    tree["min_parser_version"] = metadata_schema.parser_version(tree)
    graph.set_metadata(ENTRY, metadata_schema.pack(tree))
    return append_files(graph.to_bytes(), files)


def read_metadata(content: bytes) -> Metadata | None:
    """Read the metadata of a model, ours or not.

    Args:
        content: The TFLite model, from any source.

    Returns:
        What is known here of it, empty where it says nothing; None for a model without. `read_tree` has all.

    Raises:
        ValueError: The content is no TFLite model, or is damaged; a file that the metadata names is missing.
    """
    tree = read_tree(content)
    if tree is None:
        return None
    main: Tree = next(iter(tree.get("subgraph_metadata", [])), {})
    reader = _Reader(read_associated_files(content))
    texts: dict[str, Any] = {field: tree.get(field, "") for field in _TEXTS}
    return Metadata(
        **texts,
        inputs=tuple(map(reader.tensor, main.get("input_tensor_metadata", []))),
        outputs=tuple(map(reader.tensor, main.get("output_tensor_metadata", []))),
    )


def read_tree(content: bytes) -> Tree | None:
    """Read all of a model's metadata, also what is of no use for images, as plain dictionaries.

    Args:
        content: The TFLite model, from any source.

    Returns:
        Field to value, by the names of TFLite's metadata schema; None for a model without metadata.

    Raises:
        ValueError: The content is no TFLite model, or is damaged.
    """
    packed = metadata_schema.find(content, ENTRY)
    return None if packed is None else metadata_schema.unpack(packed)


class _Reader:
    """Makes records of tables and the files that they name; many may name the same."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files
        self._labels = cache(lambda name: label_lines(name, self._file(name)))
        self._sigmoids = cache(lambda name: sigmoid_lines(name, self._file(name)))

    def tensor(self, tree: Tree) -> TensorMetadata:
        # The first of a kind counts.
        units = dict(unit["options"] for unit in reversed(tree.get("process_units", [])) if "options" in unit)
        normalization, stats = units.get("NormalizationOptions", {}), tree.get("stats", {})
        kind, properties = tree.get("content", {}).get("content_properties", ("", {}))
        files = [file for file in tree.get("associated_files", []) if file.get("name")]
        labels = tuple(
            Labels(self._labels(file["name"]), file.get("locale", ""), file["name"])
            for file in files
            if file.get("type") == _LABELS_TYPE
        )
        color_space = _member(COLOR_SPACES, properties.get("color_space", 0))
        return TensorMetadata(
            name=tree.get("name", ""),
            description=tree.get("description", ""),
            color_space=color_space if kind == "ImageProperties" else None,
            mean=_shortest(normalization.get("mean", [])),
            std=_shortest(normalization.get("std", [])),
            minimum=_shortest(stats.get("min", [])),
            maximum=_shortest(stats.get("max", [])),
            labels=labels,
            calibration=self._calibration(units.get("ScoreCalibrationOptions"), files, labels),
        )

    def _calibration(
        self, options: Tree | None, files: list[Tree], labels: tuple[Labels, ...]
    ) -> ScoreCalibration | None:
        name = next((file["name"] for file in files if file.get("type") == _CALIBRATION_TYPE), None)
        if options is None or name is None:
            return None
        sigmoids = self._sigmoids(name)
        # MediaPipe's writer ends the file with an empty line, which MediaPipe's classifier stumbles over.
        if labels and len(sigmoids) == len(labels[0].names) + 1 and sigmoids[-1] is None:
            sigmoids = sigmoids[:-1]
        (default_score,) = _shortest([options.get("default_score", 0.0)])
        return ScoreCalibration(
            sigmoids, _member(TRANSFORMATIONS, options.get("score_transformation", 0)), default_score, name
        )

    def _file(self, name: str) -> bytes:
        if name not in self._files:
            raise ValueError(
                f"the metadata names the file {name!r}, which is not there: the model was cut off, or was "
                "written again by something that does not keep files."
            )
        return self._files[name]


def _check_locale(locale: str) -> None:
    if locale and not _LOCALE.fullmatch(locale):
        proposal = locale.strip().replace("_", "-")
        nearest = f" Did you mean {proposal!r}?" if _LOCALE.fullmatch(proposal) else ""
        raise ValueError(f"locale={locale!r} is not accepted.{nearest} Such as 'de' or 'pt-BR' is.")


def _check_tensors(argument: str, described: tuple[TensorMetadata, ...], tensors: list[Tensor]) -> None:
    if len(described) != len(tensors):
        raise ValueError(
            f"metadata.{argument} describes {len(described)}; the model has {len(tensors)} {argument}."
        )
    for i, (tensor, actual) in enumerate(zip(described, tensors, strict=True)):
        _check_tensor(f"metadata.{argument}[{i}]", tensor, actual.shape[-1] if actual.shape else 1)


def _check_tensor(argument: str, tensor: TensorMetadata, channels: int) -> None:
    # MediaPipe reads the names of outputs without asking whether there are any.
    if not tensor.name:
        raise ValueError(f"{argument}.name is empty; such as 'image' or 'score' is accepted.")
    if tensor.color_space is not None:
        check_choice(f"{argument}.color_space", tensor.color_space, COLOR_SPACES)
    for fields in (("mean", "std"), ("minimum", "maximum")):
        for field in fields:
            values = getattr(tensor, field)
            if len(values) != len(getattr(tensor, fields[0])) or len(values) not in {0, 1, channels}:
                raise ValueError(
                    f"{argument}.{field}={values!r} has {len(values)} numbers; one, or one for each of the "
                    f"{channels} channels, is accepted, and for {' and '.join(fields)} as many."
                )
            if not all(map(math.isfinite, values)) or (field == "std" and min(values, default=1) <= 0):
                more = " above 0" if field == "std" else ""
                raise ValueError(f"{argument}.{field}={values!r} is not accepted: finite numbers{more} are.")
    locales = [labels.locale for labels in tensor.labels]
    for labels in tensor.labels:
        check_labels(labels.names, channels)
        _check_locale(labels.locale)
        if locales.count(labels.locale) > 1:
            raise ValueError(f"{argument}.labels has locale {labels.locale!r} twice; once is accepted.")
    if tensor.calibration is not None:
        _check_calibration(f"{argument}.calibration", tensor.calibration, channels)


def _check_calibration(argument: str, calibration: ScoreCalibration, classes: int) -> None:
    check_choice(f"{argument}.transformation", calibration.transformation, TRANSFORMATIONS)
    if not any(calibration.sigmoids):
        raise ValueError(f"{argument} has no sigmoid; at least one is accepted.")
    if not math.isfinite(calibration.default_score):
        raise ValueError(f"{argument}.default_score={calibration.default_score} must be finite.")
    if len(calibration.sigmoids) != classes:
        raise ValueError(
            f"{argument} has {len(calibration.sigmoids)} sigmoids for {classes} classes; "
            "one a class is accepted."
        )
    for i, sigmoid in enumerate(calibration.sigmoids):
        if sigmoid and (sigmoid.scale < 0 or not all(map(math.isfinite, sigmoid.numbers))):
            raise ValueError(
                f"{argument}.sigmoids[{i}]={sigmoid} is not accepted: finite numbers "
                "are, and a scale of at least 0."
            )


def _files(metadata: Metadata) -> dict[str, bytes]:
    """Name to content of all files that the metadata needs."""
    files: dict[str, bytes] = {}
    for tensor in (*metadata.inputs, *metadata.outputs):
        made = [(labels.file, "\n".join(labels.names)) for labels in tensor.labels]
        if tensor.calibration is not None:
            lines = [
                "" if sigmoid is None else ",".join(map(repr, sigmoid.numbers))
                for sigmoid in tensor.calibration.sigmoids
            ]
            made.append((tensor.calibration.file, "\n".join(lines)))
        for name, text in made:
            check_file(name)
            if files.setdefault(name, text.encode()) != text.encode():
                raise ValueError(f"the metadata has two files {name!r} that differ; one is accepted.")
    return files


def _metadata_tree(metadata: Metadata) -> Tree:
    main = {
        "input_tensor_metadata": [_tensor_tree(tensor) for tensor in metadata.inputs],
        "output_tensor_metadata": [_tensor_tree(tensor) for tensor in metadata.outputs],
    }
    texts = {field: getattr(metadata, field) for field in _TEXTS}
    return _present(texts) | {"subgraph_metadata": [main]}


def _tensor_tree(tensor: TensorMetadata) -> Tree:
    image = tensor.color_space is not None
    properties = {"color_space": COLOR_SPACES.index(tensor.color_space or "UNKNOWN")} if image else {}
    units: list[Tree] = []
    files = [
        _present(
            {"name": labels.file, "type": _LABELS_TYPE, "locale": labels.locale, "description": "Labels."}
        )
        for labels in tensor.labels
    ]
    if tensor.mean:
        normalization = {"mean": list(tensor.mean), "std": list(tensor.std)}
        units.append({"options": ("NormalizationOptions", normalization)})
    if tensor.calibration is not None:
        options = {
            "score_transformation": TRANSFORMATIONS.index(tensor.calibration.transformation),
            "default_score": tensor.calibration.default_score,
        }
        units.append({"options": ("ScoreCalibrationOptions", options)})
        files.append({"name": tensor.calibration.file, "type": _CALIBRATION_TYPE})
    return _present(
        {
            "name": tensor.name,
            "description": tensor.description,
            "content": {
                "content_properties": ("ImageProperties" if image else "FeatureProperties", properties)
            },
            "process_units": units,
            "stats": _present({"max": list(tensor.maximum), "min": list(tensor.minimum)}),
            "associated_files": files,
        }
    )


def _present(tree: Tree) -> Tree:
    return {field: value for field, value in tree.items() if value not in ("", [], {})}


def _shortest(numbers: list[float]) -> tuple[float, ...]:
    """The shortest numbers that are the same in float32: 0.485, not 0.48500001."""
    return tuple(float(str(np.float32(number))) for number in numbers)


def _member(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else "UNKNOWN"
