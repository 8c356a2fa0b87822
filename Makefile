# Everything a person or a machine needs to run this project; `make` alone lists it.

PYTHON ?= python3
PYTEST_ARGS ?= -n auto

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP_INSTALL := $(BIN)/python -m pip install -qq --no-input --constraint constraints.txt

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup check test lint mutants bench docs clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(INSTALLED) ## create .venv and install the project with the pinned versions

check: $(INSTALLED) ## judge the NumPy reference and the PyTorch loss against the golden cases
	$(BIN)/regionloss check numpy --golden
	$(BIN)/regionloss check torch --golden

test: $(INSTALLED) ## run every test on all cores (PYTEST_ARGS takes the place of "-n auto")
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(INSTALLED) ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

mutants: $(INSTALLED) ## print what each seeded mistake breaks, and how it is caught
	$(BIN)/python -m regionloss_suite.matrix

bench: ## time the losses (not there yet)
	@echo "make bench: there are no benchmarks yet, so nothing was measured." >&2; exit 1

docs: ## render the site (not there yet)
	@echo "make docs: there is no site yet, so nothing was rendered." >&2; exit 1

clean: ## remove .venv, caches and build output
	rm -rf $(VENV) build dist site .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find spec reference adapters tests -type d -name __pycache__ -prune -exec rm -rf {} +

# The build backend comes first and pinned, because pip's isolated builds would fetch whichever is newest.
$(INSTALLED): pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	@echo "Installing regionloss, PyTorch and the tools into $(VENV); the first time, this takes a minute or more ..."
	@$(PIP_INSTALL) hatchling editables
	@$(PIP_INSTALL) --no-build-isolation --editable '.[torch,dev]'
	@touch $@
	@echo "Installed."

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "regionloss needs Python 3.11 or newer, but '$(PYTHON) --version' says '$$($(PYTHON) --version 2>&1 | head -n 1)';" \
	         "name another one, as in: make $(or $(firstword $(MAKECMDGOALS)),setup) PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
