"""Checkpoints of TF-slim load exactly and then compute what slim computes, or are refused.

Names and arithmetic come from slim_names.py, which is read off slim's sources and shares nothing with ours.
"""

import shutil
import tempfile
from math import prod
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from slim_names import NETWORKS, logits, variables

import keras_archs
from keras_archs.weights import WeightsError, load, resolve

ANY_SIZE = {"input_shape": (None, None, 3), "classifier_activation": None}
AUX = {**ANY_SIZE, "aux_heads": True}
EVEN, ODD = 98, 107
# Our name, how to build it, and sizes of images to compare scores of: the auxiliary ones at 299 only.
CASES = {
    "inception_v1": ("googlenet", ANY_SIZE, (EVEN, ODD)),
    "inception_v2": ("inception_v2", ANY_SIZE, (EVEN, ODD)),
    "inception_v3": ("inception_v3", AUX, (EVEN, 299)),
    "inception_v4": ("inception_v4", AUX, (299,)),
    # facenet classifies an embedding, which is not part of the architecture.
    "inception_resnet_v1": ("inception_resnet_v1", {"include_top": False, "pooling": "avg"}, (EVEN, ODD)),
    "inception_resnet_v2": ("inception_resnet_v2", AUX, (299,)),
    # The longest has every unit of the two before it.
    "resnet_v1_50": ("resnet50", ANY_SIZE, (EVEN, ODD)),
    "resnet_v1_101": ("resnet101", ANY_SIZE, ()),
    "resnet_v1_152": ("resnet152", ANY_SIZE, ()),
    "resnet_v1_200": ("resnet200", ANY_SIZE, (ODD,)),
    "resnet_v2_50": ("resnet50v2", ANY_SIZE, (EVEN, ODD)),
    "resnet_v2_101": ("resnet101v2", ANY_SIZE, ()),
    "resnet_v2_152": ("resnet152v2", ANY_SIZE, ()),
    "resnet_v2_200": ("resnet200v2", ANY_SIZE, (ODD,)),
    "vgg_16": ("vgg16", {"classifier_activation": None}, (224,)),
    "vgg_19": ("vgg19", {"include_top": False}, ()),
}
# What a file may have and a model built so has not.
LEFT = {"inception_resnet_v1": ("InceptionResnetV1/Bottleneck", "Logits"), "vgg_19": ("vgg_19/fc",)}
# Keras' name of a variable and slim's; the others are alike.
KINDS = {
    "kernel": "weights",
    "depthwise_kernel": "depthwise_weights",
    "pointwise_kernel": "pointwise_weights",
    "bias": "biases",
}


@pytest.fixture
def folder():
    """For files of hundreds of megabytes: gone after the test, not after three runs as pytest's own."""
    path = Path(tempfile.mkdtemp())
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def no_random_kernels(monkeypatch):
    """Kernels start as zeros: drawing half a billion numbers to overwrite them takes a fifth of the time."""
    zeros = keras.initializers.Zeros.__call__
    monkeypatch.setattr(keras.initializers.GlorotUniform, "__call__", zeros)


def values_of(name):
    """Seeded tensors of a checkpoint, no two alike, that keep activations near one through any depth."""
    shapes = variables(name)
    generator = np.random.default_rng(0)
    pool = generator.standard_normal(1 << 20, "float32")
    starts = generator.choice(len(pool) // 2, len(shapes), replace=False)
    gain = 1 if name.startswith("resnet") else 2  # ReLUs halve a variance, sums of residuals add them up

    def tensor(path, shape, start):
        numbers = np.resize(pool[start : start + prod(shape)], shape)
        kind = path.rpartition("/")[2]
        numbers *= np.float32(gain / prod(shape[:-1])) ** 0.5 if kind.endswith("weights") else np.float32(0.1)
        return 1 + numbers if kind == "gamma" else np.exp(numbers) if kind == "moving_variance" else numbers

    return {path: tensor(path, *rest) for (path, *rest) in zip(shapes, shapes.values(), starts, strict=True)}


def save(path, tensors):
    """Writes a checkpoint with just these names, as tf.train.Saver does: an index, and data beside it."""
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    return path


def of_training(tensors):
    """What slim's trainer writes besides."""
    path, tensor = next(iter(tensors.items()))
    return {"global_step": np.int64(7), f"{path}/Momentum": tensor + 1}


def assert_all_arrived(model, values, network):
    """Every variable is its tensor; those of a layer come from one scope; returns the tensors left over."""
    background = network.classes == 1001
    left = {
        path: (tensor[..., 1:] if background and tensor.shape[-1] == 1001 else tensor).ravel()
        for path, tensor in values.items()
    }
    paths = {tensor[:8].tobytes(): path for path, tensor in left.items()}
    assert len(paths) == len(left)
    for layer in model.layers:
        scopes = set()
        for variable in layer.weights:
            value = variable.numpy().ravel()
            path = paths[value[:8].tobytes()]
            assert np.array_equal(value, left.pop(path)), path
            scope, _, kind = path.rpartition("/")
            assert kind == KINDS.get(variable.name, variable.name)
            scopes.add(scope)
        assert len(scopes) < 2
        assert getattr(layer, "epsilon", network.epsilon) == network.epsilon
    return set(left)


def assert_same_scores(model, name, values, side):
    images = np.random.default_rng(side).standard_normal((1, side, side, 3), "float32")
    aux = {"aux": side == 299} if len(model.outputs) > 1 else {}
    theirs = logits(name, values, images, **aux)
    if len(theirs) < len(model.outputs):
        model = keras.Model(model.inputs[0], model.outputs[0])
    ours = keras.tree.flatten(model(images))
    for mine, other in zip(ours, theirs, strict=False):  # facenet's classes are no output of ours
        other = other[:, -mine.shape[1] :]
        assert np.abs(mine - other).max() < 1e-5 * np.abs(other).max()


def test_the_table_has_the_counts_of_slims_tests():
    # testModelHasExpectedNumberOfParameters: of the network without its classifiers.
    counts = {"inception_v1": 5_607_184, "inception_v2": 10_173_112, "inception_v3": 21_802_784}
    for name, count in counts.items():
        assert sum(prod(shape) for path, shape in variables(name).items() if "Logits" not in path) == count


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_loads_and_computes_the_same(name, folder):
    ours, arguments, sides = CASES[name]
    values = values_of(name)
    path = save(folder / "model.ckpt", values | of_training(values))
    model = keras_archs.create_model(ours, weights=path, **arguments)
    left = assert_all_arrived(model, values, NETWORKS[name])
    assert left == {path for path in values if path.startswith(LEFT.get(name, ("none",)))}
    for side in sides:
        assert_same_scores(model, name, values, side)


def test_a_model_without_classifiers_leaves_them_in_the_file(folder):
    values = values_of("inception_v3")
    path = save(folder / "model.ckpt", values)
    model = keras_archs.create_model("inception_v3", weights=path, include_top=False)
    left = assert_all_arrived(model, values, NETWORKS["inception_v3"])
    assert left == {path for path in values if "Logits" in path}


@pytest.fixture(scope="module")
def small():
    """A model of slim's lineage with random weights, and a checkpoint's tensors for it."""
    return keras_archs.create_model("googlenet", convention="slim"), values_of("inception_v1")


def load_into(model, path):
    spec = keras_archs.get_spec("googlenet")
    source = resolve("googlenet", path, None, spec.conventions)
    load(model, source, spec.layouts, [], include_top=True, dropped=None)


def refused(model, path, message):
    before = model.get_weights()
    with pytest.raises(WeightsError, match=message):
        load_into(model, path)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))


