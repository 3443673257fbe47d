import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_archs import preprocess_input
from keras_archs.modes import MODES
from keras_archs.training import TrainConfig
from keras_archs.training.augmentation import crops
from keras_archs.training.images import ORIENTATION, DamagedImageError, read_image
from keras_archs.training.order import epoch_order
from keras_archs.training.pipeline import (
    Part,
    evaluation_batches,
    preprocess,
    read_square,
    training_batches,
)
from keras_archs.training.reading import Pixels, Source, open_source

# All but the policies, which take long to build; test_training_policies.py has what their seeds decide.
ALL = {
    "crop": "random_resized", "flip": True, "jitter": 0.3, "erasing": 0.5, "mixup": 0.4, "cutmix": 1.0,
}  # fmt: skip
NONE = {"similarity": False}
EPOCH = 3  # steps of 8 images: two of the 26 are left


@pytest.fixture(autouse=True)
def clean_state():
    """In place of the one of all tests, which takes longer than most of these: there is no network here."""


def source_of(count=26, size=12):
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype(np.uint8)
    pixels[:, 0, 0, 0] = np.arange(count)  # their number, to be read where nothing is changed
    return Source(Pixels(pixels), np.arange(count, dtype=np.int32) ** 2 % 3, ("a", "b", "c"))


SOURCE = source_of()


