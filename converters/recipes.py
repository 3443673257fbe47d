"""What to convert into, and how far the result may be from the Keras model: a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from keras_archs.choices import check_choice


@dataclass(frozen=True)
class Tolerance:
    """How far an artifact may be from its model; None leaves a metric free.

    Attributes:
        max_relative_error: Largest absolute error, divided by the range of the model's logits.
        min_sqnr_db: Least signal to quantization noise ratio of the logits, in dB.
        min_agreement: Least share of samples whose top-1 class is the model's.
    """

    max_relative_error: float | None = None
    min_sqnr_db: float | None = None
    min_agreement: float | None = None


@dataclass(frozen=True)
class Recipe:
    """One way to convert a model.

    Attributes:
        name: What users type.
        summary: One line for tables and help texts.
        format: The file format of the artifact.
        weights: The type in which the weights are stored.
        activations: The type in which the layers compute; integers need representative data.
        tolerance: What `verify` enforces.
        dynamic: Whether float activations are quantized as they come, to multiply integers.
    """

    name: str
    summary: str
    format: Literal["tflite", "saved_model"]
    weights: Literal["float32", "float16", "int8", "int4"]
    activations: Literal["float32", "int16", "int8"]
    tolerance: Tolerance
    dynamic: bool = False

    @property
    def needs_data(self) -> bool:
        """Whether the recipe has to see typical inputs to choose its ranges."""
        return self.activations != "float32"


_EXACT = Tolerance(max_relative_error=1e-4)
_HALF = Tolerance(min_sqnr_db=50.0, min_agreement=0.99)
_DYNAMIC = Tolerance(min_sqnr_db=25.0, min_agreement=0.97)
_SIXTEEN_BIT = Tolerance(min_sqnr_db=25.0, min_agreement=0.98)
_EIGHT_BIT = Tolerance(min_sqnr_db=20.0, min_agreement=0.97)

_STORED = Tolerance(min_sqnr_db=30.0, min_agreement=0.98)
_ROUGH = Tolerance(min_sqnr_db=8.0, min_agreement=0.8)

_ROWS = (
    Recipe("float32", "TFLite, weights and activations float32", "tflite", "float32", "float32", _EXACT),
    Recipe("float16", "TFLite, weights float16: half the size", "tflite", "float16", "float32", _HALF),
    Recipe(
        "dynamic_int8", "TFLite, large weights int8, float in and out", "tflite", "int8", "float32", _DYNAMIC,
        dynamic=True,
    ),
    Recipe("weights_int8", "TFLite, weights int8, float compute", "tflite", "int8", "float32", _STORED),
    Recipe("weights_int4", "TFLite, weights stored int4, small, slow", "tflite", "int4", "float32", _ROUGH),
    Recipe("int8", "TFLite, full integer, int8 in and out", "tflite", "int8", "int8", _EIGHT_BIT),
    Recipe("int16x8", "TFLite, weights int8, activations int16", "tflite", "int8", "int16", _SIXTEEN_BIT),
    Recipe("saved_model", "SavedModel, any batch size", "saved_model", "float32", "float32", _EXACT),
)  # fmt: skip
RECIPES: dict[str, Recipe] = {row.name: row for row in _ROWS}


def list_recipes() -> list[str]:
    """The names that `convert` accepts as its recipe."""
    return list(RECIPES)


def get_recipe(name: str) -> Recipe:
    """Look a recipe up by its name.

    Args:
        name: A name of `list_recipes`.

    Returns:
        The row of the table.

    Raises:
        ValueError: There is no such recipe; the message names the nearest.
    """
    check_choice("recipe", name, RECIPES)
    return RECIPES[name]
