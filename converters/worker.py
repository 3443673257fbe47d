"""The process that converts: `python worker.py FOLDER`, started by process.py.

It is run by its path, not as a module of the package, so that it is watched over before the seconds in
which TensorFlow is imported. It is given one line of JSON on stdin when the model lies in FOLDER, and writes
one line of JSON a step to stdout. Everything that TensorFlow prints goes to stderr, which is a log file.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

    from converters.plan import Plan

MODEL = "model.keras"
SAVED_MODEL = "saved_model"
TFLITE = "model.tflite"
SAMPLES = "samples.f32"
DONE = "done.json"


def main(folder: Path) -> None:
    """Wait for the job, do it, and leave without TensorFlow's slow clean-up."""
    watcher = _start_watcher(folder)
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    status = 0
    try:
        import tensorflow  # noqa: F401  (the parent exports the model meanwhile)

        job = json.loads(sys.stdin.buffer.readline())
        run(folder, job, lambda *event: print(json.dumps(event), file=events))
    except BaseException as error:
        traceback.print_exc()
        print(json.dumps(["error", f"{type(error).__name__}: {error}"]), file=events)
        status = 1
    os.kill(watcher, signal.SIGKILL)  # The parent is about to read the folder.
    os.waitpid(watcher, 0)
    sys.stderr.flush()
    events.close()
    os._exit(status)


def _start_watcher(folder: Path) -> int:
    """Start a process that ends this one and removes the folder when the parent is gone.

    A thread could not: the converter's C++ code keeps Python from running for minutes.

    Returns:
        Its process id.
    """
    worker = os.getpid()
    if watcher := os.fork():
        return watcher
    os.close(1)  # The parent reads until this process has no writer left, however it ended.
    parent_gone = select.poll()
    parent_gone.register(0, 0)  # No events asked for: only the end of stdin is reported.
    parent_gone.poll()
    if os.getppid() == worker:  # Else it was killed, and somebody else may have its number.
        os.kill(worker, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def run(folder: Path, job: dict[str, Any], report: Any) -> None:
    """Do one job.

    Args:
        folder: Holds the model as `saved_model/` or `model.keras`, and takes the results.
        job: The fields of a `Plan`.
        report: Called with (stage, done, total).
    """
    from converters.plan import Plan
    from converters.recipes import get_recipe
    from converters.representative import read_samples
    from converters.tflite import to_tflite

    plan = Plan.from_json(job)
    recipe, shape = get_recipe(plan.recipe), plan.input_shape
    if (folder / MODEL).exists():
        _take_over(folder, plan, report)
    if recipe.format == "saved_model":
        return
    samples = read_samples(folder / SAMPLES, shape) if recipe.needs_data else None
    content, done = to_tflite(folder / SAVED_MODEL, plan, samples, report)
    (folder / TFLITE).write_bytes(content)
    (folder / DONE).write_text(json.dumps(done))


def _take_over(folder: Path, plan: Plan, report: Any) -> None:
    """Export a model of a parent whose Keras does not run on TensorFlow."""
    from converters.keras_model import check_model, float32_twin, load_model

    report("exporting", 0, 0)
    model = load_model(folder / MODEL)
    check_model(model, plan.input_shape)
    export(float32_twin(model), plan, folder)


def export(model: keras.Model, plan: Plan, folder: Path) -> None:
    """Write a model as the SavedModel that a plan needs.

    Args:
        model: Computing in float32, with Keras on TensorFlow.
        plan: For its recipe, size and preprocessing.
        folder: Takes `saved_model/`.
    """
    from converters.recipes import get_recipe
    from converters.saved_model import Preprocessing, export_for_serving, export_saved_model
    from keras_archs.modes import Mode

    if get_recipe(plan.recipe).format == "tflite":
        export_saved_model(model, plan.input_shape, 1, folder / SAVED_MODEL)
        return
    image = Preprocessing(Mode(**plan.image)) if plan.image else None
    export_for_serving(model, plan.input_shape, folder / SAVED_MODEL, image)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
