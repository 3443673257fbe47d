import gzip
import io
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_archs.training.reading import open_source
from keras_archs.training.reading.records import masked_crc, split_of


def opened(path, **values):
    return open_source(str(path), 8, **{"max_corrupt_share": 0, "progress": False, **values})


def refused(path, *patterns, **values):
    with pytest.raises(ValueError, match="data=") as caught:
        opened(path, **values)
    for pattern in patterns:
        assert pattern in str(caught.value)


def encoded(shade, kind="jpeg"):
    stream = io.BytesIO()
    Image.new("RGB", (12, 10), (shade, 0, 255 - shade)).save(stream, kind)
    return stream.getvalue()


def example(image, label, names=("image/encoded", "image/class/label")):
    features = {}
    if image is not None:
        features[names[0]] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    if isinstance(label, bytes):
        features[names[1]] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[label]))
    elif label is not None:
        features[names[1]] = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_records(path, pairs, **values):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for image, label in pairs:
            writer.write(example(image, label, **values))
    return path


@pytest.fixture
def files(tmp_path):
    for number in range(2):
        pairs = [(encoded(40 * i + number, "png" if i == 3 else "jpeg"), i % 3) for i in range(5)]
        write_records(tmp_path / f"train-0000{number}-of-00002", pairs)
    return tmp_path


def test_the_crc_is_tensorflows(files):
    header = (files / "train-00000-of-00002").read_bytes()[:12]
    assert masked_crc(header[:8]) == int.from_bytes(header[8:], "little")


def test_records_are_read_by_number(files):
    source = opened(files / "train-*")
    assert source.labels.tolist() == [0, 1, 2, 0, 1] * 2
    assert source.class_names == ("0", "1", "2")
    assert source.splits is None
    assert source.images.plain.tolist() == [True, True, True, False, True] * 2
    some = source.images.select(np.array([8, 0, 4]))
    expected = [encoded(121, "png"), encoded(0), encoded(160)]
    assert [some.read(i) for i in range(3)] == expected
    dataset = tf.data.Dataset.range(3).map(some.load, tf.data.AUTOTUNE)
    assert dataset.element_spec == tf.TensorSpec((), tf.string)
    assert list(dataset.as_numpy_iterator()) == expected
    assert some.names([1]) == [f"{files}/train-00000-of-00002, record at byte 0"]
    (files / "labels.txt").write_text("red\ngreen\nblue\n")
    assert opened(files / "train-*").class_names == ("red", "green", "blue")


def test_the_fingerprint_moves_with_the_files_and_changes_with_the_records(files, tmp_path):
    first = opened(files / "train-*").images
    shutil.copytree(files, tmp_path / "moved")
    moved = opened(tmp_path / "moved" / "train-*").images
    assert moved.fingerprint() == first.fingerprint()
    assert first.select(np.array([1, 0])).fingerprint() != first.select(np.array([0, 1])).fingerprint()


def test_splits_come_from_the_names_of_the_files(files):
    write_records(files / "flowers-validation.tfrecord-00000-of-00001", [(encoded(1), 1), (encoded(2), 2)])
    assert opened(files / "*").splits.tolist() == ["validation"] * 2 + ["train"] * 10
    assert [split_of(f"a/{name}") for name in ("val-0", "my_test.tfrecord", "testing-0", "contest")] == [
        "validation", "test", "", "",
    ]  # fmt: skip


def test_names_may_be_texts_and_features_short(tmp_path):
    path = write_records(
        tmp_path / "a.tfrecord", [(encoded(0), b"red"), (encoded(9), b"blue")], names=("image", "label")
    )
    source = opened(path)
    assert (source.class_names, source.labels.tolist()) == (("blue", "red"), [1, 0])
    assert source.images.read(1) == encoded(9)


def test_labels_out_of_range_and_missing_features(files):
    (files / "labels.txt").write_text("red\ngreen\nblue\n")
    write_records(files / "train-2", [(encoded(1), -1), (encoded(1), None), (encoded(1), 3), (None, 1)])
    refused(
        files / "train-*",
        "3 labels are missing or not in 0..2: ",
        "train-2, record at byte 0: -1; ",
        "(feature 'image/class/label')",
        "1 of 14 records have no image in 'image/encoded': ",
        "The first has the features ['image/class/label']",
    )


def test_damaged_images_in_records(files):
    write_records(files / "train-2", [(encoded(1)[:-30], 1), (b"", 2)])
    refused(
        files / "train-*", "2 of 12 images (16.67%)", "train-2, record at byte 0: OSError", ": empty file"
    )
    source = opened(files / "train-*", max_corrupt_share=0.2)
    assert len(source.images) == len(source.labels) == 10
    assert len(source.skipped) == 2


