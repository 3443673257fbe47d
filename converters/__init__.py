"""Trained Keras models -> verified TFLite and SavedModel artifacts."""

from converters.artifact import Artifact, Latency
from converters.convert import convert
from converters.errors import ConversionError, VerificationError
from converters.recipes import RECIPES, Recipe, Tolerance, list_recipes
from converters.verify import Report, verify

__all__ = [
    "RECIPES",
    "Artifact",
    "ConversionError",
    "Latency",
    "Recipe",
    "Report",
    "Tolerance",
    "VerificationError",
    "convert",
    "list_recipes",
    "verify",
]
