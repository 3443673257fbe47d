import csv
import logging
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from training_helpers import write_images

from keras_archs.training.reading import class_sizes, open_source, scan
from keras_archs.training.reading.labels import number_labels, numbers_or_names, read_class_names
from keras_archs.training.reading.source import Pixels


def opened(path, **values):
    return open_source(str(path), 8, **{"max_corrupt_share": 0, "progress": False, **values})


def refused(path, *patterns, **values):
    with pytest.raises(ValueError, match="data=") as caught:
        opened(path, **values)
    for pattern in patterns:
        assert pattern in str(caught.value)
    return str(caught.value)


def write_list(path, rows):
    with open(path, "w", newline="", encoding="utf-8-sig") as file:  # as spreadsheets do
        csv.writer(file).writerows(rows)
    return path


def picture(size=(30, 20)):
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8))


def test_digits_are_real_and_in_range():
    source = open_source("digits", 16, max_corrupt_share=0, progress=False)
    images = source.images.array
    assert images.shape == (1797, 16, 16, 3)
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    assert (images[..., 0] == images[..., 2]).all()
    assert source.class_names == tuple("0123456789")
    assert source.images.plain is None


def test_pixels_are_taken_by_number():
    pixels = Pixels(np.arange(4 * 2 * 3 * 3, dtype=np.uint8).reshape(4, 2, 3, 3))
    some = pixels.select(np.array([3, 1]))
    loaded = list(tf.data.Dataset.range(2).map(some.load).as_numpy_iterator())
    np.testing.assert_array_equal(loaded, pixels.array[[3, 1]])
    np.testing.assert_array_equal(some.read(0), pixels.array[3])
    assert some.fingerprint() == pixels.select(np.array([3, 1])).fingerprint()
    assert some.fingerprint() != pixels.select(np.array([1, 3])).fingerprint()


def test_a_folder_gives_files_sorted_by_class_and_path(photos):
    (photos / ".git").mkdir()
    (photos / ".git" / "a.png").write_bytes(b"no image")
    (photos / "red" / ".thumbs").mkdir()
    (photos / "red" / ".thumbs" / "a.png").write_bytes(b"no image")
    (photos / "red" / "._00.png").write_bytes(b"no image")
    (photos / "red" / "list.csv").write_text("a,b")
    (photos / "red" / "more").mkdir()
    moved = str(photos / "red" / "more").encode() + b"/\xff.PNG"  # names need not be in UTF-8
    shutil.move(str(photos / "red" / "00.png").encode(), moved)
    source = opened(photos)
    assert class_sizes(source) == {"green": 12, "red": 12}
    assert source.splits is None
    assert source.labels.dtype == np.int32
    assert source.images.names([0, 23]) == [
        str(photos / "green" / "00.png"), os.fsdecode(moved)
    ]  # fmt: skip
    some = source.images.select(np.array([23, 0]))
    loaded = list(tf.data.Dataset.range(2).map(some.load).as_numpy_iterator())
    assert loaded == [some.read(0), some.read(1)] == [
        Path(os.fsdecode(moved)).read_bytes(), (photos / "green" / "00.png").read_bytes()
    ]  # fmt: skip


def test_the_fingerprint_moves_with_the_folder_and_changes_with_its_files(photos, tmp_path):
    first = opened(photos).images.fingerprint()
    shutil.copytree(photos, tmp_path / "moved")
    assert opened(tmp_path / "moved").images.fingerprint() == first
    picture().save(tmp_path / "moved" / "red" / "00.png")
    assert opened(tmp_path / "moved").images.fingerprint() != first


def test_a_split_folder(tmp_path):
    for count, name in ((5, "train"), (3, "val"), (2, "test")):
        write_images(tmp_path / name, count)
    source = opened(tmp_path)
    assert source.class_names == ("green", "red")
    assert source.splits.tolist() == ["train"] * 10 + ["validation"] * 6 + ["test"] * 4
    assert source.labels.tolist() == [0] * 5 + [1] * 5 + [0] * 3 + [1] * 3 + [0] * 2 + [1] * 2
    some = source.select(np.array([11, 0]))
    assert (some.labels.tolist(), some.splits.tolist()) == ([0, 0], ["validation", "train"])


def test_all_problems_of_a_split_folder_are_told_at_once(tmp_path):
    write_images(tmp_path / "train", 2)
    write_images(tmp_path / "val", 1, ("blue",))
    (tmp_path / "train" / "empty").mkdir()
    (tmp_path / "test").mkdir()
    picture().save(tmp_path / "test" / "a.png")
    picture().save(tmp_path / "val" / "b.png")
    refused(
        tmp_path,
        "train: no images (.bmp, .gif",
        "in 1 class folders: 'empty'",
        "test: no class sub-folders (1 images lie loose in it)",
        "val: 1 images lie loose beside the class folders: b.png",
        "classes that the training split lacks: validation/blue",
    )


