"""The manifest: every published weights file that a model here can load, one row of `entries.csv` each.

tools/make_entries.py writes the rows of timm and torchvision. Those of Keras have the names and hashes in
keras/src/applications of Keras 3.15.1, top-1 and licenses of its documentation.
"""

import csv
import difflib
import functools
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from keras_archs.choices import nearest
from keras_archs.weights.errors import SLIM_NAME, SUFFIXES

# Where timm calls an architecture by another name.
TIMM_NAMES = {"legacy_xception": "xception"}


@dataclass(frozen=True)
class Entry:
    """One published weights file, and what it expects of an image.

    Attributes:
        model: Name in the registry.
        tag: Which weights: who trained them, how, and on what.
        source: Who publishes them: "keras", "timm" or "torchvision".
        file: Path below the publisher's address, or the repository on the Hugging Face hub.
        hash: "md5:..." or "sha256:...", there perhaps the first digits only; empty on the hub, which names
            its files by their SHA-256.
        notop: The same for the file without the classifier; Keras alone has one.
        notop_hash: Its hash.
        convention: Lineage of the arithmetic: "keras" or "torch".
        preprocessing: Mode of `preprocess_input`.
        classes: Outputs of the classifier; 0 if the file has none.
        size: Height and width of the images in evaluation.
        crop: Share of the resized image that evaluation cuts from the centre; None if it is not stated.
        interpolation: How evaluation resizes; empty if it is not stated.
        top1: Accuracy on ImageNet-1k in percent, as published; None if it is not.
        top1_size: Height and width that `top1` was measured at.
        license: Of the weights, as published; empty if it is not stated.
    """

    model: str
    tag: str
    source: str
    file: str
    hash: str
    notop: str
    notop_hash: str
    convention: str
    preprocessing: str
    classes: int
    size: int
    crop: float | None
    interpolation: str
    top1: float | None
    top1_size: int | None
    license: str

    @property
    def name(self) -> str:
        """Model and tag: "resnet50.a1_in1k"."""
        return f"{self.model}.{self.tag}"


@functools.cache
def _table() -> dict[str, tuple[Entry, ...]]:
    """All entries by model, the default first."""
    table: dict[str, tuple[Entry, ...]] = {}
    with resources.files(__package__).joinpath("entries.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            entry = _entry(row)
            table[entry.model] = (*table.get(entry.model, ()), entry)
    return table


def _entry(row: dict[str, str]) -> Entry:
    numbers = {
        "classes": int(row["classes"]),
        "size": int(row["size"]),
        "crop": float(row["crop"]) if row["crop"] else None,
        "top1": float(row["top1"]) if row["top1"] else None,
        "top1_size": int(row["top1_size"]) if row["top1_size"] else None,
    }
    return Entry(**{**row, **numbers})  # type: ignore[arg-type]


def entries(model: str | None = None) -> tuple[Entry, ...]:
    """The published weights.

    Args:
        model: Name in the registry; None for those of all models.

    Returns:
        Entries, the default of a model first; empty if nothing is published for it.
    """
    if model is not None:
        return _table().get(model, ())
    return tuple(entry for of_model in _table().values() for entry in of_model)


def default(model: str) -> Entry | None:
    """What `weights="imagenet"` means for a model.

    Args:
        model: Name in the registry.

    Returns:
        The file that Keras publishes, else timm's default; None if nothing is published.
    """
    return next(iter(entries(model)), None)


def find(model: str, weights: str | Path) -> Entry | None:
    """The entry that a `weights` argument names.

    Args:
        model: Name in the registry.
        weights: "imagenet", a tag ("a1_in1k"), an entry ("resnet50.a1_in1k", "timm/resnet50.a1_in1k") or a
            path.

    Returns:
        The entry; None if `weights` is a path.

    Raises:
        ValueError: If it is neither a path nor an entry of the model.
    """
    if isinstance(weights, Path) or _is_path(weights := str(weights)):
        return None
    known = entries(model)
    if not known:
        raise ValueError(
            f"weights={weights!r} is not published for {model}; accepted: None or a path. "
            f"Published for {len(_table())} models, e.g. {', '.join(_like(model))}."
        )
    if weights == "imagenet":
        return known[0]
    entry = _named(weights if "." in weights or weights.startswith("timm/") else f"{model}.{weights}")
    if entry is None:
        raise ValueError(_unknown(weights, known))
    if entry.model != model:
        raise ValueError(f"weights={weights!r} is an entry of {entry.model}, not of {model}.")
    return entry


def _is_path(weights: str) -> bool:
    rest = weights.removeprefix("timm/")
    return bool(SLIM_NAME.fullmatch(weights)) or weights.endswith(SUFFIXES) or "/" in rest or "\\" in rest


def _named(name: str) -> Entry | None:
    """The entry of a full name, with or without "timm/" before it."""
    model, _, tag = name.removeprefix("timm/").rpartition(".")
    for entry in entries(TIMM_NAMES.get(model, model)):
        if entry.tag == tag and (entry.source == "timm" or not name.startswith("timm/")):
            return entry
    return None


def _like(model: str) -> list[str]:
    """The models with the nearest names."""
    return difflib.get_close_matches(model, _table(), n=5, cutoff=0.0)


def _unknown(weights: str, known: tuple[Entry, ...]) -> str:
    tags = [entry.tag for entry in known]
    names = [entry.name for entry in known]
    timm = [f"timm/{entry.name}" for entry in known if entry.source == "timm"]
    return (
        f"weights={weights!r} is no entry of {known[0].model}."
        f"{nearest(weights, ['imagenet', *tags, *names, *timm])} Accepted: None, 'imagenet', "
        f"a path ({', '.join(SUFFIXES)}), or one of the tags {', '.join(tags)}."
    )
