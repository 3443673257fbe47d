"""Every notebook runs from top to bottom, with a shorter training, and shows what it promises."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


# What takes minutes is shortened: test_cli.py trains the same network to the end.
SHORTER = {"00_quickstart": {"TrainConfig()": "TrainConfig.from_dict({'run': {'epochs': 2}})"}}


def execute(path, folder):
    notebook = nbformat.read(path, as_version=4)
    for long, short in SHORTER.get(path.stem, {}).items():
        assert long in str(notebook)
        for cell in notebook.cells:
            cell.source = cell.source.replace(long, short)
    # Under pytest a kernel would not capture what C++ code writes to stderr, which readers of a notebook see.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS] == ["00_quickstart.ipynb"]


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # of Jupyter's own messaging
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, tmp_path):
    outputs = execute(path, tmp_path)
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    text = "".join(output.get("text", "") for output in outputs)
    assert len(pictures) == 4
    assert "unseen digits are right" in text
    assert not [output for output in outputs if output.get("name") == "stderr"]
