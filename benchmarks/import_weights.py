"""Time and memory to import a PyTorch file of 100 MB (ResNet-50), and to list the models.

    python benchmarks/import_weights.py [--rounds 9] [--json]

The file is loaded by our loader, names, shapes and values checked, axes turned, and by the least that any
loader must do: read every array and assign it, in an order and shape that need no thought, in turns.
The ratio is the median over the rounds of ours / theirs. Memory is the growth of the process over the built
model, at its peak, as the kernel counts it (mapped pages of the file included), in a process of its own.
Targets: 2.5 times the time, 2.2 times the file in memory, list_models() in 10 ms.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from keras_archs_cli.quiet import import_keras

import_keras()

import keras  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402

import keras_archs  # noqa: E402
from keras_archs.weights.named_files import Rules, load_named  # noqa: E402

TARGETS = {"time": 2.5, "memory": 2.2, "list_ms": 10.0}
RULES = Rules(keras_archs.get_spec("resnet50").layouts["torch"], False, 0, (), None)
TO_TORCH = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
NAMES = {
    "gamma": "weight",
    "beta": "bias",
    "kernel": "weight",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def built() -> keras.Model:
    """ResNet-50 as torchvision has it, random."""
    return keras_archs.ResNet50(weights=None, convention="torch")


def write(folder: Path) -> tuple[Path, Path]:
    """The model's weights as PyTorch stores them, and the same arrays as they are, named by position."""
    (layout,) = RULES.layouts
    theirs: dict[str, np.ndarray] = {}
    plain: dict[str, np.ndarray] = {}
    for layer in built().layers:
        for variable in layer.weights:
            value = keras.ops.convert_to_numpy(variable)
            plain[f"{len(plain):04}"] = value
            axes = TO_TORCH[value.ndim]
            name = f"{layout(layer.name)}.{NAMES.get(variable.name, variable.name)}"
            theirs[name] = np.ascontiguousarray(value.transpose(axes))
    save_file(theirs, folder / "torch.safetensors")
    save_file(plain, folder / "plain.safetensors")
    return folder / "torch.safetensors", folder / "plain.safetensors"


def ours(model: keras.Model, path: Path) -> None:
    """Our loader."""
    load_named(model, path, RULES)


def least(model: keras.Model, path: Path) -> None:
    """Reads and assigns, nothing else."""
    with safe_open(path, framework="numpy") as file:
        for variable, name in zip(model.weights, sorted(file.keys()), strict=True):
            variable.assign(file.get_tensor(name))


def seconds(function: Callable[[keras.Model, Path], None], model: keras.Model, path: Path) -> float:
    """One run."""
    start = time.perf_counter()
    function(model, path)
    return time.perf_counter() - start


def status(field: str) -> int:
    """A figure of this process from the kernel, in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{field}:")[1].split()[0]) * 1024


def growth(path: Path, queue: "multiprocessing.Queue[int]") -> None:
    """Peak growth while our loader runs, in a process of its own."""
    model = built()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = status("VmRSS")
    ours(model, path)
    queue.put(status("VmHWM") - before)


def peak(path: Path) -> int:
    """Peak growth in bytes."""
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[int] = context.Queue()
    process = context.Process(target=growth, args=(path, queue))
    process.start()
    process.join()
    return queue.get()


def main() -> None:
    """Prints the figures; exits with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    model = built()
    with tempfile.TemporaryDirectory() as folder:
        theirs, plain = write(Path(folder))
        size = theirs.stat().st_size
        times = [
            (seconds(ours, model, theirs), seconds(least, model, plain)) for _ in range(options.rounds + 1)
        ][1:]
        memory = peak(theirs) / size
    keras_archs.list_models()
    start = time.perf_counter()
    keras_archs.list_models("*50*")
    figures = {
        "file_mb": size / 1e6,
        "ours_s": statistics.median(a for a, _ in times),
        "least_s": statistics.median(b for _, b in times),
        "time": statistics.median(a / b for a, b in times),
        "time_spread": max(a / b for a, b in times) - min(a / b for a, b in times),
        "memory": memory,
        "list_ms": 1000 * (time.perf_counter() - start),
    }
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        table = Table("figure", "measured", "target", box=None, header_style="bold")
        for name, value in figures.items():
            table.add_row(name, f"{value:.3f}", f"<= {TARGETS[name]}" if name in TARGETS else "")
        Console().print(table)
    sys.exit(any(figures[name] > target for name, target in TARGETS.items()))


if __name__ == "__main__":
    main()
