# Two commands:  make demo   and   make test.   `make setup` is the part of both that only installs.
# DEMO_ARGS goes to `interp demo` (try `make demo DEMO_ARGS=--no-app`), TEST_ARGS to pytest,
# TEST_JOBS says how many processes run the tests.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO_ARGS ?=
TEST_ARGS ?=
TEST_JOBS ?= 2

.DELETE_ON_ERROR:
.PHONY: help setup demo test test-slow lint bench clean

help:
	@echo "make demo       install, fetch, train, and open the browser on the features of a real model"
	@echo "make test       install and prove the project (lint, types, architecture, tests)"
	@echo "make setup      only install, into $(VENV)"
	@echo "make test-slow  the longer proofs"
	@echo "make bench      the benchmarks, as ratios measured side by side"

setup: $(DEV)

$(RUN): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name another with make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) --editable .
	@touch $@

$(DEV): $(RUN)
	$(PIP) --editable '.[dev]'
	@touch $@

demo: $(RUN)
	$(BIN)/interp demo $(DEMO_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

# One thread a process: two processes that use two threads each get in each other's way. In the order
# of the files, as the longest ones have few tests and would otherwise come last.
test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(TEST_JOBS) --dist loadfile --no-loadscope-reorder $(TEST_ARGS)

test-slow: setup
	$(BIN)/python -m pytest -m slow $(TEST_ARGS)

bench: setup
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
