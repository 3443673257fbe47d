import keras
import numpy as np
import pytest

from keras_archs.training import DataSplits, TrainConfig
from keras_archs.training.precise import recompute_statistics
from keras_archs.training.reading import Pixels, Source

NAMES = ("a", "b")


@pytest.fixture(scope="module")
def splits():
    """60 images that grow brighter, so that the means of batches differ."""
    pixels = np.random.default_rng(0).integers(0, 100, (60, 8, 8, 3)) + 2 * np.arange(60)[:, None, None, None]
    source = Source(Pixels(pixels.astype(np.uint8)), np.arange(60, dtype=np.int32) % 2, NAMES)
    config = TrainConfig.from_dict({"model": {"name": "xception"}, "data": {"image_size": 8}})
    return DataSplits(config, NAMES, source, source, source, ())


def network(momentum=0.99, trainable=True):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(momentum=momentum, name="bn")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    model.get_layer("bn").trainable = trainable
    model.get_layer("bn").moving_mean.assign(np.ones(4))
    return model


@pytest.mark.parametrize(
    ("images", "used"),
    [(50, 48), (10, 10), (1000, 48)],  # whole batches of 16; all where there is no whole one
)
def test_mean_and_variance_are_those_of_the_population(splits, images, used):
    model = network()
    recompute_statistics(model, splits, images, batch_size=16)
    conv = keras.Model(model.input, model.get_layer("conv").output)
    values = np.asarray(conv(splits.images("train", used)), np.float64)
    layer = model.get_layer("bn")
    np.testing.assert_allclose(layer.moving_mean, values.mean((0, 1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, values.var((0, 1, 2)), rtol=1e-5)


def test_the_momentum_does_not_matter_and_stays_and_so_do_the_weights(splits):
    found = []
    for momentum in (0.99, 0.1):
        model = network(momentum)
        before = [w.numpy() for w in model.trainable_weights]
        recompute_statistics(model, splits, 32, batch_size=16)
        layer = model.get_layer("bn")
        assert layer.momentum == momentum
        for value, weight in zip(before, model.trainable_weights, strict=True):
            np.testing.assert_array_equal(weight, value)
        found.append((layer.moving_mean.numpy(), layer.moving_variance.numpy()))
    np.testing.assert_array_equal(*found)


def test_frozen_statistics_stay(splits):
    model = network(trainable=False)
    recompute_statistics(model, splits, 32, batch_size=16)
    np.testing.assert_allclose(model.get_layer("bn").moving_mean, 1)
    np.testing.assert_allclose(model.get_layer("bn").moving_variance, 1)


def test_the_momentum_comes_back_after_an_error(splits, monkeypatch):
    model = network()
    monkeypatch.setattr(DataSplits, "dataset", lambda self, split: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        recompute_statistics(model, splits, 32)
    assert model.get_layer("bn").momentum == 0.99
