"""Weights: the manifest of published files, and loaders that check all before they assign anything."""

from collections.abc import Mapping, Sequence

import keras

from keras_archs.weights.download import download, fetch
from keras_archs.weights.entries import Entry, entries, find
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
) -> None:
    """Loads a model's weights from where they come, all or nothing.

    Args:
        model: A built model.
        source: An entry, which is downloaded unless it is in the cache, or a file; or nothing to load.
        layouts: For each lineage, how its files name the model's layers.
        auxiliary: Names of the further classifiers that the architecture can have.
        include_top: Whether the model has a classifier.

    Raises:
        WeightsError: If the file can't be had, is damaged, or does not fit. The model is unchanged.
    """
    path = download(source.entry, include_top) if source.entry else source.path
    if path is None:
        return
    published = source.entry is not None
    if str(path).endswith(KERAS_SUFFIXES):
        load_file(model, path, adapts=published)
        return
    convention = source.convention
    rules = Rules(
        layouts[convention.name], convention.name == "slim", convention.class_offset, auxiliary, published
    )
    load_named(model, path, rules)
