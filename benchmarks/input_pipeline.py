"""Images per second of the input pipeline on a folder of JPEGs, against Keras' and torchvision's, in one run.

    python benchmarks/input_pipeline.py [--torch-python PYTHON]

500 x 375 pixels, random-resized-crop to 224, flip, normalize. Every pipeline gets the same cores; rounds are
interleaved. torchvision runs in a Python of its own, as an ImageFolder in a DataLoader with two workers.
Targets: 1.5 times Keras', 1.0 times torchvision's.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_images

from keras_archs.training import TrainConfig
from keras_archs.training.data import load_data
from keras_archs.training.pipeline import Part

SIZE, BATCH = 224, 64
TORCH = """
import sys, time
import torch, torchvision
from torchvision import transforms as T
mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
change = T.Compose([T.RandomResizedCrop(224), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(mean, std)])
data = torchvision.datasets.ImageFolder(sys.argv[1], change)
print("ready", flush=True)
for line in sys.stdin:
    loader = torch.utils.data.DataLoader(data, int(sys.argv[2]), shuffle=True, num_workers=2, drop_last=True)
    batches = iter(loader)
    next(batches)  # the workers have started
    start, count = time.perf_counter(), 0
    for images, labels in batches:
        count += len(images)
    print(count / (time.perf_counter() - start), flush=True)
"""


def write_photos(folder: Path, count: int) -> None:
    """Pieces of scikit-learn's two photographs, in two classes: noise or flat ones decode at other speeds."""
    random = np.random.default_rng(0)
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    for number in range(count):
        photo = photos[number % 2]
        side = random.uniform(0.5, 1.0)
        width, height = round(photo.width * side), round(photo.height * side)
        left, top = (
            int(random.integers(0, room + 1)) for room in (photo.width - width, photo.height - height)
        )
        piece = photo.crop((left, top, left + width, top + height)).resize(
            (500, 375), Image.Resampling.BICUBIC
        )
        path = folder / f"class{number % 2}" / f"{number:05d}.jpg"
        path.parent.mkdir(exist_ok=True)
        stream = BytesIO()
        piece.save(stream, "JPEG", quality=90)
        path.write_bytes(stream.getvalue())


def ours(folder: Path) -> Iterator[Any]:
    """Batches of this package."""
    config = TrainConfig.from_recipe("torchvision_v1").replaced(
        {
            "data.source": str(folder),
            "run.batch_size": BATCH,
            "data.test_share": 0.0,
            "data.validation_share": 0.01,
        }
    )
    return iter(load_data(config, progress=False).training(0, 0, SIZE, Part(BATCH)))


def keras_folder(folder: Path) -> Iterator[Any]:
    """Batches of `image_dataset_from_directory`, cropped, mirrored and normalized by Keras' layers."""
    data = keras.utils.image_dataset_from_directory(
        folder, image_size=(256, 256), batch_size=BATCH, shuffle=True, seed=0, verbose=False
    )
    change = [
        keras.layers.RandomCrop(SIZE, SIZE),
        keras.layers.RandomFlip("horizontal"),
        keras.layers.Normalization(mean=[123.675, 116.28, 103.53], variance=[3409.97, 3262.69, 3291.88]),
    ]

    def changed(images: Any, labels: Any) -> Any:
        for layer in change:
            images = layer(images, training=True) if layer is not change[-1] else layer(images)
        return images, labels

    return iter(data.repeat().map(changed, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE))


def speed(batches: Iterator[Any], count: int) -> float:
    """Images per second of wall time, the pipeline warm."""
    for _ in range(4):
        next(batches)
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return count * BATCH / (time.perf_counter() - start)


def torch_speed(process: subprocess.Popen) -> float:
    """The same of the other Python."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1280)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch-python", help="a Python with torch and torchvision")
    parser.add_argument("--torch-prelude", default="", help="code it runs first")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder, arguments.images)
        steps = arguments.images // BATCH
        runs: dict[str, Callable[[], float]] = {
            "ours": lambda: speed(ours(folder), steps),
            "image_dataset_from_directory": lambda: speed(keras_folder(folder), steps),
        }
        process = None
        if arguments.torch_python:
            command = [arguments.torch_python, "-c", arguments.torch_prelude + TORCH, name, str(BATCH)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert process.stdout
            process.stdout.readline()
            other = process
            runs["ImageFolder, DataLoader(num_workers=2)"] = lambda: torch_speed(other)
        found: dict[str, list[float]] = {label: [] for label in runs}
        for _ in range(arguments.rounds):
            for label, run in runs.items():
                found[label].append(run())
        if process:
            process.kill()
        cores = os.cpu_count() or 1
        for label, values in found.items():
            middle = statistics.median(values)
            ratio = statistics.median(found["ours"]) / middle
            print(
                f"{label:40s} {middle / cores:7.0f} images/s a core ({min(values) / cores:.0f} to "
                f"{max(values) / cores:.0f}); ours is {ratio:.2f} times that"
            )


if __name__ == "__main__":
    main()
