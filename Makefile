# Everything a newcomer or a CI machine does, in one environment (.venv) built once.
#   make PYTHON=python3.12 test     another interpreter
#   make test ARGS="-k scaffold"    arguments for the tool behind a target

PYTHON ?= python3
VENV   ?= .venv
TRACKERS ?= .venv-trackers
PEERS  ?= .venv-peers
ARGS   ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input -c constraints.txt
# A stamp is newer than what it was built from, so a second `make` installs nothing.
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev
# By the last two an installation compiles its library.
BUILT := pyproject.toml constraints.txt hatch_build.py fedray/aggregators/exact.c

# Tests start processes by the hundred, each of which would compile fedray anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help quickstart install dev test test-slow test-slurm test-trackers test-wheel lint format types bench bench-peers docs reference-personal reference-diloco reference-privacy clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quickstart: $(RUN) ## install, then five hospitals train one diagnosis model
	@$(BIN)/python launch/quickstart.py $(ARGS)

install: $(RUN) ## make .venv with fedray and what it needs to run

dev: $(DEV) ## the same with the test and development tools

test: $(DEV) ## the fast test suite and the doctests
	@$(BIN)/python -m pytest -n auto --maxprocesses 8 $(ARGS)

test-slow: $(DEV) ## the tests that take minutes: on all cores those without Ray, then, one after the other, those with it
	@$(BIN)/python -m pytest -n auto --maxprocesses 8 -m "slow and not slurm and not ray" $(ARGS) || [ $$? -eq 5 ]
	@$(BIN)/python -m pytest -m "slow and not slurm and ray" $(ARGS) || [ $$? -eq 5 ]

test-slurm: $(DEV) ## jobs on a real Slurm cluster, brought up on this machine (root, Debian's slurm-wlm and munge)
	@$(BIN)/python -m pytest tests/slurm -m slurm $(ARGS)

test-trackers: $(TRACKERS)/.installed ## MLflow and W&B for real, with local files, in an environment of their own
	@$(TRACKERS)/bin/python -m pytest tests/tracking -m trackers $(ARGS)

test-wheel: $(DEV) ## the wheel, of the image's files, in an environment of its own, where fedray quickstart runs without the repository
	@away=$$(mktemp -d) && trap 'rm -rf "$$away"' EXIT && \
	  mkdir "$$away/source" && \
	  awk '/^%/ {inside = $$1 == "%files"; next} inside && NF {print $$1}' slurm/fedray.def | xargs -I{} cp -r {} "$$away/source" && \
	  $(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-deps -w "$$away" "$$away/source" && \
	  $(PYTHON) -m venv "$$away/env" && \
	  "$$away/env/bin/python" -m pip install -qq --disable-pip-version-check --no-input -c constraints.txt "$$away"/*.whl && \
	  cd "$$away" && env/bin/fedray quickstart --dir quickstart && env/bin/fedray status quickstart/run

docs: $(VENV)/.installed-docs ## the site of the documentation, in build/docs; runs the tutorials, and needs no network
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs $(ARGS) && echo "build/docs/index.html"

lint: $(DEV) ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(DEV) ## ruff: mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(DEV) ## mypy --strict
	@$(BIN)/mypy $(ARGS)

bench: $(VENV)/.installed-bench ## every workload against a bare PyTorch loop, written to benchmarks/
	@$(BIN)/python -m benchmarks.run $(ARGS)

bench-peers: $(RUN) ## beside Flower, pfl-research and BlazeFL, each in an environment of its own, which the first run installs
	@$(BIN)/python -m benchmarks.peers.run --environments $(PEERS) $(ARGS)

reference-personal: $(RUN) ## personal models against training alone, FedAvg and fine-tuning: the table of docs/personal.md
	@$(BIN)/python -m benchmarks.personal $(ARGS)

reference-diloco: $(RUN) ## DiLoCo against synchronous training of a small language model, as a table
	@$(BIN)/python -m benchmarks.diloco $(ARGS)

reference-privacy: $(DEV) ## accuracy against epsilon, with privacy for each of 1,000 clients: table and picture of docs/privacy.md
	@$(BIN)/python -m benchmarks.privacy $(ARGS)

clean: ## remove the environment and the tools' caches
	rm -rf $(VENV) $(TRACKERS) $(PEERS) .mypy_cache .pytest_cache .ruff_cache build dist

$(VENV)/pyvenv.cfg:
	@{ $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'; } 2>/dev/null || { \
	  found=$$({ $(PYTHON) -V; } 2>/dev/null || echo missing); \
	  echo "fedray needs Python 3.11, 3.12 or 3.13; '$(PYTHON)' is $$found." >&2; \
	  echo "Name another one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

$(RUN): $(VENV)/pyvenv.cfg $(BUILT)
	@echo "Installing fedray into $(VENV); the first time takes some minutes"
	@$(PIP) -e .
	@touch $@

# Flower is an oracle for our server rules; its pins exclude ours (CONTRIBUTING.md), so it comes without them.
$(DEV): $(VENV)/pyvenv.cfg $(BUILT)
	@echo "Installing fedray and its tools into $(VENV); the first time takes some minutes"
	@$(PIP) -e ".[jobs,onnx,report,metrics,test,oracle,dev]"
	@$(PIP) --no-deps flwr
	@touch $(RUN) $@

# What privacy costs is one of the rows; dp-accounting is nothing that a run without it waits for.
$(VENV)/.installed-bench: $(RUN)
	@echo "Installing what counts privacy into $(VENV)"
	@$(PIP) -e ".[dp]"
	@touch $@

$(VENV)/.installed-docs: $(DEV)
	@echo "Installing what builds the site into $(VENV)"
	@$(PIP) -e ".[docs]"
	@touch $@

# Apart from the other: they bring pydantic, which Ray imports in each of its processes where it is installed.
$(TRACKERS)/.installed: $(BUILT)
	@echo "Installing fedray, MLflow and W&B into $(TRACKERS); the first time takes a minute or two"
	@$(PYTHON) -m venv $(TRACKERS)
	@$(TRACKERS)/bin/python -m pip install -qq --disable-pip-version-check --no-input -c constraints.txt -e ".[mlflow,wandb,test]"
	@touch $@
