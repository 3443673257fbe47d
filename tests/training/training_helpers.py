"""What the training tests share."""

import hashlib

import keras
import numpy as np
from PIL import Image

from keras_archs.training import TrainConfig

COLORS = {"blue": (20, 20, 230), "green": (20, 230, 20), "red": (230, 20, 20)}


def write_images(root, count=12, classes=("green", "red"), size=(24, 20)):
    random = np.random.default_rng(0)
    for name in classes:
        folder = root / name
        folder.mkdir(parents=True)
        for i in range(count):
            noise = random.integers(-20, 20, (size[1], size[0], 3))
            pixels = np.clip(np.array(COLORS[name]) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return root


def tiny_model(
    name, weights=None, convention=None, input_shape=(8, 8, 3), classes=2, classifier_activation="softmax",
    drop_rate=0.0,
):  # fmt: skip
    """Stands in for `create_model` where the architecture does not matter; no batch norm."""
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(8, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(drop_rate, name="drop")(x) if drop_rate else x
    outputs = keras.layers.Dense(
        classes, activation=classifier_activation, name="predictions", dtype="float32"
    )
    return keras.Model(inputs, outputs(x), name="tiny")


def normalized_model(
    name, weights=None, convention=None, input_shape=(8, 8, 3), classes=2, classifier_activation="softmax",
    drop_rate=0.0,
):  # fmt: skip
    """The same with batch normalization."""
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(8, 3, use_bias=False, name="conv")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.9, name="bn")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.ReLU(name="relu")(x))
    x = keras.layers.Dropout(drop_rate, name="drop")(x) if drop_rate else x
    outputs = keras.layers.Dense(classes, activation=classifier_activation, name="predictions")
    return keras.Model(inputs, outputs(x), name="normalized")


def small_config(folder="shapes:120", **values):
    """A run of seconds; values by dotted name, dots written as two underscores."""
    small = {
        "data.source": str(folder), "data.image_size": 8, "run.batch_size": 4, "run.epochs": 2,
        "schedule.warmup_epochs": 0.5,
    }  # fmt: skip
    return TrainConfig().replaced({**small, **{k.replace("__", "."): v for k, v in values.items()}})


def digest(path):
    """A hash of a saved model's weights."""
    found = hashlib.sha256()
    for values in keras.models.load_model(path).get_weights():
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()
