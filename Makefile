# Everything a user runs. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
# Further settings for run.py, such as ARGS="data.source=standin device=cpu".
ARGS ?=

FIG1_LEFT := adam,adamax,adagrad,sgd_nesterov
FIG1_RIGHT := adam,adamax,adagrad,rmsprop,sgd_nesterov

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Make the virtual environment with everything needed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --editable '.[dev]'
	touch $@

test: setup ## Run the tests
	$(RUN) -m pytest

lint: setup ## Check style
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

reproduce-fig1: setup ## Train both panels of figure 1 with 5 seeds and draw them
	$(RUN) run.py -m experiment=fig1_left optimizer=$(FIG1_LEFT) $(ARGS)
	$(RUN) run.py -m experiment=fig1_right optimizer=$(FIG1_RIGHT) $(ARGS)
	$(RUN) scripts/figure1.py --runs results/runs

figures: setup ## Draw the tracked figures from the tracked results
	$(RUN) scripts/figure1.py

clean: ## Remove the virtual environment, caches and your own runs (data sets and tracked results stay)
	rm -rf $(VENV) results/runs .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup test lint reproduce-fig1 figures clean
