"""What the range of representative data says, without a conversion."""

import keras
import numpy as np
import pytest
from keras import layers

from converters.data_check import check_range


def ours(mode):
    """A model whose input says which of ours it is, as `keras_archs` names them."""
    name = {"caffe": "resnet50_caffe", "torch": "resnet18_torch", "tf": "xception_tf", "raw": "vgg11_raw"}[
        mode
    ]
    x = keras.Input((8, 8, 3), name=f"{name}_input_1")
    return keras.Model(x, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


def between(low, high):
    return np.random.default_rng(0).uniform(low, high, (4, 8, 8, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("mode", "low", "high"),
    [("caffe", 0, 255), ("caffe", -1, 1), ("torch", 0, 255), ("tf", 0, 255), ("raw", -1, 1), ("raw", 0, 1)],
)
def test_a_range_that_the_preprocessing_cannot_give_is_refused(mode, low, high):
    with pytest.raises(ValueError, match=f"the preprocessing '{mode}' of model .* gives .*preprocess_input"):
        check_range(ours(mode), between(low, high), None)


@pytest.mark.parametrize(
    ("mode", "low", "high"),
    [("caffe", -120, 150), ("torch", -2, 2.6), ("tf", -1.05, 1), ("tf", 0.1, 0.4), ("raw", 3, 250)],
)
def test_what_it_can_give_passes(mode, low, high):
    check_range(ours(mode), between(low, high), None)
    check_range(keras.Sequential([ours(mode), layers.Dense(2)]), between(low, high), None)


def test_a_backbone_inside_is_looked_at():
    with pytest.raises(ValueError, match="the preprocessing 'tf'"):
        check_range(keras.Sequential([ours("tf"), layers.Dense(2)]), between(0, 255), None)
    x = keras.Input((8, 8, 3))
    norm = layers.BatchNormalization()
    inner = keras.Model(x, layers.GlobalAveragePooling2D()(norm(layers.Conv2D(4, 3)(x))))
    norm.moving_variance.assign(np.full(4, 0.3))
    outer = keras.Sequential([keras.Input((8, 8, 3)), inner, layers.Dense(2)])
    check_range(outer, between(-1, 1), None)
    with pytest.raises(ValueError, match="the variance it was trained with"):
        check_range(outer, between(0, 255), None)
