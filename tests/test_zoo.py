"""Every row: it builds, and has the parameters and multiply-accumulates that its source states."""

import csv
import math
from pathlib import Path

import keras
import pytest

import keras_archs
from keras_archs.analysis import analyze
from keras_archs.assemble import CONSTRUCTORS

FIGURES = Path(keras_archs.__file__).parent / "figures.csv"
# timm's results/benchmark-infer-*.csv at 1.0.29.dev0: parameters in millions, GMACs at a size.
TIMM = Path(__file__).parent / "timm_figures.csv"
TIMM_NAMES = {"legacy_xception": "xception"}


def rows(path):
    with path.open(newline="") as file:
        return {TIMM_NAMES.get(row["model"], row["model"]): row for row in csv.DictReader(file)}


OURS, THEIRS = rows(FIGURES), rows(TIMM)
# A stale row of timm's: the name has 3, 4, 6, 3 blocks today, the row is of 2, 2, 2, 2.
STALE = {"ecaresnext50t_32x4d"}
# Where timm's figure also counts five operations for each number that group normalization or weight
# standardisation puts out; tests/golden compares these with timm's convolutions alone.
COUNTS_NORMS = {"resnet50_gn", "resnetv2_50d_gn", *keras_archs.list_models("*_bit")}


# Papers and other zoos (facts that no golden file holds): trainable parameters with the classifier.
TRAINABLE = {
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet1202": 19_421_274,
    "resnet20_option_b": 272_474,
    "resnet32_option_b": 466_906,
    "resnet44_option_b": 661_338,
    "resnet56_option_b": 855_770,
    "resnet110_option_b": 1_730_714,
    "plain18": 11_515_688,
    "plain34": 21_623_848,
    "plain20": 269_722,
    "plain32": 464_154,
    "plain44": 658_586,
    "plain56": 853_018,
    "plain110": 1_727_962,
    "wide_resnet16_4": 2_748_890,
    "wide_resnet16_8": 10_961_370,
    "wide_resnet28_2": 1_467_610,
    "wide_resnet28_10": 36_479_194,
    "wide_resnet40_2": 2_243_546,
    "wide_resnet40_4": 8_949_210,
    "googlenet": 6_624_904,
    "googlenet_2014": 6_998_552,
    "inception_v4": 42_679_816,
    "inception_v3": 23_817_352,
    "inception_resnet_v2": 55_813_192,
    "xception": 22_855_952,
}


@pytest.fixture(autouse=True)
def without_memory():
    """Counting needs the shapes of the weights, not the weights: up to 3.7 GB a model."""
    with keras.StatelessScope(initialize_variables=False):
        yield


def trainable(model):
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def test_the_table_lists_every_model():
    assert list(OURS) == keras_archs.list_models()
    assert set(OURS) >= set(TRAINABLE)


@pytest.mark.parametrize("name", keras_archs.list_models())
def test_a_row(name):
    model = keras_archs.create_model(name, weights=None)
    figures = analyze(model)
    assert model.count_params() == int(OURS[name]["parameters"])
    assert figures.macs == int(OURS[name]["macs"])
    assert keras_archs.get_spec(name).size == int(OURS[name]["size"])
    assert trainable(model) == TRAINABLE.get(name, trainable(model))
    if name in THEIRS and name not in STALE:
        theirs = THEIRS[name]
        spec = keras_archs.get_spec(name)
        if "torch" in spec.conventions and spec.convention.name != "torch":
            model = keras_archs.create_model(name, weights=None, convention="torch")
        assert trainable(model) / 1e6 == pytest.approx(float(theirs["parameters_m"]), abs=0.0051)
        if name in COUNTS_NORMS:
            return
        gmacs = analyze(model, int(theirs["size"])).macs / 1e9
        assert gmacs == pytest.approx(float(theirs["gmacs"]), rel=0.01, abs=0.0051)


# Without the classifier, moving statistics included: asserted in slim's tests, tf-models' resnet_test.py
# (less the projection of stage one, which only tf-models has), facenet's variant in facts of its own.
BASES = [
    ("googlenet", "slim", 5_607_184),
    ("inception_v2", "slim", 10_173_112),
    ("inception_v3", "slim", 21_802_784),
    ("resnet10", "torch", 4_915_904 - 4_352),
    ("resnet18", "torch", 11_186_112),
    ("resnet34", "torch", 21_301_696),
    ("resnet50", "torch", 23_561_152),
    ("resnet101", "torch", 42_605_504),
    ("resnet152", "torch", 58_295_232),
    ("inception_resnet_v1", "slim", 22_549_808 + 28_576),
]


@pytest.mark.parametrize(("name", "convention", "count"), BASES)
def test_base_networks(name, convention, count):
    model = keras_archs.create_model(name, weights=None, convention=convention, include_top=False)
    assert model.count_params() == count


@pytest.mark.parametrize(("name", "n"), [("resnet20", 3), ("resnet110", 18)])
def test_option_c_projects_everywhere(name, n):
    """n - 1 blocks of each stage and the first stage's first get a 1x1 convolution and its normalization."""
    more = sum((n - 1 + (width == 16)) * (width * width + 2 * width) for width in (16, 32, 64))
    b, c = (keras_archs.create_model(f"{name}_option_{option}") for option in "bc")
    assert trainable(c) - trainable(b) == more


def test_constructors_are_public_under_their_names():
    for name, function in CONSTRUCTORS.items():
        assert getattr(keras_archs, function.__name__) is function
        assert function.__name__.lower().replace("_", "") == OTHERWISE.get(name, name.replace("_", ""))
    assert keras_archs.InceptionV1 is keras_archs.GoogLeNet


# Big Transfer's names for what timm calls resnetv2_50x1_bit.
OTHERWISE = {
    "resnetv2_50x1_bit": "bitr50x1",
    "resnetv2_50x3_bit": "bitr50x3",
    "resnetv2_101x1_bit": "bitr101x1",
    "resnetv2_101x3_bit": "bitr101x3",
    "resnetv2_152x2_bit": "bitr152x2",
    "resnetv2_152x4_bit": "bitr152x4",
}
