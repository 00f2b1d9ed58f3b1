# Fletching: the whole suite on a machine that has python3 (3.11 or newer) and make. The make 3.81 and bash 3.2 of macOS are
# enough here; the recipes of examples/ and bench/ say where they need a newer make.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: install dev demo tune quick test check bench docs docs-site release pins audit faults fuzz man clean help

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
PACKAGES := libs/common $(wildcard tools/*)
SOURCES := $(filter-out %.egg-info,$(wildcard libs/common/src/* tools/*/src/*))
export PATH := $(BIN):$(PATH)

install: $(VENV)/.installed ## what running needs, into .venv, in tested versions [TORCH=auto|cpu|cuda|default]

dev: $(VENV)/.installed-dev ## what the tests, checks and docs need besides

# Links, not copies: a change in the source is there at once, and only new dependencies install again.
PROJECTS := pyproject.toml constraints.txt $(PACKAGES:%=%/pyproject.toml)
export PYTHON TORCH

$(VENV)/.installed: $(PROJECTS)
	@bash scripts/install.sh $(VENV) demo,run
	@touch $@

$(VENV)/.installed-dev: $(PROJECTS)
	@bash scripts/install.sh $(VENV) demo,run,dev
	@touch $(VENV)/.installed $@

demo: install ## the main job on real data: code search on the standard library, in about 10 minutes
	@$(MAKE) --no-print-directory -f examples/code-search/Makefile tune

tune: install ## your own table: make tune CSV=faq.csv QUERY=question POS=answer [CATEGORY=topic] [MODEL=…]
	@$(MAKE) --no-print-directory -f examples/tune/Makefile

quick: dev ## what one runs while typing: style and the fast tests (under a minute)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

test: dev ## run all tests (worksteal: neighbours share a worker and its models)
	@$(BIN)/python -m pytest -n auto --dist worksteal

check: dev ## what CI runs: style, types, generated docs, tests, docs site
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy $(SOURCES)
	@$(BIN)/python scripts/build_docs.py --check
	@$(MAKE) --no-print-directory docs-site
	@$(BIN)/python -m pytest -n auto --dist worksteal

docs: dev ## write the generated parts of the READMEs
	@$(BIN)/python scripts/build_docs.py

docs-site: dev ## build the documentation site into build/site, without a network
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/site
	@echo "docs: build/site/index.html"

release: check ## build the wheels of all packages into build/wheels; CONTRIBUTING says the rest
	@rm -rf build/wheels $(PACKAGES:%=%/build) # files of an earlier layout would be shipped
	@$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheels $(PACKAGES:%=./%)
	@ls build/wheels

bench: dev ## the figures of bench/results anew: make bench [DATA=folder] [ONLY=encode] (hours)
	@$(MAKE) --no-print-directory -f bench/Makefile

faults: dev ## kills, full disks, errors and limits in every command: make faults [COUNT=1000] [SEED=0]
	@OMP_NUM_THREADS=1 $(BIN)/python scripts/inject_faults.py --count $(or $(COUNT),1000) --seed $(or $(SEED),0)

fuzz: dev ## mutated inputs of every reader: make fuzz [COUNT=20000] [SEED=0]
	@OMP_NUM_THREADS=1 $(BIN)/python scripts/fuzz.py --count $(or $(COUNT),20000) --seed $(or $(SEED),0)

pins: dev ## do the pinned versions fit together, with all extras? (needs the package index; CI runs it after check)
	@$(BIN)/python scripts/check_pins.py

audit: dev ## look the pinned versions up in the database of advisories (needs a network; not in check)
	@$(BIN)/python -m pip_audit --version >/dev/null 2>&1 || $(BIN)/pip install --quiet --disable-pip-version-check pip-audit
	@$(BIN)/python -m pip_audit --no-deps --disable-pip --requirement constraints.txt

man: dev ## the manual pages, in build/man
	@$(BIN)/python scripts/build_man.py build/man

clean: ## remove what was built, but not .venv
	@rm -rf build $(PACKAGES:%=%/build) .pytest_cache .ruff_cache .mypy_cache .hypothesis

help: ## this list
	@awk -F ' ## ' '/^[a-z-]+:.* ## / {sub(/:.*/, "", $$1); printf "  make %-10s %s\n", $$1, $$2}' Makefile
