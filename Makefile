# Both commands make .venv when it is missing, and install into it what they need.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt

.PHONY: quickstart test lint clean

quickstart: .venv/.run
	$(BIN)/keras-archs quickstart

test: .venv/.test
	$(BIN)/python -m pytest

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/.python:
	@echo "Making .venv"
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.run: .venv/.python pyproject.toml constraints.txt
	@echo "Installing keras-archs with TensorFlow and Keras into .venv (about a minute)"
	@$(INSTALL) --editable .
	@touch $@

.venv/.test: .venv/.run
	@echo "Installing what the tests need into .venv"
	@$(INSTALL) --editable '.[test]'
	@touch $@

.venv/.dev: .venv/.test
	@echo "Installing the linters into .venv"
	@$(INSTALL) --editable '.[test,dev]'
	@touch $@

clean:
	rm -rf .venv runs build .ruff_cache .mypy_cache .pytest_cache
