# Everything a user runs. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
# Further settings for run.py, such as ARGS="data.source=standin device=cpu".
ARGS ?=
# full or quick, for the figures that take long.
SCALE ?= full
ifeq ($(filter full quick,$(SCALE)),)
$(error SCALE=$(SCALE) is unknown: it should be full or quick)
endif

# The run that `make compare` compares, and the run or folder of runs that `make promote` tracks.
RUN ?= results/runs/fig1_left/paper

GRID := settings=grid seed=0 evaluate_every=1000
SEARCH := settings=search seed=0 evaluate_every=1000
FIG1_LEFT := adam,adamax,adagrad,sgd_nesterov
FIG1_RIGHT := adam,adamax,adagrad,rmsprop,sgd_nesterov

FIG2A := adam,adamax,adagrad,rmsprop,sgd_nesterov,adadelta
# One after another: a single network takes the whole machine, and seconds of runs are compared.
IN_TURN = $(if $(filter quick,$(SCALE)),settings=quick) hydra.launcher.n_jobs=1 $(ARGS)
# Larger step sizes than those of the grid, for IMDB without dropout.
FIG1_BEYOND := "optimizer=adam optimizer.lr=[1e-1,3e-1,1.0] optimizer.beta2=[0.99]" "optimizer=adamax optimizer.lr=[3e-1,1.0,3.0] optimizer.beta2=[0.99]" \
	"optimizer=rmsprop optimizer.lr=[3e-2,1e-1,3e-1] optimizer.rho=[0.99]" "optimizer=adagrad optimizer.lr=[5e-1,1.0,2.0,5.0,10.0,20.0,50.0]"
# What the tuning targets try for what the paper leaves open, one after another.
FIG1_LEFT_CANDIDATES := optimizer.eps=[1e-10,1e-8,1e-6,1e-4] optimizer.beta1=[0.5,0.8,0.9,0.95] shuffle=false \
	model.initial_std=0.01 data.examples=50000 \
	"optimizer=adagrad optimizer.eps=[1e-10,1e-6,1e-4]"
FIG1_RIGHT_CANDIDATES := optimizer.eps=[1e-10,1e-8,1e-6,1e-4] optimizer.beta1=[0.5,0.8,0.9,0.95] model.l2=[1e-6,1e-5,1e-4] shuffle=false \
	model.initial_std=0.01 model.initial_std=0.1 data.examples=20000 \
	"optimizer=adagrad optimizer.eps=[1e-10,1e-6,1e-4]" "optimizer=rmsprop optimizer.eps=[1e-8,1e-6,1e-4]" \
	"optimizer=rmsprop optimizer.momentum=[0.0,0.5,0.9] optimizer.lr=[9e-5,4.5e-4,9e-4]"
FIG2A_CANDIDATES := optimizer.beta2=0.9999 model.input_dropout=0 data.examples=10000 schedule=inverse_sqrt_pass \
	model.start=he_normal shuffle=false model.dropout=0.4 "model.l2=1e-5 optimizer.lr=[2.2e-4]" \
	"schedule=exponential_pass decay=0.995 optimizer.lr=[2.2e-4]" "optimizer.lr=[2.2e-4] optimizer.beta1=[0.5,0.8,0.95]" \
	"optimizer.lr=[2.2e-4] optimizer.eps=[1e-6,1e-4]" "optimizer=adagrad optimizer.eps=[1e-10,1e-6,1e-4]" \
	"optimizer=rmsprop optimizer.eps=[1e-8,1e-6,1e-4]" "optimizer=rmsprop optimizer.momentum=[0.5] optimizer.lr=[1.15e-4]" \
	"optimizer=rmsprop optimizer.momentum=[0.9] optimizer.lr=[2.3e-5]" \
	"optimizer=adadelta optimizer.lr=[0.12] optimizer.rho=[0.95] optimizer.eps=[1e-8,1e-6,1e-4]" \
	"optimizer=adadelta optimizer.lr=[0.12] optimizer.rho=[0.95] schedule=inverse_sqrt_pass" "optimizer=rmsprop schedule=inverse_sqrt_pass" \
	"optimizer=adagrad schedule=exponential_pass decay=0.995" "optimizer=adagrad schedule=inverse_sqrt_pass" \
	"optimizer=sgd_nesterov schedule=exponential_pass decay=0.997"
