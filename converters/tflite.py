"""SavedModel -> TFLite. Runs in the worker process only: TensorFlow's converter leaks and may abort."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from converters.recipes import Recipe

Report = Callable[[str, int, int], None]


def to_tflite(saved_model: Path, recipe: Recipe, samples: np.ndarray | None, report: Report) -> bytes:
    """Convert a SavedModel the way a recipe says.

    Args:
        saved_model: Folder written by `export_saved_model` with batch size 1.
        recipe: A recipe of format tflite.
        samples: Representative data (N, H, W, C) for a recipe that needs it.
        report: Called with (stage, done, total); total is 0 while it is not known.

    Returns:
        The flatbuffer.
    """
    import tensorflow as tf

    report("reading the graph", 0, 0)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=["serving_default"])
    _configure(converter, recipe)
    if samples is not None:
        converter.representative_dataset = lambda: _calibration(samples, report)
    report("converting", 0, 0)
    return converter.convert()


def _configure(converter: Any, recipe: Recipe) -> None:
    import tensorflow as tf

    if recipe.weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if recipe.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if recipe.activations == "int8":
        # Without this, operations that have no integer kernel would silently stay float.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8


def _calibration(samples: np.ndarray, report: Report) -> Iterator[list[np.ndarray]]:
    for i in range(len(samples)):
        report("calibrating", i, len(samples))
        yield [np.array(samples[i : i + 1])]
    report("quantizing", 0, 0)
