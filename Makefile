# Two commands: `make run` runs the main job, `make test` passes the tests. Both set up `.venv` when it is
# missing or older than the files that say what it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := math kernels ahc bio
MANIFESTS := pyproject.toml constraints.txt $(foreach p,$(PLUGINS),plugins/ttd_$(p)/pyproject.toml)
STAMP := $(VENV)/.installed

.PHONY: setup run test test-all check build clean

setup: $(STAMP)

$(STAMP): $(MANIFESTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,testing,report]' $(foreach p,$(PLUGINS),-e plugins/ttd_$(p))
	touch $@