# The first is the configuration itself, for as many passes.
FIG2B_CANDIDATES := model.start=he_normal model.start=fan_in_uniform model.l2=2e-6 model.l2=1e-4 data.examples=60000 schedule=inverse_sqrt_pass \
	optimizer.eps=[1e-6,1e-4] optimizer.beta1=[0.5,0.8,0.95] optimizer.beta2=[0.99,0.9999] batch_size=64 batch_size=256 shuffle=false
SFO_CANDIDATES := model.l2=1e-6 model.l2=1e-5 model.start=he_normal model.start=fan_in_uniform data.examples=5000 data.examples=20000
# Among the first is the configuration itself. Pixels as they are have a sixteenth of the variance of those with normalised contrast.
FIG3_OF_BOTH := optimizer.beta1=[0.5,0.95] optimizer.beta2=[0.99,0.9999] model.initial_std.stage1=0.001 \
	"model.initial_std.stage2=0.016 model.initial_std.stage3=0.016" "model.initial_std.hidden=0.032 model.initial_std.scores=0.032" \
	model.start=fan_in_uniform "data.contrast=false data.regulariser=0.006" model.l2=1e-4 schedule=inverse_sqrt_pass shuffle=false \
	"optimizer=adagrad optimizer.eps=[1e-10,1e-4,1e-3]" optimizer=sgd_nesterov "optimizer=adagrad schedule=inverse_sqrt_pass" \
	"optimizer=sgd_nesterov schedule=inverse_sqrt_pass" data.examples=45000
FIG3_CANDIDATES := optimizer.eps=[1e-8,1e-4,1e-3] $(FIG3_OF_BOTH) "optimizer=sgd_nesterov optimizer.momentum=[0.5] optimizer.lr=[7.5e-2]" \
	"optimizer=sgd_nesterov optimizer.momentum=[0.95] optimizer.lr=[7.5e-3]"
FIG3_DROPOUT_CANDIDATES := optimizer.eps=[1e-8,1e-3] $(FIG3_OF_BOTH) model.dropout=0.25 model.input_dropout=0 \
	"optimizer=sgd_nesterov optimizer.momentum=[0.5] optimizer.lr=[5e-2]" "optimizer=sgd_nesterov optimizer.momentum=[0.95] optimizer.lr=[5e-3]"
FIG3 := adam,adamax,adagrad,sgd_nesterov
# What comes first where training takes long: $(call announce,figure,time of all of it).
announce = @echo "$(1): $(if $(filter quick,$(SCALE)),minutes,$(2)) of 2 cores; stopped at any time, it goes on when started again"
PROPERTIES := invariance,step_bounds,annealing,moments,tracking,regret,kinship,norms,averaging
FIG4_CANDIDATES := model.initial_std=0.002,0.003,0.005,0.01 seed=1 model.start=fan_in shuffle=false data.examples=50000 \
	model.pixels=resampled batch_size=128 optimizer.eps=1e-10 model.l2=1.667e-5

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Make the virtual environment with everything needed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --editable '.[dev]'
	touch $@

test: setup ## Run the tests
	$(PY) -m pytest

lint: setup ## Check style, types and which room imports which
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-logo --no-cache

reproduce-fig1: setup ## Train both panels of figure 1 with 5 seeds and draw them
	$(PY) run.py -m experiment=fig1_left optimizer=$(FIG1_LEFT) $(ARGS)
	$(PY) run.py -m experiment=fig1_right optimizer=$(FIG1_RIGHT) $(ARGS)
	$(PY) scripts/figure1.py --runs results/runs
	$(PY) scripts/agreement.py --runs results/runs

