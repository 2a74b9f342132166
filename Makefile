# Two commands do everything on a machine that has Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
FOLDERS := common data diffusion fitting metrics optimizer profiler
SOURCES := pyproject.toml README.md $(shell find $(FOLDERS) -type f -not -name '*.pyc')

.PHONY: demo test test-slow lint types bench profiles toyworld clean

demo: $(VENV)/core  ## run the main job on shipped input
	@mkdir -p demo
	$(BIN)/plan --users data/users.csv -o demo/plan.csv
	@echo
	$(BIN)/plan --users data/users.csv --compare
	@echo
	$(BIN)/plan --users data/users.csv --gpu-sweep 1:16 -o demo/gpus.png
	@echo; echo "Results: demo/plan.csv (every user's decision), demo/gpus.png (what more GPUs bring)."

test: $(VENV)/test lint types  ## lint, type-check, run all tests
	$(BIN)/pytest

test-slow: $(VENV)/test  ## the longer checks
	$(BIN)/pytest -m slow

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# edgesplit.<folder> is ./<folder>: the link gives mypy the import names that users have.
types: $(VENV)/test .build/edgesplit
	MYPYPATH=.build $(BIN)/mypy $(FOLDERS:%=-p edgesplit.%)

bench: $(VENV)/test  ## speed against peers, as tables; pictures in .build/bench
	$(BIN)/python benchmarks/planner.py .build/bench
	$(BIN)/python benchmarks/profiler.py
	$(BIN)/python benchmarks/hybrid.py

toyworld: $(VENV)/test  ## train the toy world's models from nothing (about an hour)
	$(BIN)/python -m edgesplit.diffusion.toyworld.train -o .build/toyworld-new

profiles: $(VENV)/core  ## fit the shipped latency profiles again
	$(BIN)/python -m edgesplit.fitting.published data/profiles

clean:
	rm -rf $(VENV) .build build demo *.egg-info

# The package is installed as users have it (not editable), anew whenever a source changed.
$(VENV)/core: $(VENV)/pip $(SOURCES)
	@echo "installing edgesplit into $(VENV) ..."
	@rm -rf build edgesplit.egg-info
	@$(PIP) --no-build-isolation --force-reinstall --no-deps . && $(PIP) --no-build-isolation .
	@touch $@

$(VENV)/test: $(VENV)/core
	@echo "installing the test tools ..."
	@$(PIP) --no-build-isolation '.[test,models]'
	@touch $@

$(VENV)/pip: constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) setuptools
	@touch $@

.build/edgesplit:
	mkdir -p .build
	ln -sfn .. $@