LAST = "InceptionV1/Logits/Conv2d_0c_1x1/biases"
THREE = np.zeros(3, "float32")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({LAST: None}, r"Logits/Conv2d_0c_1x1/biases is missing \(for predictions\)"),
        ({LAST: THREE}, "biases: 3 in the file, 1001 in the model"),
        ({LAST: np.full(1001, np.nan, "float32")}, "biases has values that are not finite"),
        ({"InceptionV1/Mixed_9z/weights": THREE}, r"Mixed_9z/weights \(3\) is not in the model"),
        ({"elsewhere/weights": THREE}, r"elsewhere/weights \(3\) is not in the model"),
    ],
    ids=["missing", "shape", "not finite", "surplus", "surplus elsewhere"],
)
def test_what_does_not_fit_is_refused(small, folder, changes, message):
    model, values = small
    save(folder / "x.ckpt", {k: v for k, v in (values | changes).items() if v is not None})
    refused(model, folder / "x.ckpt", message)


def test_another_network_is_refused(small, folder):
    save(folder / "x.ckpt", values_of("inception_v2"))
    refused(small[0], folder / "x.ckpt", "of another variant of this family")


def test_damaged_files_are_refused(small, folder):
    model, values = small
    path = save(folder / "x.ckpt", values)
    data, index = folder / "x.ckpt.data-00000-of-00001", folder / "x.ckpt.index"
    good = data.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    for bad in (good[: len(good) // 2], bytes(flipped)):
        data.write_bytes(bad)
        refused(model, path, "is damaged or of another format")
    data.unlink()
    refused(model, path, "is damaged or of another format")
    index.write_bytes(b"<html>not found</html>")
    refused(model, index, "is damaged or of another format")


def test_the_old_format_of_one_file_loads(small, folder):
    # The files of 2016 are of TensorFlow's first format: no index, all in model.ckpt.
    model, values = small
    model.weights[0].assign(np.zeros(model.weights[0].shape))
    path = folder / "model.ckpt"
    tf.raw_ops.Save(filename=str(path), tensor_names=list(values), data=list(values.values()))
    load_into(model, path)
    assert not assert_all_arrived(model, values, NETWORKS["inception_v1"])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(model, path, "is damaged or of another format")


def test_what_stands_beside_the_weights_is_ignored(small, folder):
    model, values = small
    model.weights[0].assign(np.zeros(model.weights[0].shape))
    # Of the optimizers that slim's train_image_classifier.py offers, and of moving averages.
    slots = "Adadelta Adadelta_1 Adagrad Adam Adam_1 Ftrl Ftrl_1 Momentum RMSProp RMSProp_1".split()
    beside = {f"InceptionV1/Conv2d_1a_7x7/weights/{slot}" for slot in (*slots, "ExponentialMovingAverage")}
    beside |= {"global_step", "beta1_power", "beta2_power"}
    # In the published resnet_v1_* and vgg_*: the mean that preprocessing subtracts.
    beside |= {"InceptionV1/mean_rgb"}
    save(folder / "x.ckpt", values | dict.fromkeys(beside, THREE))
    load_into(model, folder / "x.ckpt")
    assert not assert_all_arrived(model, values, NETWORKS["inception_v1"])