def steps_of(augment, steps, source=SOURCE, *, first=(0, 0), size=8, workers=1, replicas=1, seed=0, **data):
    """The images and labels of some global steps, put together from what each worker's pipeline gives."""
    values = {"augment": augment, "data": data, "run": {"batch_size": 8, "seed": seed}}
    config = TrainConfig.from_dict(values)
    pipelines = []
    for worker in range(workers):
        batches = training_batches(
            source, config, mode="raw", size=size, first_epoch=first[0], first_step=first[1],
            part=Part(8, worker, workers, replicas),
        )  # fmt: skip
        pipelines.append(batches.take(steps * replicas).as_numpy_iterator())
    rows = [next(pipeline) for _ in range(steps) for pipeline in pipelines for _ in range(replicas)]
    assert {len(images) for images, _ in rows} == {8 // workers // replicas}
    images, labels = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    return images.reshape(steps, 8, size, size, 3), labels.reshape(steps, 8, *labels.shape[1:])


@pytest.fixture(scope="module")
def reference():
    """Some more than two epochs on one device."""
    return steps_of(ALL, 2 * EPOCH + 1)


@pytest.mark.parametrize(("workers", "replicas"), [(2, 2), (4, 1)])
def test_any_number_of_workers_and_replicas_sees_the_same_steps(reference, workers, replicas):
    images, targets = steps_of(ALL, EPOCH + 1, workers=workers, replicas=replicas)
    np.testing.assert_array_equal(images, reference[0][: EPOCH + 1])
    np.testing.assert_array_equal(targets, reference[1][: EPOCH + 1])


def test_a_restart_on_two_workers_goes_on_with_the_step_that_would_have_come(reference):
    images, targets = steps_of(ALL, 3, first=(1, 1), workers=2)
    np.testing.assert_array_equal(images, reference[0][EPOCH + 1 : EPOCH + 4])
    np.testing.assert_array_equal(targets, reference[1][EPOCH + 1 : EPOCH + 4])


def test_other_seeds_and_epochs_give_other_images(reference):
    images, targets = steps_of(ALL, EPOCH, seed=1)
    for other, of in ((images, reference[0]), (targets, reference[1])):
        assert not np.array_equal(other, of[:EPOCH])
        assert not np.array_equal(of[:EPOCH], of[EPOCH : 2 * EPOCH])
    assert len(np.unique(reference[0].reshape(-1, 8 * 8 * 3), axis=0)) == 8 * (2 * EPOCH + 1)


@pytest.mark.parametrize("values", [{}, {"balanced": True}, {"repeats": 2}])
def test_images_and_labels_come_in_the_order_of_the_epoch(values):
    images, labels = steps_of(NONE, 2 * EPOCH, size=12, seed=5, **values)
    order = [epoch_order(SOURCE.labels, epoch, seed=5, batch_size=8, **values) for epoch in (0, 1)]
    np.testing.assert_array_equal(images[:, :, 0, 0, 0].reshape(-1), np.concatenate(order))
    np.testing.assert_array_equal(images.reshape(-1, 12, 12, 3), SOURCE.images.array[np.concatenate(order)])
    np.testing.assert_array_equal(labels.reshape(-1), SOURCE.labels[np.concatenate(order)])


@pytest.mark.parametrize("augment", [{**NONE, "crop": "random_resized"}, {"similarity": True}])
def test_seed_epoch_and_place_decide_the_changes(augment):
    pixels = np.repeat(source_of(1, 48).images.array, 8, axis=0)
    same = Source(Pixels(pixels), np.arange(8, dtype=np.int32), tuple("abcdefgh"))
    images = np.stack([steps_of(augment, 3, same, seed=seed, repeats=4, size=48)[0] for seed in (0, 1)])
    assert len(np.unique(images.reshape(2 * 3 * 8, -1), axis=0)) == 2 * 3 * 8


def test_mixing_does_not_depend_on_the_crop():
    """Mixup and cutmix once took the crop's seed: small crops were always cut, large ones always mixed."""
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    pixels = np.broadcast_to(np.stack(np.broadcast_arrays(ramp[:, None], ramp, 0), -1), (256, 32, 32, 3))
    source = Source(Pixels(pixels), np.arange(256, dtype=np.int32), tuple(map(str, range(256))))
    augment = {**NONE, "crop": "random_resized", "ratio": [1, 1]}
    cropped, _ = steps_of(augment, 32, source, size=8)
    _, targets = steps_of({**augment, "mixup": 1e4, "cutmix": 1e-2}, 32, source, size=8)
    sides = np.ptp(cropped, axis=(2, 3))[..., 0].reshape(-1, 2)[:, 0]
    largest = targets.max(-1).reshape(-1, 2)[:, 0]
    mixed = np.abs(largest - 0.5) < 0.05
    assert 40 < mixed.sum() < 88  # of 128 pairs
    assert abs(np.corrcoef(sides**2, mixed)[0, 1]) < 0.3


@pytest.mark.parametrize(("workers", "replicas"), [(1, 1), (2, 2)])
def test_an_evaluation_sees_each_image_once_and_pads_with_weight_0(workers, replicas):
    config = TrainConfig.from_dict({"data": {"image_size": 16, "eval_size": 12}})
    source = source_of(21)
    parts = []
    for worker in range(workers):
        part = Part(8, worker, workers, replicas)
        rows = evaluation_batches(source, config, mode="raw", part=part).as_numpy_iterator()
        images, labels, weights = (np.concatenate(found) for found in zip(*rows, strict=True))
        parts.append((images.reshape(3, -1, 12, 12, 3), labels.reshape(3, -1), weights.reshape(3, -1)))
    images, labels, weights = (np.concatenate(found, axis=1) for found in zip(*parts, strict=True))
    assert weights.reshape(-1).tolist() == [1] * 21 + [0] * 3
    np.testing.assert_array_equal(images.reshape(24, 12, 12, 3)[:21], source.images.array)
    np.testing.assert_array_equal(labels.reshape(-1)[:21], source.labels)


def test_preprocessing_equals_preprocess_input_in_every_mode():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)
    dataset = tf.data.Dataset.from_tensors(pixels)
    [found] = dataset.map(lambda x: {mode: preprocess(x, mode) for mode in MODES}).as_numpy_iterator()
    for mode in MODES:
        assert found[mode].dtype == np.float32
        np.testing.assert_allclose(found[mode], preprocess_input(pixels, mode), rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eight square images of different kinds, as a folder."""
    folder = tmp_path_factory.mktemp("photos")
    x, y = np.meshgrid(np.linspace(0, 255, 48), np.linspace(0, 255, 48))
    photo = Image.fromarray(np.stack([x, y, 255 - (x + y) / 2], -1).astype(np.uint8))
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    for name in ("a", "b"):
        (folder / name).mkdir()
        photo.save(folder / name / "0_plain.jpg", quality=95)
        photo.convert("L").save(folder / name / "1_grey.jpg", quality=95)
        photo.save(folder / name / "2_turned.jpg", quality=95, exif=turned)
        photo.convert("CMYK").save(folder / name / "3_cmyk.jpg", quality=95)
    photo.save(folder / "a" / "4.png")
    return open_source(str(folder), 16, max_corrupt_share=0, progress=False)


def with_plain(source, plain):
    return dataclasses.replace(source, images=dataclasses.replace(source.images, plain=plain))


def test_every_kind_of_file_is_cut_from_the_pixels_that_pillow_reads(photos):
    whole = {**NONE, "crop": "random_resized", "scale": [1, 1], "ratio": [1, 1]}
    images, _ = steps_of(whole, 1, photos, size=16)
    order = epoch_order(photos.labels, 0, seed=0, batch_size=8)
    for number, image in zip(order, images[0], strict=True):
        [path] = photos.images.names([number])
        expected = crops.crop_pixels(tf.constant(read_image(path)), (0, 0, 48, 48), 16).numpy()
        limit = 2 if photos.images.plain[number] else 0
        assert np.abs(image - expected).max() <= limit, path


def test_the_fused_path_gives_nearly_the_pixels_of_the_slow_one(photos):
    augment = {**NONE, "crop": "random_resized"}
    plain = photos.images.plain
    assert plain.sum() == 4
    fused, _ = steps_of(augment, 2, photos, size=16)
    slow, _ = steps_of(augment, 2, with_plain(photos, np.zeros_like(plain)), size=16)
    order = np.concatenate([epoch_order(photos.labels, epoch, seed=0, batch_size=8) for epoch in (0, 1)])
    is_plain = plain[order].reshape(2, 8)
    assert np.abs(fused - slow)[is_plain].max() <= 12
    assert np.abs(fused - slow)[is_plain].mean() < 2
    np.testing.assert_array_equal(fused[~is_plain], slow[~is_plain])
    # The flag decides: TensorFlow's decoder does not turn what EXIF data says is turned.
    turned = np.array(["turned" in path for path in photos.images.paths])
    wrong, _ = steps_of(augment, 2, with_plain(photos, plain | turned), size=16)
    is_turned = turned[order].reshape(2, 8)
    assert np.abs(wrong - slow)[is_turned].mean() > 20


def test_an_image_that_pillow_cannot_decode_is_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (9, 9)).save(tmp_path / name / f"{number}.png")
    source = open_source(str(tmp_path), 8, max_corrupt_share=0, progress=False)
    (tmp_path / "b" / "0.png").write_bytes(b"")
    with pytest.raises(DamagedImageError, match=r"b/0.png: empty file"):
        read_square(source.images, 4, 8, 1.0)
    for crop in ("random_resized", "pad"):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"b/0.png: empty file"):
            steps_of({**NONE, "crop": crop}, 1, source)
