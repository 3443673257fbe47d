"""What the training tests share."""

import keras
import numpy as np
from PIL import Image

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


def tiny_model(name, weights=None, input_shape=(8, 8, 3), classes=2):
    """Stands in for `create_model` where the architecture does not matter; no batch norm."""
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(8, 3, activation="relu")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(x), name="tiny")
