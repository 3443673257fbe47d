"""README's Python runs as printed, but for the download and the length of the training; its links lead on."""

import re
from pathlib import Path

import keras_archs

SHORTER = {"epochs=3": "epochs=1", "[:1400]": "[:320]", "[1400:]": "[1600:]"}
ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example(tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for long, short in SHORTER.items():
        assert long in example
        example = example.replace(long, short)
    path = tmp_path / "published.weights.h5"
    base = keras_archs.Xception(weights=None, include_top=False)
    base.set_weights([2 * w if w.ndim == 4 else w for w in base.get_weights()])  # features that don't vanish
    base.save_weights(path)
    asked = []
    monkeypatch.setattr("keras_archs.weights.download", lambda *what: asked.append(what) or path)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert [(entry.name, include_top) for entry, include_top in asked] == [("xception.keras_in1k", False)]
    assert "top-1 agreement" in capsys.readouterr().out
    assert (tmp_path / "xception-int8" / "model.tflite").exists()


def test_links():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert "CONTRIBUTING.md" in links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_no_placeholder_is_left():
    assert "@@" not in README