reproduce-fig2: setup ## Train the networks of figure 2 and draw it, over two hours of 2 cores (SCALE=quick: minutes)
	$(call announce,figure 2,over two hours)
	$(PY) run.py -m experiment=fig2b optimizer=adam,adamax,sfo $(IN_TURN)
ifneq ($(SCALE),quick)
	$(PY) run.py -m experiment=fig2b optimizer=adam,sfo settings=all_images $(IN_TURN)
endif
	$(PY) run.py -m experiment=fig2a optimizer=sfo,$(FIG2A) $(IN_TURN)
	$(PY) scripts/figure2.py --runs results/runs
	$(PY) scripts/agreement.py --runs results/runs

reproduce-fig3: setup ## Train the convolutional network of figure 3 and draw it, 5 to 8 hours of 2 cores (ARGS=passes=4: the left panel, half an hour; SCALE=quick: minutes)
	$(call announce,figure 3,5 to 8 hours (ARGS=passes=4: half an hour))
	$(PY) run.py -m experiment=fig3,fig3_dropout optimizer=$(FIG3) $(IN_TURN)
	$(PY) scripts/figure3.py --runs results/runs
	$(PY) scripts/agreement.py --runs results/runs

reproduce-fig4: setup ## Train the sweeps of figure 4 and draw it; 100 passes come last and take hours (SCALE=quick: minutes)
	$(call announce,figure 4,four to five hours)
ifeq ($(SCALE),quick)
	$(PY) run.py -m experiment=fig4 optimizer=adam,adamax,rmsprop settings=quick $(ARGS)
else
	$(PY) run.py -m experiment=fig4 optimizer=adam,adamax,rmsprop $(ARGS)
	$(PY) scripts/figure4.py --runs results/runs
	$(PY) run.py experiment=fig4_100 $(ARGS)
endif
	$(PY) scripts/figure4.py --runs results/runs

reproduce-properties: setup ## Measure what the paper claims without a figure, judge and draw it: minutes of 2 cores
	$(PY) run.py --config-name properties -m property=$(PROPERTIES) $(ARGS)
	$(PY) scripts/properties.py --runs results/runs

# What wants a GPU, in parts of minutes: five seeds where a CPU has one; figure 2b has five as it is, and takes the place of a CPU's runs;
# figure 4 has one.
FIVE_SEEDS := seed=[0,1,2,3,4]
gpu-fig2a := experiment=fig2a optimizer=$(FIG2A),sfo $(FIVE_SEEDS)
gpu-fig2a-best := experiment=fig2a settings=best optimizer=$(FIG2A) $(FIVE_SEEDS)
gpu-fig2b := experiment=fig2b optimizer=adam,adamax,sfo
gpu-fig2b-all-images := experiment=fig2b settings=all_images optimizer=adam,sfo $(FIVE_SEEDS)
gpu-fig3 := experiment=fig3 optimizer=$(FIG3) $(FIVE_SEEDS)
gpu-fig3-dropout := experiment=fig3_dropout optimizer=$(FIG3) $(FIVE_SEEDS)
gpu-fig3-best := experiment=fig3,fig3_dropout settings=best optimizer=$(FIG3) passes=49 $(FIVE_SEEDS)
gpu-fig4 := experiment=fig4 optimizer=adam,adamax,rmsprop shard=null
gpu-fig4-100 := experiment=fig4_100 optimizer=adam,adamax shard=null
GPU_PARTS := gpu-fig3 gpu-fig3-dropout gpu-fig3-best gpu-fig2a gpu-fig2a-best gpu-fig2b gpu-fig2b-all-images gpu-fig4 gpu-fig4-100
# A part stops after so many minutes.
MINUTES ?= 10

$(GPU_PARTS): setup
	@timeout --foreground --signal=INT --kill-after=60 $(MINUTES)m $(PY) run.py -m $($@) device=cuda hydra.launcher.n_jobs=1 $(ARGS) || { code=$$?; \
		if [ $$code = 124 -o $$code = 137 ]; then echo "$@: $(MINUTES) minutes are over; make $@ goes on where it was"; fi; exit $$code; }

