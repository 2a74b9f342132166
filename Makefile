# Two commands do everything on a machine that has Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
FOLDERS := clusters common data diffusion fitting metrics optimizer profiler reports service
SOURCES := pyproject.toml README.md $(shell find edgesplit $(FOLDERS) -type f -not -name '*.pyc')

.PHONY: demo test test-slow lint types docs bench reproduction policies prices learned profiles sweep toyworld clean

demo: $(VENV)/models  ## measure, fit, decide: the three commands on shipped input
	@mkdir -p demo
	@echo "1. How long does a step take, here, of one and of several pictures? (the toy world's UNet)"
	$(BIN)/hwprof bench --device cpu --model data/toyworld/base/unet --batches 1:8 --precision 0.05 \
		--max-seconds 20 --name demo-edge -o demo/edge.json
	@echo; echo "2. How personal is a picture whose first steps ran on the shared model?"
	$(BIN)/pai-sweep --seeds 1 --device cpu -o demo/sweep
	@echo; echo "3. Who offloads how many steps to two such edge devices?"
	$(BIN)/plan --users data/phones.csv --edge demo/edge.json --pai demo/sweep/pai_curve.json \
		--gpus 2 --latent-bits 36864 --uncertainty -o demo/phones.csv
	@echo; echo "The same for Stable Diffusion, with published numbers: all methods, and what more GPUs bring."
	$(BIN)/plan --users data/users.csv --compare -o demo/plan.csv
	@echo
	$(BIN)/plan --users data/users.csv --gpu-sweep 1:16 -o demo/gpus.png
	@echo; echo "4. The service itself, for a quarter of a minute: planned seconds against measured ones."
	@$(BIN)/edgesplit serve --port 8449 --emulate-radio & server=$$!; \
		$(BIN)/edgesplit load --server http://127.0.0.1:8449 --wait 120 --users data/phones.csv --arrivals poisson:1 \
		--duration 15 -o demo/load; status=$$?; kill $$server; wait $$server; exit $$status
	@echo; echo "Look at: demo/load/load.html, demo/edge.png (Fig. 3), demo/sweep/fig4a.png and fig4b.png (Fig. 4), demo/gpus.png,"
	@echo "demo/phones.csv and demo/plan.csv (every user's decision)."

# Two processes share the tests, file by file; more threads in each would only wait for each other.
test: $(VENV)/test lint types  ## lint, type-check, run all tests
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile

test-slow: $(VENV)/test  ## the longer checks
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# edgesplit.<folder> is ./<folder>: the links give mypy the import names that users have.
types: $(VENV)/test .build/edgesplit
	MYPYPATH=.build $(BIN)/mypy -p edgesplit

docs: $(VENV)/core .build/edgesplit  ## the manual as a website, in .build/docs
	@$(PIP) --no-build-isolation '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open .build/docs/index.html, or run $(BIN)/mkdocs serve"

bench: $(VENV)/test  ## speed against peers, as tables; pictures in .build/bench
	$(BIN)/python benchmarks/planner.py .build/bench
	$(BIN)/python benchmarks/profiler.py
	$(BIN)/python benchmarks/hybrid.py
	$(BIN)/python benchmarks/sweep.py
	$(BIN)/python benchmarks/methods.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/servers.py
	@$(PIP) '.[bench]'
	$(BIN)/python benchmarks/service.py
	$(BIN)/python benchmarks/server.py
	$(BIN)/python benchmarks/drl.py .build/bench
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/prices.py

sweep: $(VENV)/models  ## measure the toy world's PAI curve again (about ten minutes)
	$(BIN)/pai-sweep --device cpu -o .build/sweep

toyworld: $(VENV)/test  ## train the toy world's models from nothing (about two hours)
	$(BIN)/python -m edgesplit.diffusion.toyworld.trainers.train -o .build/toyworld-new

reproduction: $(VENV)/core  ## the paper's figures from a full run (half an hour to an hour), and docs/reproduction.md
	$(BIN)/reproduce -o .build/reproduction
	cp .build/reproduction/*.png docs/reproduction/
	(cat docs/reproduction/introduction.md; echo; \
		sed 's#^\(!\[.*\](\)#\1reproduction/#' .build/reproduction/summary.md) > docs/reproduction.md

policies: $(VENV)/core  ## train the shipped policies again (about two hours)
	@$(PIP) --no-build-isolation '.[train]'
	$(BIN)/python -m edgesplit.optimizer.learn.training .build/policies-new

learned: $(VENV)/core  ## train the shipped policy that prices rounds again (a quarter of an hour)
	@$(PIP) --no-build-isolation '.[train]'
	$(BIN)/python -m edgesplit.service.learn.training .build/learned

prices: $(VENV)/core  ## tune the shipped prices again (about an hour)
	$(BIN)/edgesplit simulate tune --evaluations 1600 --worlds 6 -o .build/mixed.json
	$(BIN)/edgesplit simulate tune --revise --evaluations 800 --worlds 6 -o .build/revised.json

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

$(VENV)/models: $(VENV)/core
	@echo "installing torch, diffusers and more (several GB) ..."
	@$(PIP) --no-build-isolation '.[models,serve]'
	@touch $@

$(VENV)/test: $(VENV)/core
	@echo "installing the test tools ..."
	@$(PIP) --no-build-isolation '.[test,models,docs]'
	@touch $@

$(VENV)/pip: constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) setuptools
	@touch $@

.build/edgesplit: $(wildcard edgesplit/*)
	@rm -rf $@ && mkdir -p $@
	@ln -s $(addprefix ../../,$(FOLDERS) $(wildcard edgesplit/*.py edgesplit/py.typed)) $@/
