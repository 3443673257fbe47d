import numpy as np
import pytest

from keras_archs.training.order import epoch_order, padded, worker_part

LABELS = np.array([0] * 50 + [1] * 10 + [3] * 4, np.int32)  # no image of class 2


@pytest.fixture(autouse=True)
def clean_state():
    """In place of the one of all tests, which takes longer than most of these: there is no network here."""


def order_of(epoch=0, seed=0, batch_size=8, **values):
    return epoch_order(LABELS, epoch, seed=seed, batch_size=batch_size, **values)


@pytest.mark.parametrize("values", [{}, {"balanced": True}, {"repeats": 4}])
def test_an_order_depends_on_seed_and_epoch_and_nothing_else(values):
    first = order_of(**values)
    np.random.default_rng(5).random(3)
    np.testing.assert_array_equal(order_of(**values), first)
    assert not np.array_equal(order_of(epoch=1, **values), first)
    assert not np.array_equal(order_of(seed=1, **values), first)
    assert not np.array_equal(order_of(epoch=1, seed=0, **values), order_of(epoch=0, seed=1, **values))


def test_every_image_comes_once_an_epoch():
    assert sorted(order_of()) == list(range(64))
    some = order_of(batch_size=7)  # 9 steps; one image is left for other epochs
    assert len(some) == 63
    assert len(set(some)) == 63
    assert len({*range(64)} - {*some} | {*range(64)} - {*order_of(epoch=1, batch_size=7)}) == 2


def test_the_batch_size_does_not_change_who_comes_when():
    np.testing.assert_array_equal(order_of(batch_size=7)[:56], order_of(batch_size=8)[:56])


def test_balanced_draws_take_each_class_equally_often_and_its_images_evenly():
    order = order_of(balanced=True)
    assert sorted(np.bincount(LABELS[order], minlength=4).tolist()) == [0, 21, 21, 22]
    times = np.bincount(order, minlength=64)
    for label in (0, 1, 3):
        assert np.ptp(times[label == LABELS]) <= 1
    # Mixed: no class comes in one piece.
    assert all(len(set(LABELS[step].tolist())) > 1 for step in order.reshape(-1, 8))


@pytest.mark.parametrize("batch_size", [8, 12, 20])  # 20 / 4: an odd number of images, each four times
def test_copies_are_in_one_batch_and_never_neighbours(batch_size):
    order = order_of(repeats=4, batch_size=batch_size)
    steps = order.reshape(-1, batch_size)
    assert len(steps) == 64 // batch_size
    for step in steps:
        assert sorted(np.unique(step, return_counts=True)[1].tolist()) == [4] * (batch_size // 4)
    assert (order[::2] != order[1::2]).all()  # what mixup and cutmix mix
    assert (order[1:] != order[:-1]).all()
    assert len(set(order)) == len(order) // 4


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_parts_of_the_workers_make_up_each_step(workers):
    order = order_of()
    parts = [worker_part(order, 8, worker, workers).reshape(8, -1) for worker in range(workers)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1).reshape(-1), order)


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (8, 4), (3, 8), (1, 8), (5, 1)])
def test_an_evaluation_counts_each_image_once(count, batch_size):
    numbers, weights = padded(count, batch_size)
    assert len(numbers) == len(weights) == -(-count // batch_size) * batch_size
    np.testing.assert_array_equal(np.bincount(numbers, weights, count), np.ones(count))
    assert numbers[:count].tolist() == list(range(count))
    assert weights.dtype == np.float32
