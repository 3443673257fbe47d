import errno
import sys

import pytest

from keras_archs.training import TrainConfig
from keras_archs.training.checkpoint import Checkpoint, save_checkpoint
from keras_archs.training.folder import CHANGEABLE, OtherRunError, claimed, is_unfinished
from keras_archs.training.run import CONFIG, FILES, HISTORY, METRICS

SMALL = TrainConfig.from_dict({"run": {"epochs": 3, "batch_size": 8}})
OTHER = SMALL.replaced({"run.epochs": 4, "optimizer.learning_rate": 0.1})


@pytest.fixture(autouse=True)
def clean_state():
    """In place of the one of all tests, which takes longer than most of these: there is no network here."""


def claim(folder, config=SMALL, is_chief=True, force=False):
    with claimed(folder, config, is_chief, force) as directory:
        return directory


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def run(tmp_path):
    """A run with all its files, and two of the user's."""
    folder = claim(tmp_path / "run")
    for name in FILES:
        if name not in (CONFIG, METRICS):
            (folder / name).write_text("old")
    save_checkpoint(folder / "checkpoints", 5, Checkpoint({}, {}))
    (folder / "tensorboard").mkdir()
    (folder / "tensorboard" / "events").write_text("old")
    (folder / "notes.txt").write_text("mine")
    (folder / "plots").mkdir()
    (folder / "plots" / "a.png").write_text("mine")
    return folder


def test_a_new_folder_and_an_empty_one_are_taken(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("a/b", "empty"):
        folder = claim(tmp_path / name)
        assert TrainConfig.from_yaml(folder / CONFIG) == SMALL
        assert [path.name for path in folder.iterdir()] == [CONFIG]


def test_another_configuration_is_shown_and_changes_nothing(run):
    before = contents(run)
    with pytest.raises(OtherRunError, match="another configuration") as caught:
        claim(run, OTHER)
    text = str(caught.value)
    assert "\n  run.epochs: 3 there, 4 now\n  optimizer.learning_rate: 0.05 there, 0.1 now\n" in text or (
        "\n  optimizer.learning_rate: 0.05 there, 0.1 now\n  run.epochs: 3 there, 4 now\n" in text
    )
    assert "--force" in text
    assert isinstance(caught.value, OSError)
    assert contents(run) == before


def test_force_removes_the_files_of_the_run_and_no_other(run):
    claim(run, OTHER, force=True)
    found = contents(run)
    assert set(found) == {CONFIG, "notes.txt", "plots/a.png"}
    assert TrainConfig.from_yaml(run / CONFIG) == OTHER
    assert found["notes.txt"] == b"mine"


def test_force_keeps_a_run_of_the_same_configuration(run):
    before = contents(run)
    claim(run, force=True)
    assert contents(run) == before


def test_a_folder_that_is_no_run_is_refused_even_with_force(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / CONFIG).write_text("theme: dark\n")  # a config.yaml of something else
    before = contents(tmp_path)
    for name in ("photos", "file"):
        with pytest.raises(FileExistsError, match=f"{name}' exists and is neither an empty folder nor a run"):
            claim(tmp_path / name, force=True)
    with pytest.raises(ValueError, match=r"settings/config.yaml: theme is no section"):
        claim(tmp_path / "settings", force=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", sorted(CHANGEABLE))
def test_a_restart_may_change_what_the_images_seen_do_not_depend_on(run, name):
    changed, before = SMALL.replaced({name: 2}), contents(run)
    assert is_unfinished(run, changed)
    claim(run, changed)
    assert contents(run) == before  # the trainer writes it once everything is checked


def test_a_finished_run_keeps_the_configuration_it_was_trained_with(run):
    assert is_unfinished(run, SMALL)
    (run / METRICS).write_text("{}")
    assert not is_unfinished(run, SMALL)
    claim(run, SMALL.replaced({"run.batch_size": 2}))
    assert TrainConfig.from_yaml(run / CONFIG) == SMALL


def test_what_is_no_interrupted_run_of_this_configuration(run, tmp_path):
    assert not is_unfinished(run, OTHER)
    assert not is_unfinished(tmp_path / "none", SMALL)
    (run / CONFIG).write_text("run: [")
    assert not is_unfinished(run, SMALL)


def fail(folder, write=()):
    with claimed(folder, SMALL, True, False):
        for name in write:
            (folder / name).write_text("new")
        raise KeyboardInterrupt


def test_a_run_that_fails_before_its_first_epoch_leaves_things_as_they_were(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, left in (("new", False), ("empty", True)):
        with pytest.raises(KeyboardInterrupt):
            fail(tmp_path / name, write=["labels.txt", "model.keras"])
        assert (tmp_path / name).exists() == left
    assert list((tmp_path / "empty").iterdir()) == []
    with pytest.raises(KeyboardInterrupt):  # not an error about a folder that is not empty
        fail(tmp_path / "new", write=["labels.txt", "of_a_callback.txt"])
    assert list(contents(tmp_path / "new")) == ["of_a_callback.txt"]


def stop(folder):
    with claimed(folder, SMALL, True, False):
        save_checkpoint(folder / "checkpoints", 5, Checkpoint({}, {}))
        sys.exit(143)  # told to in the first epoch


def test_a_run_that_fails_later_keeps_what_it_has(tmp_path, run):
    with pytest.raises(KeyboardInterrupt):
        fail(tmp_path / "new", write=[HISTORY])
    assert set(contents(tmp_path / "new")) == {CONFIG, HISTORY}
    with pytest.raises(SystemExit):
        stop(tmp_path / "stopped")
    assert len(contents(tmp_path / "stopped")) == 2
    before = contents(run)
    with pytest.raises(KeyboardInterrupt):
        fail(run)
    assert contents(run) == before


def test_other_workers_look_at_nothing_and_write_nothing(tmp_path, run):
    before = contents(run)
    claim(run, OTHER, is_chief=False)
    claim(tmp_path / "none", is_chief=False)
    assert contents(run) == before
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def full(self, path):
        path.write_text("ha")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TrainConfig, "to_yaml", full)
    with pytest.raises(OSError, match=r"new' cannot be written: .*No space left on device"):
        claim(tmp_path / "new")
    assert not (tmp_path / "new").exists()
