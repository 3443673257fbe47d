"""In how many pieces XNNPACK runs the int8 file of each network of the zoo; the target is one.

    python benchmarks/int8_partitions.py [--models NAME ...] [--json FILE] [--keep FOLDER]

A piece more means that XNNPACK hands an operation back to the interpreter, which hands its result back.
Networks are built and converted as for `export_latency.py`, for the input size that each was made for; LiteRT
opens each file with its default delegate and runs it once.

`--keep FOLDER` keeps the files for the next run and takes those of `export_latency.py`; without it a file
goes once it was looked at: all of them are 6 GB. `--json FILE` is read first: a network that is there, made
by the same converters, is not made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import export_latency as latency
import numpy as np

from keras_archs_cli.quiet import import_keras, quiet_stderr


def look_at(name: str, folder: Path) -> dict[str, Any]:
    """Convert a network, unless its file is there, and run it.

    Args:
        name: Of the zoo.
        folder: Where its file is.

    Returns:
        Its name; size, partitions and what the interpreter runs; a `problem` where there is one.
    """
    path = folder / latency.ours("int8")
    row: dict[str, Any] = {"name": name}
    try:
        latency.prepare(name, [path.name], folder)
    except RuntimeError as error:
        return row | {"problem": f"not converted: {error}"}
    row |= {"bytes": path.stat().st_size} | latency.partitions(path)
    opened = latency.open_tflite(path, 2)
    image = latency.images(name, latency.input_shape(path), 1, 1)
    if np.ptp(latency.logits(opened, image)) == 0:
        row["problem"] = "all logits are equal"
    elif row["partitions"] != 1:
        left = ", ".join(f"{count} {op}" for op, count in row["left_to_the_interpreter"].items())
        row["problem"] = f"{row['partitions']} partitions; left to the interpreter: {left}"
    return row


def earlier(path: Path | None) -> dict[str, dict[str, Any]]:
    """The rows without a problem of an earlier run, by name; none when the converters have changed since."""
    if path is None or not path.exists():
        return {}
    results = json.loads(path.read_bytes())
    if results["converters"] != latency.ours("int8"):
        return {}
    return {row["name"]: row for row in results["models"] if "problem" not in row}


def main() -> None:
    """Print a line for each network; fail when one has a problem."""
    import_keras()
    import keras_archs

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", metavar="NAME", help="instead of the whole zoo")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to it")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of converted files")
    options = parser.parse_args()
    names = options.models or keras_archs.list_models()
    known = earlier(options.json)
    results: dict[str, Any] = {"machine": latency.machine(), "converters": latency.ours("int8"), "models": []}
    with tempfile.TemporaryDirectory() as temporary:
        for i, name in enumerate(names):
            start = time.perf_counter()
            with quiet_stderr():  # LiteRT tells of its delegate
                row = known.get(name) or look_at(name, (options.keep or Path(temporary)) / name)
            results["models"].append(row)
            seconds, told = time.perf_counter() - start, row.get("problem", "one partition")
            print(f"{i + 1:3}/{len(names)} {name:24} {seconds:6.1f} s  {told}", flush=True)
            if options.json:
                latency.write(options.json, json.dumps(results, indent=1).encode())
            if not options.keep:
                shutil.rmtree(Path(temporary, name), ignore_errors=True)
    problems = [row["name"] for row in results["models"] if "problem" in row]
    print(f"\n{len(names) - len(problems)} of {len(names)} networks run in one partition")
    if problems:
        sys.exit(f"not so: {', '.join(problems)}")


if __name__ == "__main__":
    main()
