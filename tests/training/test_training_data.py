import csv
import dataclasses
import logging
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from training_helpers import write_images

from keras_archs.preprocessing import preprocess_input
from keras_archs.training import TrainConfig, data, load_data
from keras_archs.training.data import SPLITS, in_memory, load_whole, note_damage, read_damaged
from keras_archs.training.images import DamagedImageError
from keras_archs.training.pipeline import Part
from keras_archs.training.reading import Pixels, scan


@pytest.fixture(autouse=True)
def clean_state():
    """In place of the one of all tests, which takes longer than most of these: there is no network here."""


def config_for(folder, **values):
    base = {
        "data.source": str(folder),
        "data.image_size": 8,
        "run.batch_size": 4,
        "augment.similarity": False,
    }
    return TrainConfig().replaced({**base, **values})


def split_of(folder, **values):
    return load_data(config_for(folder, **values), progress=False)


def paths(splits):
    return {name: splits.split(name).images.paths.tolist() for name in SPLITS}


def test_splits_hold_each_class_by_its_share_and_share_no_image(tmp_path):
    write_images(tmp_path / "p", count=20)
    write_images(tmp_path / "p", count=7, classes=("blue",))
    splits = split_of(tmp_path / "p")
    found = paths(splits)
    assert len({path for split in found.values() for path in split}) == 47
    assert sum(map(len, found.values())) == 47
    by_class = {name: np.bincount(splits.labels(name)).tolist() for name in SPLITS}
    assert by_class == {"train": [4, 13, 13], "validation": [1, 2, 2], "test": [2, 5, 5]}
    for name in SPLITS:
        for path, label in zip(found[name], splits.labels(name), strict=True):
            assert path.startswith(splits.class_names[label])
    # A front of a split is a sample: the classes are mixed.
    assert len(set(splits.labels("train")[:10].tolist())) > 1


def test_the_seed_decides_the_split_and_the_model_does_not(photos):
    first = paths(split_of(photos, **{"run.seed": 1}))
    assert paths(split_of(photos, **{"run.seed": 1, "model.name": "xception", "run.epochs": 3})) == first
    assert set(paths(split_of(photos, **{"run.seed": 2}))["test"]) != set(first["test"])


def test_a_class_too_small_to_be_split(photos):
    write_images(photos, count=2, classes=("blue",))
    with pytest.raises(
        ValueError, match=r"class 'blue' of data.source=.* has 2 usable images: with 1 for the "
    ):
        split_of(photos)
    assert np.bincount(split_of(photos, **{"data.test_share": 0}).labels("train"))[0] == 1
    write_images(photos / "more", count=3, classes=("blue",))
    shutil.move(photos / "more" / "blue" / "02.png", photos / "blue" / "02.png")
    shutil.rmtree(photos / "more")
    assert np.bincount(split_of(photos).labels("train"))[0] == 1


def test_damage_may_leave_a_class_too_small(photos):
    for path in sorted((photos / "red").iterdir())[2:]:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"class 'red' .* has 2 usable images"):
        split_of(photos, **{"data.max_corrupt_share": 0.5})


