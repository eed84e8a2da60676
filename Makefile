# Two commands: `make run` runs the main job, `make test` passes the tests. Each sets up `.venv` when it is
# missing or older than the files that say what it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := math kernels ahc bio
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
MANIFESTS := pyproject.toml constraints.txt $(foreach p,$(PLUGINS),plugins/ttd_$(p)/pyproject.toml)
SYSTEM := bwrap
RUN ?= erdos-$(shell date +%Y%m%d-%H%M%S)
# Which tests belong to which half: those of `make test`, and those of `make test-all`.
FAST := not slow and not peer and not ray
REST := slow or peer or ray
# Processes that tests run in, a file of tests in one of them; most tests wait, or use one core.
PROCESSES ?= 2
# What `make coverage` runs: folders or files (all, when empty) and a choice of markers.
TESTS ?=
MARKERS ?= $(FAST)
# `make lock UPGRADE=1` moves the pins to the newest versions.
UPGRADE ?=
# `make release-check ADDRESS=https://...` writes the repository's public address first.
ADDRESS ?=

.PHONY: help setup run test test-all coverage check lint types docs lock wheels release-check clean system browser

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 15

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# What the main job needs, and no more: the core and the plugin of its problem.
$(VENV)/.run: $(BIN)/python pyproject.toml constraints.txt plugins/ttd_math/pyproject.toml
	$(INSTALL) -e . -e plugins/ttd_math
	touch $@

$(VENV)/.dev: $(BIN)/python $(MANIFESTS)
	$(INSTALL) -e '.[dev,docs,openai,ray,report,tensorboard,testing,tinker,ui]' $(foreach p,$(PLUGINS),-e plugins/ttd_$(p))
	touch $@ $(VENV)/.run

# Bubblewrap makes the strongest sandbox; without it the sandbox forms its namespaces by hand.
system:
	@command -v $(SYSTEM) >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && { apt-get install -y -qq bubblewrap >/dev/null 2>&1 \
	    || { apt-get update -qq && apt-get install -y -qq bubblewrap; } >/dev/null 2>&1; }; } \
	  || echo "note: bubblewrap is not installed; the sandbox works without it (see ttd doctor)"

setup: system $(VENV)/.dev  ## install everything for development into .venv

run: system $(VENV)/.run  ## train a small open model on Erdős' problem for three steps
	$(BIN)/ttd run --config docs/examples/erdos-laptop.toml --name $(RUN)

check: lint types  ## ruff and mypy

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

test: system $(VENV)/.dev check  ## the tests that take seconds, after ruff and mypy
	$(BIN)/pytest -n $(PROCESSES) --dist loadfile -m "$(FAST)"

# The report is opened in a real browser; its tests skip, saying so, where there is none.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && { apt-get install -y -qq chromium >/dev/null 2>&1 \
	    || { apt-get update -qq && apt-get install -y -qq chromium; } >/dev/null 2>&1; }; } \
	  || echo "note: chromium is not installed; the browser tests will skip"

test-all: system browser $(VENV)/.dev  ## the rest: slow tests, Ray, and comparisons with other packages
	$(BIN)/pytest -n $(PROCESSES) --dist loadfile -m "$(REST)"

# Measured code is slower, so a test may take three times as long.
coverage: system $(VENV)/.dev  ## measure what the tests cover: all fast ones, or TESTS=tests/search MARKERS=slow
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -o timeout=180 -m "$(MARKERS)" $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

docs: $(VENV)/.dev  ## build the site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock: $(VENV)/.dev  ## pin every dependency in constraints.txt; UPGRADE=1 moves them to the newest
	$(BIN)/python -m tools.lock $(if $(UPGRADE),--upgrade)

wheels: $(VENV)/.dev  ## build the five sdists and wheels into dist/
	$(BIN)/python -m tools.release.build

release-check: $(VENV)/.dev  ## all that must hold before a release; publishes nothing (see RELEASING.md)
	$(BIN)/python -m tools.release $(if $(ADDRESS),--address '$(ADDRESS)')

clean:  ## remove what the build made
	rm -rf $(VENV) build dist site htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache
