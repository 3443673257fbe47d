"""Trained Keras model -> artifact: the pipeline."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras

from converters.ai_edge import OURS, Engine, packages
from converters.arena import arena, micro_arena
from converters.artifact import TFLITE, Artifact, file_facts
from converters.calibration import Method
from converters.clients import Labels, describe_for_clients, image_mode
from converters.data_check import check_range
from converters.errors import ConversionError
from converters.flatbuffer import describe, with_logits
from converters.graph import Graph
from converters.keras_model import check_model, check_weights, float32_twin, load_model, model_end
from converters.metadata import Metadata, write_metadata
from converters.options import settle
from converters.plan import Plan
from converters.process import Worker, heeding_interrupts, trim_heap
from converters.progress import show_stages
from converters.recipes import Recipe, Tolerance, get_recipe
from converters.representative import read_samples, write_samples
from converters.rewrite.roots_in_float import SUFFIX as IN_FLOAT
from converters.runners import TFLiteRunner
from converters.saved_model import INPUT, output_names
from converters.targets import get_target, lint
from converters.worker import DONE, MODEL, SAMPLES, export
from keras_archs.modes import Mode

_PACKAGES = ("keras-archs", "keras", "tensorflow", "ai-edge-litert")

Shape = tuple[int, int, int]
Report = Callable[[str, int, int], None]


def convert(  # noqa: PLR0913  each is a choice of the user's
    model_or_path: keras.Model | str | Path,
    recipe: str | None = None,
    *,
    representative_data: Any = None,
    target: str | None = None,
    rewrite: str | Iterable[str] = "default",
    ranges: Method = "minmax",
    corrections: str | Iterable[str] = (),
    tolerance: Tolerance | None = None,
    engine: Engine = OURS,
    include_preprocessing: bool | str | Mode = False,
    labels: Labels | None = None,
    metadata: Metadata | None = None,
    input_shape: Shape | None = None,
    name: str | None = None,
    progress: bool | None = None,
) -> Artifact:
    """Convert a trained Keras model.

    Args:
        model_or_path: A Functional or Sequential Keras 3 model with one image input, which is left as it
            is, or the path of a `.keras` or full-model `.h5` file.
        recipe: A name of `list_recipes`; by default the best for the target, or int8.
        representative_data: Typical inputs (N, H, W, C), an array, or an iterable of batches, samples or
            (batch, labels) pairs: preprocessed as in training, or images 0..255 with
            `include_preprocessing`. Only recipes that choose ranges use it.
        target: A name of `list_targets`: settles the types of input and output and what else a client needs.
            What it will not run, or not well, is in the record under "lint", the memory that it needs for
            tensors under "arena_bytes".
        rewrite: Which exact rewrites of the graph to apply: "default" for all that pay, "none", or names of
            `converters.rewrite.REWRITES`.
        ranges: How an integer recipe chooses the range of each activation: minmax, moving_average,
            percentile, mse or entropy.
        corrections: What an integer recipe does against outliers and bias: some of equalization,
            bias_absorption, bias_correction.
        tolerance: Keep the fewest layers in float that bring an int8 model within it, measured on up to 32
            of the representative samples.
        engine: What stores the weights of dynamic_int8, weights_int8 and weights_int4: this package, or
            ai_edge_quantizer, a package to install, whose OCTAV clips weights where that costs least.
        include_preprocessing: Let the artifact take images 0..255 and normalise them itself: True for a
            model of `keras_archs`, or a name of `keras_archs.modes.MODES`, or a `Mode` of your own.
        labels: Names of the classes, in order; or locale to such names, with "" for the default.
        metadata: TFLite metadata in place of what is written for a target that wants it, or with labels.
        input_shape: (H, W, C), for a model that leaves them open.
        name: What to call the artifact; the model's name by default.
        progress: Show the stages on stderr; by default when it is a terminal.

    Returns:
        The artifact, which `verify` has not seen yet.

    Raises:
        ValueError: An argument does not fit.
        FileNotFoundError: There is no such model file.
        ImportError: The engine is not installed.
        ConversionError: The model cannot be converted the way the recipe says.
    """
    settled = settle(
        recipe,
        target,
        rewrite,
        ranges,
        corrections,
        tolerance,
        engine,
        include_preprocessing is not False,
    )
    row = get_recipe(settled["recipe"])
    if row.needs_data and representative_data is None:
        raise ValueError(
            f"representative_data=None, but recipe {row.name!r} chooses its ranges from typical inputs: give "
            "an array (N, H, W, C) or an iterable of batches, preprocessed as in training."
        )
    model = load_model(model_or_path)
    shape = check_model(model, input_shape)
    if row.format == "tflite":
        check_weights(model)
    if tolerance is not None:
        _check_answers(model, tolerance)
    mode = image_mode(model, include_preprocessing, shape[2])
    if mode is not None and row.format == "saved_model" and shape[2] != 3:
        raise ValueError(
            f"include_preprocessing={include_preprocessing!r}: the signatures of a SavedModel that take raw "
            f"images are for RGB, and this model's images have {shape[2]} channels: give False."
        )
    plan = Plan(
        input_shape=shape, outputs=output_names(model), image=asdict(mode) if mode else None, **settled
    )
    described = describe_for_clients(model, plan, target, name or model.name, labels, metadata)
    exact = float32_twin(model)
    with show_stages(progress) as report, tempfile.TemporaryDirectory(prefix="converters-") as folder:
        files, facts = _make_files(exact, plan, representative_data, Path(folder), report)
    if described is not None:
        files[TFLITE] = write_metadata(files[TFLITE], described)
    record = {"target": target, **_describe(name or model.name, exact, plan, facts, files), **facts}
    if target is not None:
        record |= _for_target(target, files[TFLITE])
    trim_heap()
    return Artifact(record, files)


def _check_answers(model: keras.Model, tolerance: Tolerance) -> None:
    """Refuse a tolerance on what the model does not say."""
    if len(model.outputs) != 1:
        raise ValueError(
            f"tolerance is for models with one output; model {model.name!r} has {len(model.outputs)}."
        )
    shape = model.outputs[0].shape
    classes = len(shape) == 2 and (shape[1] > 1 or model_end(model).kind == "sigmoid")
    if tolerance.min_agreement is not None and not classes:
        raise ValueError(
            f"tolerance: min_agreement={tolerance.min_agreement} is for models with classes; the output of "
            f"{model.name!r} is {tuple(shape)}: give min_sqnr_db or max_relative_error."
        )


def _make_files(
    model: keras.Model, plan: Plan, data: Any, folder: Path, report: Report
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The stages that need the temporary folder."""
    recipe, shape = get_recipe(plan.recipe), plan.input_shape
    samples, done = None, {}
    if recipe.format == "saved_model" and keras.backend.backend() == "tensorflow":
        report("exporting", 0, 0)
        with heeding_interrupts():
            _hand_over(model, plan, folder)
    else:
        with Worker(folder) as worker:  # First, so that it imports TensorFlow during our stages.
            if recipe.needs_data:
                report("reading representative data", 0, 0)
                samples = write_samples(data, shape, folder / SAMPLES)
                mode = Mode(**plan.image) if plan.image else None
                check_range(model, read_samples(folder / SAMPLES, shape), mode)
            report("exporting", 0, 0)
            with heeding_interrupts():
                _hand_over(model, plan, folder)
            worker.run(asdict(plan), report)
        if recipe.format == "tflite":
            done = json.loads((folder / DONE).read_bytes())
    return _read_files(folder, recipe), {
        "plan": json.loads(json.dumps(asdict(plan))),  # As it is when it is read again.
        "representative_data": asdict(samples) if samples else None,
        **done,
    }