def test_a_class_of_a_list_may_have_no_image(photos, caplog):
    with open(photos / "list.csv", "w", newline="") as file:
        rows = [(f"{name}/{i:02d}.png", 1 + (name == "red")) for name in ("green", "red") for i in range(12)]
        csv.writer(file).writerows([("path", "label"), *rows])
    with caplog.at_level(logging.WARNING):
        splits = split_of(photos / "list.csv")
    assert "1 classes have no image" in caplog.text
    assert splits.class_names == ("0", "1", "2")
    assert np.bincount(splits.labels("test"), minlength=3).tolist() == [0, 3, 3]


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (("train", "val", "test"), [24, 10, 10]),
        (("train", "test"), [22, 2, 10]),  # a tenth of the training images
        (("train", "validation"), [24, 10, 10]),  # the validation gives the reported accuracy, too
    ],
)
def test_folders_that_come_split(tmp_path, names, sizes):
    for name in names:
        write_images(tmp_path / name, count=12 if name == "train" else 5)
    splits = split_of(tmp_path)
    assert [len(splits.split(name)) for name in SPLITS] == sizes
    found = paths(splits)
    assert all(path.startswith("train/") for path in found["train"])
    assert all(path.startswith("train/" if "test" in names[1] else "val") for path in found["validation"])
    assert not set(found["train"]) & set(found["validation"])
    assert (splits.test is splits.validation) == ("test" not in names)
    assert np.bincount(splits.labels("validation")).tolist() == [sizes[1] // 2] * 2


def test_validation_and_test_from_other_sources(photos, tmp_path):
    write_images(tmp_path / "v", count=5)
    write_images(tmp_path / "t", count=4)
    (tmp_path / "t" / "red" / "zero.png").write_bytes(b"")
    values = {"data.validation": str(tmp_path / "v"), "data.max_corrupt_share": 0.2}
    splits = split_of(photos, **values)
    assert [len(splits.split(name)) for name in SPLITS] == [24, 10, 10]
    assert splits.test is splits.validation
    splits = split_of(photos, **values, **{"data.test": str(tmp_path / "t")})
    assert [len(splits.split(name)) for name in SPLITS] == [24, 10, 8]
    [line] = splits.skipped
    assert line.endswith("zero.png: empty file")
    splits = split_of(photos, **{"data.test": str(tmp_path / "t"), "data.max_corrupt_share": 0.2})
    assert [len(splits.split(name)) for name in SPLITS] == [22, 2, 8]


@pytest.mark.parametrize("name", ["validation", "test"])
def test_another_source_must_have_the_same_classes(photos, tmp_path, name):
    write_images(tmp_path / "other", classes=("blue", "green"))
    with pytest.raises(
        ValueError,
        match=f"data.{name}='.*other' has the classes blue, green, but data.source=.* has green, red",
    ):
        split_of(photos, **{f"data.{name}": str(tmp_path / "other")})


@pytest.mark.parametrize("model", ["resnet20", "xception", "resnet50"])
def test_arrays_and_pipeline_are_preprocessed_as_the_model_wants(photos, model):
    splits = in_memory(split_of(photos, **{"model.name": model}), False)
    [(piped, labels)] = splits.dataset("test").as_numpy_iterator()
    np.testing.assert_allclose(piped, preprocess_input(splits.test.images.array, model), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(labels, splits.labels("test"))
    np.testing.assert_allclose(splits.images("test"), piped, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(splits.images("test", 2), splits.images("test")[:2])


def test_a_dataset_has_each_image_once_in_batches_of_64(monkeypatch):
    splits = load_data(TrainConfig.from_dict({"data": {"image_size": 8}}))
    sizes = [len(labels) for _, labels in splits.dataset("validation").as_numpy_iterator()]
    assert sizes == [64, 64, len(splits.validation) - 128]
    assert [len(splits.split(name)) for name in SPLITS] == pytest.approx([1168, 180, 449], abs=5)


def test_images_in_memory_are_those_that_are_read_again_and_again(photos, monkeypatch):
    config = {"data.eval_size": 12, "data.crop_share": 0.75}
    streamed = split_of(photos, **config)
    cached = in_memory(streamed, False)
    assert isinstance(cached.train.images, Pixels)
    assert cached.train.images.array.shape == (16, 8, 8, 3)
    assert cached.test.images.array.shape == (6, 12, 12, 3)
    np.testing.assert_array_equal(streamed.images("test"), cached.images("test"))
    for name in ("training", "evaluation"):
        some, others = (
            s.training(0, 0, 8, Part(4)).take(2) if name == "training" else s.evaluation("test", Part(4))
            for s in (streamed, cached)
        )
        for a, b in zip(some.as_numpy_iterator(), others.as_numpy_iterator(), strict=True):
            for one, other in zip(a, b, strict=True):
                np.testing.assert_array_equal(one, other)
    # What is cut at random, or seen at several sizes, is read from the files.
    for values in ({"augment.crop": "random_resized"}, {"run.resizing": [[0, 6], [0.5, 8]]}):
        assert not isinstance(in_memory(split_of(photos, **values), False).train.images, Pixels)
    monkeypatch.setattr(data, "CACHE_BYTES", 1000)
    assert in_memory(streamed, False).train is streamed.train


def test_without_a_test_split_the_validation_is_decoded_once(photos):
    splits = in_memory(split_of(photos, **{"data.test_share": 0}), False)
    assert splits.test is splits.validation


def test_the_fingerprint_knows_images_and_splits(photos, tmp_path):
    splits = split_of(photos)
    first = splits.fingerprint()
    relabelled = dataclasses.replace(splits.train, labels=1 - splits.train.labels)
    assert dataclasses.replace(splits, train=relabelled).fingerprint() != first
    assert split_of(photos).fingerprint() == first
    assert split_of(photos, **{"run.seed": 1}).fingerprint() != first
    shutil.copytree(photos, tmp_path / "moved")
    assert split_of(tmp_path / "moved").fingerprint() == first
    (photos / "red" / "00.png").write_bytes((photos / "red" / "00.png").read_bytes() + b"\0")
    assert split_of(photos).fingerprint() != first


def test_wrong_split_and_number_are_named(photos):
    splits = split_of(photos)
    for ask in (splits.dataset, splits.images, splits.labels):
        with pytest.raises(ValueError, match=r"split='tests'.*'test'"):
            ask("tests")
    for n in (0, -1, 7):
        with pytest.raises(ValueError, match=f"n={n} must be from 1 to 6, the number of test images"):
            splits.images("test", n)


def test_what_weights_expect_decides_the_mode(photos):
    splits = split_of(photos, **{"model.name": "resnet50"})
    assert splits.mode == "caffe"
    assert dataclasses.replace(splits, config=config_for(photos, **{"model.name": "xception"})).mode == "tf"


@pytest.mark.parametrize("splits", [("test",), ("val", "test")])
def test_a_list_without_images_to_train_on_is_refused(photos, splits):
    with open(photos / "list.csv", "w", newline="") as file:
        rows = [(f"{name}/00.png", name, split) for name in ("green", "red") for split in splits]
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    with pytest.raises(ValueError, match=r"list.csv' comes split, but without .* 'test', none of 'train'"):
        split_of(photos / "list.csv")
    whole = load_whole(config_for(photos), str(photos / "list.csv"), progress=False)
    assert [len(whole.split(name)) for name in SPLITS] == [2 * len(splits)] * 3


def break_middle(path):
    """Put a second start of an image into the middle of a JPEG: headers and end stay as they were."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b"\xff\xd8" + whole[len(whole) // 2 + 2 :])


@pytest.fixture
def large(photos, monkeypatch):
    """JPEGs of which only headers and ends are looked at."""
    for path in sorted(photos.rglob("*.png")):
        Image.open(path).resize((48, 48)).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    monkeypatch.setattr(scan, "CACHE_BYTES", 0)
    return photos


def test_damage_in_the_middle_is_found_and_written_down(large, tmp_path):
    config = config_for(large, **{"data.max_corrupt_share": 0.1})
    damaged = [large / "green" / "03.jpg", large / "red" / "05.jpg"]
    assert note_damage(tmp_path, config, progress=False) == read_damaged(tmp_path) == {}
    for path in damaged:
        break_middle(path)
    data = load_data(config, progress=False)
    assert not data.skipped
    found = note_damage(tmp_path, config, progress=False)
    assert sorted(found) == sorted(map(str, damaged))
    assert all("broken data stream" in reason for reason in found.values())
    assert read_damaged(tmp_path) == found
    assert note_damage(tmp_path, config, progress=False) == {}  # an error now has another reason
    (tmp_path / "damaged.json").unlink()
    with pytest.raises(ValueError, match=r"2 of 24 images .*03.jpg: OSError.*max_corrupt_share=0.084"):
        note_damage(tmp_path, config_for(large, **{"data.max_corrupt_share": 0.08}), progress=False)
    assert not (tmp_path / "damaged.json").exists()


@pytest.mark.parametrize("crop", ["random_resized", "none"])
def test_training_goes_on_without_damaged_images(large, crop):
    config = config_for(large, **{"augment.crop": crop, "augment.scale": [1, 1], "augment.ratio": [1, 1]})
    data = load_data(config, progress=False)
    damaged = {data.split(name).images.names([0])[0]: "broken" for name in SPLITS}
    for name in damaged:
        break_middle(large / name)
    whole = list(data.train.images.names(range(len(data.train))))
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(data.training(0, 0, 8, Part(4)).take(4).as_numpy_iterator())
    with pytest.raises(DamagedImageError, match=r"jpg: OSError: broken data stream"):
        in_memory(data, False)
    rest = data.without(damaged)
    assert len(list(rest.training(0, 0, 8, Part(4)).take(4).as_numpy_iterator())) == 4
    in_memory(rest, False)
    now = rest.train.images.names(range(len(rest.train)))
    assert now[1:] == whole[1:]  # the same images in the same order
    assert now[0] in whole[1:]
    np.testing.assert_array_equal(rest.train.labels, data.train.labels)
    assert ("green" in now[0]) == (data.train.labels[0] == 0)
    assert [len(rest.split(name)) - len(data.split(name)) for name in SPLITS] == [0, -1, -1]
    assert rest.skipped == tuple(f"{name}: broken" for name in damaged)
    assert data.without({}) is data
    with pytest.raises(ValueError, match="all training images of class 'green' are damaged"):
        data.without({name: "" for name in whole if "green" in name})
    with pytest.raises(ValueError, match="all 2 images of the validation split are damaged"):
        data.without(dict.fromkeys(data.validation.images.names(range(2)), ""))
