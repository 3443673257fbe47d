"""Time to build each of the eleven against keras.applications: interleaved in one process.

    python benchmarks/build_time.py [--rounds 12] [--json]

The ratio is the median over the rounds of ours / theirs in that round, so that a slow minute of the machine
counts for both. Target: at most 1.05 for every model.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from keras_archs_cli.quiet import import_keras

import_keras()

import keras  # noqa: E402

import keras_archs  # noqa: E402

TARGET = 1.05
ELEVEN = (
    "ResNet50 ResNet101 ResNet152 ResNet50V2 ResNet101V2 ResNet152V2 InceptionV3 InceptionResNetV2 Xception "
    "VGG16 VGG19"
).split()


def seconds(build: Callable[..., keras.Model]) -> float:
    """One build with random weights, from a clean state."""
    keras.backend.clear_session()
    gc.collect()
    start = time.perf_counter()
    build(weights=None)
    return time.perf_counter() - start


def measure(name: str, rounds: int) -> dict[str, float | str]:
    """Medians and spread of one model, ours and theirs taking turns in going first."""
    builders = {"ours": getattr(keras_archs, name), "theirs": getattr(keras.applications, name)}
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for who in builders:
        seconds(builders[who])
    for i in range(rounds):
        for who in ("ours", "theirs") if i % 2 else ("theirs", "ours"):
            times[who].append(seconds(builders[who]))
    ours, theirs = (statistics.median(times[who]) for who in ("ours", "theirs"))
    return {
        "model": name,
        "ours_s": ours,
        "theirs_s": theirs,
        "ours_spread_s": max(times["ours"]) - min(times["ours"]),
        "theirs_spread_s": max(times["theirs"]) - min(times["theirs"]),
        "ratio": statistics.median(a / b for a, b in zip(times["ours"], times["theirs"], strict=True)),
    }


def main() -> None:
    """Measures all, prints a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [measure(name, arguments.rounds) for name in ELEVEN]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        table = Table(*rows[0], box=None, header_style="bold")
        for row in rows:
            table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
        Console().print(table)
    if missed := [str(row["model"]) for row in rows if float(row["ratio"]) > TARGET]:
        sys.exit(f"missed by {', '.join(missed)}")


if __name__ == "__main__":
    main()
