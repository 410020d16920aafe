# The virtual environment is made here; nothing but Python >= 3.11, make and pip is needed beforehand.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check format clean
.DELETE_ON_ERROR:

demo: $(VENV)/demo.stamp ## Train on long-tailed digits, plain against class-balanced: a table and a figure
	$(BIN)/python -m examples.digits $(ARGS)

test: $(VENV)/dev.stamp ## Prove the numbers
	$(BIN)/python -m pytest --cov --cov-report=term $(ARGS)

check: $(VENV)/dev.stamp ## Everything that must pass before a change lands
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) test

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
