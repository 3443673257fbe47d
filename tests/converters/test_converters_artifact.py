import json
import os
from pathlib import Path

import numpy as np
import pytest
from converters_helpers import tiny_cnn

from converters import Artifact, convert
from converters.artifact import RECORD


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("recipe", ["float32", "saved_model"])
def test_save_and_load(tmp_path, data, recipe, converted):
    artifact = converted(recipe)
    folder = artifact.save(tmp_path / "new" / "artifact")
    loaded = Artifact.load(folder)
    assert loaded.record == artifact.record
    np.testing.assert_array_equal(loaded(data[:5]), artifact(data[:5]))
    assert list(folder.parent.iterdir()) == [folder]


def test_replacing(tmp_path, converted):
    folder = tmp_path / "artifact"
    converted("saved_model").save(folder)
    converted("float32").save(folder)
    assert set(contents(folder)) == {"model.tflite", RECORD}
    assert [p.name for p in tmp_path.iterdir()] == ["artifact"]


def test_a_folder_of_someone_else_is_not_replaced(tmp_path, converted):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"cat")
    with pytest.raises(FileExistsError, match=r"photos' holds 'cat.png'"):
        converted("float32").save(tmp_path / "photos")
    folder = converted("float32").save(tmp_path / "artifact")
    (folder / "labels.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds 'labels.txt'"):
        converted("float32").save(folder)
    with pytest.raises(FileExistsError, match="is a file"):
        converted("float32").save(tmp_path / "photos" / "cat.png")
    assert (folder / "labels.txt").read_text() == "mine"


def test_a_full_disk_leaves_the_previous_artifact(tmp_path, monkeypatch, converted):
    folder = converted("saved_model").save(tmp_path / "artifact")
    before = contents(folder)

    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(
            OSError, match=r"cannot write to the folder \(No space left on device\): '.*artifact'"
        ):
            converted("float32").save(folder)
    assert contents(folder) == before
    assert [p.name for p in tmp_path.iterdir()] == ["artifact"]


def test_a_failed_exchange_puts_the_previous_artifact_back(tmp_path, monkeypatch, converted):
    folder = converted("saved_model").save(tmp_path / "artifact")
    before = contents(folder)
    replace = os.replace

    def failing(source, target):
        if Path(source).name == "new":
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="Input/output error"):
        converted("float32").save(folder)
    assert contents(folder) == before
    assert [p.name for p in tmp_path.iterdir()] == ["artifact"]


def test_a_folder_that_cannot_be_made(tmp_path, converted):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/artifact"):
        converted("float32").save(tmp_path / "file" / "artifact")


def test_loading_what_is_not_whole(tmp_path, converted):
    folder = converted("float32").save(tmp_path / "artifact")
    model = folder / "model.tflite"
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="its hash differs"):
        Artifact.load(folder)
    model.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks its file 'model.tflite'"):
        Artifact.load(folder)
    (folder / RECORD).write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        Artifact.load(folder)
    (folder / RECORD).write_text('{"recipe": "int8"}')
    with pytest.raises(ValueError, match="lacks some of"):
        Artifact.load(folder)
    outside = {**converted("float32").record, "files": {"../model.tflite": {"sha256": ""}}}
    (folder / RECORD).write_text(json.dumps(outside))
    with pytest.raises(ValueError, match="lies outside"):
        Artifact.load(folder)
    with pytest.raises(FileNotFoundError, match=r"has no artifact.json"):
        Artifact.load(tmp_path)


def test_what_cannot_be_run(data, converted):
    artifact = converted("float32")
    with pytest.raises(ValueError, match=r"x: the data at sample 0 has shape \(300, 8, 8\)"):
        artifact(data[..., 0])
    with pytest.raises(ValueError, match="x is empty"):
        artifact(data[:0])
    with pytest.raises(ValueError, match="SavedModel does not give access"):
        converted("saved_model").logits(data)


def test_softmax_of_the_logits_is_the_output(data, converted):
    artifact = converted("int8")
    logits = artifact.logits(data)
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = exponents / exponents.sum(axis=-1, keepdims=True)
    assert np.abs(probabilities - artifact(data)).max() < 0.01
    assert np.ptp(logits) > 2


def test_without_a_softmax_the_logits_are_the_output(data):
    artifact = convert(tiny_cnn(activation=None), "float32", progress=False)
    assert not artifact.record["ends_in_softmax"]
    np.testing.assert_array_equal(artifact.logits(data[:5]), artifact(data[:5]))


def test_latency(converted):
    latency = converted("float32").latency(runs=5, num_threads=2)
    assert 0 < latency.p10_ms <= latency.median_ms <= latency.p90_ms
    assert (latency.runs, latency.num_threads) == (5, 2)
    assert converted("saved_model").latency(runs=1).median_ms > 0
    with pytest.raises(ValueError, match="runs=0 must be at least 1"):
        converted("float32").latency(runs=0)
    with pytest.raises(ValueError, match="num_threads=0"):
        converted("float32").latency(num_threads=0)


@pytest.mark.parametrize("key", ["files", "inputs", "outputs"])
def test_a_damaged_record_is_refused(tmp_path, converted, key):
    folder = converted("float32").save(tmp_path / "artifact")
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps({**record, key: [] if key != "files" else {"model.tflite": {}}}))
    with pytest.raises(ValueError, match="is damaged"):
        Artifact.load(folder)


def test_a_link_keeps_pointing_to_its_folder(tmp_path, converted):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    converted("float32").save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert Artifact.load(tmp_path / "real").recipe == "float32"


def test_the_current_folder_is_not_replaced(tmp_path, converted, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileExistsError, match="in use as the current folder"):
        converted("float32").save(".")
