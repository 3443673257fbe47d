"""The main job, end to end: a trained run -> artifacts -> reports -> one table."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from converters import Artifact, Report, Tolerance, convert, verify
from converters.calibration import Method
from converters.formats import byte_size, percent
from converters.options import settle, usual_recipe
from converters.pixels import pixels
from converters.recipes import get_recipe
from converters.saved_model import check_files_load_alone
from converters.targets import Finding, get_target
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


class Exported(NamedTuple):
    """An artifact of a run.

    Attributes:
        report: What `verify` said.
        folder: Where it is.
        lint: What its target will not run, or not well.
        arena_bytes: What its target needs for tensors; None without a target.
    """

    report: Report
    folder: Path
    lint: tuple[Finding, ...]
    arena_bytes: int | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        lint = [finding._asdict() for finding in self.lint]
        found = {"folder": str(self.folder), "lint": lint, "arena_bytes": self.arena_bytes}
        return self.report.to_dict() | found

    def __str__(self) -> str:
        memory = "" if self.arena_bytes is None else f" ({byte_size(self.arena_bytes)} for tensors)"
        return "\n".join([f"{self.folder}{memory}", *(f"  {finding}" for finding in self.lint)])


def export_run(
    run: Run, recipes: Iterable[str], choices: Choices | None = None, raw_images: bool = False
) -> list[Exported]:
    """Converts the model of a run, saves and verifies each artifact.

    The ranges of integer recipes come from training images, the report from test images.

    Args:
        run: A finished run. Artifacts go into its folder `artifacts/<recipe>/`, with `-<target>` and `-raw`
            behind it where that was asked for, the report into their record. A SavedModel of RGB images has
            signatures for raw images and for files, too.
        recipes: Names of `converters.list_recipes()`; none for the best of the target, or int8.
        choices: How to convert. Ranges, corrections and tolerance are for the recipes that have them.
        raw_images: Let the artifact take images 0..255 and normalise them itself; what is for MediaPipe or ML
            Kit always does.

    Returns:
        One a recipe.

    Raises:
        ValueError: If a recipe or a choice is unknown, or they don't go together; nothing is converted then.
        ConversionError: If a model can't be converted.
        VerificationError: If an artifact is out of its recipe's tolerance; it is not saved.
    """
    choices = choices or Choices()
    for_pixels = raw_images or _takes_pixels(choices.target)
    plans = _plans(list(recipes) or [usual_recipe(choices.target)], choices, for_pixels)
    model, data = run.load_model(), run.data()
    mode = MODES[data.mode]
    calibration = data.images("train", min(CALIBRATION_IMAGES, len(data.train)))
    done = []
    rgb = calibration.shape[-1] == 3
    for recipe, arguments in plans.items():
        is_file = get_recipe(recipe).format == "tflite"
        raw = for_pixels and is_file
        artifact = convert(
            model,
            recipe,
            representative_data=pixels(calibration, mode) if raw else calibration,
            include_preprocessing=mode if raw or (rgb and not is_file) else False,
            labels=run.class_names if _takes_pixels(choices.target) else None,
            **arguments,
        )
        images = data.dataset("test")
        test = (pixels(np.asarray(batch), mode) for batch, _ in images) if raw else images
        report = verify(artifact, model, test, data.labels("test"))
        parts = (recipe, choices.target, "raw" if raw_images and is_file else None)
        folder = run.directory / ARTIFACTS / "-".join(filter(None, parts))
        checked(artifact, report.to_dict()).save(folder)
        findings = tuple(Finding(**finding) for finding in artifact.record.get("lint", ()))
        done.append(Exported(report, folder, findings, artifact.record.get("arena_bytes")))
    return done


def checked(artifact: Artifact, verification: dict[str, Any]) -> Artifact:
    """The artifact with what was found out about it in its record.

    Args:
        artifact: One that `verify` passed.
        verification: What that said.

    Returns:
        A new artifact; of a SavedModel, the record has the signatures, which ran without our package.

    Raises:
        ConversionError: It is a SavedModel that needs more than TensorFlow.
    """
    found: dict[str, Any] = {"verification": verification}
    if get_recipe(artifact.recipe).format == "saved_model":
        found["signatures"] = check_files_load_alone(artifact.files)
    return Artifact(artifact.record | found, artifact.files)


def _plans(recipes: list[str], choices: Choices, for_pixels: bool) -> dict[str, dict[str, Any]]:
    """Recipe to what of the choices is for it, all checked."""
    plans: dict[str, dict[str, Any]] = {}
    for recipe in recipes:
        row = get_recipe(recipe)
        plans[recipe] = {"target": choices.target}
        for_it = {"rewrite": row.format == "tflite", "ranges": row.needs_data, "corrections": row.needs_data,
                  "tolerance": row.activations == "int8"}  # fmt: skip
        plans[recipe] |= {name: getattr(choices, name) for name, is_for_it in for_it.items() if is_for_it}
        settle(recipe, **plans[recipe], takes_pixels=for_pixels)
    used, usual = set().union(*plans.values()), Choices()
    for name in ("rewrite", "ranges", "corrections", "tolerance"):
        if name not in used and getattr(choices, name) != getattr(usual, name):
            raise ValueError(
                f"{name}={getattr(choices, name)!r} does nothing for {', '.join(recipes)}: leave it out."
            )
    return plans


def _takes_pixels(target: str | None) -> bool:
    """Whether a target's clients give images as they are and want labels."""
    return target is not None and get_target(target).metadata


def results_table(exported: list[Exported]) -> Table:
    """Accuracy, agreement, SQNR, size and latency: a row for the Keras model, then one an artifact."""
    reports = [one.report for one in exported]
    table = Table(box=None, header_style="bold")
    for name in ("model", "accuracy", "agreement", "SQNR", "size", "latency"):
        table.add_column(name, justify="left" if name == "model" else "right")
    table.add_row("keras", percent(reports[0].keras_accuracy), "", "", "", "")
    for report in reports:
        table.add_row(
            report.recipe,
            percent(report.artifact_accuracy),
            percent(report.agreement),
            f"{report.sqnr_db:.1f} dB",
            f"{report.size_bytes / 1e3:,.0f} kB",
            f"{report.latency.median_ms:.2f} ms",
        )
    return table


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
    exported = export_run(run, QUICKSTART_RECIPES)
    if as_json:
        results = [one.report.to_dict() for one in exported]
        print(json.dumps({"run_dir": str(folder), "metrics": run.metrics, "artifacts": results}, indent=2))
        return
    Console().print(results_table(exported))
    int8 = folder / ARTIFACTS / "int8" / "model.tflite"
    print(f"\nEverything is in {folder}; the phone's file is {int8}.")
