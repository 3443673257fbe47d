"""Trained Keras models -> verified TFLite and SavedModel artifacts."""

from converters.artifact import Artifact, Latency
from converters.comparison import Comparison, compare, compare_artifacts
from converters.convert import convert
from converters.errors import ConversionError, VerificationError
from converters.recipes import RECIPES, Recipe, Tolerance, list_recipes
from converters.targets import TARGETS, Target, lint, list_targets
from converters.verify import Report, verify

__all__ = [
    "RECIPES",
    "TARGETS",
    "Artifact",
    "Comparison",
    "ConversionError",
    "Latency",
    "Recipe",
    "Report",
    "Target",
    "Tolerance",
    "VerificationError",
    "compare",
    "compare_artifacts",
    "convert",
    "lint",
    "list_recipes",
    "list_targets",
    "verify",
]
