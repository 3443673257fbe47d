import json
from types import SimpleNamespace

import numpy as np
import pytest
from training_helpers import tiny_model

from keras_archs.training.config import TrainConfig
from keras_archs.training.data import load_data
from keras_archs.training.evaluation import Confusion, Evaluation, evaluate_model, wilson_interval
from keras_archs.training.reading import Pixels, Source


def fake_data(labels, class_names, batch=64):
    """Each image is its own number, so that a fake model can look up what it says."""
    labels, numbers = np.asarray(labels, np.int32), np.arange(len(labels), dtype=np.float32)
    source = Source(Pixels(np.zeros((len(labels), 1, 1, 3), np.uint8)), labels, tuple(class_names))
    cuts = range(0, len(labels), batch)
    batches = [(numbers[i : i + batch], labels[i : i + batch]) for i in cuts]
    return SimpleNamespace(
        class_names=tuple(class_names), split=lambda name: source, dataset=lambda name: batches
    )


def says(probabilities):
    return lambda numbers, training: np.asarray(probabilities, np.float32)[numbers.astype(int)]


def test_three_images_by_hand():
    given = [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.9, 0.1, 0.0]]
    found = evaluate_model(says(given), fake_data([0, 1, 1], "abc"), "validation")
    assert found.matrix.tolist() == [[1, 0, 0], [2, 0, 0], [0, 0, 0]]
    assert (found.split, found.images, found.correct, found.top5) == ("validation", 3, 1, None)
    assert found.accuracy == 1 / 3
    assert found.loss == pytest.approx(-np.log([0.7, 0.3, 0.1]).mean())
    a, b, c = found.per_class()
    assert (a.name, a.images, a.correct, a.recall, a.precision, a.f1) == ("a", 1, 1, 1.0, 1 / 3, 0.5)
    assert (b.images, b.recall, b.precision, b.f1) == (2, 0.0, None, 0.0)
    assert (c.images, c.recall, c.precision, c.f1) == (0, None, None, None)
    assert [(m.index, m.name, m.true, m.predicted) for m in found.mistakes] == [
        (2, "image 2", "b", "a"),
        (1, "image 1", "b", "a"),
    ]
    assert found.worst(1) == found.mistakes[:1]
    assert found.worst(1)[0].probability == pytest.approx(0.9)
    assert found.confusions() == [Confusion("b", "a", 2)]


def test_numbers_are_those_of_scikit_learn():
    from sklearn import metrics

    random = np.random.default_rng(0)
    labels, names = random.integers(0, 9, 300), list("abcdefghi")
    given = random.dirichlet(np.ones(9), 300)
    given[:200] = 0.3 * given[:200] + 0.7 * np.eye(9)[labels[:200]]
    found = evaluate_model(says(given), fake_data(labels, names, batch=128))
    np.testing.assert_array_equal(found.matrix, metrics.confusion_matrix(labels, given.argmax(1)))
    assert found.loss == pytest.approx(metrics.log_loss(labels, given), rel=1e-6)
    assert found.top5 == pytest.approx(metrics.top_k_accuracy_score(labels, given, k=5))
    expected = metrics.precision_recall_fscore_support(labels, given.argmax(1))
    rows = [(row.precision, row.recall, row.f1, row.images) for row in found.per_class()]
    np.testing.assert_allclose(np.transpose(rows), expected)
    counts = [pair.images for pair in found.confusions()]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == len(found.mistakes) == found.images - found.correct
    assert found.confusions(2) == found.confusions()[:2]


def test_a_keras_model_on_real_data_as_keras_measures_it():
    data, model = load_data(TrainConfig()), tiny_model("tiny", input_shape=(32, 32, 3), classes=10)
    found = evaluate_model(model, data, progress=False)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = model.evaluate(data.dataset("test"), verbose=0)
    assert found.images == len(data.test)
    assert (found.loss, found.accuracy) == pytest.approx((loss, accuracy), rel=1e-5)


def test_one_image_cannot_make_the_loss_infinite():
    found = evaluate_model(says([[1.0, 0.0]]), fake_data([1], "ab"))
    assert found.loss == pytest.approx(-np.log(1e-7))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[0.5, 0.3, 0.2]], r"shape \(1, 3\) for 1 images; the data has 2 classes, which needs \(1, 2\)"),
        ([[3.0, 1.0]], "sum to 4 to 4, .* lack the softmax"),
        ([[3.0, -2.0]], "the smallest is -2"),
        ([[np.nan, np.nan]], "sum to nan to nan"),
    ],
)
def test_outputs_that_are_no_probabilities_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        evaluate_model(says(given), fake_data([0], "ab"))


# Newcombe (1998), table I, method 3
@pytest.mark.parametrize(
    ("correct", "images", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_of_the_literature(correct, images, low, high):
    assert wilson_interval(correct, images) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(images - correct, images) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_the_dictionary_is_json_and_holds_the_whole_matrix():
    found = Evaluation("test", ("a", "b"), np.array([[3, 1], [0, 0]]), 0.5, None, ())
    read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert read["accuracy"] == 0.75
    assert read["accuracy_interval"] == list(found.accuracy_interval())
    assert [row["correct"] for row in read["classes"]] == [3, 0]
    assert read["confusions"] == [{"true": "a", "predicted": "b", "images": 1}]
