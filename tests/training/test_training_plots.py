import matplotlib.pyplot
import numpy as np
import pytest
from PIL import Image

from keras_archs.training.plots import (
    curve_panels,
    plot_confusion,
    plot_curve,
    plot_curves,
    plot_rates,
    smoothed,
)

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


def test_a_history_with_learning_rates_has_a_third_panel(tmp_path):
    figure = plot_curves(HISTORY | {"learning_rate": [0.1, 0.05, 0]}, tmp_path / "c.png")
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy", "learning rate"]
    assert figure.axes[2].lines[0].get_ydata().tolist() == [0.1, 0.05, 0]
    assert figure.axes[2].lines[1].get_xdata()[0] == 2
    assert [text.get_text() for text in figure.legends[0].texts] == [
        "training",
        "validation",
        "best epoch: 2",
    ]


def test_top_5_is_drawn_beside_the_accuracy():
    figure = plot_curves(HISTORY | {"top5": [0.5, 0.9, 1], "val_top5": [0.4, 0.8, 0.9]})
    assert [line.get_ydata()[1] for line in figure.axes[1].lines[3:]] == [0.9, 0.8]
    assert len(figure.axes[0].lines) == 3
    labels = [text.get_text() for text in figure.legends[0].texts]
    assert labels[3:] == ["top 5, training", "top 5, validation"]


def test_marks_of_many_epochs_would_be_a_thick_line():
    long = {name: values * 20 for name, values in HISTORY.items()}
    assert plot_curves(long).axes[0].lines[0].get_marker() == "None"
    assert plot_curves(HISTORY).axes[0].lines[0].get_marker() == "o"


def test_one_panel_alone():
    figure = plot_curve(HISTORY, "accuracy")
    assert [axes.get_title() for axes in figure.axes] == ["accuracy"]
    assert curve_panels(HISTORY) == ["loss", "accuracy"]


def test_axes_of_very_many_classes_have_numbers(tmp_path):
    figure = plot_confusion(np.eye(61, dtype=int), ["a"] * 61)
    figure.draw_without_rendering()
    assert len(figure.axes[0].get_yticklabels()) < 20


def test_names_are_no_formulas(tmp_path):
    plot_confusion(np.eye(2, dtype=int), [r"$\nonsense$", "$x$"], tmp_path / "c.png")


def test_rates_are_drawn_with_their_suggestion_and_without_the_fall_apart(tmp_path):
    rates, losses = np.geomspace(1e-6, 1, 7), [2.0, 2.0, 1.5, 1.0, 900.0, np.nan, np.inf]
    figure = plot_rates(rates, losses, 3e-4, tmp_path / "r.png")
    axes = figure.axes[0]
    raw, smooth, suggestion = axes.lines
    assert raw.get_ydata().tolist() == losses[:5]
    np.testing.assert_allclose(smooth.get_ydata(), smoothed(losses[:5]))
    assert suggestion.get_xdata()[0] == 3e-4
    assert axes.get_xscale() == "log"
    assert axes.get_ylim()[1] < 3
    assert "suggestion: 0.0003" in [text.get_text() for text in axes.get_legend().texts]
    assert (tmp_path / "r.png").exists()


def test_smoothing_starts_at_the_first_value_and_keeps_constants():
    np.testing.assert_allclose(smoothed([3.0] * 5), 3)
    np.testing.assert_allclose(smoothed([1.0, 2.0], memory=0.5), [1, (0.5 * 1 + 2) / 1.5])
