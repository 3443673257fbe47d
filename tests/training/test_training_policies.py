import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from keras_archs.training.augmentation import operations, policies, similarity
from keras_archs.training.augmentation.seeds import fold

ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}


@pytest.fixture(scope="module")
def photo():
    from sklearn.datasets import load_sample_image

    image = load_sample_image("china.jpg")[150:214, 260:340].copy()
    image[0, 0] = 255
    return image


@pytest.fixture(scope="module")
def dull(photo):
    """Few values, one channel of one value, so that what stretches has something to do."""
    image = photo // 3 + 40
    image[..., 1] = 77
    return image


@pytest.fixture(scope="module")
def smooth():
    """A picture in which interpolation can err by little: waves of 40 pixels."""
    y, x = np.mgrid[:61, :80]
    waves = [127 + 100 * np.sin((x * a + y * b) * 2 * np.pi / 40) for a, b in ((1, 0), (0, 1), (0.7, 0.7))]
    return np.stack(waves, axis=-1).astype(np.uint8)


def seeds(count):
    return tf.stack([tf.range(count), tf.range(count) * 7], axis=1)


def run(policy, image, count):
    """The results of one policy for many seeds, in a Dataset.map in parallel."""
    data = tf.data.Dataset.from_tensor_slices(seeds(count)).map(
        lambda seed: policy(seed, tf.constant(image)), tf.data.AUTOTUNE
    )
    assert data.element_spec.shape == image.shape
    return np.stack(list(data.as_numpy_iterator()))


def check_pixels(ours, pillow, tolerance):
    assert ours.dtype == tf.uint8
    difference = np.abs(ours.numpy().astype(int) - np.asarray(pillow)).max()
    assert difference <= tolerance


def test_colour_operations_are_pillows(photo, dull):
    for image in (photo, dull):
        pillow, ours = Image.fromarray(image), tf.constant(image)
        for name, enhancer in ENHANCERS.items():
            for strength in (-1.0, -0.9, -0.37, 0.0, 0.5, 0.99):
                expected = enhancer(pillow).enhance(1 + strength)
                check_pixels(
                    getattr(operations, name)(ours, strength), expected, tolerance=int(strength != 0)
                )
        check_pixels(operations.autocontrast(ours, 0.0), ImageOps.autocontrast(pillow), tolerance=1)
        check_pixels(operations.equalize(ours, 0.0), ImageOps.equalize(pillow), tolerance=0)
        check_pixels(operations.invert(ours, 0.0), ImageOps.invert(pillow), tolerance=0)
        for bits in (1, 2, 4, 8):
            expected = ImageOps.posterize(pillow, bits)
            check_pixels(operations.posterize(ours, 8 - bits + 0.7), expected, tolerance=0)
        for threshold in (0, 100, 255, 256):
            expected = ImageOps.solarize(pillow, threshold)
            check_pixels(operations.solarize(ours, float(threshold)), expected, tolerance=0)
    assert not operations.posterize(photo, 8.0).numpy().any()


def test_solarize_add_brightens_the_dark_half():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    expected = np.where(ramp < 128, ramp + 110, ramp)
    np.testing.assert_array_equal(operations.solarize_add(ramp, 110.9), expected)


def check_moved(ours, smooth, move):
    """Equal to Pillow's but for the border with the fill, which is hard there and soft here."""
    whole = np.asarray(move(Image.fromarray(np.full_like(smooth, 255))).filter(ImageFilter.MinFilter(5)))
    inside = whole == 255
    assert inside.mean() > 0.2
    np.testing.assert_allclose(
        ours.numpy()[inside].astype(int), np.asarray(move(Image.fromarray(smooth)))[inside], atol=1
    )
    outside = (
        np.asarray(move(Image.fromarray(np.full_like(smooth, 255))).filter(ImageFilter.MaxFilter(5))) == 0
    )
    assert outside.sum() > 100
    assert (ours.numpy()[outside] == 128).all()


def test_rotations_and_shears_are_pillows(smooth):
    bilinear = Image.Resampling.BILINEAR
    for angle in (-135.0, 17.0):
        ours = operations.rotate(smooth, angle, 128.0)
        check_moved(ours, smooth, lambda image, angle=angle: image.rotate(angle, bilinear))
    for strength in (-0.99, 0.3):
        for shear, matrix in (
            (operations.shear_x, (1, strength, 0, 0, 1, 0)),
            (operations.shear_y, (1, 0, 0, strength, 1, 0)),
        ):
            ours = shear(smooth, strength, 128.0)
            check_moved(
                ours,
                smooth,
                lambda image, m=matrix: image.transform(image.size, Image.Transform.AFFINE, m, bilinear),
            )


