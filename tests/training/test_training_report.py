import base64
import csv
import re
from html.parser import HTMLParser
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keras_archs.training.config import TrainConfig
from keras_archs.training.evaluation import Evaluation, Mistake
from keras_archs.training.reading import Pixels, Source
from keras_archs.training.report import write_report

HISTORY = {
    "epoch": [1, 2],
    "loss": [2, 1],
    "val_loss": [3, 1],
    "accuracy": [0.1, 0.5],
    "val_accuracy": [0.1, 0.8125],
    "learning_rate": [0.1, 0.05],
    "seconds": [30, 60],
}
METRICS = {"parameters": 1_234_567, "train_images": 450, "skipped_images": 0}
NAMES = ('<script>alert("1")</script>', "cat & dog", "$x_$")


class Page(HTMLParser):
    """Checks that tags are balanced; collects texts, pictures, and rows of tables."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.sources, self.rows, self.texts = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)
        if self.open[-1:] in (["td"], ["th"], ["code"]) and "tr" in self.open:
            self.rows[-1].append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def splits(config, size=(40, 60)):
    """Test images that differ, as a data set gives them."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
    source = Source(Pixels(pixels), np.array([0, 1, 1], np.int32), NAMES)
    return SimpleNamespace(config=config, test=source, validation=None, split=lambda name: source)


def evaluated(matrix, mistakes=(), class_names=NAMES):
    return Evaluation("test", tuple(class_names), np.array(matrix), 0.25, None, tuple(mistakes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    config = TrainConfig().replaced({"data.source": "/data/<i>pets", "data.image_size": 32, "run.epochs": 2})
    mistakes = [
        Mistake(2, "/data/<b>\udcff.png", NAMES[1], NAMES[0], 0.875),
        Mistake(0, "/data/a.png", NAMES[0], NAMES[1], 0.5),
    ]
    found = evaluated([[5, 1, 0], [2, 8, 0], [0, 0, 0]], mistakes)
    write_report(directory, config, HISTORY, found, METRICS, splits(config))
    return directory


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_folder_holds_four_whole_files(folder):
    assert sorted(p.name for p in folder.iterdir()) == [
        "confusion.png",
        "curves.png",
        "per_class.csv",
        "report.html",
    ]


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(folder, page):
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"https?:|@import|url\(", (folder / "report.html").read_text())


def test_names_are_shown_as_they_are_and_never_as_markup(page):
    assert '<script>alert("1")</script>' in page.text
    assert "cat & dog" in page.text
    assert "<b>?.png" in page.text
    assert "resnet20 on data/<i>pets" in page.texts


def test_the_numbers_that_people_look_for(page):
    for fact in (
        "test accuracy 81.25% 95% interval 57.0% to 93.4%",
        "validation accuracy 81.25% of the best epoch",
        "best epoch 2 of 2",
        "training time 1.5 min 45.0 s an epoch",
        "speed 10 images/s",
        "parameters 1,234,567 4.94 MB in float32",
        "2 epochs on 450 training images of 3 classes; measured on 16 test images.",
    ):
        assert fact in page.text
    assert "top 5" not in page.text
    assert re.search(r"Keras 3\.\S+ on \w+, TensorFlow 2\.\S+, Python 3\.", page.text)


def test_classes_are_sorted_by_recall_and_those_without_images_are_named(page):
    start = next(i for i, row in enumerate(page.rows) if "recall" in row)
    assert page.rows[start + 1 : start + 3] == [
        ["cat & dog", "80.0%", "88.9%", "84.2%", "10"],
        [NAMES[0], "83.3%", "71.4%", "76.9%", "6"],
    ]
    assert "No test images of 1 class: $x_$." in page.text


def test_confusions_are_counted(page):
    start = next(i for i, row in enumerate(page.rows) if "taken for" in row)
    assert page.rows[start + 1 : start + 3] == [
        ["cat & dog", NAMES[0], "2", "20.0%"],
        [NAMES[0], "cat & dog", "1", "16.7%"],
    ]


def test_the_worst_mistake_comes_first_with_its_picture(page):
    assert "87.5% sure" in page.text[: page.text.index("50.0% sure")]
    drawn = [Image.open(BytesIO(base64.b64decode(source.split(",")[1]))) for source in page.sources]
    small = [np.asarray(picture) for picture in drawn if picture.size == (64, 64)]
    assert len(small) == 2
    # As evaluation sees it: the middle square of 40 x 60 pixels, scaled to 32, each pixel four times here.
    pixels = Image.fromarray(splits(None).test.images.array[2])
    expected = np.asarray(pixels.crop((10, 0, 50, 40)).resize((32, 32), Image.Resampling.BILINEAR))
    assert np.abs(small[0][::2, ::2].astype(int) - expected)[1:-1, 1:-1].max() <= 1
    np.testing.assert_array_equal(small[0][::2, ::2], small[0][1::2, 1::2])


def test_only_what_differs_from_the_defaults_comes_first(page):
    start = page.rows.index(["field", "value", "default"])
    end = page.rows.index(["field", "value", "meaning"])
    assert page.rows[start + 1 : end] == [
        ["data.source", "/data/<i>pets", "digits"],
        ["run.epochs", "2", "12"],
    ]
    assert ["model.weights", "null", "Published weights, or a file, to start from."] in page.rows[end:]
    assert len(page.rows[end + 1 :]) == sum(map(len, TrainConfig().to_dict().values()))


def test_the_table_as_a_file(folder):
    with (folder / "per_class.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["name", "images", "correct", "precision", "recall", "f1"],
        [NAMES[0], "6", "5", "0.714286", "0.833333", "0.769231"],
        ["cat & dog", "10", "8", "0.888889", "0.8", "0.842105"],
        ["$x_$", "0", "0", "", "", ""],
    ]


def test_with_many_classes_the_page_has_both_ends_of_the_table_and_no_matrix(tmp_path):
    matrix = np.diag(np.arange(100, 170))
    matrix[:, 0] += 1
    names = [f"class {i}" for i in range(70)]
    write_report(tmp_path, TrainConfig(), HISTORY, evaluated(matrix, class_names=names), METRICS, None)
    page = Page((tmp_path / "report.html").read_text())
    rows = [row for row in page.rows if row and row[0].startswith("class ") and len(row) == 5]
    assert [row[0] for row in rows[:20]] == [f"class {i}" for i in range(1, 21)]
    assert [row[0] for row in rows[20:]] == [*(f"class {i}" for i in range(51, 70)), "class 0"]
    assert "… 30 classes in between are in per_class.csv …" in page.text
    assert "The 10 most frequent of 69 pairs:" in page.text
    assert len(page.sources) == 3
    assert "All defaults." in page.text
    with Image.open(tmp_path / "confusion.png") as picture:
        assert picture.size[0] >= 1000


def test_what_one_should_know_before_believing_the_numbers(tmp_path):
    config = TrainConfig()
    same = splits(config)
    same.validation = same.test
    metrics = METRICS | {"skipped_images": 2}
    write_report(tmp_path, config, HISTORY, evaluated(np.eye(3, dtype=int)), metrics, same)
    page = Page((tmp_path / "report.html").read_text())
    assert "The data has no test split" in page.text
    assert "2 images could not be read" in page.text
    assert "No test image is taken for another class." in page.text
    assert "Worst mistakes" not in page.text
