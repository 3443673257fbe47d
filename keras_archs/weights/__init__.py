"""Weights: the manifest of published files, and loaders that check all before they assign anything."""

from collections.abc import Mapping, Sequence

import keras

from keras_archs.weights.download import download, fetch
from keras_archs.weights.entries import Entry, default, entries, find
from keras_archs.weights.errors import KERAS_SUFFIXES, WeightsError, check_file
from keras_archs.weights.keras_files import load_file
from keras_archs.weights.layouts import Layout
from keras_archs.weights.named_files import Rules, load_named
from keras_archs.weights.source import Source, lineage_of, resolve

__all__ = [
    "Entry",
    "Layout",
    "Source",
    "WeightsError",
    "check_file",
    "default",
    "download",
    "entries",
    "fetch",
    "find",
    "lineage_of",
    "load",
    "load_file",
    "resolve",
]


def load(
    model: keras.Model,
    source: Source,
    layouts: Mapping[str, Sequence[Layout]],
    auxiliary: Sequence[str],
    include_top: bool,
    dropped: int | None,
) -> None:
    """Loads a model's weights from where they come, all or nothing.

    Args:
        model: A built model.
        source: An entry, which is downloaded unless it is in the cache, or a file; or nothing to load.
        layouts: For each lineage, how its files name the model's layers.
        auxiliary: Names of the further classifiers that the architecture can have.
        include_top: Whether the model has a classifier.
        dropped: Number of classes of a classifier that is not loaded, since the model has others.

    Raises:
        WeightsError: If the file can't be had, is damaged, or does not fit. The model is unchanged.
    """
    path = download(source.entry, include_top) if source.entry else source.path
    if path is None:
        return
    if str(path).endswith(KERAS_SUFFIXES):
        load_file(model, path, dropped)
        return
    convention = source.convention
    if convention.name not in layouts:
        raise WeightsError(
            f"weights={str(path)!r}: no files of the {convention.name} lineage are known for {model.name!r}; "
            f"accepted: None or a file that Keras saved ({', '.join(KERAS_SUFFIXES)})."
        )
    rules = Rules(
        layouts[convention.name], convention.name == "slim", convention.class_offset, auxiliary, dropped
    )
    load_named(model, path, rules)
