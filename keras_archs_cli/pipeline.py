"""The main job, end to end: a trained run -> artifacts -> reports -> one table."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from converters import Artifact, Report, Tolerance, convert, verify
from converters.calibration import Method
from converters.pixels import pixels
from converters.recipes import get_recipe
from converters.targets import get_target
from keras_archs.modes import MODES
from keras_archs.training import Run, TrainConfig, train

ARTIFACTS = "artifacts"
CALIBRATION_IMAGES = 200
QUICKSTART_RECIPES = ("float32", "float16", "dynamic_int8", "int8")


@dataclass(frozen=True)
class Choices:
    """What a user may choose for an export; the fields are arguments of `converters.convert`.

    Attributes:
        target: Where the artifact is to run.
        rewrite: "default", "none", or names.
        ranges: How activation ranges are chosen.
        corrections: Against outliers and bias.
        tolerance: What the fewest layers are kept in float for.
    """

    target: str | None = None
    rewrite: str | tuple[str, ...] = "default"
    ranges: Method = "minmax"
    corrections: tuple[str, ...] = ()
    tolerance: Tolerance | None = None


def export_run(
    run: Run, recipes: Iterable[str], choices: Choices | None = None, raw_images: bool = False
) -> list[Report]:
    """Converts the model of a run, saves and verifies each artifact.

    The ranges of integer recipes come from training images, the report from test images.

    Args:
        run: A finished run. Artifacts go into its folder `artifacts/<recipe>/`, or `<recipe>-<target>/`, the
            report into their record.
        recipes: Names of `converters.list_recipes()`.
        choices: How to convert.
        raw_images: Let the artifact take images 0..255 and normalise them itself; what is for MediaPipe or ML
            Kit always does.

    Returns:
        One report a recipe.

    Raises:
        ValueError: If a recipe or a choice is unknown; nothing is converted then.
        ConversionError: If a model can't be converted.
        VerificationError: If an artifact is out of its recipe's tolerance; it is not saved.
    """
    recipes = [get_recipe(recipe).name for recipe in recipes]
    choices = choices or Choices()
    raw_images = raw_images or _takes_pixels(choices.target)
    model, data = run.load_model(), run.data()
    mode = MODES[data.mode]
    calibration = data.images("train", min(CALIBRATION_IMAGES, len(data.train)))
    reports = []
    for recipe in recipes:
        raw = raw_images and get_recipe(recipe).format == "tflite"
        artifact = convert(
            model,
            recipe,
            representative_data=pixels(calibration, mode) if raw else calibration,
            include_preprocessing=mode if raw_images else False,
            labels=run.class_names if _takes_pixels(choices.target) else None,
            **_arguments(choices),
        )
        images = data.dataset("test")
        test = (pixels(np.asarray(batch), mode) for batch, _ in images) if raw else images
        report = verify(artifact, model, test, data.labels("test"))
        verified = Artifact(artifact.record | {"verification": report.to_dict()}, artifact.files)
        verified.save(run.directory / ARTIFACTS / "-".join(filter(None, (recipe, choices.target))))
        reports.append(report)
    return reports


def _arguments(choices: Choices) -> dict[str, Any]:
    return {field.name: getattr(choices, field.name) for field in fields(choices)}


def _takes_pixels(target: str | None) -> bool:
    """Whether a target's clients give images as they are and want labels."""
    return target is not None and get_target(target).metadata


def results_table(reports: list[Report]) -> Table:
    """Accuracy, agreement, SQNR, size and latency: a row for the Keras model, then one an artifact."""
    table = Table(box=None, header_style="bold")
    for name in ("model", "accuracy", "agreement", "SQNR", "size", "latency"):
        table.add_column(name, justify="left" if name == "model" else "right")
    table.add_row("keras", _percent(reports[0].keras_accuracy), "", "", "", "")
    for report in reports:
        table.add_row(
            report.recipe,
            _percent(report.artifact_accuracy),
            _percent(report.agreement),
            f"{report.sqnr_db:.1f} dB",
            f"{report.size_bytes / 1e3:,.0f} kB",
            f"{report.latency.median_ms:.2f} ms",
        )
    return table


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def run_quickstart(folder: Path, as_json: bool) -> None:
    """Trains a small ResNet on the digits, exports and verifies it in four recipes, and prints one table.

    Args:
        folder: New run folder.
        as_json: Print one JSON object instead of the table.

    Raises:
        OSError: If the folder can't be written or is not empty.
        ConversionError: If a model can't be converted.
        VerificationError: If an artifact is out of its recipe's tolerance.
    """
    notes = Console(stderr=True)
    notes.print("Training ResNet-20 on 1,797 handwritten digits (about a minute on 2 cores)")
    run = train(TrainConfig(), folder)
    notes.print(f"Converting it to {', '.join(QUICKSTART_RECIPES)} and verifying each")
    reports = export_run(run, QUICKSTART_RECIPES)
    if as_json:
        results = [report.to_dict() for report in reports]
        print(json.dumps({"run_dir": str(folder), "metrics": run.metrics, "artifacts": results}, indent=2))
        return
    Console().print(results_table(reports))
    int8 = folder / ARTIFACTS / "int8" / "model.tflite"
    print(f"\nEverything is in {folder}; the phone's file is {int8}.")
