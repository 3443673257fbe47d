"""What the argument `weights` means: nothing, an entry of the manifest, or a file, and of which lineage."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keras_archs.choices import check_choice
from keras_archs.conventions import Convention
from keras_archs.weights.entries import Entry, find
from keras_archs.weights.errors import SLIM_NAME, TORCH_SUFFIXES, check_file


@dataclass(frozen=True)
class Source:
    """Where a model's weights come from.

    Attributes:
        convention: Lineage that the model is built with.
        preprocessing: Mode of `preprocess_input` that the weights expect.
        entry: Published weights.
        path: A local file.
    """

    convention: Convention
    preprocessing: str
    entry: Entry | None = None
    path: Path | None = None

    @property
    def random(self) -> bool:
        """Whether there are no weights to load."""
        return self.entry is None and self.path is None


def resolve(
    model: str,
    weights: str | Path | None,
    convention: str | None,
    conventions: Mapping[str, Convention],
) -> Source:
    """Finds the weights and the lineage that they belong to. Nothing is read or downloaded.

    Args:
        model: Name in the registry.
        weights: None, "imagenet", a tag, the name of an entry, or a path.
        convention: Name of a lineage; None for that of the weights, or the model's own.
        conventions: The model's lineages by name, its own first.

    Returns:
        Where to load from, and what to build.

    Raises:
        ValueError: If there are no such weights, or if they are of another lineage than asked for.
    """
    source = lineage_of(model, weights, convention, conventions)
    if source.path is not None:
        check_file(source.path)
    return source


def lineage_of(
    model: str,
    weights: str | Path | None,
    convention: str | None,
    conventions: Mapping[str, Convention],
) -> Source:
    """The same for weights that may be gone since: what a model was built with."""
    if convention is not None:
        check_choice("convention", convention, conventions)
    own = next(iter(conventions))
    if weights is None:
        chosen = conventions[convention or own]
        return Source(chosen, chosen.preprocessing)
    if not isinstance(weights, str | Path):
        raise ValueError(f"weights={weights!r} is not accepted: give None, 'imagenet', a tag or a path.")
    entry = find(model, weights)
    path = None if entry else Path(weights)
    lineage = entry.convention if entry else _lineage_of(path, convention or own)
    if lineage not in conventions:
        raise ValueError(
            f"weights={str(weights)!r} are of the {lineage} lineage, which has no {model}; "
            f"lineages: {', '.join(conventions)}.{_elsewhere(model)}"
        )
    if convention not in (None, lineage):
        raise ValueError(
            f"convention={convention!r} does not fit weights={str(weights)!r}, which are of the {lineage!r} "
            f"lineage: equal shapes, other arithmetic. Leave out `convention`, or take other weights."
        )
    chosen = conventions[lineage]
    return Source(chosen, entry.preprocessing if entry else chosen.preprocessing, entry, path)


def _elsewhere(model: str) -> str:
    """Keras' v2 strides in another block than PyTorch's: two networks of equal shapes, two names."""
    twin = re.sub(r"^resnet(\d+)v2$", r"resnetv2_\1", model)
    return f" In PyTorch's layout this network is {twin!r}." if twin != model else ""


def _lineage_of(path: Path | None, keras: str) -> str:
    """Files of PyTorch and of slim say whose they are; those of Keras hold any model of this package."""
    name = path.name if path else ""
    return "torch" if name.endswith(TORCH_SUFFIXES) else "slim" if SLIM_NAME.fullmatch(name) else keras