reproduce-gpu: $(GPU_PARTS) ## Train what wants a GPU, figures 2, 3 and 4, in parts of at most 10 minutes (make gpu-fig3, ...), and draw it
	for script in figure2 figure3 figure4 agreement; do $(PY) scripts/$$script.py --runs results/runs || exit; done

reproduce-best: setup ## Train the settings that end lowest in our grids, and IMDB without dropout, and draw all but that: two hours of 2 cores (SCALE=quick: figure 1 alone)
	$(PY) run.py -m experiment=fig1_left settings=best optimizer=$(FIG1_LEFT) $(ARGS)
	$(PY) run.py -m experiment=fig1_right settings=best optimizer=$(FIG1_RIGHT) $(ARGS)
	$(PY) run.py -m experiment=fig1_right_no_dropout settings=paper,best optimizer=$(FIG1_RIGHT) $(ARGS)
ifneq ($(SCALE),quick)
	$(PY) run.py -m experiment=fig2b settings=best optimizer=adam,adamax,sfo $(IN_TURN)
	$(PY) run.py -m experiment=fig2a settings=best optimizer=$(FIG2A) $(IN_TURN)
	$(PY) run.py -m experiment=fig3,fig3_dropout settings=best optimizer=$(FIG3) $(IN_TURN)
endif
	for script in figure1 figure2 figure3; do $(PY) scripts/$$script.py --runs results/runs || exit; done

reproduce: reproduce-fig1 reproduce-fig2 reproduce-fig3 reproduce-fig4 reproduce-properties reproduce-best report ## Train and draw everything that is not there yet or out of date: a day of 2 cores (SCALE=quick: an hour)
	$(PY) scripts/claims.py --runs results/runs
	@echo "Your figures and tables are in results/runs; make promote RUN=results/runs tracks your runs, and make report builds the report of those tracked."

verify: setup ## Compute a small part of the tracked results anew and say whether it agrees: 3 minutes of 2 cores
	$(PY) scripts/verify.py $(ARGS)

compare: setup ## Print how far runs of your own are from the paper's curves: make compare RUN=results/runs/fig1_left/paper/Adam.csv
	$(PY) scripts/agreement.py $(RUN)

promote: setup ## Track runs of your own: make promote RUN=results/runs/fig1_left/paper
	$(PY) scripts/promote.py $(RUN)

tune-fig1: setup ## Train the grids behind the settings of figure 1 (half an hour of 2 cores) and sum them up
	$(PY) run.py -m experiment=fig1_left optimizer=$(FIG1_LEFT) schedule=constant,inverse_sqrt_pass,inverse_sqrt_step $(GRID) $(ARGS)
	$(PY) run.py -m experiment=fig1_right optimizer=$(FIG1_RIGHT) schedule=constant,inverse_sqrt_pass data.features=binary,counts $(GRID) $(ARGS)
	$(PY) run.py -m experiment=fig1_right_no_dropout optimizer=$(FIG1_RIGHT) schedule=constant,inverse_sqrt_pass $(GRID) $(ARGS)
	for candidate in $(FIG1_BEYOND); do $(PY) run.py experiment=fig1_right_no_dropout $$candidate schedule=constant $(GRID) $(ARGS) || exit; done
	$(PY) run.py -m experiment=fig1_left optimizer=adam,adagrad,sgd_nesterov settings=grid_l2 seed=0 evaluate_every=1000 $(ARGS)
	for candidate in $(FIG1_LEFT_CANDIDATES); do $(PY) run.py experiment=fig1_left $(SEARCH) $$candidate $(ARGS) || exit; done
	for candidate in $(FIG1_RIGHT_CANDIDATES); do $(PY) run.py experiment=fig1_right $(SEARCH) $$candidate $(ARGS) || exit; done
	$(PY) scripts/tune.py fig1_left fig1_right fig1_right_no_dropout

