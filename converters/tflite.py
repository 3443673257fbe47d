"""SavedModel -> TFLite. Runs in the worker process only: TensorFlow's converter leaks and may abort."""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np

from converters.ai_edge import OURS, store_by_ai_edge
from converters.bias_absorption import absorb_biases, center_channels
from converters.bias_correction import correct_biases
from converters.blame import Choice, choose_float_layers, in_words, layer_errors, sensitivity
from converters.calibration import around_zero, observe, set_ranges
from converters.equalization import equalize
from converters.graph import Graph
from converters.io_types import set_input_type, set_output_type
from converters.plan import Plan
from converters.recipes import Recipe, get_recipe
from converters.rewrite import apply_rewrites
from converters.rewrite.normalization_into_stem import normalization_into_stem
from converters.rewrite.stem_as_space_to_depth import stem_as_space_to_depth
from converters.saved_model import INPUT
from converters.weights import halve_weights, quantize_weights, store_weights

Report = Callable[[str, int, int], None]

# Each trial of mixed precision runs all of these, twice.
_TRIAL_SAMPLES = 32
_PIXELS = (0.0, 255.0)


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
    done: dict[str, Any] = {}
    if plan.image is not None:
        done["preprocessing"] = _take_in(graph, plan.image)
    done["rewrites"] = apply_rewrites(graph, ["float"], plan.rewrites)
    if recipe.activations != "float32":
        assert samples is not None
        if recipe.activations == "int8":
            done["rewrites"] |= apply_rewrites(graph, ["before int8"], plan.rewrites)
        quantizer = _Quantizer(graph, plan, samples, done["rewrites"], report)
        graph = Graph(quantizer.content())
        done |= quantizer.done
        if recipe.activations == "int8":
            done["rewrites"] |= apply_rewrites(graph, ["last"], plan.rewrites)
            set_input_type(graph, plan.input_type)
            set_output_type(graph, plan.output_type)
    else:
        done["rewrites"] |= apply_rewrites(graph, ["last"], plan.rewrites)
        if plan.engine == OURS:
            _store(graph, recipe)
        else:
            graph = Graph(store_by_ai_edge(graph.to_bytes(), recipe))
    inputs, outputs = graph.signature()
    graph.rename_signature(dict.fromkeys(inputs, INPUT), _renamed(outputs, plan.outputs))
    return graph.to_bytes(), done


def _store(graph: Graph, recipe: Recipe) -> None:
    """Store the weights of a float model as the recipe says."""
    if recipe.weights == "float16":
        halve_weights(graph)
    elif recipe.dynamic:
        quantize_weights(graph)
    elif recipe.weights != "float32":
        store_weights(graph, 4 if recipe.weights == "int4" else 8)


def _float_model(saved_model: Path, report: Report) -> bytes:
    import tensorflow as tf

    report("converting", 0, 0)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=["serving_default"])
    return converter.convert()


def _take_in(graph: Graph, image: dict[str, Any]) -> str:
    """Let the graph take images 0..255; returns where the arithmetic went."""
    channels = graph.inputs[0].shape[3]
    mean, deviation = (np.broadcast_to(image[key], (channels,)) for key in ("mean", "deviation"))
    if not image["bgr"] and not mean.any() and np.all(deviation == 1):
        return "none needed"
    return normalization_into_stem(graph, mean, deviation, image["bgr"])


def _renamed(outputs: dict[str, Any], names: tuple[str, ...]) -> dict[str, str]:
    """Old to new names; TensorFlow's are output_0, output_1 and so on."""
    return {name: names[int(name.rsplit("_", 1)[1])] for name in outputs}


