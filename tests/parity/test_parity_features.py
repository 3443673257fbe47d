"""The same without the classifier, and the names of the layers."""

import keras
import pytest
from keras_peer import EVEN, ODD, builders, eleven, images, largest_difference, pair

import keras_archs


@builders
@pytest.mark.parametrize(("pooling", "channels"), [(None, 3), ("avg", 1), ("max", 4)])
def test_features(name, pooling, channels, recwarn):  # recwarn: Keras warns of 4 channels
    shape = (None, None, channels)
    theirs, ours = pair(name, include_top=False, pooling=pooling, input_shape=shape)
    for x in images(ODD, EVEN, channels=channels):
        assert largest_difference(theirs, ours, x) <= 1e-6
    ours.set_weights([0.9 * w for w in ours.get_weights()])
    theirs.set_weights(ours.get_weights())
    assert largest_difference(theirs, ours, x) <= 1e-6


@eleven
def test_layer_names_of_keras_are_kept(name):
    theirs = getattr(keras.applications, name)(weights=None, include_top=False)
    ours = getattr(keras_archs, name)(weights=None, include_top=False)
    automatic = (
        "input_layer",
        "conv2d",
        "batch_normalization",
        "activation",
        "max_pooling2d",
        "average_pooling2d",
    )
    automatic += ("add", "concatenate", "custom_scale_layer")
    explicit = {layer.name for layer in theirs.layers if layer.name.rstrip("0123456789_") not in automatic}
    assert explicit <= {layer.name for layer in ours.layers}
    assert not [layer.name for layer in ours.layers if layer.name.rstrip("0123456789_") in automatic]


@pytest.mark.parametrize("name", ["ResNet50", "ResNet50V2", "InceptionV3", "InceptionResNetV2", "Xception"])
def test_normalization_has_the_numbers_of_keras(name):
    """Outputs hardly show 1.001e-5 for 1e-5, and the momentum only in training."""

    def numbers(module):
        model = getattr(module, name)(weights=None, include_top=False)
        norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
        return [(x.epsilon, x.momentum, x.scale, x.center) for x in norms]

    assert numbers(keras_archs) == numbers(keras.applications)
