# Everything a person or a machine needs to run this project; `make` alone lists it.

PYTHON ?= python3
PYTEST_ARGS ?= -n auto --dist worksteal
BENCH_ARGS ?=
MUTANT_ARGS ?= --jobs 2

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP_INSTALL := -m pip install -qq --no-input --constraint constraints.txt
DOCS_VENV := .venv-docs
DOCS_INSTALLED := $(DOCS_VENV)/.installed
NPM_FOLDER := build/docs
NPM_INSTALLED := $(NPM_FOLDER)/node_modules/.package-lock.json

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup check test test-quick test-sweep lint mutants machine-mutants record-ports bundle-recordings lock bench bench-gpu docs clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' Makefile

setup: $(INSTALLED) ## create .venv and install the project with the pinned versions

check: $(INSTALLED) ## judge the NumPy reference and the PyTorch loss against the golden cases
	$(BIN)/regionloss check numpy --golden
	$(BIN)/regionloss check torch --golden

test: $(INSTALLED) ## run the tests on all cores, of each sweep a sample (PYTEST_ARGS: files and options)
	$(BIN)/python -m pytest -m 'not sweep' $(PYTEST_ARGS)

test-quick: $(INSTALLED) ## run the unit and meta tests that are not marked slow, for use while you work
	$(BIN)/python -m pytest -m 'not sweep and not slow and not packaging' tests/unit tests/meta $(PYTEST_ARGS)

test-sweep: $(INSTALLED) ## run the rest of the sweeps: every mutant, variant, profile and seed
	$(BIN)/python -m pytest -m sweep $(PYTEST_ARGS)

lint: $(INSTALLED) ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

confusion: $(INSTALLED) ## diagnose 300 losses of two to six differences, and count what is blamed rightly
	PYTHONPATH=tests $(BIN)/python tests/tools/confusion.py

mutants: $(INSTALLED) ## print what each seeded mistake breaks, and how it is caught
	$(BIN)/python tests/tools/mutant_matrix.py

machine-mutants: $(INSTALLED) ## change a loss mechanically, and print what no golden case notices (MUTANT_ARGS: --part, --every, --jobs ...)
	$(BIN)/python tests/tools/machine_mutants.py $(MUTANT_ARGS)

record-ports: $(INSTALLED) ## judge, identify and time the ports checked out below SOURCES, and write docs/implementations
	$(BIN)/python tests/tools/record_ports.py --sources $(SOURCES) --speed

bundle-recordings: $(INSTALLED) ## turn the recordings of darknet in RECORDINGS into cases of the spec
	$(BIN)/python tests/tools/bundle_recordings.py $(RECORDINGS) spec/regionloss_spec/cases

# What a run of the benchmarks writes, by the kind of device.
bench_output = --json build/bench/$(1).json --markdown build/bench/$(1).md --svg build/bench/$(1)

bench: $(INSTALLED) ## time the losses beside each other on one thread of the CPU, and write build/bench (BENCH_ARGS adds options)
	@mkdir -p build/bench
	$(BIN)/regionloss bench $(call bench_output,cpu) $(BENCH_ARGS)

# A machine with a GPU may have no network to install from, so without a .venv this runs from the sources.
# PYTHON then needs PyTorch, Triton, NumPy, pytest, Hypothesis and pytest-benchmark.
bench-gpu: from_sources := PYTHONPATH=spec:reference:adapters:tests $(if $(wildcard $(BIN)/regionloss),$(BIN)/python,$(PYTHON))
bench-gpu: ## judge the CUDA kernels, test and time them on a GPU
	@mkdir -p build/bench
	$(from_sources) -m regionloss_suite check torch-triton
	$(foreach tests,$(wildcard tests/unit/torch/test_triton_cuda.py),$(from_sources) -m pytest -q -p no:cacheprovider $(tests))
	$(from_sources) -m regionloss_suite bench --device cuda $(call bench_output,cuda) $(BENCH_ARGS)

lock: $(INSTALLED) ## say that the cases of every changed clause were looked at
	$(BIN)/python -m regionloss_spec.lock

docs: $(DOCS_INSTALLED) $(NPM_INSTALLED) ## render the site into site/, strictly, and check its links
	$(DOCS_VENV)/bin/mkdocs build --strict
	$(DOCS_VENV)/bin/python docs/hooks/links.py site

clean: ## remove .venv, caches and build output
	rm -rf $(VENV) $(DOCS_VENV) build dist site .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find spec reference adapters tests -type d -name __pycache__ -prune -exec rm -rf {} +

# The build backend comes first and pinned, because pip's isolated builds would fetch whichever is newest.
$(INSTALLED): pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	@echo "Installing regionloss, PyTorch and the tools into $(VENV); the first time, this takes a minute or more ..."
	@$(BIN)/python $(PIP_INSTALL) hatchling editables
	@$(BIN)/python $(PIP_INSTALL) --no-build-isolation --editable '.[torch,dev]'
	@touch $@
	@echo "Installed."

# The site has an environment of its own, without PyTorch, so that whoever does not build it need not install it.
$(DOCS_INSTALLED): pyproject.toml constraints.txt constraints-docs.txt | $(DOCS_VENV)/pyvenv.cfg
	@echo "Installing what the site is built with into $(DOCS_VENV) ..."
	@$(DOCS_VENV)/bin/python $(PIP_INSTALL) --constraint constraints-docs.txt hatchling editables
	@$(DOCS_VENV)/bin/python $(PIP_INSTALL) --constraint constraints-docs.txt --no-build-isolation --editable '.[docs]'
	@touch $@

$(NPM_INSTALLED): docs/package.json docs/package-lock.json
	@command -v node >/dev/null && command -v npm >/dev/null || { \
	    echo "make docs needs Node.js 18 or newer with npm, which draws the formulas and brings the fonts; there is none." >&2; \
	    exit 1; }
	@echo "Installing KaTeX, the fonts and the shim of the search into $(NPM_FOLDER) ..."
	@mkdir -p $(NPM_FOLDER) && cp docs/package.json docs/package-lock.json $(NPM_FOLDER)
	@npm ci --prefix $(NPM_FOLDER) --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(VENV)/pyvenv.cfg $(DOCS_VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "regionloss needs Python 3.11 or newer, but '$(PYTHON) --version' says '$$($(PYTHON) --version 2>&1 | head -n 1)';" \
	         "name another one, as in: make $(or $(firstword $(MAKECMDGOALS)),setup) PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(@D)
