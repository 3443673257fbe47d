"""The trainer against bare Keras on synthetic images: steps, mixed precision, the stall of a checkpoint.

    python benchmarks/training.py [--rounds 12] [--steps 4]

Each pair is interleaved in one process: A, B, A, B, ...; medians and fastest rounds.
Targets: trainer 0.97, with averages and micro-batches 0.93, bfloat16 1.3 where the CPU has AVX512_BF16,
checkpoint 1.0 s.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_archs
from keras_archs.training import replicas, state
from keras_archs.training.checkpoint import save_checkpoint
from keras_archs.training.losses import CrossEntropy
from keras_archs.training.optimizers import SGD
from keras_archs.training.state import Progress
from keras_archs.training.trainee import Trainee


def synthetic(size: int, batch: int, classes: int) -> tf.data.Dataset:
    """One batch of noise, over and over: the input costs nothing."""
    random = np.random.default_rng(0)
    images = random.normal(size=(batch, size, size, 3)).astype("float32")
    labels = random.integers(0, classes, batch).astype("int32")
    return tf.data.Dataset.from_tensors((images, labels)).repeat()


def bare(build: Callable[[], keras.Model]) -> keras.Model:
    """What a Keras user writes."""
    model = build()
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def ours(build: Callable[[], keras.Model], **options: Any) -> keras.Model:
    """The same in our trainer."""
    model = Trainee(build(), **options)
    model.compile(SGD(0.01, momentum=0.9, weight_decay=1e-4), loss=CrossEntropy())
    model.optimizer.build(model.trainable_variables)
    return model


def seconds(model: keras.Model, data: tf.data.Dataset, steps: int) -> float:
    """Wall time of some steps of `fit`."""
    start = time.perf_counter()
    model.fit(data, steps_per_epoch=steps, epochs=1, verbose=0, shuffle=False)
    return time.perf_counter() - start


def compare(a: keras.Model, b: keras.Model, data: tf.data.Dataset, steps: int, rounds: int) -> str:
    """Images per second of b over those of a: of the medians, and of the fastest rounds.

    On a machine that others share, a round can take twice its time, and never less than it needs.
    """
    for model in (a, b):
        seconds(model, data, 2)  # tracing
    pairs = [(seconds(a, data, steps), seconds(b, data, steps)) for _ in range(rounds)]
    firsts, others = zip(*pairs, strict=True)
    ratios = sorted(first / other for first, other in pairs)
    middle = statistics.median(firsts) / statistics.median(others)
    return (
        f"{middle:.3f}, fastest rounds {min(firsts) / min(others):.3f}  "
        f"(single pairs {ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


def stall(model: keras.Model) -> list[float]:
    """Seconds that a step waits for a checkpoint."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for step in range(5):
            start = time.perf_counter()
            checkpoint = state.capture(model, Progress(32), 0, {})
            save_checkpoint(Path(folder), step, checkpoint)
            found.append(time.perf_counter() - start)
    return found


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=4, help="steps in a round")
    arguments = parser.parse_args()
    steps, rounds = arguments.steps, arguments.rounds

    def small() -> keras.Model:
        return keras_archs.ResNet20(classes=10, classifier_activation=None)

    data = synthetic(32, 128, 10)
    print("ResNet-20, 32 px, batch 128: images/s over those of bare `fit`")
    print("  trainer                          ", compare(bare(small), ours(small), data, steps, rounds))
    print(
        "  and averages                     ",
        compare(bare(small), ours(small, ema_decay=0.99), data, steps, rounds),
    )
    both = {"ema_decay": 0.99, "micro_batches": 4}
    print(
        "  and averages and 4 micro-batches ", compare(bare(small), ours(small, **both), data, steps, rounds)
    )

    def large() -> keras.Model:
        return keras_archs.ResNet50(weights=None, classifier_activation=None)

    data = synthetic(224, 8, 1000)
    single = ours(large)
    keras.config.set_dtype_policy("mixed_bfloat16")
    half = ours(large)
    keras.config.set_dtype_policy("float32")
    print("ResNet-50, 224 px, batch 8: images/s in mixed_bfloat16 over float32")
    print("                                   ", compare(single, half, data, max(1, steps // 2), rounds))
    seconds(single, data, 1)
    times = stall(single)
    size = sum(v.nbytes for v in replicas.read(single, [*single.variables, *single.optimizer.variables]))
    print(f"Checkpoint of ResNet-50 ({size / 1e6:.0f} MB): the step waits {statistics.median(times):.2f} s "
          f"({min(times):.2f} to {max(times):.2f})")  # fmt: skip


if __name__ == "__main__":
    main()
