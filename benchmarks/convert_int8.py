"""convert(InceptionV3, "int8") against TensorFlow's own TFLiteConverter: wall time and peak memory.

Ours chooses its ranges by percentile and applies all rewrites; the plain converter takes minima and maxima,
which is all it knows. Each run is a fresh process that builds the same model and converts it with the same
images; the two kinds alternate. Memory is the proportional set size (PSS) summed over the process and its
children, sampled every 20 ms: it counts a page that two processes share, such as TensorFlow's code, once,
which is what the machine has to provide. Both sides pay for the sampling.

    python benchmarks/convert_int8.py [--runs 3] [--images 64]
    python benchmarks/convert_int8.py --growth 20

The second one tells by how much the resident memory of one process grows that converts MobileNetV2, as many
times, by itself: InceptionV3 would grow it in the same way and take a quarter of an hour.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

WALL_TARGET, MEMORY_TARGET, GROWTH_TARGET_MB = 1.6, 1.5, 50
GROWTH_IMAGES = 8


def build(images: int) -> tuple:
    """The model, with random weights, and the representative data (N, 299, 299, 3)."""
    import keras

    keras.utils.set_random_seed(0)
    model = keras.applications.InceptionV3(weights=None)
    return model, np.random.default_rng(0).uniform(-1, 1, (images, 299, 299, 3)).astype(np.float32)


def convert_plainly(images: int) -> int:
    """What the TensorFlow documentation says to write; returns the size."""
    import tensorflow as tf

    model, data = build(images)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([data[i : i + 1]] for i in range(len(data)))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return len(converter.convert())


def convert_here(images: int) -> int:
    """The same through this package; returns the size."""
    import converters

    model, data = build(images)
    artifact = converters.convert(
        model, "int8", representative_data=data, rewrite="default", ranges="percentile", progress=False
    )
    return artifact.size_bytes


KINDS = {"plain": convert_plainly, "here": convert_here}


class PeakMemory(threading.Thread):
    """Samples the PSS of a process and its descendants until the process ends."""

    def __init__(self, process: subprocess.Popen) -> None:
        super().__init__()
        self._process = process
        self.peak_mb = 0.0

    def run(self) -> None:
        """Sample."""
        while self._process.poll() is None:
            self.peak_mb = max(self.peak_mb, sum(map(_pss_mb, _tree(self._process.pid))))
            time.sleep(0.02)


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task").glob("*/children")
        return [
            pid,
            *(child for path in children for kid in path.read_text().split() for child in _tree(int(kid))),
        ]
    except OSError:
        return []


def _pss_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # It has ended.
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def measure(kind: str, images: int) -> tuple[float, float, int]:
    """Run one conversion in a fresh process.

    Args:
        kind: A key of KINDS.
        images: Number of representative images.

    Returns:
        Wall seconds, peak MB, bytes of the result.
    """
    start = time.perf_counter()
    command = [sys.executable, __file__, "--run", kind, "--images", str(images)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    memory = PeakMemory(process)
    memory.start()
    out, err = process.communicate()
    seconds = time.perf_counter() - start
    memory.join()
    if process.returncode:
        raise RuntimeError(f"{kind} failed:\n{err[-2000:]}")
    return seconds, memory.peak_mb, int(out.split()[-1])


def grow(times: int) -> None:
    """Convert a small network over and over in this process; fail when it grows by more than the target."""
    import keras

    import converters

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(weights=None)
    data = np.random.default_rng(0).uniform(-1, 1, (GROWTH_IMAGES, 224, 224, 3)).astype(np.float32)
    memory = [_resident_mb()]
    for i in range(times):
        converters.convert(
            model, "int8", representative_data=data, rewrite="default", ranges="percentile", progress=False
        )
        memory.append(_resident_mb())
        print(f"{i + 1:>3}: {memory[-1]:7.1f} MB", flush=True)
    growth = memory[-1] - memory[0]
    print(
        f"{memory[0]:.1f} MB before, {memory[-1]:.1f} MB after {times} conversions of MobileNetV2: "
        f"{growth:+.1f} MB (target {GROWTH_TARGET_MB}), {memory[-1] - memory[1]:+.1f} MB since the first"
    )
    if growth > GROWTH_TARGET_MB:
        sys.exit("the target is missed")


def _resident_mb() -> float:
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def main() -> None:
    """Print the medians and their ratios; fail when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument(
        "--growth", type=int, metavar="N", help="only tell what N conversions leave in memory"
    )
    parser.add_argument("--run", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(KINDS[options.run](options.images))
        return
    if options.growth:
        grow(options.growth)
        return
    results: dict[str, list[tuple[float, float, int]]] = {kind: [] for kind in KINDS}
    for _ in range(options.runs):
        for kind, rows in results.items():
            rows.append(measure(kind, options.images))
            print(
                f"{kind:>6}: {rows[-1][0]:6.1f} s {rows[-1][1]:7.0f} MB {rows[-1][2]:>11,} bytes", flush=True
            )
    wall, memory = (
        statistics.median(row[i] for row in results["here"])
        / statistics.median(row[i] for row in results["plain"])
        for i in (0, 1)
    )
    print(
        f"wall time x {wall:.2f} (target {WALL_TARGET}), peak memory x {memory:.2f} (target {MEMORY_TARGET})"
    )
    if wall > WALL_TARGET or memory > MEMORY_TARGET:
        sys.exit("a target is missed")


if __name__ == "__main__":
    main()
