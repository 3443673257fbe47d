"""What `keras-archs show` prints and draws."""

import json
from pathlib import Path

import keras
import typer
from rich.console import Console
from rich.table import Table

from keras_archs import create_model, get_spec, list_models
from keras_archs.analysis import Analysis, analyze, draw
from keras_archs.analysis.records import short, square, times
from keras_archs.assemble import Spec
from keras_archs.choices import nearest

# Fields of a stage that count what it is made of, and their columns; one without any is left out.
COUNTS = (("sums", "sums"), ("concatenations", "concats"), ("separable", "sep."))


def show_model(name: str, size: int | None, drawing: Path | None, as_json: bool) -> None:
    """Builds a model without weights, prints its analysis, and draws it.

    Args:
        name: One of `list_models()`.
        size: Height and width of the image; None means the model's.
        drawing: SVG file to write, if any.
        as_json: Print one JSON object instead of the tables.

    Raises:
        typer.BadParameter: If there is no such model, or if it has nothing left of so small an image.
    """
    if name not in list_models():
        raise typer.BadParameter(
            f"{name!r} is no model.{nearest(name, list_models())} See `keras-archs list`.", param_hint="NAME"
        )
    spec = get_spec(name)
    size = size or spec.size
    if size < spec.min_size:
        raise typer.BadParameter(f"{size} is too small: at least {spec.min_size}.", param_hint="--size")
    channels_first = keras.config.image_data_format() == "channels_first"
    shape = (3, size, size) if channels_first else (size, size, 3)
    with keras.StatelessScope(initialize_variables=False):  # no memory for weights that nobody reads
        analysis = analyze(create_model(name, weights=None, input_shape=shape))
    if drawing:
        draw(analysis, drawing)
    origin = {
        "source": spec.source,
        "convention": spec.convention.name,
        "preprocessing": spec.preprocessing,
    }
    if as_json:
        print(json.dumps({"name": name, **origin, **analysis.to_dict()}, indent=2))
        return
    console = Console(highlight=False)
    console.print(_header(analysis, spec))
    console.print()
    console.print(_stages(analysis))
    console.print("\nMACs: multiply-accumulates of convolutions and dense layers; acts: their outputs;")
    console.print("sees: receptive field in pixels, and stride from one to the next.")
    if drawing:
        console.print(f"\nDrawing: {drawing}", soft_wrap=True)


def _header(analysis: Analysis, spec: Spec) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("name", analysis.name)
    table.add_row("source", spec.source)
    table.add_row("convention", spec.convention.name)
    table.add_row("image", times(analysis.input_shape))
    table.add_row("preprocessing", spec.preprocessing)
    return table


def _stages(analysis: Analysis) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, show_footer=True, footer_style="bold")
    words = [word for stage in analysis.stages for word in stage.name.split()]
    table.add_column("stage", "total", min_width=max(map(len, words)))
    counts = [c for c in COUNTS if any(getattr(stage, c[0]) for stage in analysis.stages)]
    for field, header in counts:
        total = sum(getattr(stage, field) for stage in analysis.stages)
        table.add_column(header, str(total), justify="right", no_wrap=True)
    table.add_column("output", justify="right", no_wrap=True)
    for field, header in (("parameters", "params"), ("macs", "MACs"), ("activations", "acts")):
        table.add_column(header, short(getattr(analysis, field)), justify="right", no_wrap=True)
    table.add_column("sees", square(analysis.receptive_field), justify="right", no_wrap=True)
    table.add_column("stride", square(analysis.stride), justify="right", no_wrap=True)
    for stage in analysis.stages:
        table.add_row(
            stage.name,
            *(str(getattr(stage, field) or "") for field, _ in counts),
            times(stage.output_shape).replace(" ", ""),
            short(stage.parameters),
            short(stage.macs),
            short(stage.activations),
            square(stage.receptive_field),
            "" if stage.stride is None else square(stage.stride),
        )
    return table
