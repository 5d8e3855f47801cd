# The verbs people use. `make demo` and `make test` do everything, from creating the environment on.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# llama-cpp-python comes as source. Image input is not used, and leaving it out halves the build.
export CMAKE_ARGS ?= -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint types bench docs ui picture clean

help: ## list the verbs
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/demo ## a real prompt sweep on a real local model: table, verdict, report
	$(BIN)/workbench run evals/demo.yaml --report reports/demo.html

test: $(VENV)/test ## the whole test suite
	$(BIN)/python -m pytest

lint: $(VENV)/test ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/test ## mypy, strict
	$(BIN)/mypy

bench: $(VENV)/test ## performance, measured side by side
	$(BIN)/python benchmarks/command_line.py
	$(BIN)/python benchmarks/local_sweep.py

docs: $(VENV)/docs ## the pages of docs/ and the API reference, into build/docs; no network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

ui: $(VENV)/ui ## the app, in the browser
	$(BIN)/workbench ui

picture: $(VENV)/demo ## the picture of the README, from the last demo run
	$(BIN)/python docs/make_picture.py

clean: ## remove the environment and what was built
	rm -rf $(VENV) build *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# One mark a set of packages: a second call starts at once, a changed project file installs anew.
$(VENV)/demo $(VENV)/ui $(VENV)/test $(VENV)/docs: $(VENV)/%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[$*]'
	@touch $@