def test_files_that_are_cut_off_or_something_else(files):
    path = files / "train-00001-of-00002"
    whole = path.read_bytes()
    second = 16 + int.from_bytes(whole[:8], "little")
    for size in (second + 5, second + 700 // 2, second + 12):
        path.write_bytes(whole[:size])
        refused(files / "train-*", f"{path} is cut off in the record at byte {second}")
    path.write_bytes(whole[:second] + b"\0" + whole[second + 1 :])
    (files / "train-2").write_bytes(gzip.compress(whole))
    refused(
        files / "train-*",
        f"{path} has no TFRecord at byte {second}",
        f"{files / 'train-2'} has no TFRecord at byte 0; compressed files cannot be read",
    )
    (files / "none.tfrecord").write_bytes(b"")
    refused(files / "none.tfrecord", "the files hold no records")


CLASSES = ("green", "red", "blue")
IMAGE = {"pythonClassName": "tensorflow_datasets.core.features.image_feature.Image", "image": {}}
LABEL = {
    "pythonClassName": "tensorflow_datasets.core.features.class_label_feature.ClassLabel",
    "classLabel": {"numClasses": "3"},
}
TEXT = {"pythonClassName": "tensorflow_datasets.core.features.text_feature.Text", "text": {}}


def write_prepared(folder, splits):
    """Write a folder as version 4.9.10 of tensorflow_datasets does, two files a split."""
    folder.mkdir(parents=True)
    features = {"image": IMAGE, "image/filename": TEXT, "label": LABEL}
    (folder / "features.json").write_text(json.dumps({"featuresDict": {"features": features}}))
    info = {"fileFormat": "tfrecord", "name": "blobs", "version": folder.name, "splits": []}
    info["supervisedKeys"] = {"tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}}
    for split, count in splits.items():
        lengths = [count // 2, count - count // 2]
        for shard, length in enumerate(lengths):
            pairs = [(encoded(10 * i + shard), i % 3) for i in range(length)]
            path = folder / f"blobs-{split}.tfrecord-{shard:05d}-of-00002"
            write_records(path, pairs, names=("image", "label"))
        info["splits"].append(
            {
                "name": split,
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "shardLengths": [str(length) for length in lengths],
            }
        )
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "label.labels.txt").write_text("\n".join(CLASSES))
    return folder


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    write_prepared(tmp_path / "blobs" / "9.2.0", {"train": 4})
    return write_prepared(
        tmp_path / "blobs" / "10.0.0", {"unlabeled": 2, "train": 7, "test": 3, "validation": 2}
    )


def test_a_prepared_folder_comes_split(prepared):
    for data in ("tfds:blobs", prepared):
        source = opened(data)
        assert source.class_names == CLASSES
        assert source.splits.tolist() == ["train"] * 7 + ["validation"] * 2 + ["test"] * 3
        assert source.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 0, 0, 0, 0, 1]
        assert source.images.read(4) == encoded(11)
        assert source.images.plain.all()
    assert len(opened("tfds:blobs:9.2.0").labels) == 4


def test_prepared_folders_that_are_not_there_or_ambiguous(prepared, tmp_path):
    refused("tfds:blob", "no prepared data set at ", "Did you mean 'blobs'?", "nothing is downloaded")
    write_prepared(tmp_path / "two" / "a" / "1.0.0", {"train": 4})
    assert len(opened("tfds:two").labels) == 4
    write_prepared(tmp_path / "two" / "b" / "1.0.0", {"train": 6})
    refused("tfds:two", "several configurations; take one: tfds:two/a; tfds:two/b")
    assert len(opened("tfds:two/b").labels) == 6


def test_incomplete_prepared_folders(prepared):
    path = prepared / "blobs-train.tfrecord-00001-of-00002"
    write_records(path, [(encoded(0), 0)], names=("image", "label"))
    refused("tfds:blobs", f"{path} has 1 records of 4")
    os.remove(path)
    refused("tfds:blobs", f"{path} is missing")
    features = {"image": IMAGE, "mask": IMAGE, "text": TEXT}
    (prepared / "features.json").write_text(json.dumps({"featuresDict": {"features": features}}))
    refused("tfds:blobs", "one ClassLabel feature to be used, not []")
    info = json.loads((prepared / "dataset_info.json").read_text())
    (prepared / "features.json").write_text(
        json.dumps({"featuresDict": {"features": {"image": IMAGE, "label": LABEL}}})
    )
    (prepared / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "array_record"}))
    refused("tfds:blobs", "its files are array_record")
    (prepared / "dataset_info.json").write_text(json.dumps({**info, "splits": info["splits"][:1]}))
    refused("tfds:blobs", "no split 'train' but ['unlabeled']")
