"""SavedModel -> TFLite. Runs in the worker process only: TensorFlow's converter leaks and may abort."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from converters.calibration import observe, set_ranges
from converters.graph import Graph
from converters.io_types import set_input_type, set_output_type
from converters.plan import Plan
from converters.recipes import get_recipe
from converters.rewrite import apply_rewrites
from converters.weights import halve_weights, quantize_weights

Report = Callable[[str, int, int], None]


def to_tflite(
    saved_model: Path, plan: Plan, samples: np.ndarray | None, report: Report
) -> tuple[bytes, dict[str, Any]]:
    """Convert a SavedModel the way a plan says.

    Args:
        saved_model: Folder written by `export_saved_model` with batch size 1.
        plan: With a recipe of format tflite.
        samples: Representative data (N, H, W, C) for a recipe that needs it.
        report: Called with (stage, done, total); total is 0 while it is not known.

    Returns:
        The flatbuffer, and what was done to it, for the artifact's record.
    """
    recipe = get_recipe(plan.recipe)
    graph = Graph(_float_model(saved_model, report))
    report("rewriting", 0, 0)
    done = apply_rewrites(graph, ["float"], plan.rewrites)
    if recipe.activations == "int8":
        assert samples is not None
        done |= apply_rewrites(graph, ["before int8"], plan.rewrites)
        graph = Graph(_quantize(graph, plan, samples, report))
        done |= apply_rewrites(graph, ["int8"], plan.rewrites)
        set_input_type(graph, plan.input_type)
        set_output_type(graph, plan.output_type)
    elif recipe.weights == "float16":
        halve_weights(graph)
    elif recipe.weights == "int8":
        quantize_weights(graph)
    return graph.to_bytes(), {"rewrites": done}


def _float_model(saved_model: Path, report: Report) -> bytes:
    import tensorflow as tf

    report("converting", 0, 0)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=["serving_default"])
    return converter.convert()


def _quantize(graph: Graph, plan: Plan, samples: np.ndarray, report: Report) -> bytes:
    """The graph in int8, as TensorFlow's quantizer makes it from ranges of ours."""
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    seen = observe(graph.to_bytes(), samples, plan.ranges, channels=False, report=report)
    set_ranges(graph, seen, plan.ranges)
    report("quantizing", 0, 0)
    return mlir_quantize(
        graph.to_bytes(),
        input_data_type=tf.int8,
        output_data_type=tf.int8,
        disable_per_channel_for_dense_layers=not plan.per_channel_dense,
    )
