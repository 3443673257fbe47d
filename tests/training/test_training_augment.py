import numpy as np
import pytest
import tensorflow as tf

from keras_archs.training import augment as module
from keras_archs.training.augment import augment


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (64, 12, 10, 3)).astype(np.uint8)


@pytest.fixture
def still(monkeypatch):
    for name in ("SHIFT", "ANGLE", "ZOOM"):
        monkeypatch.setattr(module, name, 0.0)


def test_without_movement_nothing_changes(images, still):
    np.testing.assert_allclose(augment(images, tf.constant([1, 2]), flip=False), images, atol=1e-3)


def test_a_flip_mirrors_about_half_of_the_images(images, still):
    out = augment(images, tf.constant([1, 2]), flip=True).numpy()
    mirrored = np.abs(out - images[:, :, ::-1]).max(axis=(1, 2, 3)) < 1e-3
    same = np.abs(out - images).max(axis=(1, 2, 3)) < 1e-3
    assert (mirrored ^ same).all()
    assert 16 < mirrored.sum() < 48


def test_a_shift_moves_by_at_most_its_share(monkeypatch, still):
    monkeypatch.setattr(module, "SHIFT", 0.25)
    dot = np.zeros((64, 16, 16, 1), np.float32)
    dot[:, 8, 8] = 100
    out = augment(dot, tf.constant([1, 2]), flip=False).numpy()[..., 0]
    rows, columns = np.mgrid[:16, :16]
    x = (out * columns).sum(axis=(1, 2)) / out.sum(axis=(1, 2))
    y = (out * rows).sum(axis=(1, 2)) / out.sum(axis=(1, 2))
    assert np.abs(x - 8).max() <= 4.01
    assert np.abs(y - 8).max() <= 4.01
    assert np.std(x) > 1
    assert np.std(y) > 1


@pytest.mark.parametrize("name", ["ANGLE", "ZOOM"])
def test_turning_and_zooming_keep_the_centre(monkeypatch, still, name):
    monkeypatch.setattr(module, name, 0.2)
    cross = np.zeros((32, 15, 15, 1), np.float32)
    cross[:, 7, :] = 100
    out = augment(cross, tf.constant([1, 2]), flip=False).numpy()[..., 0]
    np.testing.assert_allclose(out[:, 7, 7], 100, atol=0.1)
    if name == "ANGLE":
        assert out[:, 7, 0].max() < 99.9  # the arms have turned away


def test_the_seed_decides(images):
    first = augment(images, tf.constant([1, 2]), flip=True).numpy()
    np.testing.assert_array_equal(first, augment(images, tf.constant([1, 2]), flip=True))
    assert np.abs(first - augment(images, tf.constant([1, 3]), flip=True).numpy()).mean() > 1
    assert first.min() >= 0
    assert first.max() <= 255


def test_each_image_moves_in_its_own_way():
    same = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 12, 12, 3)), 8, axis=0)
    out = augment(same, tf.constant([1, 2]), flip=False).numpy()
    assert len(np.unique(out.reshape(8, -1), axis=0)) == 8
