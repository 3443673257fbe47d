import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_archs.training.augmentation import crops


@pytest.fixture(scope="module")
def photo():
    from sklearn.datasets import load_sample_image

    return load_sample_image("flower.jpg")


@pytest.fixture(scope="module")
def encoded(photo):
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def decoded(encoded):
    return np.asarray(Image.open(io.BytesIO(encoded)))


def windows(count, height, width, **ranges):
    def window(seed):
        return crops.random_resized_window(tf.stack([seed, 3]), height, width, **ranges)

    data = tf.data.Dataset.range(count, output_type=tf.int32).map(window, tf.data.AUTOTUNE)
    assert data.element_spec == tf.TensorSpec((4,), tf.int32)
    return np.stack(list(data.as_numpy_iterator()))


def error(ours, reference):
    """Root of the mean square of the difference, in grey levels."""
    return np.sqrt(np.mean((np.asarray(ours, float) - np.asarray(reference, float)) ** 2))


def error_of_a_pixel(image):
    """What being one pixel off would be."""
    return min(error(np.roll(image, shift, axis), image) for axis in (0, 1) for shift in (-1, 1))


def test_random_windows_have_the_distribution_of_szegedy():
    height, width = 375, 500
    drawn = windows(2000, height, width)
    y, x, h, w = drawn.T
    assert (y >= 0).all()
    assert (x >= 0).all()
    assert (y + h <= height).all()
    assert (x + w <= width).all()
    shares, ratios = h * w / (height * width), w / h
    assert 0.079 < shares.min() < 0.09
    assert shares.max() > 0.95
    # By the definition, in numpy: redraw, up to ten times, what does not fit.
    random = np.random.default_rng(0)
    areas = random.uniform(0.08, 1, 40_000) * height * width
    logs = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3), 40_000))
    fits = (np.sqrt(areas * logs) <= width) & (np.sqrt(areas / logs) <= height)
    np.testing.assert_allclose(shares.mean(), areas[fits].mean() / (height * width), atol=0.02)
    np.testing.assert_allclose(np.log(ratios).mean(), np.log(logs[fits]).mean(), atol=0.015)
    assert 0.74 < ratios.min() < ratios.max() < 1.345
    spare = height - h
    np.testing.assert_allclose((y[spare > 50] / spare[spare > 50]).mean(), 0.5, atol=0.025)
    assert len(np.unique(drawn, axis=0)) > 1990