class _Quantizer:
    """The way of a float graph to an integer one."""

    def __init__(
        self, graph: Graph, plan: Plan, samples: np.ndarray, rewritten: Container[str], report: Report
    ) -> None:
        self.done: dict[str, Any] = {}
        self._plan, self._samples, self._report = plan, samples, report
        if {"equalization", "bias_absorption"} & set(plan.corrections):
            self._equalize(graph)
        correct = "bias_correction" in plan.corrections
        seen = observe(graph.to_bytes(), samples, plan.ranges, channels=correct, report=report)
        set_ranges(graph, seen, plan.ranges)
        if plan.image is not None:
            # Clients write the bytes of their pixels: a step is one of theirs, whatever the samples reach.
            graph.inputs[0].range = _PIXELS
        elif stem_as_space_to_depth.__name__ in rewritten:
            assert graph.inputs[0].range is not None
            graph.inputs[0].range = around_zero(graph.inputs[0].range)
        self._graph, self._ranged = graph, graph.to_bytes()
        self._means = {name: what.channel_mean for name, what in seen.items() if what.channels is not None}
        self._corrected: dict[frozenset[str], int] = {}

    def _equalize(self, graph: Graph) -> None:
        seen = observe(graph.to_bytes(), self._samples, "minmax", channels=True, report=self._report)
        ranges = {
            name: (what.channel_low, what.channel_high)
            for name, what in seen.items()
            if what.channels is not None
        }
        if "bias_absorption" in self._plan.corrections:
            self.done["absorbed"] = absorb_biases(graph, ranges)
        if "equalization" in self._plan.corrections:
            self.done["centered"] = center_channels(graph, ranges)
            self.done["equalized"] = equalize(graph, ranges)

    def content(self) -> bytes:
        """The quantized model."""
        in_float: frozenset[str] = frozenset()
        content = self._quantize(in_float)
        if self._plan.tolerance is not None:
            choice = self._choose(content)
            in_float, content = choice.nodes, choice.content
            self.done["float_layers"] = sorted(in_float)
        if "bias_correction" in self._plan.corrections:
            self.done["corrected"] = self._corrected[in_float]
        return content

    def _choose(self, plain: bytes) -> Choice:
        """Keep the fewest layers in float that meet the tolerance."""
        assert self._plan.tolerance is not None
        trial = np.array(self._samples[:_TRIAL_SAMPLES])
        errors = layer_errors(self._ranged, plain, trial, self._report)
        ranking = sensitivity(self._ranged, errors, trial, self._quantize, report=self._report)
        tolerance = self._plan.tolerance
        choice = choose_float_layers(
            self._ranged, ranking, trial, self._quantize, tolerance, report=self._report
        )
        self.done["blame"] = in_words(errors, choice)
        return choice

    def _quantize(self, denied: frozenset[str]) -> bytes:
        self._report("quantizing", 0, 0)
        recipe = get_recipe(self._plan.recipe)
        if recipe.activations == "int16":
            content = _to_int16(self._ranged, self._plan.per_channel_dense)
        else:
            content = self._to_int8(denied)
        if "bias_correction" not in self._plan.corrections:
            return content
        graph = Graph(content)
        self._corrected[denied] = correct_biases(graph, self._graph, self._means)
        return graph.to_bytes()

    def _to_int8(self, denied: frozenset[str]) -> bytes:
        import tensorflow as tf
        from tensorflow.lite.python.convert import mlir_quantize

        return mlir_quantize(
            self._ranged,
            input_data_type=tf.int8,
            output_data_type=tf.int8,
            denylisted_nodes=set(denied) or None,
            disable_per_channel_for_dense_layers=not self._plan.per_channel_dense,
        )


def _to_int16(ranged: bytes, per_channel_dense: bool) -> bytes:
    """Activations in 16 bits by TensorFlow's older quantizer, the only one that has them.

    Its Python interface calibrates by itself; what is below it takes the ranges in the file.
    """
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    int16, int64 = np.dtype(np.int16).num, np.dtype(np.int64).num
    quantizer = Calibrator(ranged)._calibrator
    return quantizer.QuantizeModel(int16, int16, False, int16, int64, False, not per_channel_dense)
