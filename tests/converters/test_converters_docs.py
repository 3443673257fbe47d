"""docs/export.md names recipes, targets, methods, rewrites, tests, commands and functions as they are."""

import ast
import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest
import typer

from converters.calibration import METHODS
from converters.delegates import DELEGATES
from converters.plan import CORRECTIONS
from converters.recipes import RECIPES
from converters.rewrite import REWRITES
from converters.targets import TARGETS
from keras_archs_cli.main import app

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/export.md").read_text("utf-8")
CODE = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
PROSE = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)


@pytest.fixture(autouse=True)
def clean_state():
    """No Keras here."""


def tables():
    """The tables of the document: lists of rows, which are lists of cells, without the heads."""
    blocks = re.findall(r"(?:^\|.*\n)+", PROSE, re.MULTILINE)
    return [[line.strip("| \n").split(" | ") for line in block.splitlines()[2:]] for block in blocks]


def table_of(names):
    """The rows of the table whose first column has these names."""
    named = [f"`{name}`" for name in names]
    found = [rows for rows in tables() if [row[0] for row in rows] == named]
    assert len(found) == 1, f"there is no table of {names}"
    return found[0]


def demands(tolerance):
    """A tolerance in the words of the table, without what the percentages are of."""
    return {
        *([f"{tolerance.max_relative_error:g}"] if tolerance.max_relative_error else []),
        *([f"{tolerance.min_sqnr_db:g} dB"] if tolerance.min_sqnr_db else []),
        *([f"{tolerance.min_agreement:.0%}"] if tolerance.min_agreement else []),
    }


def test_recipes_demand_what_is_said():
    for row, recipe in zip(table_of(RECIPES), RECIPES.values(), strict=True):
        assert row[1].startswith(recipe.weights)
        said = set(re.findall(r"\d+ dB|\d[\d.]* %", row[3]))
        said = {"0.0001" if text == "0.01 %" else text.replace(" %", "%") for text in said}
        assert said == demands(recipe.tolerance), recipe.name


def test_targets_settle_what_is_said():
    for row, target in zip(table_of(TARGETS), TARGETS.values(), strict=True):
        assert row[2] == ", ".join(target.recipes)
        if set(target.recipes) & {"int8", "int16x8"}:
            assert row[3] == f"{target.input_type}, {target.output_type}"


@pytest.mark.parametrize("names", [METHODS, CORRECTIONS, tuple(DELEGATES)], ids=lambda names: names[0])
def test_every_choice_has_its_row_and_no_other(names):
    assert len(table_of(names)) == len(names)


def test_rewrites_have_their_equation_and_their_exactness():
    kinds = {"float": "A", "before int8": "B", "last": "CD"}
    for row, rewrite in zip(table_of(REWRITES), REWRITES.values(), strict=True):
        assert row[1] == rewrite.summary
        assert row[3][0] in kinds[rewrite.stage], rewrite.name


def test_tests_that_are_named_exist():
    named = set(re.findall(r"\b(test_\w+\.py)(?:::(test_\w+))?", TEXT))
    assert len(named) > 20
    for file, test in named:
        text = (ROOT / "tests/converters" / file).read_text("utf-8")
        assert re.search(rf"def {test}\(" if test else "def test_", text), (file, test)


def test_commands_are_accepted():
    lines = re.findall(r"^keras-archs (.*)$", TEXT, re.MULTILINE)
    assert len(lines) > 2
    commands = typer.main.get_command(app).commands
    for line in lines:
        command, *arguments = shlex.split(line, comments=True)
        commands[command].make_context(command, arguments)


def imported():
    """Name in the examples to the object of ours that it stands for."""
    found = {}
    for node in ast.walk(ast.parse(CODE)):
        if isinstance(node, ast.Import):
            ours = [alias.name for alias in node.names if alias.name == "converters"]
            found |= {name: importlib.import_module(name) for name in ours}
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("converters", "keras_archs"):
            module = importlib.import_module(node.module)
            found |= {alias.name: getattr(module, alias.name) for alias in node.names}
    return found


def test_examples_call_what_there_is():
    names, checked = imported(), 0
    for call in (node for node in ast.walk(ast.parse(CODE)) if isinstance(node, ast.Call)):
        function = call.func
        if isinstance(function, ast.Name) and function.id in names:
            called = names[function.id]
        elif isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            called = getattr(names.get(function.value.id), function.attr, None)
        else:
            continue
        if called is not None:
            given = {keyword.arg: None for keyword in call.keywords}
            inspect.signature(called).bind(*call.args, **given)
            checked += 1
    assert checked > 12


def test_links_lead_on():
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", PROSE, re.MULTILINE)
    }
    links = re.findall(r"\]\(([^):]+)\)", PROSE)
    assert links
    for link in links:
        assert link[1:] in headings if link.startswith("#") else (ROOT / "docs" / link).exists()


def test_no_placeholder_is_left():
    assert "@@" not in TEXT
