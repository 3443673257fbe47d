import logging
import shutil
import time

import numpy as np
import pytest
from training_helpers import write_images

from keras_archs.preprocessing import preprocess_input
from keras_archs.training import TrainConfig, load_data, sources


def config_for(folder, **values):
    return TrainConfig(**{"data": str(folder), "image_size": 8, "batch_size": 4, "augment": False, **values})


def test_digits_are_real_and_in_range():
    data = load_data(TrainConfig(image_size=16))
    images = np.concatenate([data.train.items, data.validation.items, data.test.items])
    assert images.shape == (1797, 16, 16, 3)
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    assert (images[..., 0] == images[..., 2]).all()
    assert data.class_names == tuple("0123456789")
    assert len(data.test) == pytest.approx(0.25 * 1797, abs=5)
    assert len(data.validation) == pytest.approx(0.1 * 1797, abs=5)


def test_splits_are_disjoint_and_hold_each_class_by_its_share(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "CACHE_BYTES", 0)  # so that the items are paths
    write_images(tmp_path / "p", count=20)
    data = load_data(config_for(tmp_path / "p"))
    paths = [set(split.items) for split in (data.train, data.validation, data.test)]
    assert [len(split) for split in paths] == [26, 4, 10]
    assert len(set.union(*paths)) == 40
    assert np.bincount(data.labels("test")).tolist() == [5, 5]
    assert np.bincount(data.labels("validation")).tolist() == [2, 2]
    assert all(
        ("red" in path) == bool(label)
        for path, label in zip(data.test.items, data.labels("test"), strict=True)
    )


def test_the_seed_decides_the_split(monkeypatch, photos):
    monkeypatch.setattr(sources, "CACHE_BYTES", 0)
    first, again, other = (load_data(config_for(photos, seed=seed)).test.items.tolist() for seed in (1, 1, 2))
    assert first == again
    assert set(first) != set(other)


@pytest.mark.parametrize("model", ["resnet20", "xception", "resnet50"])
def test_arrays_and_pipeline_are_preprocessed_by_the_same_function(photos, model):
    data = load_data(config_for(photos, model=model))
    piped = np.concatenate([images for images, _ in data.dataset("test")])
    np.testing.assert_array_equal(piped, preprocess_input(data.test.items, model))
    np.testing.assert_array_equal(data.images("test"), piped)
    np.testing.assert_array_equal(
        np.concatenate([labels for _, labels in data.dataset("test")]), data.labels("test")
    )
    np.testing.assert_array_equal(data.images("test", 2), piped[:2])


def test_images_beyond_the_cache_are_read_each_epoch_and_are_the_same(monkeypatch, photos):
    cached = load_data(config_for(photos))
    monkeypatch.setattr(sources, "CACHE_BYTES", 0)
    streamed = load_data(config_for(photos))
    assert cached.train.items.ndim == 4
    assert streamed.train.items.ndim == 1
    np.testing.assert_array_equal(streamed.images("test"), cached.images("test"))
    for a, b in zip(streamed.dataset("train", True), cached.dataset("train", True), strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


@pytest.mark.parametrize("augment", [False, True])
def test_training_epochs_differ_and_repeat_from_the_seed(photos, augment):
    def two_epochs(seed):
        dataset = load_data(config_for(photos, augment=augment, seed=seed, batch_size=5)).dataset(
            "train", training=True
        )
        return [np.concatenate([images for images, _ in dataset]) for _ in range(2)]

    first, second = two_epochs(seed=1)
    again = two_epochs(seed=1)
    np.testing.assert_array_equal(first, again[0])
    np.testing.assert_array_equal(second, again[1])
    assert len(first) == 15  # of 16 images: batches of 5
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, two_epochs(seed=2)[0])


def test_wrong_split_and_number_are_named(photos):
    data = load_data(config_for(photos))
    with pytest.raises(ValueError, match=r"split='tests'.*'test'"):
        data.dataset("tests")
    for n in (0, -1, 7):
        with pytest.raises(ValueError, match=f"n={n} must be from 1 to 6"):
            data.images("test", n)


def test_unknown_source_names_the_nearest(tmp_path, photos):
    with pytest.raises(ValueError, match=r"data='digit' .*'digits'"):
        load_data(TrainConfig(data="digit"))
    with pytest.raises(ValueError, match="'photos'"):
        load_data(config_for(tmp_path / "photoes"))
    with pytest.raises(ValueError, match="neither 'digits' nor a folder"):
        load_data(config_for(tmp_path / "no" / "where"))
    with pytest.raises(ValueError, match="neither 'digits' nor a folder"):
        load_data(config_for(photos / "red" / "00.png"))


