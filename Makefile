# One line each: setup (everything that pip installs), demo, demo-pairs, test (in less than 15 minutes), slow
# (the tests that take long), check (style, types, layers), wheel. CI runs test, check and slow.
#
#   make demo                       installs into .venv and runs the main job on drawn images
#   make test                       installs and runs the tests
#   make demo PYTHON=python3.12     with another Python, 3.11 to 3.13
#   make demo TORCH_INDEX=URL       takes PyTorch from a package index of its own, see below
#
# Without TORCH_INDEX, pip takes the PyTorch build of the index that it is set up with. On an
# ordinary Linux machine that is the CUDA build: it runs on a CPU too, and is some GB larger than
# the CPU build, whose index PyTorch's own "Get started" page names (choose Pip and CPU).

FIT := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for name in python3 python3.12 python3.13 python3.11; do \
	$$name -c '$(FIT)' 2>/dev/null && { command -v $$name; break; }; done)
VENV ?= .venv
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
VISION ?= .venv-vision
VISION_TORCH ?= torch==2.14.1
TORCHVISION ?= torchvision==0.29.1
DAFT ?= daft==0.7.26
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo demo-pairs test test-vision slow check wheel links

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "install Python 3.11, 3.12 or 3.13, with venv"; exit 1; }
	@$(PYTHON) -c '$(FIT)' || { echo "$(PYTHON) is not Python 3.11 to 3.13 with venv"; exit 1; }
	@echo "installing into $(VENV): some minutes, once"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet "$(TORCH)" $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test,house]"
	@touch $@

demo: setup
	@test -f demo/rows.jsonl || $(BIN)/overpaint papercut demo --rows 48 --seed 7
	$(BIN)/overpaint run demo --input demo --output demo-run

demo-pairs: setup
	@test -f pairs-drawn/rows.jsonl || \
		$(BIN)/overpaint papercut pairs-drawn --rows 64 --edit-types all --seed 11
	$(BIN)/overpaint run pairs --input pairs-drawn/images --output pairs-run
	@test -f pairs/export.json || \
		$(BIN)/overpaint export pairs-run pairs --format ip2p --split train=0.9,test=0.1
	$(BIN)/overpaint verify pairs

# Operators compute on one thread each, so that a process for each core tests them, and what does not
# run, side by side; the others start clusters, one after the other.
SIDE_BY_SIDE := tests/operators tests/pipeline
test: setup
	$(BIN)/pytest -m "not slow" --numprocesses auto $(SIDE_BY_SIDE)
	$(BIN)/pytest -m "not slow" $(SIDE_BY_SIDE:%=--ignore %)

# What needs torchvision is tested in an environment of its own: its build must be of the same kind
# as PyTorch's, and CPU builds of both at one version are on no index that everybody has. What
# quantises weights is tested there too: where it is installed, diffusers imports it in every run.
test-vision: $(VISION)/.installed
	$(VISION)/bin/pytest -m "vision or quantization"

$(VISION)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VISION): about 5.5 GB, some minutes, once"
	$(PYTHON) -m venv $(VISION)
	$(VISION)/bin/python -m pip install --quiet --upgrade pip
	$(VISION)/bin/pip install --quiet "$(VISION_TORCH)" "$(TORCHVISION)"
	$(VISION)/bin/pip install --quiet --constraint constraints.txt --editable ".[test,torchvision,quantization]"
	@touch $@

# Daft is compared with, and used by nothing else; its bounds ask for an older PyArrow than these.
slow: setup
	$(BIN)/pip install --quiet --no-deps "$(DAFT)"
	$(BIN)/pytest -m slow --numprocesses auto tests/operators
	$(BIN)/pytest -m slow --ignore tests/operators

check: setup links
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

wheel: setup
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

# pyright cannot follow an editable install whose folders have other names: it reads these links.
links:
	@mkdir -p _typecheck/overpaint
	@for name in pipeline operators cluster jobs; do \
		ln -sfn ../../$$name _typecheck/overpaint/$$name; done
