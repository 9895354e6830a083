# `make dpr` and `make test` make .venv, install, and run. PYTHON=python3.12 picks another interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The release whose CPU build the lock names; a newer one from PyPI is gigabytes of CUDA on Linux.
TORCH ?= torch==2.13.0

.PHONY: dpr test slow newest lowest kills docs lint types audit lock clean

pytest = OMP_NUM_THREADS=1 $(1)/bin/python -m pytest -n auto --dist worksteal

dpr: $(VENV)/.bench
	$(BIN)/python -m benchmarks.dpr $(ARGS)

test: $(VENV)/.test
	$(call pytest,$(VENV)) -m 'not slow' $(ARGS)

# What is slow by nature: kills, Ray, whole benchmarks, compilers, a browser, the built documentation.
slow: $(VENV)/.docs
	$(call pytest,$(VENV)) -m slow $(ARGS)

# The tests with the newest and the lowest of all that pyproject admits, in environments of their own. The newest torch
# is left out, as above: `make newest TORCH=torch` takes it too. Nor has PyPI an old torch without CUDA for Linux.
newest:
	$(PYTHON) -m venv --clear $(VENV)-newest
	$(VENV)-newest/bin/pip install -q '$(TORCH)' -e '.[bench,test]'
	$(call pytest,$(VENV)-newest) -m 'not slow' $(ARGS)

lowest: $(VENV)/.uv
	$(PYTHON) -m venv --clear $(VENV)-lowest
	$(BIN)/uv pip compile -q pyproject.toml --extra bench --extra test --resolution lowest-direct \
	  --python $(VENV)-lowest/bin/python -o $(VENV)-lowest/lowest.txt
	$(VENV)-lowest/bin/pip install -q -r $(VENV)-lowest/lowest.txt
	$(VENV)-lowest/bin/pip install -q --no-deps -e .
	$(call pytest,$(VENV)-lowest) -m 'not slow' $(ARGS)

# Kill a training, and a tune, at random points; each must end with the bits of one that was left alone.
KILLS ?= 50
TUNE_KILLS ?= 20
kills: $(VENV)/.test
	folder=$$(mktemp -d) && OMP_NUM_THREADS=1 $(BIN)/python -m tests.training.kills $$folder $(KILLS)
	folder=$$(mktemp -d) && OMP_NUM_THREADS=1 $(BIN)/python -m tests.tune.kills $$folder $(TUNE_KILLS)

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

# Pins everything that the other targets install, for every supported Python: `make lock ARGS=--upgrade` takes the newest
# of everything. What CUDA is made of stays open: it comes with the torch of a machine that has it.
lock: $(VENV)/.uv
	printf '%s\n' '$(TORCH)' hatchling editables uv | $(BIN)/uv pip compile -q pyproject.toml - --all-extras --universal \
	  --python-version 3.11 --fork-strategy fewest --no-annotate --no-emit-package pip --custom-compile-command 'make lock' \
	  -o constraints.txt $(ARGS)
	grep -Ev '^(cuda|nvidia|triton)' constraints.txt >constraints.tmp && mv constraints.tmp constraints.txt

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.uv: | $(VENV)/bin/python
	$(BIN)/pip install -q -c constraints.txt uv
	touch $@

# From the lock, the build's own requirements too: pip would fetch the newest of those for itself.
$(VENV)/.bench: EXTRAS := bench
$(VENV)/.test: EXTRAS := bench,test
$(VENV)/.docs: EXTRAS := bench,test,docs
$(VENV)/.dev: EXTRAS := bench,test,dev
$(VENV)/.bench $(VENV)/.test $(VENV)/.docs $(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install -q -c constraints.txt hatchling editables
	$(BIN)/pip install -q -c constraints.txt --no-build-isolation -e '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-newest $(VENV)-lowest dist build .pytest_cache .mypy_cache .ruff_cache
