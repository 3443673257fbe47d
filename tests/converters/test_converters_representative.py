import numpy as np
import pytest

from converters.representative import batches, read_samples, write_samples

SHAPE = (4, 5, 2)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(70, *SHAPE))


def test_every_kind_of_data_is_written_alike(tmp_path, images):
    kinds = {
        "array": images,
        "list of samples": list(images),
        "generator of batches": (images[i : i + 7] for i in range(0, 70, 7)),
        "pairs": [(images[:50], np.zeros(50)), (images[50:], np.zeros(20))],
    }
    path = tmp_path / "samples"
    written = {kind: write_samples(data, SHAPE, path) for kind, data in kinds.items()}
    assert len(set(written.values())) == 1
    assert written["array"].count == 70
    np.testing.assert_array_equal(read_samples(path, SHAPE), images.astype("float32"))


def test_tf_dataset(tmp_path, images):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((images, np.arange(70))).batch(16)
    assert write_samples(dataset, SHAPE, tmp_path / "a") == write_samples(images, SHAPE, tmp_path / "b")


def test_large_batches_are_cut(images):
    assert [len(batch) for batch in batches(images, SHAPE, "x")] == [32, 32, 6]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_number_is_named_by_its_sample(images, value):
    images[41, 0, 0, 0] = value
    for data in (images, list(images)):
        with pytest.raises(ValueError, match="x holds NaN or infinity in sample 41"):
            list(batches(data, SHAPE, "x"))


def test_wrong_shape_is_named_by_its_sample(images):
    with pytest.raises(
        ValueError, match=r"x: the data at sample 70 has shape \(3, 4, 5, 1\).*\(N, 4, 5, 2\)"
    ):
        list(batches([images, np.zeros((3, 4, 5, 1))], SHAPE, "x"))


def test_what_is_no_data(images):
    for nothing in (images[:0], []):
        with pytest.raises(ValueError, match="x is empty"):
            list(batches(nothing, SHAPE, "x"))
    for wrong in (3, "images", None):
        with pytest.raises(TypeError, match="x is a"):
            list(batches(wrong, SHAPE, "x"))
    with pytest.raises(TypeError, match="numbers are accepted"):
        list(batches(np.zeros((1, *SHAPE), bool), SHAPE, "x"))
    with pytest.raises(TypeError, match="complex"):
        list(batches(np.zeros((1, *SHAPE), complex), SHAPE, "x"))


def test_data_without_a_range_is_refused(images, tmp_path):
    with pytest.raises(ValueError, match="representative_data is 0 everywhere"):
        write_samples(np.zeros_like(images), SHAPE, tmp_path / "x")