def test_a_window_that_never_fits_is_the_middle_with_the_nearest_ratio():
    assert np.abs(windows(1, 1000, 40)[0] - [474, 0, 53, 40]).max() <= 1
    assert np.abs(windows(1, 40, 1000)[0] - [0, 474, 40, 53]).max() <= 1
    everything = windows(5, 64, 64, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    np.testing.assert_array_equal(everything, [[0, 0, 64, 64]] * 5)
    assert (windows(20, 1, 1)[:, 2:] == 1).all()


def test_decoding_a_window_is_cropping_the_decoded_image(decoded, encoded):
    for y, x, h, w in ((0, 0, 64, 64), (101, 203, 64, 64), (363, 576, 64, 64)):
        ours = crops.decode_window(encoded, [y, x, h, w], 64)
        assert ours.shape == (64, 64, 3)
        difference = np.abs(ours.numpy().astype(int) - decoded[y : y + h, x : x + w])
        # At the border of the decoded blocks, colour is interpolated from what is inside only.
        assert difference[:, 1:-1].max() == 0
        assert difference.max() < 10


def test_the_decoder_shrinks_as_far_as_the_size_allows(decoded, encoded):
    for window, size in (
        ((10, 21, 127, 200), 64),
        ((11, 23, 128, 301), 64),
        ((27, 99, 400, 402), 96),
        ((0, 0, 427, 640), 53),
        ((0, 0, 427, 640), 64),
    ):
        ours = crops.decode_window(encoded, window, size)
        y, x, h, w = window
        ratio = max(ratio for ratio in (1, 2, 4, 8) if min(h, w) // ratio >= size)
        shrunk = {
            r: crops._resize(crops._decode(encoded, tf.constant(window), r), size) for r in (1, 2, 4, 8)
        }
        assert [r for r, pixels in shrunk.items() if np.array_equal(pixels, ours)] == [ratio]
        crop = Image.fromarray(decoded[y : y + h, x : x + w])
        expected = crop.resize((size, size), Image.Resampling.BILINEAR)
        assert error(ours, expected) < error_of_a_pixel(expected) / 1.5


def test_every_corner_of_an_image_can_be_decoded_shrunk(encoded):
    for height, width in ((427, 640), (63, 63), (65, 81)):
        buffer = io.BytesIO()
        Image.open(io.BytesIO(encoded)).crop((0, 0, width, height)).save(buffer, "JPEG")
        for size in (5, 11, 23):
            for h, w in ((height, width), (height - 1, width - 3), (height - 7, width - 5), (47, 46)):
                crops.decode_window(buffer.getvalue(), [height - h, width - w, h, w], size)


def test_grey_jpegs_have_three_channels(decoded):
    buffer = io.BytesIO()
    Image.fromarray(decoded).convert("L").save(buffer, "JPEG")
    image = crops.decode_window(buffer.getvalue(), [5, 6, 70, 80], 32).numpy()
    assert image.shape == (32, 32, 3)
    assert np.ptp(image, axis=-1).max() == 0


def test_cropped_pixels_keep_their_type_and_average(photo):
    window = [40, 60, 240, 320]
    expected = photo[40:280, 60:380].reshape(80, 3, 80, 4, 3).mean(axis=(1, 3))
    ours = crops.crop_pixels(tf.constant(photo), window, 80)
    assert ours.dtype == tf.uint8
    assert np.abs(ours.numpy() - expected).max() <= 0.51
    floats = crops.crop_pixels(tf.constant(photo, tf.float32), window, 80)
    np.testing.assert_allclose(floats, expected, atol=1e-2)
    larger = crops.crop_pixels(tf.constant(photo[..., :1]), [3, 4, 20, 30], 50)
    pillow = Image.fromarray(photo[3:23, 4:34, 0]).resize((50, 50), Image.Resampling.BILINEAR)
    assert larger.shape == (50, 50, 1)
    assert np.abs(larger.numpy()[..., 0].astype(int) - np.asarray(pillow)).max() <= 1


def test_pad_crop_moves_into_zeros_to_all_sides(photo):
    image = tf.constant(photo[:12, :10] | 1)
    places = set()
    data = tf.data.Dataset.range(300, output_type=tf.int32)
    data = data.map(lambda seed: crops.pad_crop(tf.stack([seed, 1]), image, 2), tf.data.AUTOTUNE)
    assert data.element_spec == tf.TensorSpec((12, 10, 3), tf.uint8)
    padded = np.pad(image, [[2, 2], [2, 2], [0, 0]])
    for moved in data.as_numpy_iterator():
        (place,) = (
            (y, x) for y in range(5) for x in range(5) if (moved == padded[y : y + 12, x : x + 10]).all()
        )
        places.add(place)
    assert len(places) == 25


def test_the_same_pixels_whatever_runs_in_parallel(encoded):
    def example(seed):
        window = crops.random_resized_window(tf.stack([seed, 0]), *crops.jpeg_size(encoded))
        return crops.decode_window(encoded, window, 32)

    data = tf.data.Dataset.range(12, output_type=tf.int32)
    parallel = list(data.map(example, 4, deterministic=True).as_numpy_iterator())
    second = list(data.shard(2, 1).map(example).as_numpy_iterator())
    np.testing.assert_array_equal(parallel[1::2], second)


def test_wrong_arguments_are_named():
    seed = tf.constant([1, 2])
    for message, call in {
        "scale=": lambda: crops.random_resized_window(seed, 9, 9, scale=(0.5, 0.1)),
        "scale=.* beyond 1": lambda: crops.random_resized_window(seed, 9, 9, scale=(0.5, 1.1)),
        "ratio=": lambda: crops.random_resized_window(seed, 9, 9, ratio=(0, 1)),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
