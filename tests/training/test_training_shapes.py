import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_archs.training.reading import open_source, shapes
from keras_archs.training.reading.shapes import CLASS_NAMES, CONTRAST, LUMA, draw_shape, pick_colors


@pytest.mark.parametrize("size", [7, 32, 100])
def test_an_image_depends_on_the_seed_and_its_number_only(size):
    images = [draw_shape(index, size, seed=3) for index in range(12)]
    assert {(image.shape, str(image.dtype)) for image in images} == {((size, size, 3), "uint8")}
    np.testing.assert_array_equal(draw_shape(4, size, seed=3), images[4])
    other = [draw_shape(index, size, seed=4) for index in range(12)]
    assert all((other[i] != images[i]).any() for i in range(12))
    assert len({tuple(image[0, 0]) for image in images}) == 12  # no two have a background in common


def test_shapes_stand_out_from_their_background():
    pairs = [pick_colors(np.random.default_rng(i)) for i in range(1000)]
    differences = [abs(LUMA @ (behind - front)) for behind, front in pairs]
    assert min(differences) >= CONTRAST
    assert len({tuple(front) for _, front in pairs}) > 900


def profiles(name):
    """Shares of ink by the distance from the centre of mass, for ten rotations and sizes."""
    rows = []
    for seed in range(10):
        y, x = np.mgrid[:200, :200]
        ink = np.asarray(shapes._mask(name, 200, np.random.default_rng(seed))) > 127
        distance = np.hypot(x - x[ink].mean(), y - y[ink].mean())
        ring = np.minimum(distance / distance[ink].max() * 6, 6).astype(int)
        rows.append([ink[ring == r].mean() for r in range(6)])
    return np.array(rows)


def test_no_rotation_makes_one_class_another():
    found = [profiles(name) for name in CLASS_NAMES]
    means = [rows.mean(0) for rows in found]
    assert max(np.abs(rows - mean).max() for rows, mean in zip(found, means, strict=True)) < 0.05
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(means, 2)) > 0.12


def test_many_shapes_are_drawn_when_they_are_read(monkeypatch):
    kept = open_source("shapes:20", 16, max_corrupt_share=0, progress=False, seed=5)
    monkeypatch.setattr(shapes, "CACHE_BYTES", 0)
    drawn = open_source("shapes:20", 16, max_corrupt_share=0, progress=False, seed=5)
    assert isinstance(kept.images, shapes.Pixels)
    assert isinstance(drawn.images, shapes.Shapes)
    assert np.bincount(drawn.labels).tolist() == [2] * 10
    assert drawn.class_names == CLASS_NAMES
    some = drawn.images.select(np.array([13, 2]))
    assert some.names([0]) == ["shape 13"]
    graph = tf.data.Dataset.range(2).map(some.load)
    assert graph.element_spec == tf.TensorSpec((16, 16, 3), tf.uint8)
    for index, image in enumerate(graph):
        np.testing.assert_array_equal(image, kept.images.array[[13, 2][index]])
        np.testing.assert_array_equal(image, some.read(index))
    assert some.fingerprint() != drawn.images.select(np.array([2, 13])).fingerprint()


@pytest.mark.parametrize("text", ["shapes:", "shapes:9", "shapes:x", "shapes:-20", "shapes:1e4"])
def test_a_wrong_number_of_shapes_is_refused(text):
    with pytest.raises(ValueError, match=rf"data='{text}': .*at least 10"):
        open_source(text, 16, max_corrupt_share=0, progress=False)
