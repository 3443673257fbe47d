"""Weights: the manifest of published files, and a loader that checks all before it assigns anything."""

from keras_archs.weights.keras_files import WeightsError, check_file, load_file
from keras_archs.weights.manifest import PUBLISHED, Published, download, fetch

__all__ = ["PUBLISHED", "Published", "WeightsError", "check_file", "download", "fetch", "load_file"]
