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
unexport PYTHONPATH
unexport PYTHONHOME

# What an installation depends on; settings of tools (from the first [tool.) are none of it.
define KEY
$$(sed '/^\[tool\./,$$d' pyproject.toml | cat - constraints.txt Makefile | cksum) $(CURDIR)
endef

help:
	@echo "make install   set up .venv/, with the command .venv/bin/pantskit"
	@echo "make demo      run every stage once on phantoms, into demo-out/index.html"
	@echo "make test      style, types, layers and tests"
	@echo "make lint      style, types and layers only"
	@echo "make clean     remove .venv/, demo-out/ and caches"

# .venv/installed holds the key of a finished installation, so an interrupted one has none;
# .venv/installing marks one that was killed half-way, which starts over.
install:
	@[ "$$(cat .venv/installed 2>/dev/null)" = "$(KEY)" ] || { \
	  "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	    echo "error: pantskit is set up with Python 3.11, found: $(PYTHON); name one with: make PYTHON=/path/to/python3.11" >&2; exit 2; }; \
	  echo "Setting up .venv/ (several minutes the first time)"; \
	  clear=; if [ -e .venv/installing ] || ! $(BIN)/python -c '' 2>/dev/null; then clear=--clear; fi; \
	  rm -f .venv/installed; \
	  "$(PYTHON)" -m venv $$clear .venv && touch .venv/installing || exit 2; \
	  quiet=--quiet; [ -t 1 ] && quiet=; \
	  $(BIN)/python -m pip install $$quiet -c constraints.txt -e '.[all,dev]'; status=$$?; \
	  rm -f .venv/installing; [ $$status = 0 ] || exit $$status; \
	  echo "$(KEY)" > .venv/installed.new && mv .venv/installed.new .venv/installed; }

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