def _hand_over(model: keras.Model, plan: Plan, folder: Path) -> None:
    """Write the model in a form that the worker reads."""
    shape = plan.input_shape
    try:
        if keras.backend.backend() == "tensorflow":
            export(model, plan, folder)
        else:
            model.save(folder / MODEL)
    except OSError:
        raise
    except Exception as error:
        # Keras sets the message proper in bold, between a line on the layer and its arguments; TensorFlow
        # puts the node that failed in braces before it.
        bold = re.search(r"\x1b\[1m(.*?)\x1b\[0m", str(error), re.DOTALL)
        reason = re.sub(r"^\{\{\w+node .*?\}\} ", "", bold[1] if bold else str(error))
        raise ConversionError(
            f"model {model.name!r} cannot be exported for images {shape}: {reason}", str(error)
        ) from error


def _read_files(folder: Path, recipe: Recipe) -> dict[str, bytes]:
    if recipe.format == "tflite":
        return {TFLITE: (folder / TFLITE).read_bytes()}
    paths = sorted(path for path in (folder / "saved_model").rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _describe(
    name: str, model: keras.Model, plan: Plan, facts: dict[str, Any], files: dict[str, bytes]
) -> dict[str, Any]:
    """The record of the artifact; raises when its contents are not what the recipe says."""
    recipe, shape = get_recipe(plan.recipe), plan.input_shape
    record = {
        "name": name,
        "recipe": recipe.name,
        "model": {"name": model.name, "parameters": model.count_params()},
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in (*_PACKAGES, *packages(plan.engine))},
        "files": file_facts(files),
    }
    if recipe.format == "tflite":
        return record | _describe_tflite(recipe, plan, facts, files[TFLITE])
    outputs = [
        {"name": output, "shape": list(tensor.shape), "dtype": "float32"}
        for output, tensor in zip(plan.outputs, model.outputs, strict=True)
    ]
    return record | {
        "inputs": [{"name": INPUT, "shape": [None, *shape], "dtype": "float32"}],
        "outputs": outputs,
        "ends_in_softmax": len(outputs) == 1 and model_end(model).kind == "softmax",
    }


