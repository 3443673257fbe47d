"""Precise batch normalization: statistics of many images instead of a moving average."""

from typing import Any

import keras
import numpy as np

from keras_archs.training.data import DataSplits


def recompute_statistics(model: keras.Model, data: DataSplits, images: int, batch_size: int = 32) -> None:
    """Give batch normalization the mean and variance of training images, each layer its own input's.

    He et al. (2015) did so: the README of their code says "strictly computed using average (not moving
    average) on a sufficiently large training batch". A layer's variance is that within batches plus that of
    the batches' means.

    Args:
        model: Changed in place.
        data: Its training images are used as evaluation sees them.
        images: How many, at most.
        batch_size: Images that go through the model at a time.
    """
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    count = min(images, len(data.train)) // batch_size * batch_size or min(images, len(data.train))
    batch_size = min(batch_size, count)
    momenta = [layer.momentum for layer in layers]
    sums: list[list[Any]] = [[0.0, 0.0] for _ in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0  # the moving statistics are then those of the last batch
        batches = data.dataset("train").unbatch().take(count).batch(batch_size)
        for x, _ in batches:
            model(keras.ops.convert_to_tensor(x.numpy()), training=True)
            for total, layer in zip(sums, layers, strict=True):
                mean, variance = (
                    np.asarray(w, "float64") for w in (layer.moving_mean, layer.moving_variance)
                )
                total[0] = total[0] + mean
                total[1] = total[1] + variance + mean**2
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    for (means, squares), layer in zip(sums, layers, strict=True):
        mean = means / (count // batch_size)
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(squares / (count // batch_size) - mean**2)