def test_translations_move_by_whole_pixels(photo):
    height, width = photo.shape[:2]
    assert height != width
    turned = photo.transpose(1, 0, 2)
    for pixels in (-3.9, 0.0, 5.0, 400.0):
        steps = int(pixels)
        expected = np.full_like(photo, 128)
        if abs(steps) < width:
            left = max(-steps, 0)
            expected[:, max(steps, 0) : width + min(steps, 0)] = photo[:, left : width - max(steps, 0)]
        for image, result, move, move_share in (
            (photo, expected, operations.translate_x, operations.translate_x_share),
            (turned, expected.transpose(1, 0, 2), operations.translate_y, operations.translate_y_share),
        ):
            np.testing.assert_array_equal(move(image, pixels, 128.0), result)
            np.testing.assert_array_equal(move_share(image, pixels / width * 1.001, 128.0), result)


def results_of_rows(table, image, levels):
    """Each row's image at each level and sign, and the names of the rows."""
    names, images = [], []
    for name, op in table.items():
        for level in levels if op.mildest != op.strongest else levels[:1]:
            for sign in (1, -1) if op.signed else (1,):
                strength = sign * (op.mildest + (op.strongest - op.mildest) * level)
                names.append(name)
                images.append(op.function(tf.constant(image), tf.constant(strength, tf.float32)).numpy())
    return np.array(names), np.stack(images).astype(int)


def nearest_row(images, result):
    """The row that made an image; float rounding of its strength may have moved a value or two."""
    differences = np.abs(images - result).mean(axis=(1, 2, 3))
    assert differences.min() < 0.02
    return differences.argmin()


def test_trivial_augment_applies_one_row_of_its_table(photo, monkeypatch):
    monkeypatch.setattr(policies, "TRIVIAL_BINS", 5)
    small = photo[:20, :24] // 2 + 30
    names, images = results_of_rows(policies.TRIVIAL_OPS, small, np.linspace(0, 1, 5))
    rows = [nearest_row(images, result) for result in run(policies.trivial_augment, small, 500)]
    # Strength 0 is the same image in both signs and many operations.
    different = len(np.unique(images, axis=0))
    assert 0.85 * different < len(set(rows)) <= different
    found = [names[row] for row in rows]
    assert set(found) == set(policies.TRIVIAL_OPS)
    assert all(12 < found.count(name) < 75 for name in set(found) - {"identity"})  # 500 / 14 = 36


def test_rand_augment_draws_magnitude_and_operations_for_each_layer(photo):
    small = photo[:20, :24] // 2 + 30
    names, images = results_of_rows(policies.RAND_OPS, small, [0.7])
    once = run(lambda seed, image: policies.rand_augment(seed, image, 1, 7.0, 0.0, 1.0), small, 200)
    rows = [nearest_row(images, result) for result in once]
    assert set(rows) == set(range(len(names)))  # each operation, with both signs
    default = run(policies.rand_augment, small, 100)
    unchanged = (default == small).all(axis=(1, 2, 3)).mean()
    assert 0.1 < unchanged < 0.4  # both of two layers left out: a quarter
    assert len(np.unique(default, axis=0)) > 60


def test_policies_take_floats_and_round_them(photo):
    image = (photo + np.float32(0.4)).clip(0, 255)
    changed = {
        "flip": policies.flip,
        "rand": lambda seed, image: policies.rand_augment(seed, image, layers=1),
        "trivial": policies.trivial_augment,
        "erasing": lambda seed, image: policies.random_erasing(seed, image, 1.0),
        "jitter": lambda seed, image: policies.color_jitter(seed, image, 0.4),
    }
    data = tf.data.Dataset.from_tensors(image).map(
        lambda image: {name: policy(tf.constant([1, 2]), image) for name, policy in changed.items()}
    )
    assert set(data.element_spec.values()) == {tf.TensorSpec(photo.shape, tf.float32)}
    (results,) = data.as_numpy_iterator()
    for name in ("rand", "trivial", "jitter"):
        np.testing.assert_array_equal(results[name], results[name].round())
        np.testing.assert_array_equal(results[name], changed[name](tf.constant([1, 2]), photo))


def test_a_flip_mirrors_half_of_the_images(photo):
    flipped = run(policies.flip, photo, 200)
    mirrored = (flipped == photo[:, ::-1]).all(axis=(1, 2, 3))
    assert (mirrored ^ (flipped == photo).all(axis=(1, 2, 3))).all()
    assert 70 < mirrored.sum() < 130


def test_random_erasing_overwrites_a_rectangle_of_the_drawn_area():
    image = np.full((64, 80, 3), 7, np.uint8)
    erased = run(lambda seed, one: policies.random_erasing(seed, one, 0.5), image, 200)
    changed = (erased != image).any(axis=-1)
    touched = changed.any(axis=(1, 2))
    assert 70 < touched.sum() < 130
    shares, ratios = [], []
    for mask in changed[touched]:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.mean() > 0.99  # noise may equal what was there
        shares.append(box.size / mask.size)
        ratios.append(len(rows) / len(columns))
    assert 0.015 < min(shares) < 0.06
    assert 0.27 < max(shares) < 0.345
    assert 0.25 < min(ratios) < 0.4
    assert 2.5 < max(ratios) < 4
    inside = erased[touched][changed[touched]]
    np.testing.assert_allclose(inside.mean(axis=0), policies.IMAGENET_MEAN, atol=2)
    assert (inside.std(axis=0) > 50).all()
    mean = policies.random_erasing(tf.constant([1, 2]), image.astype(np.float32), 1.0, fill="mean").numpy()
    inside = mean[(mean != image).any(axis=-1)]
    assert len(inside) > 0.02 * 64 * 80
    np.testing.assert_allclose(inside, np.broadcast_to(policies.IMAGENET_MEAN, inside.shape), rtol=1e-6)


