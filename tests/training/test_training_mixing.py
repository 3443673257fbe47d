import numpy as np
import pytest
import tensorflow as tf

from keras_archs.training.augmentation import mixing

SIDE = 20


@pytest.fixture
def batch():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (8, SIDE, SIDE + 4, 3)).astype(np.uint8)
    return images, np.eye(8, dtype=np.float32)


def seeds(count, second=5):
    return tf.stack([tf.range(count), tf.fill([count], second)], axis=1)


def many(count, **alphas):
    """Many pairs of a black and a white image, mixed in a Dataset.map."""
    images = np.zeros((2 * count, SIDE, SIDE, 1), np.uint8)
    images[1::2] = 255
    targets = np.tile(np.eye(2, dtype=np.float32), (count, 1))
    data = tf.data.Dataset.from_tensors((images, targets, seeds(2 * count)))
    ((mixed, new),) = data.map(lambda *parts: mixing.mix_pairs(*parts, **alphas))
    return mixed.numpy(), new.numpy()


def many_draws(alpha, count):
    data = tf.data.Dataset.from_tensor_slices(seeds(count)).map(lambda seed: mixing.draw_beta(seed, alpha))
    return np.array(list(data.as_numpy_iterator()))


def test_beta_has_its_mean_and_variance():
    for alpha in (0.1, 0.2, 1.0, 3.0):
        draws = many_draws(alpha, 2000)
        assert 0 <= draws.min() < 0.2
        variance = 1 / (4 * (2 * alpha + 1))
        np.testing.assert_allclose(draws.mean(), 0.5, atol=4 * np.sqrt(variance / 2000))
        np.testing.assert_allclose(draws.var(), variance, rtol=0.12)
    assert np.isfinite(many_draws(0.001, 200)).all()  # most gammas would be 0 in float32


def test_mixup_mixes_pixels_and_targets_by_one_lambda():
    mixed, targets = many(500, mixup_alpha=0.4)
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    keep = targets[::2, 0]
    np.testing.assert_allclose(targets[1::2, 1], keep)  # the same for both of a pair
    expected = np.broadcast_to(255 * (1 - keep)[:, None, None, None], mixed[::2].shape)
    np.testing.assert_allclose(mixed[::2], expected, atol=1e-3)
    np.testing.assert_allclose(mixed[1::2], 255 - mixed[::2], atol=1e-3)
    np.testing.assert_allclose(keep.mean(), 0.5, atol=0.07)
    np.testing.assert_allclose(keep.var(), 1 / (4 * 1.8), rtol=0.2)


def test_cutmix_counts_every_pixel(batch):
    images, targets = batch
    for second in range(10):
        mixed, new = mixing.mix_pairs(images, targets, seeds(8, second), cutmix_alpha=1.0)
        partner = images[[1, 0, 3, 2, 5, 4, 7, 6]]
        own = (mixed.numpy() == images).all(axis=-1)
        assert (own | (mixed.numpy() == partner).all(axis=-1)).all()
        np.testing.assert_array_equal(own[::2], own[1::2])
        np.testing.assert_allclose(new.numpy().diagonal(), own.mean(axis=(1, 2)), atol=1e-6)
        np.testing.assert_allclose(new.numpy().sum(axis=1), 1, atol=1e-6)
        for mask in ~own:  # a rectangle
            rows, columns = mask.any(axis=1), mask.any(axis=0)
            np.testing.assert_array_equal(mask, rows[:, None] & columns)
            assert np.abs(np.diff(np.pad(rows, 1).astype(int))).sum() in (0, 2)


def test_cutmix_cuts_the_drawn_share_anywhere():
    mixed, targets = many(1000, cutmix_alpha=1.0)
    mask = mixed[::2, ..., 0] == 255
    # By the definition, in numpy: a box of sides sqrt(1 - lambda), cut off at the border.
    random = np.random.default_rng(0)
    length = (SIDE * np.sqrt(random.uniform(size=(20_000, 1)))).astype(int)
    start = random.integers(0, SIDE, (20_000, 2)) - length // 2
    sides = np.minimum(start + length, SIDE) - np.maximum(start, 0)
    np.testing.assert_allclose(mask.mean(), (sides.prod(axis=1) / SIDE**2).mean(), atol=0.03)
    by_place = mask.mean(axis=0)
    np.testing.assert_allclose(by_place, by_place[::-1], atol=0.08)
    np.testing.assert_allclose(by_place, by_place.T, atol=0.08)
    np.testing.assert_allclose(targets[::2, 1], mask.mean(axis=(1, 2)), atol=1e-6)


def test_both_take_turns():
    for probability in (0.0, 0.25, 1.0):
        mixed, _ = many(300, mixup_alpha=1.0, cutmix_alpha=1.0, switch_probability=probability)
        cut = np.isin(mixed[::2], (0, 255)).all(axis=(1, 2, 3)).mean()
        np.testing.assert_allclose(cut, probability, atol=0.08 if 0 < probability < 1 else 0)


def test_the_rest_of_the_batch_does_not_matter(batch):
    images, targets = batch
    options = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0}
    whole = mixing.mix_pairs(images, targets, seeds(8), **options)
    for start in (0, 4):
        part = slice(start, start + 4)
        half = mixing.mix_pairs(images[part], targets[part], seeds(8)[part], **options)
        np.testing.assert_array_equal(half[0], whole[0][part])
        np.testing.assert_array_equal(half[1], whole[1][part])
    assert not np.array_equal(mixing.mix_pairs(images, targets, seeds(8, 6), **options)[1], whole[1])


def test_without_alphas_nothing_changes(batch):
    images, targets = batch
    mixed, new = mixing.mix_pairs(images, targets, seeds(8))
    assert mixed.dtype == tf.float32
    np.testing.assert_array_equal(mixed, images)
    np.testing.assert_array_equal(new, targets)


def test_shapes_are_static_and_may_be_unknown(batch):
    images, targets = batch
    options = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0}
    for drop, count in ((True, 8), (False, None)):
        data = tf.data.Dataset.from_tensor_slices((images, targets, seeds(8))).batch(8, drop_remainder=drop)
        data = data.map(lambda *parts: mixing.mix_pairs(*parts, **options), tf.data.AUTOTUNE)
        assert data.element_spec[0].shape.as_list() == [count, *images.shape[1:]]
        assert data.element_spec[1].shape.as_list() == [count, 8]
        ((mixed, _),) = data
        np.testing.assert_array_equal(mixed, mixing.mix_pairs(images, targets, seeds(8), **options)[0])


def test_wrong_arguments_are_named(batch):
    images, targets = batch
    for message, count, options in (
        ("a batch of 7 has no pairs", 7, {"mixup_alpha": 1.0}),
        ("mixup_alpha=-1", 8, {"mixup_alpha": -1}),
        ("cutmix_alpha=-0.5", 8, {"cutmix_alpha": -0.5}),
        ("switch_probability=2", 8, {"switch_probability": 2}),
    ):
        with pytest.raises(ValueError, match=message):
            mixing.mix_pairs(images[:count], targets[:count], seeds(count), **options)
