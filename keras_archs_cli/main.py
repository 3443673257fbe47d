"""keras-archs: list, show, train, export, quickstart."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from keras_archs_cli.quiet import import_keras

app = typer.Typer(
    help="ResNets, Inceptions and Xceptions for Keras 3, from the lecture's ideas to the phone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
notes = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
RunDir = Annotated[
    Path | None, typer.Option(help="New folder for everything the run leaves; by default below runs/.")
]


@app.command("list")
def list_command(
    pattern: Annotated[str, typer.Argument(help="With wildcards, e.g. 'resnet*'.")] = "*",
    as_json: AsJson = False,
) -> None:
    """List the models with their parameters, multiply-accumulates, lineages and published weights."""
    import_keras()
    from keras_archs_cli.zoo import list_zoo

    list_zoo(pattern, as_json)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A name of `keras-archs list`.")],
    size: Annotated[
        int | None, typer.Option(min=1, help="Height and width of the image; by default the model's.")
    ] = None,
    draw: Annotated[Path | None, typer.Option(help="SVG file for a picture of the network.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show where a model comes from, and what each stage costs and sees; with --json each layer, too."""
    if draw and draw.suffix.lower() != ".svg":
        raise typer.BadParameter(f"{str(draw)!r} must end in .svg.", param_hint="--draw")
    import_keras()
    from keras_archs_cli.show import show_model

    show_model(name, size, draw, as_json)


@app.command()
def train(
    config: Annotated[Path | None, typer.Option(help="YAML file with fields of TrainConfig.")] = None,
    model: Annotated[
        str | None, typer.Option(help="A name of `keras-archs list`. [default: resnet20]")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="'digits' or a folder of class sub-folders. [default: digits]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images. [default: 12]")] = None,
    run_dir: RunDir = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other field, e.g. --set image_size=64."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a classifier on the digits or on a folder of images."""
    import_keras()
    from keras_archs.training import TrainConfig
    from keras_archs.training import train as run_training
    from keras_archs.training.config import read_yaml

    values = (read_yaml(config) if config else {}) | _assignments(set_ or [])
    values |= {k: v for k, v in {"model": model, "data": data, "epochs": epochs}.items() if v is not None}
    settings = TrainConfig.from_dict(values)
    folder = run_dir or _new_folder(f"{settings.model}-{Path(settings.data).name}")
    try:
        run = run_training(settings, folder)
    except KeyboardInterrupt:
        kept = f"{folder} keeps the best model so far" if folder.exists() else "nothing was kept"
        notes.print(f"Interrupted; {kept}.", highlight=False)
        raise
    if as_json:
        print(json.dumps({"run_dir": str(folder), **run.metrics}, indent=2))
    else:
        print(f"{run.metrics['test_accuracy']:.2%} of {run.metrics['test_images']} test images are right.")
        print(f"Run folder: {folder}")


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished `keras-archs train`.")],
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="float32, float16, dynamic_int8, int8 or saved_model; repeat it for several. "
                          "[default: int8]"),
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Convert the model of a run, and verify each artifact against it on the test images."""
    import_keras()
    from keras_archs.training import Run
    from keras_archs_cli.pipeline import ARTIFACTS, export_run, results_table

    reports = export_run(Run.open(run_dir), recipe or ["int8"])
    if as_json:
        print(json.dumps([report.to_dict() for report in reports], indent=2))
    else:
        Console().print(results_table(reports))
        print(f"Artifacts: {run_dir / ARTIFACTS}")


@app.command()
def quickstart(run_dir: RunDir = None, as_json: AsJson = False) -> None:
    """The main job in one command: train on real images, quantize, export, verify."""
    import_keras()
    from keras_archs_cli.pipeline import run_quickstart

    run_quickstart(run_dir or _new_folder("quickstart"), as_json)


def _assignments(texts: list[str]) -> dict[str, Any]:
    """['a=1', 'b=x'] as {'a': 1, 'b': 'x'}, values read as YAML."""
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text!r} must be NAME=VALUE.")
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"--set {text!r}: the value is not YAML: {error}") from error
    return values


def _new_folder(name: str) -> Path:
    """runs/name, or the first of runs/name-2, runs/name-3, ... that is free."""
    folder, number = Path("runs") / name, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder


def main() -> None:
    """Runs the command line. Exit codes: 0, 1 with a message, 2 for wrong usage, 130 after Ctrl-C."""
    try:
        app()
    except Exception as error:
        if not _is_an_answer(error):
            raise
        notes.print("[bold red]error:[/]", end=" ")
        notes.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


def _is_an_answer(error: Exception) -> bool:
    """Whether an error tells the user what to do; any other is a defect, whose traceback somebody needs."""
    return isinstance(error, ValueError | OSError | FloatingPointError) or (
        type(error).__module__ == "converters.errors"
    )