def test_what_does_not_exist_names_the_nearest(tmp_path, photos):
    refused("digit", "data='digit' is neither", "Did you mean 'digits'?")
    refused(tmp_path / "photoes", "Did you mean 'photos'?")
    refused(tmp_path / "no" / "where", "is neither")
    refused(photos / "red" / "00.png", "is neither")
    refused(tmp_path / "x-*", "is neither")


def test_folders_without_classes(tmp_path, photos):
    (tmp_path / "nothing").mkdir()
    refused(tmp_path / "nothing", "no class sub-folders (0 images lie loose")
    refused(photos / "red", "no class sub-folders (12 images lie loose")
    shutil.rmtree(photos / "red")
    refused(photos, "one class, 'green'")


@pytest.fixture
def damaged(photos):
    (photos / "red" / "zero.png").write_bytes(b"")
    (photos / "red" / "text.jpg").write_text("no image")
    whole = (photos / "green" / "00.png").read_bytes()
    (photos / "green" / "half.png").write_bytes(whole[: len(whole) // 2])
    picture().save(photos / "green" / "cut.jpg")
    whole = (photos / "green" / "cut.jpg").read_bytes()
    (photos / "green" / "cut.jpg").write_bytes(whole[:-40])
    return photos


@pytest.mark.parametrize("cache", [0, 2**20])  # only ends are looked at; all is decoded
def test_damaged_images_are_named_and_left_out_up_to_a_share(damaged, caplog, monkeypatch, cache):
    monkeypatch.setattr(scan, "CACHE_BYTES", cache)
    text = refused(
        damaged, "4 of 28 images (14.29%)", "max_corrupt_share=0.1 ", "max_corrupt_share=0.143",
        "zero.png: empty file", "text.jpg: UnidentifiedImageError: no image", "half.png: ",
        "cut.jpg: OSError: image file is truncated", max_corrupt_share=0.1
    )  # fmt: skip
    assert "00.png" not in text
    with caplog.at_level(logging.WARNING):
        source = opened(damaged, max_corrupt_share=0.143)
    assert "4 of 28" in caplog.text
    assert [line.split(": ")[0].split("/")[-1] for line in source.skipped] == [
        "cut.jpg", "half.png", "text.jpg", "zero.png",
    ]  # fmt: skip
    assert class_sizes(source) == {"green": 12, "red": 12}


def test_many_damaged_images_are_counted_and_no_class_may_lose_all(photos):
    for path in (photos / "red").iterdir():
        path.write_bytes(b"")
    refused(photos, "12 of 24 images (50.00%)", "; and 2 more")
    refused(photos, "No image is left of class 'red'", max_corrupt_share=0.9)


@pytest.mark.parametrize("cache", [0, 2**20])
def test_only_upright_jpegs_in_rgb_or_grey_are_plain(tmp_path, monkeypatch, cache):
    monkeypatch.setattr(scan, "CACHE_BYTES", cache)
    turned = Image.Exif()
    turned[0x0112] = 6
    kept = Image.Exif()
    kept[0x0112] = 1
    rgb = picture()
    plain = {
        "grey.jpg": rgb.convert("L"), "rgb.jpg": (rgb, {"exif": kept}),
        "fine.jpeg": (rgb, {"progressive": True})
    }  # fmt: skip
    other = {
        "cmyk.jpg": rgb.convert("CMYK"), "turned.jpg": (rgb, {"exif": turned}), "a.png": rgb, "a.gif": rgb,
        "a.bmp": rgb, "a.webp": rgb, "a.tiff": rgb,
    }  # fmt: skip
    for folder, files in (("other", other), ("plain", plain)):
        (tmp_path / folder).mkdir()
        for name, image in files.items():
            image, options = image if isinstance(image, tuple) else (image, {})
            image.save(tmp_path / folder / name, **options)
    (tmp_path / "plain" / "png.png").write_bytes((tmp_path / "plain" / "rgb.jpg").read_bytes() + b"\0" * 9)
    source = opened(tmp_path)
    assert source.images.plain.tolist() == [False] * len(other) + [True] * (len(plain) + 1)
    for index in np.flatnonzero(source.images.plain):
        encoded = source.images.read(index)
        ours = tf.io.decode_jpeg(encoded, 3, dct_method="INTEGER_ACCURATE").numpy().astype(int)
        with Image.open(source.images.names([index])[0]) as image:
            assert np.abs(ours - np.asarray(image.convert("RGB"))).max() <= 3


def test_a_cut_webp_is_found_by_its_end(photos, monkeypatch):
    monkeypatch.setattr(scan, "CACHE_BYTES", 0)
    picture().save(photos / "red" / "a.webp")
    opened(photos)
    (photos / "red" / "a.webp").write_bytes((photos / "red" / "a.webp").read_bytes()[:-20])
    refused(photos, "1 of 25", "a.webp: ")


def test_ctrl_c_does_not_wait_for_the_images_in_the_queue(photos, monkeypatch):
    write_images(photos, count=200, classes=("blue",))
    calls = []

    def look(path, size):
        calls.append(path)
        time.sleep(0.01)
        return scan.Look(1, False, "")

    def interrupted(items, total, text, progress):
        yield next(items)
        raise KeyboardInterrupt

    monkeypatch.setattr(scan, "CHUNK", 1)
    monkeypatch.setattr(scan, "look_at_file", look)
    monkeypatch.setattr(scan, "tracked", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened(photos)
    assert len(calls) < 100


def test_a_list_names_files_classes_and_splits(photos):
    rows = [["split", "path", "label", "note"], ["train", "red/00.png", "rot", ""]]
    rows += [["val", "green/03.png", "grün", "x"], [], ["test", str(photos / "red" / "01.png"), "rot", ""]]
    source = opened(write_list(photos / "all.csv", rows))
    assert source.class_names == ("grün", "rot")
    assert source.labels.tolist() == [1, 0, 1]
    assert source.splits.tolist() == ["train", "validation", "test"]
    assert source.images.read(1) == (photos / "green" / "03.png").read_bytes()
    assert source.images.read(2) == (photos / "red" / "01.png").read_bytes()


def test_numbers_in_a_list_are_class_numbers(photos, caplog):
    rows = [["path", "label"], ["red/00.png", "2"], ["green/03.png", "0"]]
    path = write_list(photos / "all.csv", rows)
    with caplog.at_level(logging.WARNING):
        source = opened(path)
    assert (source.class_names, source.labels.tolist()) == (("0", "1", "2"), [2, 0])
    assert source.splits is None
    assert "1 classes have no image: '1'" in caplog.text
    (photos / "labels.txt").write_text("green\nblue\nred\n")
    assert opened(path).class_names == ("green", "blue", "red")
    (photos / "labels.txt").write_text("green\nred\n")
    refused(path, "1 labels are missing or not in 0..1: line 2: 2")


def test_all_problems_of_a_list_are_told_at_once(photos):
    rows = [["path", "label", "split"], ["red/00.png", "red", "train"], ["red/99.png", "", "train"]]
    path = write_list(photos / "all.csv", [*rows, ["green/00.png", "gren", "tests"], ["", "red", "val"]])
    (photos / "labels.txt").write_text("0:green\n1:red\n")
    refused(
        path, "2 of 4 files do not exist: line 3: 'red/99.png'; line 5: ''",
        "2 labels are missing or not in the 2 class names: line 3: None; line 4: 'gren'",
        "1 splits are none of ['train', 'validation', 'val', 'test']: line 4: 'tests'",
    )  # fmt: skip


def test_lists_without_header_or_rows_or_in_another_coding(tmp_path):
    refused(write_list(tmp_path / "a.csv", [["a.png", "red"]]), "lacks 'path'.; 'label'.")
    refused(write_list(tmp_path / "a.csv", [["paths", "label"]]), "lacks 'path'. Did you mean 'paths'?")
    refused(write_list(tmp_path / "a.csv", [["path", "label"]]), "it lists no images")
    (tmp_path / "a.csv").write_bytes("path,label\nä.png,a".encode("utf-16"))
    refused(tmp_path / "a.csv", "not a CSV file in UTF-8")
    (tmp_path / "a.csv").write_text("")
    refused(tmp_path / "a.csv", "the header [] lacks")


def test_class_numbers_are_checked(tmp_path):
    labels, names, problems = number_labels([1, -(2**40), None, 2**40], (), "place {}".format)
    assert (labels.tolist(), names) == ([1, -1, -1, -1], ("0", "1"))
    assert problems == [
        "3 labels are missing or not in 0..1048575: "
        "place 1: -1099511627776; place 2: None; place 3: 1099511627776."
    ]
    assert number_labels([1, 1], (), str)[2] == ["it has one class, '1'; at least two are needed"]
    # names that look like numbers are names where labels are texts, not where they are numbers
    assert numbers_or_names(["3", "1"], ("3", "1")) == ["3", "1"]
    assert numbers_or_names(["3", "", "-1"], ("a", "b")) == [3, None, -1]
    assert number_labels(["3", "1"], ("3", "1"), str)[0].tolist() == [0, 1]
    assert number_labels([0, 1], ("1", "0"), str)[0].tolist() == [0, 1]
    (tmp_path / "labels.txt").write_text("1:b\n0:a\n")
    assert read_class_names(tmp_path / "labels.txt") == ("a", "b")
    assert read_class_names(tmp_path / "no.txt") == ()
