# The virtual environment is made here; nothing but Python >= 3.11, make and pip is needed beforehand.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
FRAMEWORK ?= torch
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Elsewhere there is no Triton, and its path has lines that nothing can reach.
COVERED := $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),--fail-under=100)
PYTEST := $(BIN)/python -m pytest --cov --cov-append --cov-report=

.PHONY: bench changelog check clean demo docs floors format lint packages release-check test
.DELETE_ON_ERROR:

demo: $(VENV)/demo,$(FRAMEWORK).stamp ## Train on long-tailed digits, plain against class-balanced: tables and a figure
	$(BIN)/python -m examples.digits --framework $(FRAMEWORK) $(ARGS)

test: $(VENV)/dev.stamp ## Prove the numbers; each framework in a process of its own
	$(BIN)/python -m coverage erase
	$(PYTEST) tests/core tests/torch tests/examples tests/benchmarks tests/test_*.py src/cbcore src/cbcore_torch
	$(PYTEST) tests/experiments
	$(PYTEST) tests/jax src/cbcore_jax
	$(PYTEST) tests/tf src/cbcore_tf
	$(BIN)/python -m coverage report $(COVERED)

bench: $(VENV)/bench.stamp ## Time the losses against their peers, on a quiet machine
	$(BIN)/python -m benchmarks.run $(ARGS)

packages: $(VENV)/dev.stamp ## Prove the installation: the wheel with each extra, in a fresh environment
	$(BIN)/python -m pytest tests/packaging

docs: $(VENV)/docs.stamp ## Build the documentation, run its snippets, check its links and open it in a browser
	$(BIN)/python -m sphinx --fresh-env --nitpicky --fail-on-warning --keep-going --quiet -d out/doctrees docs out/docs
	$(BIN)/python -m pytest tests/docs

floors: ## Run the tests at the lowest versions that are admitted, each extra in an environment of its own
	$(PYTHON) -m tests.packaging.floors $(ARGS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test docs packages ## Everything that must pass before a change lands

changelog: $(VENV)/release.stamp ## Collect the fragments of changelog.d into CHANGELOG.md, as the section of this version
	$(BIN)/python -c "from tests.packaging import release; release.changelog()"

release-check: $(VENV)/release.stamp ## Tick the release checklist of CONTRIBUTING.md; leaves the files to upload in dist
	$(BIN)/python -m tests.packaging.release

format: $(VENV)/dev.stamp ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove what these commands made
	rm -rf $(VENV) out dist .coverage .*_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/%.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing cbcore[$*] into $(VENV) (once; a few minutes)"
	$(PIP_INSTALL) --editable ".[$*]"
	@touch $@
