# Everything is set up from here, in .venv/ of this checkout: Python 3.11 and make are enough.
# Which build of torch comes (CPU or CUDA) is for pip's own settings on the machine to say.

.DEFAULT_GOAL := help
.PHONY: help install test lint demo clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

# Only what is installed here counts: nothing from the user's site-packages or PYTHONPATH.
export PYTHONNOUSERSITE := 1
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Two tests at a time fill two cores; more than four fill the memory of a small machine. A file's
# tests stay together, since they share what was made for them; in order, or the demo, a few tests of
# minutes, would come last and alone.
PYTEST_ARGS ?= -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
unexport PYTHONPATH
unexport PYTHONHOME

help:
	@echo "make install   set up .venv/, with the command .venv/bin/pantskit"
	@echo "make demo      run every stage once on phantoms, into demo-out/index.html"
	@echo "make test      style, types, layers and tests"
	@echo "make lint      style, types and layers only"
	@echo "make clean     remove .venv/, demo-out/ and caches"

install:
	@PYTHON="$(PYTHON)" sh scripts/install.sh

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test: lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

demo: install
	$(BIN)/pantskit demo --out demo-out

clean:
	rm -rf .venv demo-out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -exec rm -rf {} +
