import matplotlib.pyplot
import numpy as np
import pytest
from PIL import Image

from keras_archs.training.plots import plot_confusion, plot_curves

HISTORY = {
    "loss": [2, 1, 0.5],
    "val_loss": [3, 1, 2],
    "accuracy": [0.1, 0.5, 0.9],
    "val_accuracy": [0.1, 0.8, 0.7],
}


def test_curves_show_all_four_lists_and_the_best_epoch(tmp_path):
    figure = plot_curves(HISTORY, tmp_path / "c.png")
    drawn = [line.get_ydata().tolist() for axes in figure.axes for line in axes.lines[:2]]
    assert drawn == [HISTORY["loss"], HISTORY["val_loss"], HISTORY["accuracy"], HISTORY["val_accuracy"]]
    assert [axes.lines[2].get_xdata()[0] for axes in figure.axes] == [2, 2]
    assert "best epoch: 2" in [text.get_text() for text in figure.legends[0].texts]
    with Image.open(tmp_path / "c.png") as image:
        assert image.size[0] >= 1000


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_loss_without_logarithm_is_drawn_too(tmp_path, value):
    figure = plot_curves(HISTORY | {"loss": [value] * 3}, tmp_path / "c.png")
    assert figure.axes[0].get_yscale() == "linear"
    assert plot_curves(HISTORY).axes[0].get_yscale() == "log"


def test_curves_of_an_incomplete_history_are_refused():
    with pytest.raises(ValueError, match="no values for val_loss, val_accuracy; it has loss, accuracy"):
        plot_curves({"loss": [1], "accuracy": [1]})


def test_confusion_shows_counts_names_and_accuracy(tmp_path):
    figure = plot_confusion([[5, 1], [0, 4]], ["cat", "a very long name of a dog"], tmp_path / "c.png")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["5", "1", "0", "4"]
    assert [text.get_weight() for text in axes.texts] == ["normal", "bold", "normal", "normal"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["cat", "a very long name of…"]
    assert axes.get_title() == "90.00% of 10 images correct"
    assert axes.get_ylabel() == "true class"
    np.testing.assert_allclose(axes.images[0].get_array(), [[5 / 6, 1 / 6], [0, 1]])


def test_nothing_is_cut_off_at_the_edges(tmp_path):
    plot_confusion(np.eye(3, dtype=int), ["a long enough name"] * 3, tmp_path / "c.png")
    plot_curves(HISTORY, tmp_path / "d.png")
    for name in ("c.png", "d.png"):
        pixels = np.asarray(Image.open(tmp_path / name).convert("L"))
        assert min(pixels[0].min(), pixels[-1].min(), pixels[:, 0].min(), pixels[:, -1].min()) == 255


def test_many_classes_have_no_numbers():
    assert not plot_confusion(np.eye(40, dtype=int), [str(i) for i in range(40)]).axes[0].texts


def test_a_class_that_never_occurs_is_no_division_by_zero():
    plot_confusion([[0, 0], [0, 4]], ["a", "b"])


def test_a_matrix_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 2\); 3 class names need \(3, 3\)"):
        plot_confusion([[1, 0], [0, 1]], ["a", "b", "c"])


def test_pyplot_is_left_alone(tmp_path):
    backend = matplotlib.get_backend()
    plot_confusion([[1, 0], [0, 1]], ["a", "b"], tmp_path / "c.png")
    plot_curves(HISTORY, tmp_path / "d.svg")
    assert matplotlib.pyplot.get_fignums() == []
    assert matplotlib.get_backend() == backend
    assert (tmp_path / "d.svg").read_text().startswith("<?xml")
