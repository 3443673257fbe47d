"""Train, evaluate, resume, lr-find: from the command line's options to `keras_archs.training` and back."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from keras_archs.training import Evaluation, Options, Run, TrainConfig, evaluate_model, list_recipes, train
from keras_archs.training.cluster import Cluster
from keras_archs.training.config import differences, merged, nested, read_yaml
from keras_archs.training.data import load_whole
from keras_archs.training.folder import CHANGEABLE, is_unfinished
from keras_archs.training.run import CONFIG
from keras_archs.training.strategies import Plan, make_plan, plan_lines
from keras_archs.training.trainer import check_fit

notes = Console(stderr=True)
WORST = 10  # classes that `evaluate` shows of many


def chosen_config(
    recipe: str | None, config: Path | None, shortcuts: dict[str, Any], assignments: Iterable[str]
) -> TrainConfig:
    """Lay the options over the file, and that over the recipe.

    Args:
        recipe: Name of a recipe.
        config: YAML file.
        shortcuts: Values by dotted name that have an option of their own; None where it was not given.
        assignments: "run.epochs=3" and the like.

    Returns:
        The configuration.

    Raises:
        ValueError: If a name or a value is not accepted.
    """
    values = read_yaml(config) if config else {}
    if recipe is not None:
        values["recipe"] = recipe
    given = {name: value for name, value in shortcuts.items() if value is not None}
    return TrainConfig.from_dict(merged(values, nested(given | _assignments(assignments))))


def chosen_plan(
    config: TrainConfig, strategy: str, cluster: Cluster, folder: Path, *, may_train: bool = True
) -> tuple[TrainConfig, Plan]:
    """Find the devices, and the batch size where it is to be found.

    Args:
        config: What to train.
        strategy: One of `strategies.STRATEGIES`.
        cluster: The workers.
        folder: The run folder.
        may_train: Whether to look for a batch size, which takes a few steps of training.

    Returns:
        The configuration with a number as its batch size, and the plan.

    Raises:
        ValueError: If the devices do not suit the configuration, or its batch size may not be looked for.
    """
    if config.run.batch_size == "auto":
        size = _known_size(config, folder)
        if size is None and not may_train:
            raise ValueError(
                "run.batch_size='auto' is found by training a few steps, which --dry-run does not do; "
                "give a number, e.g. --set run.batch_size=64"
            )
        config = config.replaced({"run.batch_size": size or _found_size(config, strategy, cluster)})
    plan = make_plan(strategy, cluster, config.batch_size)
    check_fit(config, plan)
    return config, plan


def _known_size(config: TrainConfig, folder: Path) -> int | None:
    """The batch size of a run in the folder, finished or not, that is the same in all else."""
    try:
        found = TrainConfig.from_yaml(folder / CONFIG)
    except (OSError, ValueError):  # training tells what is wrong with the folder
        return None
    return found.batch_size if set(differences(found, config.located())) <= CHANGEABLE else None


def _found_size(config: TrainConfig, strategy: str, cluster: Cluster) -> int:
    """The batch size that turns out to be fast."""
    from keras_archs.training.batch_size import ANY_BATCH, find_batch_size

    sizes = find_batch_size(config, make_plan(strategy, cluster, ANY_BATCH))
    notes.print(f"Batch size {sizes.chosen}: {sizes.reason}", highlight=False)
    return sizes.chosen


def show_plan(config: TrainConfig, plan: Plan, folder: Path, as_json: bool) -> None:
    """Print what would be trained where.

    Args:
        config: What.
        plan: Where.
        folder: The run folder.
        as_json: As one JSON object.
    """
    if as_json:
        print(
            json.dumps({"run_dir": str(folder), "plan": plan.to_dict(), "config": config.to_dict()}, indent=2)
        )
        return
    table = Table(box=None, show_header=False)
    rows = [("model", config.model.name), ("data", config.data.source), ("run folder", str(folder))]
    for label, value in [*rows, *plan_lines(plan)]:
        table.add_row(f"[bold]{label}[/]", value)
    Console().print(table)


def run_training(config: TrainConfig, plan: Plan, folder: Path, options: Options, as_json: bool) -> None:
    """Train, and print the result; on the chief only.

    Args:
        config: What.
        plan: Where.
        folder: The run folder.
        options: How.
        as_json: Print one JSON object.
    """
    try:
        run = train(config, folder, plan=plan, options=options)
    except KeyboardInterrupt:
        kept = f"the same command goes on in {folder}" if folder.exists() else "nothing was kept"
        notes.print(f"Interrupted; {kept}.", highlight=False)
        raise
    except SystemExit:
        notes.print(
            f"Told to stop; the state is saved, the same command goes on in {folder}.", highlight=False
        )
        raise
    if not plan.cluster.is_chief:
        return
    if as_json:
        print(json.dumps({"run_dir": str(folder), **run.metrics}, indent=2))
    else:
        print(f"{run.metrics['test_accuracy']:.2%} of {run.metrics['test_images']} test images are right.")
        print(f"Run folder: {folder} (open report.html)")


def resume_run(
    folder: Path, strategy: str, cluster: Cluster, assignments: Iterable[str], options: Options, as_json: bool
) -> None:
    """Go on with an interrupted run.

    Args:
        folder: The run folder.
        strategy: One of `strategies.STRATEGIES`.
        cluster: The workers.
        assignments: Of what may change: run.batch_size, run.micro_batches, run.checkpoint_steps.
        options: How.
        as_json: Print one JSON object.

    Raises:
        ValueError: If the folder holds no run, or something else shall change.
    """
    if not (folder / CONFIG).is_file():
        raise ValueError(f"run_dir={str(folder)!r} is no run folder: {CONFIG} is missing")
    earlier = TrainConfig.from_yaml(folder / CONFIG)
    config = earlier.replaced(_assignments(assignments))
    others = sorted(set(differences(earlier, config)) - CHANGEABLE)
    if others:
        raise ValueError(
            f"--set {others[0]}: a run that goes on may change {', '.join(sorted(CHANGEABLE))} alone; "
            "`keras-archs train` starts another run, in another folder"
        )
    config, plan = chosen_plan(config, strategy, cluster, folder)
    run_training(config, plan, folder, options, as_json)


def evaluate_run(folder: Path, source: str | None, split: str, as_json: bool) -> None:
    """Measure the model of a run, and print accuracy and the classes it knows least.

    Args:
        folder: A finished run.
        source: Other data, all of which is then measured; None means that of the run.
        split: Which part of the run's data.
        as_json: Print one JSON object.
    """
    run = Run.open(folder)
    if source is None:
        data = run.data()
    else:
        data, split = load_whole(run.config, source), "test"
        if data.class_names != run.class_names:
            raise ValueError(
                f"data={source!r} has the classes {', '.join(data.class_names[:8])}, but the run has "
                f"{', '.join(run.class_names[:8])}; they must be equal"
            )
    evaluation = evaluate_model(run.load_model(), data, split)
    if as_json:
        print(json.dumps(evaluation.to_dict(), indent=2))
        return
    images = int(evaluation.matrix.sum())
    print(f"{evaluation.accuracy:.2%} of {images} images are right; loss {evaluation.loss:.4f}.")
    Console().print(_class_table(evaluation))


def _class_table(evaluation: Evaluation) -> Table:
    rows = sorted(evaluation.per_class(), key=lambda row: row.recall or 0)
    table = Table(box=None, header_style="bold")
    for name in ("class", "images", "recall", "precision"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for row in rows[:WORST]:
        shares = ["" if share is None else f"{share:.1%}" for share in (row.recall, row.precision)]
        table.add_row(row.name, str(row.images), *shares)
    if len(rows) > WORST:
        table.caption = f"the {WORST} of {len(rows)} classes with the lowest recall"
    return table


def find_rate(config: TrainConfig, picture: Path, as_json: bool) -> None:
    """Run the learning-rate range test, draw it, and print the suggestion.

    Args:
        config: What to train.
        picture: Where the picture goes.
        as_json: Print one JSON object.
    """
    from keras_archs.training.lr_finder import find_learning_rate
    from keras_archs.training.plots import plot_rates

    found = find_learning_rate(config)
    plot_rates(found.rates, found.losses, found.suggestion, picture)
    if as_json:
        print(json.dumps({"picture": str(picture), **found.to_dict()}, indent=2))
    else:
        print(f"Suggested: --set optimizer.learning_rate={found.learning_rate:.2g}")
        print(f"Picture: {picture}")


def show_recipes(name: str | None, as_json: bool) -> None:
    """List the recipes, or print one in full.

    Args:
        name: Of one; None lists all.
        as_json: As one JSON object.
    """
    recipes = {found: TrainConfig.from_recipe(found) for found in ([name] if name else list_recipes())}
    if as_json:
        print(json.dumps({found: config.to_dict() for found, config in recipes.items()}, indent=2))
    elif name:
        print(yaml.safe_dump(recipes[name].to_dict(), sort_keys=False), end="")
    else:
        table = Table(box=None, header_style="bold")
        for column in ("recipe", "model", "size", "epochs", "batch", "optimizer", "rate"):
            table.add_column(
                column, justify="left" if column in ("recipe", "model", "optimizer") else "right"
            )
        for found, config in recipes.items():
            run, optimizer = config.run, config.optimizer
            table.add_row(
                found, config.model.name, str(config.data.image_size), str(run.epochs), str(run.batch_size),
                optimizer.name, f"{optimizer.learning_rate:g}",
            )  # fmt: skip
        Console().print(table)


def new_folder(name: str, config: TrainConfig | None = None) -> Path:
    """The first of runs/name, runs/name-2, ... that is free, or holds this run, interrupted.

    Args:
        name: What it is called; what is neither letter, digit, ".", "-" nor "_" becomes "-".
        config: What is to be trained.

    Returns:
        The folder; not made.
    """
    name = re.sub(r"[^\w.-]", "-", name)
    folder, number = Path("runs") / name, 1
    while folder.exists() and not (config and is_unfinished(folder, config)):
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder


def _assignments(texts: Iterable[str]) -> dict[str, Any]:
    """['a.b=1', 'c.d=x'] as {'a.b': 1, 'c.d': 'x'}, values read as YAML."""
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text!r} must be NAME=VALUE, e.g. run.epochs=3.")
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"--set {text!r}: the value is not YAML: {error}") from error
    return values
