import pytest

from keras_archs.training import TrainConfig
from keras_archs.training.phases import Phase, phases_of


@pytest.fixture(autouse=True)
def clean_state():
    """In place of the one of all tests, which takes longer than most of these: there is no network here."""


def phases(epochs, frozen=0, resizing=()):
    values = {"run.epochs": epochs, "finetune.frozen_epochs": frozen, "run.resizing": list(resizing)}
    return phases_of(TrainConfig().replaced({"schedule.warmup_epochs": 0, **values}))


def test_without_changes_there_is_one_phase():
    assert phases(12) == [Phase(range(12), size=32, frozen=False, optimizer=1)]


def test_frozen_epochs_and_sizes_cut_the_run():
    assert phases(10, frozen=3, resizing=[[0, 16], [0.5, 24]]) == [
        Phase(range(3), size=16, frozen=True, optimizer=0),
        Phase(range(3, 5), size=16, frozen=False, optimizer=1),
        Phase(range(5, 10), size=24, frozen=False, optimizer=1),
    ]
    assert [(p.size, p.frozen) for p in phases(10, frozen=7, resizing=[[0, 16], [0.5, 24]])] == [
        (16, True), (24, True), (24, False),
    ]  # fmt: skip


CASES = [
    (epochs, frozen, resizing)
    for epochs in (1, 2, 3, 7)
    for frozen in (0, 1, 2, 6)
    if frozen < epochs
    for resizing in ((), [[0, 8]], [[0, 8], [0.1, 9], [0.5, 10], [0.99, 11]])
]


@pytest.mark.parametrize(("epochs", "frozen", "resizing"), CASES)
def test_phases_have_all_epochs_once_and_go_on_from_any_step(epochs, frozen, resizing):
    found = phases(epochs, frozen, resizing)
    assert [epoch for phase in found for epoch in phase.epochs] == list(range(epochs))
    assert all(phase.frozen == (epoch < frozen) for phase in found for epoch in phase.epochs)
    whole = [(e, s) for e in range(epochs) for s in range(3)]
    for done, (epoch, step) in enumerate([*whole, (epochs, 0)]):
        left = []
        for phase in found:
            for part, first in phase.portions(epoch, step):
                assert len(part) == 1 or not first  # `fit` has epochs of one length
                assert set(part) <= set(phase.epochs)
                left += [(e, s) for e in part for s in range(first, 3)]
        assert left == whole[done:]
