"""keras-archs: list, show, recipes, train, resume, evaluate, lr-find, export, inspect, quickstart."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from keras_archs_cli.quiet import import_keras

app = typer.Typer(
    help="ResNets, Inceptions and Xceptions for Keras 3, from the lecture's ideas to the phone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
notes = Console(stderr=True)
PEER_LOST = 138  # 128 + SIGUSR1: Kubeflow's "start me again"
PICTURES = (".png", ".pdf", ".svg", ".jpg")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
RunDir = Annotated[
    Path | None, typer.Option(help="New folder for everything the run leaves; by default below runs/.")
]


Recipe = Annotated[
    str | None, typer.Option(help="A name of `keras-archs recipes`; the options below change it.")
]
ConfigFile = Annotated[
    Path | None, typer.Option(help="YAML file with sections of fields, as in a run folder.")
]
ModelName = Annotated[str | None, typer.Option(help="A name of `keras-archs list`. [default: resnet20]")]
DataSource = Annotated[
    str | None,
    typer.Option(
        help="digits, shapes, a folder of class sub-folders, a .csv list, TFRecord files ('x/train-*'), or "
        "tfds:NAME. [default: digits]"
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Any field, e.g. --set augment.mixup=0.2."),
]
Strategy = Annotated[str, typer.Option(help="auto, one_device, mirrored or multi_worker.")]
Hosts = Annotated[
    str | None, typer.Option(metavar="A:PORT,B:PORT", help="All workers, the same list on each.")
]
TaskIndex = Annotated[int | None, typer.Option(min=0, help="Which of --hosts this process is.")]
StartDeadline = Annotated[float, typer.Option(min=1, help="Seconds in which all workers must have come.")]
Tensorboard = Annotated[bool, typer.Option("--tensorboard", help="Write event files for TensorBoard, too.")]


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
def train(  # noqa: PLR0913  each is an option
    recipe: Recipe = None,
    config: ConfigFile = None,
    model: ModelName = None,
    data: DataSource = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    run_dir: RunDir = None,
    set_: Assignments = None,
    strategy: Strategy = "auto",
    hosts: Hosts = None,
    task_index: TaskIndex = None,
    start_deadline: StartDeadline = 300,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run where, and stop.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Throw away another run in --run-dir.")] = False,
    tensorboard: Tensorboard = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Train a classifier; after a crash, the same command goes on where the last checkpoint stands."""
    import_keras()
    from keras_archs.training import Options
    from keras_archs.training.cluster import find_cluster
    from keras_archs_cli.training import chosen_config, chosen_plan, new_folder, run_training, show_plan

    shortcuts = {"model.name": model, "data.source": data, "run.epochs": epochs}
    settings = chosen_config(recipe, config, shortcuts, set_ or [])
    folder = run_dir or new_folder(f"{settings.model.name}-{Path(settings.data.source).name}", settings)
    cluster = find_cluster(hosts, task_index)
    settings, plan = chosen_plan(settings, strategy, cluster, folder, may_train=not dry_run)
    if dry_run:
        show_plan(settings, plan, folder, as_json)
    else:
        options = Options(force=force, tensorboard=tensorboard, deadline=start_deadline)
        run_training(settings, plan, folder, options, as_json)