def test_color_jitter_changes_what_it_is_told_to(photo):
    measures = {
        "brightness": (operations.brightness, np.mean),
        "contrast": (operations.contrast, np.std),
        "saturation": (operations.color, lambda image: np.ptp(image, axis=-1).mean()),
    }
    assert (run(policies.color_jitter, photo, 2) == photo).all()
    for name, (op, measure) in measures.items():
        jittered = run(lambda seed, image, k=name: policies.color_jitter(seed, image, **{k: 0.4}), photo, 40)
        low, high = (measure(op(photo, strength).numpy()) for strength in (-0.4, 0.4))
        measured = np.array([measure(image) for image in jittered])
        assert low < measured.min() < low + 0.2 * (high - low)
        assert high > measured.max() > high - 0.2 * (high - low)


def test_color_jitter_takes_turns_in_who_comes_first(photo, monkeypatch):
    monkeypatch.setattr(operations, "brightness", lambda image, strength: image // 2)
    monkeypatch.setattr(operations, "contrast", lambda image, strength: image + 10)
    monkeypatch.setattr(operations, "color", lambda image, strength: image * 3)
    out = run(
        lambda seed, image: policies.color_jitter(seed, image, 1.0, 1.0, 1.0), photo[:1, :1] * 0 + 4, 60
    )
    # All six orders of halving, adding ten and tripling.
    assert set(out[:, 0, 0, 0]) == {
        (4 // 2 + 10) * 3,
        4 // 2 * 3 + 10,
        (4 + 10) // 2 * 3,
        (4 + 10) * 3 // 2,
        4 * 3 // 2 + 10,
        (4 * 3 + 10) // 2,
    }


def test_the_seed_alone_decides(photo):
    @tf.function(input_signature=[tf.TensorSpec((2,), tf.int32), tf.TensorSpec(photo.shape, tf.uint8)])
    def all_of_it(seed, image):
        image = policies.flip(fold(seed, 0), image)
        image = policies.trivial_augment(fold(seed, 1), image)
        image = policies.rand_augment(fold(seed, 2), image, layers=1)
        image = policies.random_erasing(fold(seed, 3), image, 0.5)
        return policies.color_jitter(fold(seed, 4), image, 0.4, 0.4, 0.4)

    together = run(all_of_it, photo, 12)
    alone = tf.data.Dataset.from_tensor_slices(seeds(12)).shard(3, 1).map(lambda seed: all_of_it(seed, photo))
    np.testing.assert_array_equal(together[1::3], np.stack(list(alone.as_numpy_iterator())))
    assert len({image.tobytes() for image in together}) == 12


def test_folded_seeds_differ():
    seed = tf.constant([3, 4])
    folded = {tuple(fold(seed, use).numpy()) for use in range(50)} | {
        tuple(fold(fold(seed, 0), 0).numpy()),
        (3, 4),
    }
    assert len(folded) == 52


def test_similarity_moves_each_image_about_its_centre(smooth, monkeypatch):
    draws = np.random.default_rng(0).uniform(-1, 1, (8, 4)).astype(np.float32)

    def move(image, count=8):
        return similarity.similarity(draws[:count], np.stack([image] * count)).numpy()

    moved = move(smooth)
    assert moved.dtype == np.float32
    assert len({image.tobytes() for image in moved}) == 8
    monkeypatch.setattr(similarity, "SHIFT", 0.0)
    turned = move(smooth[:, :79])
    np.testing.assert_allclose(turned[:, 30, 39], np.broadcast_to(smooth[30, 39], (8, 3)), atol=0.1)
    for name in ("ANGLE", "ZOOM"):
        monkeypatch.setattr(similarity, name, 0.0)
    np.testing.assert_allclose(move(smooth, 1)[0], smooth, atol=1e-3)


def test_wrong_arguments_are_named(photo):
    seed = tf.constant([1, 2])
    for message, call in {
        "magnitude=11.0 must be from 0 to 10": lambda: policies.rand_augment(seed, photo, magnitude=11.0),
        "probability=1.5": lambda: policies.rand_augment(seed, photo, probability=1.5),
        "Did you mean 'noise'": lambda: policies.random_erasing(seed, photo, 0.5, fill="noize"),
        "probability=-0.5": lambda: policies.random_erasing(seed, photo, -0.5),
        "scale=": lambda: policies.random_erasing(seed, photo, 0.5, scale=(0.5, 0.1)),
        "ratio=": lambda: policies.random_erasing(seed, photo, 0.5, ratio=(0, 1)),
        "contrast=-0.1": lambda: policies.color_jitter(seed, photo, contrast=-0.1),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