tune-fig2: setup ## Train the candidates behind the settings of figure 2 (three hours of 2 cores) and sum them up
	$(PY) run.py -m experiment=fig2b optimizer=adam,adamax settings=grid hydra.launcher.n_jobs=1 $(ARGS)
	$(PY) run.py -m experiment=fig2b optimizer=sfo settings=grid optimizer.minibatches=5,10,20,40 hydra.launcher.n_jobs=1 $(ARGS)
	for candidate in $(SFO_CANDIDATES); do $(PY) run.py experiment=fig2b optimizer=sfo settings=grid $$candidate $(ARGS) || exit; done
	$(PY) run.py -m experiment=fig2a optimizer=$(FIG2A) settings=grid,grid_annealed hydra.launcher.n_jobs=1 $(ARGS)
	$(PY) run.py experiment=fig2a optimizer=adagrad settings=grid_annealed schedule=exponential_pass decay=0.9 optimizer.lr=[5e-3,1e-2,2e-2] $(ARGS)
	$(PY) run.py experiment=fig2a optimizer=sgd_nesterov settings=grid_annealed optimizer.momentum=[0.99] optimizer.lr=[6e-3] $(ARGS)
	$(PY) run.py experiment=fig2a optimizer=adadelta settings=search $(ARGS)
	for candidate in $(FIG2A_CANDIDATES); do $(PY) run.py experiment=fig2a settings=search $$candidate $(ARGS) || exit; done
	for candidate in $(FIG2B_CANDIDATES); do $(PY) run.py experiment=fig2b settings=search $$candidate $(ARGS) || exit; done
	$(PY) scripts/tune.py fig2a fig2b

tune-fig3: setup ## Train the grid behind the settings of figure 3 and candidates for the rest (three hours of 2 cores) and sum them up
	$(PY) run.py -m experiment=fig3,fig3_dropout optimizer=$(FIG3) settings=grid second_moments=false hydra.launcher.n_jobs=1 $(ARGS)
	for candidate in $(FIG3_CANDIDATES); do $(PY) run.py experiment=fig3 settings=search second_moments=false $$candidate $(ARGS) || exit; done
	for candidate in $(FIG3_DROPOUT_CANDIDATES); do $(PY) run.py experiment=fig3_dropout settings=search second_moments=false $$candidate $(ARGS) || exit; done
	$(PY) scripts/tune.py fig3 fig3_dropout

tune-fig4: setup ## Train a part of figure 4 with every candidate for what the paper does not say (an hour) and sum it up
	for candidate in $(FIG4_CANDIDATES); do $(PY) run.py -m experiment=fig4 settings=search $$candidate $(ARGS) || exit; done
	$(PY) scripts/tune_figure4.py

bench: setup ## Measure how fast training is, side by side with torch's usual loops and with JAX: 10 minutes
	$(PY) -m pip install --quiet --editable '.[bench]' || echo "no JAX: its rows are left out"
	$(PY) scripts/bench.py $(ARGS)

bench-optim: setup ## Measure how fast a step of the optimizers is, side by side with torch's
	$(PY) scripts/bench_optim.py $(ARGS)

bench-sfo: setup ## Measure how much memory SFO takes, by the number of minibatches
	$(PY) scripts/bench_sfo.py

figures: setup ## Draw the tracked figures, measure the agreement and judge the claims, from the tracked results
	$(PY) scripts/figure1.py
	$(PY) scripts/figure2.py
	$(PY) scripts/figure3.py
	$(PY) scripts/figure4.py
	$(PY) scripts/properties.py
	$(PY) scripts/agreement.py
	$(PY) scripts/claims.py
	$(PY) scripts/unknowns.py

report: figures ## Build results/report.md and results/report.html from the tracked results
	$(PY) scripts/report.py

clean: ## Remove the virtual environment, caches and your own runs (data sets and tracked results stay)
	rm -rf $(VENV) results/runs build .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup test lint reproduce reproduce-fig1 reproduce-fig2 reproduce-fig3 reproduce-fig4 reproduce-properties $(GPU_PARTS) reproduce-gpu reproduce-best verify compare promote tune-fig1 tune-fig2 tune-fig3 tune-fig4 bench bench-optim bench-sfo figures report clean