def _for_target(target: str, content: bytes) -> dict[str, Any]:
    """What a client will not run, or not well, and the memory it needs for tensors."""
    plan = micro_arena if get_target(target).delegate == "micro" else arena
    return {
        "lint": [finding._asdict() for finding in lint(content, target)],
        "arena_bytes": plan(Graph(content)).planned_bytes,
    }


def _describe_tflite(recipe: Recipe, plan: Plan, facts: dict[str, Any], content: bytes) -> dict[str, Any]:
    contents = describe(content)
    check_contents(recipe, contents, _allowed_floats(plan, facts))
    runner = TFLiteRunner(content, num_threads=1).in_signature_order()
    return {
        "inputs": [_tensor(runner.input)],
        "outputs": [_tensor(output) for output in runner.outputs],
        "ends_in_softmax": with_logits(content) is not None,
        "tensors_by_dtype": contents["tensors_by_dtype"],
        "ops": contents["ops"],
    }


def _allowed_floats(plan: Plan, facts: dict[str, Any]) -> float:
    """How many float tensors an integer model may hold: its ends, and what the tolerance asked for."""
    if facts.get("float_layers"):
        return math.inf
    return (plan.input_type == "float32") + len(plan.outputs) * (plan.output_type == "float32")


def check_contents(recipe: Recipe, contents: dict[str, Any], allowed: float = 0) -> None:
    """Refuse what the recipe does not allow inside a TFLite model.

    Args:
        recipe: The row that the model was converted with.
        contents: What `flatbuffer.describe` says of it.
        allowed: How many float tensors an integer model may hold.

    Raises:
        ConversionError: An operation needs more than TFLite's own, or an integer model holds a float.
    """
    if foreign := [op for op in contents["ops"] if op.startswith("CUSTOM")]:
        raise ConversionError(f"recipe {recipe.name!r}: {foreign[0]} is not an operation of TFLite.")
    floats = [name for name in contents["float_tensors"] if not name.endswith(IN_FLOAT)]
    if recipe.activations != "float32" and len(floats) > allowed:
        raise ConversionError(
            f"recipe {recipe.name!r}: {len(floats)} tensors stayed float, the first of them {floats[0]!r}: "
            "TFLite has no integer form of what makes it. Rewrites have some (rewrite='default'); recipe "
            "'dynamic_int8' keeps activations in float."
        )


def _tensor(details: dict[str, Any]) -> dict[str, Any]:
    scale, zero_point = details["quantization"]
    return {
        "name": details["name"],
        "shape": [int(size) for size in details["shape"]],
        "dtype": details["dtype"].__name__,
        "scale": float(scale),
        "zero_point": int(zero_point),
    }
