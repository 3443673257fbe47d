# ruff: noqa: RUF001 (a multiplication sign is meant)
"""The picture: what is in it, that it fits its page, that it is written whole."""

import re
import xml.etree.ElementTree as ET

import pytest
from keras import Input, Model, applications, layers

import keras_archs
from keras_archs.analysis import analyze, draw
from keras_archs.analysis.draw import picture
from keras_archs.analysis.figures import DEPTHWISE
from keras_archs.analysis.svg import INK, text_width

SVG = "{http://www.w3.org/2000/svg}"


def build(name):
    if name[0].isupper():
        return getattr(applications, name)(weights=None)
    return keras_archs.create_model(name, weights=None)


@pytest.fixture(scope="module")
def pictures():
    """Pictures by the name of the model, each drawn once."""
    made = {}

    def picture_of(name):
        if name not in made:
            made[name] = ET.fromstring(picture(analyze(build(name))))
        return made[name]

    return picture_of


def placed(root, x=0.0, y=0.0):
    """All shapes with the position of their group on the page."""
    for element in root:
        moved = re.findall(r"-?[\d.]+(?:e-?\d+)?", element.get("transform", "translate(0 0)"))
        at = x + float(moved[0]), y + float(moved[1])
        if element.tag not in (f"{SVG}defs", f"{SVG}title"):
            yield element, *at
            yield from placed(element, *at)


def words(root):
    """All text."""
    return [element.text for element in root.iter(f"{SVG}text")]


def drawn(root, tag, **attributes):
    """How many shapes are above the legend."""
    shapes = list(placed(root))
    bottom = max(
        y + float(e.get("y")) + float(e.get("height")) for e, _, y in shapes if e.get("fill") == "#f4f6f8"
    )
    return sum(
        e.tag == SVG + tag and y < bottom and all(e.get(key) == value for key, value in attributes.items())
        for e, _, y in shapes
    )


def test_residual_blocks_are_arcs_and_collapse(pictures):
    root = pictures("resnet50")
    # A first block with a projection, and the others, in each of four stages.
    assert drawn(root, "circle") == 8
    texts = words(root)
    assert [text for text in texts if text.startswith("× ")] == ["× 2", "× 3", "× 5", "× 2"]
    assert "conv4_block2 - conv4_block6" in texts
    assert "1×1 /2 1024" in texts
    # Whichever operand the shortcut is.
    assert {"1×1 /2 128", "1×1 /2 1024"} < set(words(pictures("xception")))


def test_a_plain_network_has_no_arcs(pictures):
    root = pictures("plain34")
    assert drawn(root, "circle") == 0
    assert words(root).count("3×3") == 6 + 7 + 11 + 5


def test_option_a_is_a_sampled_and_padded_shortcut(pictures):
    assert "sample /2, pad to 32" in words(pictures("resnet20"))


def test_inception_modules_meet_in_bars(pictures):
    # mixed0, two alike, mixed3, mixed4, two alike, mixed7, mixed8; two alike with two forks inside.
    assert drawn(pictures("inception_v3"), "rect", fill=INK) == 7 + 3
    # A stem module and a residual block in each of three stages.
    assert drawn(pictures("inception_resnet_v2"), "rect", fill=INK) == 3 + 3
    assert drawn(pictures("inception_resnet_v2"), "circle") == 3


def test_separable_convolutions_have_two_tones(pictures):
    # Two in the blocks 2, 3, 4 and 13, three in the middle blocks drawn once, two in the exit.
    assert drawn(pictures("xception"), "rect", fill=DEPTHWISE[0]) == 4 * 2 + 3 + 2
    # Depthwise layers of their own, with the pointwise layer that follows.
    assert drawn(pictures("MobileNet"), "rect", fill=DEPTHWISE[0]) == 13


def test_gates_are_boxes(pictures):
    assert words(pictures("EfficientNetB0")).count("gate") >= 10


NAMES = [
    "resnet50", "plain34", "resnet50v2", "resnet20", "inception_v3", "inception_resnet_v2", "xception",
    "vgg16", "DenseNet121", "EfficientNetB0", "MobileNet", "ConvNeXtTiny",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_on_the_page_and_readable(pictures, name):
    root = pictures(name)
    width, height = (float(root.get(side)) for side in ("width", "height"))
    assert 900 <= width <= 1200
    for element, x, y in placed(root):
        if element.tag == f"{SVG}text":
            size = float(element.get("font-size"))
            start = x + float(element.get("x"))
            length = text_width(element.text, size, bold=element.get("font-weight") == "bold")
            start -= {"start": 0, "middle": length / 2, "end": length}[element.get("text-anchor")]
            assert size >= 11
            assert 0 <= start <= start + length <= width, element.text
            assert size <= y + float(element.get("y")) <= height, element.text
        elif element.tag == f"{SVG}rect" and element.get("width") != "100%":
            left, top = x + float(element.get("x")), y + float(element.get("y"))
            assert 0 <= left <= left + float(element.get("width")) <= width
            assert 0 <= top <= top + float(element.get("height")) <= height


@pytest.mark.parametrize("name", NAMES)
def test_boxes_do_not_overlap(pictures, name):
    boxes = [
        (x + float(e.get("x")), y + float(e.get("y")), float(e.get("width")), float(e.get("height")))
        for e, x, y in placed(pictures(name))
        # Bands and frames hold others.
        if e.tag == f"{SVG}rect" and e.get("width") != "100%" and e.get("rx") not in ("6", "8")
    ]
    for i, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, other_width, other_height in boxes[:i]:
            beside = x + width <= other_x + 0.01 or other_x + other_width <= x + 0.01
            assert beside or y + height <= other_y + 0.01 or other_y + other_height <= y + 0.01


def test_a_name_is_escaped():
    image = Input((8, 8, 3))
    model = Model(image, layers.Conv2D(2, 3)(image), name="a<b&c")
    assert ET.fromstring(picture(analyze(model))).findtext(f"{SVG}title") == "a<b&c"


def test_draw_writes_whole_files(tmp_path, monkeypatch):
    image = Input((8, 8, 3))
    model = Model(image, layers.Conv2D(2, 3)(image), name="tiny")
    path = draw(analyze(model), tmp_path / "tiny.svg")
    assert path == tmp_path / "tiny.svg"
    text = path.read_text()
    assert draw(model, str(path)).read_text() == text

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        draw(keras_archs.ResNet20(weights=None), path)
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_draw_refuses_other_formats(tmp_path):
    with pytest.raises(ValueError, match=r"path='.*resnet.png' must end in .svg"):
        draw(None, tmp_path / "resnet.png")
    assert not list(tmp_path.iterdir())