@app.command()
def resume(
    run_dir: Annotated[Path, typer.Argument(help="Folder of an interrupted `keras-archs train`.")],
    set_: Assignments = None,
    strategy: Strategy = "auto",
    hosts: Hosts = None,
    task_index: TaskIndex = None,
    start_deadline: StartDeadline = 300,
    tensorboard: Tensorboard = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Go on with an interrupted run; batch_size and micro_batches of `run` may be --set to others."""
    import_keras()
    from keras_archs.training import Options
    from keras_archs.training.cluster import find_cluster
    from keras_archs_cli.training import resume_run

    options = Options(tensorboard=tensorboard, deadline=start_deadline)
    resume_run(run_dir, strategy, find_cluster(hosts, task_index), set_ or [], options, as_json)


@app.command()
def evaluate(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished `keras-archs train`.")],
    data: Annotated[str | None, typer.Option(help="Other images of the same classes.")] = None,
    split: Annotated[str, typer.Option(help="train, validation or test of the run's own images.")] = "test",
    as_json: AsJson = False,
) -> None:
    """Measure the model of a run: accuracy, loss, and the classes it knows least."""
    import_keras()
    from keras_archs_cli.training import evaluate_run

    evaluate_run(run_dir, data, split, as_json)


@app.command("lr-find")
def lr_find(
    recipe: Recipe = None,
    config: ConfigFile = None,
    model: ModelName = None,
    data: DataSource = None,
    set_: Assignments = None,
    picture: Annotated[Path, typer.Option(help="Where the curve is drawn.")] = Path("lr-find.png"),
    as_json: AsJson = False,
) -> None:
    """Raise the learning rate step by step, and suggest one (Smith 2017)."""
    if picture.suffix.lower() not in PICTURES:
        raise typer.BadParameter(
            f"{str(picture)!r} must end in {', '.join(PICTURES)}.", param_hint="--picture"
        )
    if not picture.parent.is_dir():
        raise typer.BadParameter(f"the folder of {str(picture)!r} does not exist.", param_hint="--picture")
    import_keras()
    from keras_archs_cli.training import chosen_config, find_rate

    settings = chosen_config(recipe, config, {"model.name": model, "data.source": data}, set_ or [])
    find_rate(settings, picture, as_json)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this one in full.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the recipes of `train --recipe`."""
    import_keras()
    from keras_archs_cli.training import show_recipes

    show_recipes(name, as_json)


@app.command()
def export(  # noqa: PLR0913  each is an option
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished `keras-archs train`.")],
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="float32, float16, dynamic_int8, weights_int8, weights_int4, int8, int16x8 or "
                          "saved_model; repeat it for several. [default: the target's best, or int8]"),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="All recipes but int16x8 side by side, and artifacts/report.html.")
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(help="Where it is to run: mobile, android_npu, edgetpu, micro, gpu_delegate, "
                          "coreml_delegate or browser. Settles types of input and output, labels, metadata."),
    ] = None,
    raw_images: Annotated[
        bool, typer.Option("--raw-images", help="Take images 0..255; the normalisation goes into the model.")
    ] = False,
    ranges: Annotated[
        str, typer.Option(help="Ranges of int8: minmax, moving_average, percentile, mse or entropy.")
    ] = "minmax",
    correction: Annotated[
        list[str] | None,
        typer.Option(help="equalization, bias_absorption or bias_correction; repeat it for several."),
    ] = None,
    rewrite: Annotated[
        list[str] | None, typer.Option(help="none, or the only graph rewrites to apply. [default: all]")
    ] = None,
    min_sqnr: Annotated[
        float | None,
        typer.Option(metavar="DB", help="Keep the fewest layers of int8 in float that reach this, in dB."),
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Convert the model of a run, and verify each artifact against it on the test images.

    What passes goes to RUN_DIR/artifacts/; what does not is not saved, and the exit code is 1.

    \b
    keras-archs export runs/photos --target mobile
    keras-archs export runs/photos --recipe int8 --ranges percentile --min-sqnr 30
    keras-archs export runs/photos --all
    """  # noqa: D301  typer keeps the lines behind the control character
    import_keras()
    from converters import Tolerance
    from keras_archs.training import Run
    from keras_archs_cli.exporting import compare_run
    from keras_archs_cli.pipeline import Choices, export_run, results_table

    if all_:
        if (
            recipe
            or target
            or raw_images
            or correction
            or rewrite
            or min_sqnr is not None
            or ranges != "minmax"
        ):
            raise typer.BadParameter("takes no other option but --json.", param_hint="--all")
        compare_run(run_dir, as_json=as_json)
        return
    tolerance = None if min_sqnr is None else Tolerance(min_sqnr_db=min_sqnr)
    choices = Choices(
        target=target,
        rewrite=tuple(rewrite) if rewrite else "default",
        ranges=ranges,  # type: ignore[arg-type]
        corrections=tuple(correction or ()),
        tolerance=tolerance,
    )
    exported = export_run(Run.open(run_dir), recipe or [], choices, raw_images)
    if as_json:
        print(json.dumps([one.to_dict() for one in exported], indent=2))
        return
    Console().print(results_table(exported))
    for one in exported:
        print(one)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="Any .tflite file; it is checked, and not run.")],
    as_json: AsJson = False,
) -> None:
    """Explain a TFLite file: ends, operations, delegates, memory, metadata, labels."""
    import_keras()
    from keras_archs_cli.exporting import inspect_file

    inspect_file(file, as_json)


@app.command()
def quickstart(run_dir: RunDir = None, as_json: AsJson = False) -> None:
    """The main job in one command: train on real images, quantize, export, verify."""
    import_keras()
    from keras_archs_cli.pipeline import run_quickstart
    from keras_archs_cli.training import new_folder

    run_quickstart(run_dir or new_folder("quickstart"), as_json)


def main() -> None:
    """Runs the command line.

    Exit codes: 0, 1 with a message, 2 for wrong usage, 130 after Ctrl-C, 138 another worker is
    missing, 143 stopped and saved.
    """
    try:
        app()
    except Exception as error:
        if not _is_an_answer(error):
            raise
        notes.print("[bold red]error:[/]", end=" ")
        notes.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(PEER_LOST if type(error).__name__ == "PeerError" else 1)


def _is_an_answer(error: Exception) -> bool:
    """Whether an error tells the user what to do; any other is a defect, whose traceback somebody needs."""
    return isinstance(error, ValueError | OSError | FloatingPointError) or (
        type(error).__module__ == "converters.errors"
    )
