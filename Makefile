# `make dpr` and `make test` make .venv, install, and run. PYTHON=python3.12 picks another interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: dpr test kills docs lint types audit clean

dpr: $(VENV)/.bench
	$(BIN)/python -m benchmarks.dpr $(ARGS)

test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

# Kill a training at fifty random points; each must end with the bits of one that was left alone.
kills: $(VENV)/.test
	folder=$$(mktemp -d) && OMP_NUM_THREADS=1 $(BIN)/python -m tests.training.kills $$folder 50

docs: $(VENV)/.docs
	$(BIN)/python -m mkdocs build --strict

# Known vulnerabilities of what is installed; needs a network.
audit: $(VENV)/.dev
	$(BIN)/pip-audit --local

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

# The constraints keep pip from pulling gigabytes of CUDA; a GPU machine installs its own torch first.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.bench: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install -q -c constraints.txt -e '.[bench]'
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install -q -c constraints.txt -e '.[bench,test]'
	touch $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install -q -c constraints.txt -e '.[bench,test,docs]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install -q -c constraints.txt -e '.[bench,test,dev]'
	touch $@

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache
