"""Who stores the weights better, this package or ai-edge-quantizer: SQNR, latency and size of their files.

    python benchmarks/weight_engines.py [--models NAME ...] [--threads 2] [--json FILE]

The recipes are those that `convert(engine="ai_edge_quantizer")` takes. Networks, images and the
taking of turns are those of `export_latency.py`; files are converted in processes that have ended before the
clock starts.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import export_latency as latency

from keras_archs_cli.quiet import quiet_stderr

RECIPES = ("dynamic_int8", "weights_int8", "weights_int4")
ENGINES: tuple[Literal["keras_archs", "ai_edge_quantizer"], ...] = ("keras_archs", "ai_edge_quantizer")
IMAGES, RUNS = 8, 30


def convert(name: str, folder: Path) -> None:
    """Write every recipe's file by every engine, and the float32 file."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import converters

    model = latency.build(name)
    data = latency.images(name, model.input_shape[1:], latency.CALIBRATION, 0)
    convert = functools.partial(converters.convert, model, representative_data=data, progress=False)
    latency.write(folder / "float32.tflite", convert("float32").files["model.tflite"])
    for recipe in RECIPES:
        for engine in ENGINES:
            artifact = convert(recipe, engine=engine)
            latency.write(folder / f"{recipe}_{engine}.tflite", artifact.files["model.tflite"])


def measure(name: str, folder: Path, threads: int) -> list[dict[str, Any]]:
    """One row for each recipe."""
    exact = latency.open_tflite(folder / "float32.tflite", threads)
    samples = latency.images(name, latency.input_shape(folder / "float32.tflite"), IMAGES, 1)
    expected = latency.logits(exact, samples)
    rows = []
    for recipe in RECIPES:
        paths = {engine: folder / f"{recipe}_{engine}.tflite" for engine in ENGINES}
        opened: dict[str, latency.Opened] = {
            engine: latency.open_tflite(path, threads) for engine, path in paths.items()
        }
        times = latency.take_turns(opened, samples[:1], RUNS)
        files = {
            engine: {
                "bytes": path.stat().st_size,
                **latency.closeness(expected, latency.logits(opened[engine], samples)),
                **latency.spread(times[engine]),
            }
            for engine, path in paths.items()
        }
        rows.append({"name": name, "recipe": recipe, "threads": threads, "files": files})
    return rows


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of this file in a fresh process."""
    with quiet_stderr(), multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", metavar="NAME", default=["keras.MobileNetV2", "resnet50"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to it")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": latency.machine(), "models": []}
    print(f"{'model':18} {'recipe':13} {'engine':18} {'SQNR dB':>7} {'ms':>8} {'p10-p90':>15} {'MB':>6}")
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            alone(convert, name, Path(folder))
            rows = alone(measure, name, Path(folder), options.threads)
        results["models"] += rows
        for row in rows:
            for engine, file in row["files"].items():
                spread = f"{file['p10_ms']:.2f}-{file['p90_ms']:.2f}"
                print(
                    f"{name:18} {row['recipe']:13} {engine:18} {file['sqnr_db']:>7.1f} "
                    f"{file['median_ms']:>8.2f} {spread:>15} {file['bytes'] / 1e6:>6.1f}", flush=True,
                )  # fmt: skip
    if options.json:
        latency.write(options.json, json.dumps(results, indent=1).encode())


if __name__ == "__main__":
    main()
