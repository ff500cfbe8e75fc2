# Two commands: `make run` and `make test`. Each installs what it needs first.
VENV   := .venv
BIN    := $(VENV)/bin
PYTHON ?= python3
CORES  ?= 8
SUDO   := $(if $(filter 0,$(shell id -u)),,sudo)

# Build tools are pinned as well.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test test-thorough test-slow check docs lock clean

run: $(VENV)/installed ## the default run; its report is results/report/index.html
	$(BIN)/snakemake --cores $(CORES) all
	@echo "open results/report/index.html"

test: $(VENV)/installed-dev | browser ## the tests of every change
	$(BIN)/pytest --numprocesses auto --dist loadfile

test-thorough: $(VENV)/installed-dev | browser slurm ## these and more runs of the whole workflow, as CI does
	$(BIN)/pytest --numprocesses auto --dist loadfile -m 'not slow'

test-slow: $(VENV)/installed-dev | browser slurm ## the slow ones: a real Slurm, a full suite's report, kills
	$(BIN)/pytest -m slow

check: $(VENV)/installed-dev ## format, lint, types, workflow
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

docs: $(VENV)/installed-docs ## the documentation as a site: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lock: $(VENV)/installed-dev $(VENV)/installed-docs ## pin what is installed now
	$(BIN)/pip freeze --all --exclude-editable | sed -E 's/\+cpu$$//' | grep -v '^pip==' > constraints.txt

clean: ## remove the virtual environment, not the results
	rm -rf $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-docs: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip install --quiet --editable '.[docs]'
	@touch $@ $(VENV)/installed

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { $(SUDO) apt-get update && $(SUDO) apt-get install --yes python3-venv; }
	$(PYTHON) -m venv $(VENV)

# The pages are tested in Debian's Chromium.
.PHONY: browser
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
	  { $(SUDO) apt-get update && \
	    $(SUDO) apt-get install --yes --no-install-recommends chromium chromium-driver fonts-dejavu-core; }

# The cluster profile is tested on a real Slurm of one node, started by the tests.
.PHONY: slurm
slurm:
	@command -v slurmctld >/dev/null && command -v munged >/dev/null || \
	  { $(SUDO) apt-get update && \
	    $(SUDO) apt-get install --yes --no-install-recommends slurm-wlm munge; }