def test_empty_folder(tmp_path):
    with pytest.raises(ValueError, match=r"no class sub-folders \(0 images lie loose"):
        load_data(config_for(tmp_path))


def test_loose_images(photos):
    with pytest.raises(ValueError, match=r"no class sub-folders \(12 images lie loose"):
        load_data(config_for(photos / "red"))


def test_one_class(photos):
    shutil.rmtree(photos / "red")
    with pytest.raises(ValueError, match="one class, 'green'"):
        load_data(config_for(photos))


def test_class_without_images(photos):
    (photos / "blue").mkdir()
    (photos / "blue" / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"no images .*\['blue'\]"):
        load_data(config_for(photos))


def test_class_with_too_few_images(photos):
    write_images(photos, count=2, classes=("blue",))
    with pytest.raises(ValueError, match=r"class 'blue' .* has 2 usable images"):
        load_data(config_for(photos))
    write_images(photos / "more", count=3, classes=("blue",))
    shutil.move(photos / "more" / "blue" / "02.png", photos / "blue" / "02.png")
    shutil.rmtree(photos / "more")
    assert np.bincount(load_data(config_for(photos)).labels("train"))[0] == 1


def test_hidden_and_other_files_are_ignored_and_deeper_images_found(photos):
    (photos / ".git").mkdir()
    (photos / ".git" / "a.png").write_bytes(b"no image")
    (photos / "red" / ".thumbs").mkdir()
    (photos / "red" / ".thumbs" / "a.png").write_bytes(b"no image")
    (photos / "red" / "._00.png").write_bytes(b"no image")
    (photos / "red" / "list.csv").write_text("a,b")
    (photos / "red" / "more").mkdir()
    shutil.move(photos / "red" / "00.png", photos / "red" / "more" / "00.PNG")
    data = load_data(config_for(photos))
    assert data.class_names == ("green", "red")
    assert len(data.train) + len(data.validation) + len(data.test) == 24


@pytest.fixture
def damaged(photos):
    (photos / "red" / "zero.png").write_bytes(b"")
    (photos / "red" / "text.jpg").write_text("no image")
    whole = (photos / "green" / "00.png").read_bytes()
    (photos / "green" / "half.png").write_bytes(whole[: len(whole) // 2])
    return photos


def test_damaged_images_are_named_and_counted(damaged):
    with pytest.raises(ValueError, match=r"3 of 27 images.*skip_unreadable=True") as caught:
        load_data(config_for(damaged))
    text = str(caught.value)
    assert "zero.png: empty file" in text
    assert "text.jpg: UnidentifiedImageError" in text
    assert "half.png: " in text
    assert "00.png" not in text


def test_many_damaged_images_are_not_all_listed(photos):
    for i in range(30):
        (photos / "red" / f"zero{i:02d}.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"30 of 54 images.*; and 20 more"):
        load_data(config_for(photos))


@pytest.mark.parametrize("cache", [0, 2**20])
def test_damaged_images_are_skipped_when_told_to(damaged, caplog, monkeypatch, cache):
    monkeypatch.setattr(sources, "CACHE_BYTES", cache)
    with caplog.at_level(logging.WARNING):
        data = load_data(config_for(damaged, skip_unreadable=True))
    assert "3 of 27" in caplog.text
    assert sorted(line.split(": ")[0].split("/")[-1] for line in data.skipped) == [
        "half.png",
        "text.jpg",
        "zero.png",
    ]
    assert len(data.train) + len(data.validation) + len(data.test) == 24
    assert data.images("train").min() < data.images("train").max()


def test_skipping_may_leave_a_class_too_small(photos):
    for path in sorted((photos / "red").iterdir())[2:]:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"class 'red' .* has 2 usable images"):
        load_data(config_for(photos, skip_unreadable=True))


def test_ctrl_c_does_not_wait_for_the_images_in_the_queue(photos, monkeypatch):
    write_images(photos, count=200, classes=("blue",))
    calls = []

    def read(path, size):
        calls.append(path)
        time.sleep(0.01)

    def interrupted(items, total, text, progress):
        yield next(items)
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "read_image", read)
    monkeypatch.setattr(sources, "tracked", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_data(config_for(photos))
    assert len(calls) < 100
