# Two commands: `make demo` and `make test`. Both are thin; everything they call can be typed as well.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all chaos bench docs lint style types clean

demo: $(VENV)/.installed ## install, then train and compare the architectures on the built-in language
	$(BIN)/lit-lm compare configs/compare/builtin.yaml --jobs 3

# One process a core, of one thread each: more threads than cores make torch wait for itself.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

test: $(VENV)/.installed-dev ## the fast tests
	$(PYTEST)

test-all: $(VENV)/.installed-dev ## also those that train for minutes
	$(PYTEST) -m ""

chaos: $(VENV)/.installed-dev ## kills runs of all architectures at random moments and compares what comes of them
	$(BIN)/python -m tests.chaos

# Threads that wait asleep: spinning ones would be counted as work.
bench: $(VENV)/.installed-bench ## training, decoding and data beside the peers; docs/results/speed.md
	OMP_WAIT_POLICY=passive $(BIN)/python -m benchmarks

# Without -q, which would hide warnings and let them pass.
docs: $(VENV)/.installed-dev ## the documentation as a site, in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

lint: style types ## style and types

style: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

PIP := $(BIN)/pip install --disable-pip-version-check -q $(PIPFLAGS)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml
	$(PIP) -e ".[dev]"
	$(PIP) --no-deps "sweeps>=0.3" # W&B's schema of sweeps; it excludes today's numpy, and runs with it
	@touch $@ $(VENV)/.installed

# litgpt's own requirements exclude today's transformers and jsonargparse; what is used of it runs with them.
$(VENV)/.installed-bench: $(VENV)/.installed-dev
	$(PIP) -e ".[dev,bench]"
	$(PIP) --no-deps "litgpt>=0.5.13"
	@touch $@

clean:
	rm -rf $(VENV) runs site
