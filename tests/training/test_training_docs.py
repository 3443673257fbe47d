"""The documents name fields, recipes, tests and commands as they are."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from keras_archs.training import TrainConfig, list_recipes
from keras_archs.training.config import SECTIONS
from keras_archs_cli.main import app
from keras_archs_cli.training import chosen_config

ROOT = Path(__file__).parents[2]
TEXTS = {name: (ROOT / name).read_text("utf-8") for name in ("README.md", "CHANGELOG.md", "docs/training.md")}


def rows_of(heading):
    """The table rows between a heading and the next one, without those that head the tables."""
    part = re.search(rf"\n## {heading}\n(.*?)(?=\n## |\Z)", TEXTS["docs/training.md"], re.DOTALL)[1]
    return [line for line in part.splitlines() if line.startswith("| `")]


def field_row(section, field):
    default = yaml.safe_dump(TrainConfig().to_dict()[section][field.name], default_flow_style=True)
    shown = re.sub(r"(\.\d{4})\d+", r"\1", default.removesuffix("...\n").strip())
    accepted, meaning = field.metadata["check"][0], field.metadata["meaning"]
    return f"| `{section}.{field.name}` | {shown} | {accepted} | {meaning} |"


def test_every_field_is_documented_as_it_is():
    fields = [field_row(section, f) for section, kind in SECTIONS.items() for f in dataclasses.fields(kind)]
    assert rows_of("Every field") == fields


def test_every_recipe_has_its_source():
    assert sorted(row.split("`")[1] for row in rows_of("Recipes")) == list_recipes()


@pytest.mark.parametrize("name", ["CHANGELOG.md", "docs/training.md"])
def test_tests_that_are_named_exist(name):
    named = set(re.findall(r"\b(test_\w+\.py)(?:::(test_\w+))?", TEXTS[name]))
    assert named
    for file, test in named:
        found = [path.read_text("utf-8") for path in (ROOT / "tests").rglob(file)]
        assert any(f"def {test or 'test_'}" in text for text in found), (file, test)


@pytest.mark.parametrize("name", ["README.md", "docs/training.md"])
def test_commands_are_accepted(name):
    lines = re.findall(r"^(?:\w+=\w+ )?keras-archs (.*)$", TEXTS[name].replace("\\\n", ""), re.MULTILINE)
    assert len(lines) > 1
    commands = typer.main.get_command(app).commands
    for line in lines:
        command, *arguments = shlex.split(line, comments=True)
        given = commands[command].make_context(command, arguments).params
        if command in ("train", "lr-find"):
            chosen_config(
                given["recipe"], given["config"], {"model.name": given["model"]}, given["set_"] or []
            )
