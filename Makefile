# `make run` is the whole job on public packages; `make test` is what CI runs. Both set everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup run test lint format check-pairs bench-vocab bench-ladder clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed  ## create .venv and install the pinned dependencies

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
	  || { echo "koembed needs Python 3.10-3.12: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

run: setup  ## turn English all-MiniLM-L6-v2 into a Korean embedding model, under runs/quickstart
	$(BIN)/koembed run --config configs/quickstart.yaml

test: setup lint  ## lint, type check, and all tests
	$(BIN)/python -m pytest -q

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check-pairs: setup  ## check the labelled pairs that ship with koembed
	$(BIN)/koembed data check-pairs

bench-vocab: setup  ## measure vocabulary expansion; KOEMBED_DATA names the directory of the public data
	$(BIN)/python benchmarks/vocab.py

bench-ladder: setup  ## the recipes' ladders on real bases; KOEMBED_DATA as above; takes long
	$(BIN)/python benchmarks/ladder.py

clean:  ## remove runs and caches, not .venv
	rm -rf runs .pytest_cache .ruff_cache .mypy_cache .hypothesis
