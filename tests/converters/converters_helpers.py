"""Models and artifacts that several tests look at; made once a test run."""

import contextlib
import os
from functools import cache

import keras
import numpy as np
from keras import layers

import converters


def tiny_cnn(activation="softmax", size=8, channels=1, classes=10):
    """Every block that our families are made of, once."""
    image = keras.Input((size, size, channels))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.ReLU()(x)
    y = layers.SeparableConv2D(16, 3, padding="same")(x)
    x = layers.Add()([x, y])
    x = layers.Concatenate()(
        [layers.Conv2D(16, 1, activation="relu")(x), layers.MaxPooling2D(3, 1, "same")(x)]
    )
    x = layers.Conv2D(32, 3, 2, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(classes, activation=activation, name="head")(x), name="tiny")


@cache
def digits():
    """Images (N, 8, 8, 1) from -1 to 1 and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images[..., np.newaxis] / 8 - 1).astype(np.float32), data.target


@cache
def trained(folder):
    """The tiny network, trained on the digits: by the first process that gets here, for all."""
    path = folder / "trained.keras"
    if not path.exists():
        mine = path.with_name(f"trained-{os.getpid()}.keras")
        train().save(mine)
        with contextlib.suppress(FileExistsError):  # The first one stays: all have to look at the same.
            os.link(mine, path)
        mine.unlink()
    return keras.models.load_model(path)


def train():
    keras.utils.set_random_seed(0)
    model = tiny_cnn()
    images, labels = digits()
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    model.fit(images[:1200], labels[:1200], batch_size=50, epochs=15, verbose=0)
    return model


@cache
def converted(folder, recipe):
    """The trained network converted by a recipe."""
    path = folder / recipe
    if not path.exists():
        data = digits()[0][:100]
        artifact = converters.convert(trained(folder), recipe, representative_data=data, progress=False)
        try:
            artifact.save(path)
        except OSError:  # Another process was faster by a moment.
            assert path.exists()
    return converters.Artifact.load(path)
