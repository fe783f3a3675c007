# make demo | test | bench | fuzz | lint | docs | clean.  One virtual environment, made once; what is installed in it
# is looked at again only when pyproject.toml or the C module changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
SECONDS ?= 60
SEED ?= 0

.PHONY: demo test bench fuzz lint docs clean

demo: $(VENV)/.installed-demo
	$(BIN)/python examples/digits.py

test: lint
	$(BIN)/python -m pytest -n $(JOBS) $(TESTS)

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks $(ARGS)

fuzz: $(VENV)/.installed-test
	$(BIN)/python -m fuzz --seconds $(SECONDS) --seed $(SEED) --save tests/fuzz/found

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: pyproject.toml $(wildcard spiraltorch/fast/*.[ch]) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@
