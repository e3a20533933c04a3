# Two commands: `make demo` and `make test`. Both are thin; everything they call can be typed as well.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all chaos lint clean

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

lint: $(VENV)/.installed-dev ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install --disable-pip-version-check -q -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install --disable-pip-version-check -q -e ".[dev]"
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) runs
