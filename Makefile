.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
# Overrides for every run, such as ARGS="data.source=standin device=cpu"; benchmarks take options.
ARGS ?=
# full, or quick: fewer images and epochs for the slow figures.
SCALE ?= full
# Launcher of the runs: empty for this machine, or a file of conf/hydra/launcher, such as slurm.
LAUNCHER ?=
RUN ?= results/runs
MINUTES ?= 10

SWEEP = $(PY) -m scripts.sweep --scale $(SCALE) $(addprefix hydra/launcher=,$(LAUNCHER)) $(ARGS)
REPRODUCE := reproduce reproduce-fig1 reproduce-fig2 reproduce-fig3 reproduce-fig4 reproduce-properties reproduce-best
TUNE := tune-fig1 tune-fig2 tune-fig3 tune-fig4
GPU := gpu-fig3 gpu-fig3-dropout gpu-fig3-best gpu-fig2a gpu-fig2a-best gpu-fig2b gpu-fig2b-all-images gpu-fig4 gpu-fig4-100

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Create the virtual environment with all dependencies

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --editable '.[dev]'
	touch $@

test: setup ## Run the tests
	$(PY) -m pytest

lint: setup ## Check style, types and the layering of imports
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-logo --no-cache

# The runs are listed in conf/sweeps. Finished runs are skipped, interrupted ones resume.
reproduce: ## Train and draw everything that is missing: 7 to 9 hours on 2 cores (SCALE=quick: an hour; LAUNCHER=slurm: on a cluster)
reproduce-fig1: ## Train both panels of figure 1 and draw them: a minute on 2 cores
reproduce-fig2: ## Train the networks of figure 2 and draw them: an hour on 2 cores (SCALE=quick: minutes)
reproduce-fig3: ## Train the networks of figure 3 and draw them: two to three hours on 2 cores (ARGS=epochs=4: the left panel; SCALE=quick: minutes)
reproduce-fig4: ## Train the autoencoders of figure 4 and draw them: four to five hours on 2 cores (SCALE=quick: minutes)
reproduce-properties: ## Measure the claims without a figure and draw them: a minute on 2 cores
reproduce-best: ## Train with the best settings of our grids and draw the runs: an hour on 2 cores (SCALE=quick: figure 1)
$(REPRODUCE): setup
	$(SWEEP) $(@:reproduce-%=%)

tune-fig1: ## Train the grids and candidates behind figure 1's settings and summarise them: half an hour on 2 cores
tune-fig2: ## The same for figure 2: three hours on 2 cores
tune-fig3: ## The same for figure 3: three hours on 2 cores
tune-fig4: ## The same for figure 4: an hour on 2 cores
$(TUNE): setup
	$(SWEEP) $@

$(GPU): setup
	$(SWEEP) --minutes $(MINUTES) $(@:gpu-%=gpu/%)

reproduce-gpu: $(GPU) ## Train figures 2 to 4 on a GPU, each part (make gpu-fig3, ...) for at most MINUTES=10, and draw them
	$(PY) -m scripts.figures --runs results/runs fig2 fig3 fig4
	$(PY) -m scripts.tables --runs results/runs

verify: setup ## Retrain a small part of the tracked results and check that it agrees: 3 minutes on 2 cores
	$(PY) -m scripts.verify $(ARGS)

plot: setup ## Draw your runs over the paper's curves and the tracked runs: all, or make plot RUN=results/runs/fig1_left
	$(PY) -m scripts.plot "$(RUN)"

compare: setup ## Print your runs' distances from the paper's curves, without drawing
	$(PY) -m scripts.plot --no-figures "$(RUN)"

promote: setup ## Track your runs: all, or make promote RUN=results/runs/fig1_left/paper
	$(PY) -m scripts.promote "$(RUN)"

bench: setup ## Benchmark training against torch's usual loops and JAX: 10 minutes
	$(PY) -m pip install --quiet --editable '.[bench]' || echo "no JAX: its rows are left out"
	$(PY) -m scripts.benchmarks.training $(ARGS)

bench-optim: setup ## Benchmark a step of the optimizers against torch's
	$(PY) -m scripts.benchmarks.optimizers $(ARGS)

gpu-check: ## Test, benchmark and train figure 3 on a GPU: at most 12 minutes, in parts (ARGS=tests, ...); resumes
	$(PY) -m scripts.gpu_check $(ARGS)

bench-sfo: setup ## Measure SFO's memory by number of minibatches
	$(PY) -m scripts.benchmarks.sfo_memory

figures: setup ## Draw the tracked figures and write their tables
	$(PY) -m scripts.figures
	$(PY) -m scripts.tables

report: figures ## Build results/report.md and results/report.html from the tracked results
	$(PY) -m scripts.report

clean: ## Remove the virtual environment, caches and your runs (data sets and tracked results stay)
	rm -rf $(VENV) results/runs build .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup test lint $(REPRODUCE) $(TUNE) $(GPU) reproduce-gpu verify plot compare promote bench bench-optim bench-sfo gpu-check figures report clean
