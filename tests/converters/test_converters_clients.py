"""What the metadata for a client says of the image, without a conversion."""

import keras
import pytest
from keras import layers

from converters.clients import describe_for_clients
from converters.plan import Plan

MODEL_NAMES = {"caffe": "resnet50_caffe", "torch": "resnet18_torch", "tf": "xception_tf"}


@pytest.fixture(autouse=True)
def clean_state():
    """No weights to forget."""


def described(mode, target="mobile", image=None, labels=None):
    """Of a model whose input says which of ours it is, as `keras_archs` names them."""
    x = keras.Input((8, 8, 3), name=f"{MODEL_NAMES[mode]}_input_1" if mode else None)
    model = keras.Model(x, layers.Dense(4, "softmax")(layers.GlobalAveragePooling2D()(x)))
    plan = Plan("float32", (8, 8, 3), ("probabilities",), image=image)
    return describe_for_clients(model, plan, target, "name", labels, None)


@pytest.mark.parametrize("mode", ["caffe", "torch"])
def test_what_a_client_cannot_do_is_refused(mode):
    with pytest.raises(ValueError, match=r"metadata has no BGR.*give include_preprocessing"):
        described(mode)


def test_labels_alone_cannot_say_that_the_image_is_bgr():
    with pytest.raises(ValueError, match="metadata has no BGR"):
        described("caffe", target=None, labels=list("abcd"))
    assert described("torch", target=None, labels=list("abcd")).inputs[0].mean == (123.675, 116.28, 103.53)


def test_what_it_can_do_is_written():
    image = described("tf").inputs[0]
    assert (image.mean, image.std) == ((127.5,), (127.5,))


@pytest.mark.parametrize("mode", ["caffe", None])
def test_an_artifact_that_normalises_leaves_nothing_to_do(mode):
    inside = {"mean": (1.0,), "deviation": (2.0,), "bgr": True}
    image = described(mode, image=inside).inputs[0]
    assert (image.mean, image.std) == ((0.0,), (1.0,))


def test_labels_alone_say_nothing_of_what_nobody_knows():
    image = described(None, target=None, labels=list("abcd")).inputs[0]
    assert (image.color_space, image.mean, image.std) == ("RGB", (), ())


def test_a_target_that_tells_the_arithmetic_wants_to_know_it():
    with pytest.raises(ValueError, match=r"target='mobile' tells clients .* does not say: give include_pre"):
        described(None)


@pytest.mark.parametrize(("channels", "space"), [(1, "GRAYSCALE"), (3, "RGB"), (4, "UNKNOWN")])
def test_a_model_that_begins_with_rescaling_normalises_by_itself(channels, space):
    x = keras.Input((8, 8, channels))
    scores = layers.Dense(4)(layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(x)))
    plan = Plan("float32", (8, 8, channels), ("logits",))
    image = describe_for_clients(keras.Model(x, scores), plan, "mobile", "name", None, None).inputs[0]
    assert (image.mean, image.std, image.color_space) == ((0.0,), (1.0,), space)
