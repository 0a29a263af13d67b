# make demo   install, then train on handwritten digits: a diffusion model in minutes on a laptop CPU
# make test   install, then run the test suite
# make lint, make types, make slow (the longest tests), make stress (kills training over and over), make clean,
# make benchmark (installs PyTorch and diffusers and measures speed beside them),
# make reference (installs PyTorch, diffusers and torch-fidelity and compares with them), make mutants (breaks the code
# on purpose and checks that a test fails), make plan-test (compiles for TPUs where requirements-plan.txt is installed),
# make newest PYTHON=python3.13 (another interpreter, in a folder of its own)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SPREAD := -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

.PHONY: demo test slow stress reference benchmark mutants plan-test newest lint types notebook clean

demo: $(VENV)/.installed
	$(BIN)/python scripts/train.py --config=configs/digits.py $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(SPREAD) $(ARGS)

slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow --timeout=3600 $(SPREAD) $(ARGS)

stress: $(VENV)/.installed-dev
	$(BIN)/python tests/stress/kill.py $(ARGS)
	JAX_PLATFORMS=cpu $(BIN)/python tests/stress/corrupt.py
	$(BIN)/python tests/stress/full_disk.py
	$(BIN)/python tests/stress/fuzz.py

benchmark: $(VENV)/.installed-benchmark
	$(BIN)/python scripts/benchmark.py --baseline=torch $(ARGS)

reference: $(VENV)/.installed-reference
	$(BIN)/python -m pytest tests/nets/test_torch_parity.py tests/nets/test_inception.py tests/convert/test_torch_file.py tests/metrics/test_scores.py \
	  tests/metrics/test_frechet.py --timeout=1200 $(ARGS)

mutants: $(VENV)/.installed-dev
	$(BIN)/python tests/mutants/run.py $(ARGS)

plan-test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m plan tests/planning --timeout=1200 -rs $(ARGS)

newest:
	$(MAKE) VENV=.venv-newest test ARGS="tests/core tests/sampling tests/nets"
	$(MAKE) VENV=.venv-newest demo ARGS="--config.train.steps=20 --config.train.sample_every=0 --config.train.eval_every=0 \
	  --config.eval.n=8 --config.sample.grid=20 --workdir=$$(mktemp -d)"

notebook: $(VENV)/.installed
	$(BIN)/python docs/make_notebook.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.installed-dev
	$(BIN)/basedpyright

clean:
	rm -rf $(VENV) .venv-newest .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'Python 3.11 or later is needed and "$(PYTHON)" is not that: make PYTHON=/path/to/python3.12 ...' >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo '"$(PYTHON)" cannot make virtual environments: install its venv package (Debian, Ubuntu: python3-venv)' >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 2; }

$(VENV)/.installed: requirements.txt | $(BIN)/python
	@echo 'Installing requirements into $(VENV): about a minute, 1.2 GB'
	$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.installed-reference: requirements-reference.txt $(VENV)/.installed-dev
	grep -v ^torch-fidelity requirements-reference.txt | $(PIP) -r /dev/stdin
	$(PIP) --no-deps "$$(grep ^torch-fidelity requirements-reference.txt)"
	@touch $@

$(VENV)/.installed-benchmark: requirements-benchmark.txt $(VENV)/.installed
	$(PIP) -r requirements-benchmark.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed | $(BIN)/python
	$(PIP) -r requirements-dev.txt
	@touch $@
