# ruff: noqa: RUF001 (a multiplication sign is meant)
"""`keras-archs show` as a newcomer types it."""

import json
import subprocess
import sys

import pytest

from keras_archs_cli import main


@pytest.fixture
def show(monkeypatch, tmp_path, capsys):
    """Runs the command in this process and gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["keras-archs", "show", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main.main()
        output = capsys.readouterr()
        return exit_.value.code, output.out, output.err

    return run


def test_tables(show):
    code, out, err = show("resnet50")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["name", "resnet50"]
    assert "arXiv:1512.03385" in out
    assert ["convention", "keras"] in lines
    assert ["image", "224", "×", "224", "×", "3"] in lines
    assert ["preprocessing", "caffe"] in lines
    assert ["stage", "sums", "output", "params", "MACs", "acts", "sees", "stride"] in lines
    assert "conv3_block1 - 4 28×28×512 1.23 M 951 M 2.81 M 99 8".split() in lines
    assert "total 16 25.6 M 3.86 G 10.6 M 483 32".split() in lines


@pytest.mark.parametrize("name", ["xception", "inception_resnet_v2"])
def test_the_table_fits_80_columns(show, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = show(name)
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "…" not in out
    assert "stride" in out


def test_json_is_all_of_it_and_nothing_else(show, tmp_path):
    code, out, err = show("resnet20", "--size", "64", "--json", "--draw", "r.svg")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert record["name"] == "resnet20"
    assert "section 4.2" in record["source"]
    assert record["input_shape"] == [64, 64, 3]
    assert record["parameters"] == 271_098
    assert [stage["sums"] for stage in record["stages"]] == [3, 3, 3, 0]
    assert record["layers"][-1]["macs"] == 640
    assert (tmp_path / "r.svg").read_text().startswith("<svg")


def test_drawing_is_named(show, tmp_path):
    code, out, _ = show("plain20", "--draw", "plain.svg")
    assert (code, out.splitlines()[-1]) == (0, "Drawing: plain.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["plain.svg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inception_v33"], "'inception_v33' is no model. Did you mean 'inception_v3'?"),
        (["resnet50", "--size", "16"], "16 is too small: at least 32."),
        (["resnet50", "--size", "0"], "--size"),
        (["resnet50", "--draw", "a.png"], "'a.png' must end in .svg."),
        ([], "name"),
    ],
)
def test_wrong_usage(show, tmp_path, arguments, message):
    code, out, err = show(*arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_wrong_usage_is_found_before_any_work():
    code = (
        "import sys; sys.argv[1:] = ['show', 'resnet50', '--draw', 'a.png']\n"
        "from keras_archs_cli.main import app\n"
        "try: app()\n"
        "except SystemExit as end: print(end.code, 'keras' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.split() == ["2", "False"]
