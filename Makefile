# Two commands are all that anyone needs:
#   make demo   sets everything up, makes the picture, says where it is
#   make test   sets everything up, looks at the style, runs every notebook and the tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
export OMP_NUM_THREADS ?= 1
export MPLBACKEND ?= Agg
export MSCA_CACHE ?= $(abspath .cache)

WEIGHTS ?= $(MSCA_WEIGHTS)

.PHONY: demo test test-long fuzz lint mend coverage figures gpu-pack browser notebooks readme docs clean

$(VENV)/ready: settings.ini setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/ready
	$(BIN)/msca demo --out demo

# two processes each; a file of tests stays in one, so that what its tests share is made once
test: $(VENV)/ready browser lint
	PATH="$(BIN):$$PATH" $(BIN)/nbdev-test --n-workers 2
	PATH="$(BIN):$$PATH" $(BIN)/python -m pytest -rs -n 2 --dist loadfile -m "not slow" tests

test-long: $(VENV)/ready browser lint
	PATH="$(BIN):$$PATH" $(BIN)/nbdev-test --n-workers 2 --flags slow
	PATH="$(BIN):$$PATH" $(BIN)/python -m pytest -rs -n 2 --dist loadfile tests

# ten thousand damaged and odd files for every reader and command; `make test` has a short form
fuzz: $(VENV)/ready
	$(BIN)/python tests/fuzzing.py --out results/fuzz.json

# style of notebooks, modules, tests and scripts; `make mend` mends what a program can
lint: $(VENV)/ready
	$(BIN)/ruff check --quiet
	$(BIN)/python tools/style.py

mend: $(VENV)/ready
	$(BIN)/ruff check --quiet --fix --exit-zero
	$(BIN)/python tools/style.py --fix
	PATH="$(BIN):$$PATH" $(BIN)/nbdev-export
	PATH="$(BIN):$$PATH" $(BIN)/nbdev-clean

# lines of the package that pytest runs, in this process
coverage: $(VENV)/ready browser
	PATH="$(BIN):$$PATH" $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" --cov msca --cov-report term tests

# what the training of the shipped model needs on another computer, in a folder to carry: `make gpu-pack WEIGHTS=folder` with MSCA_DATA set
gpu-pack: $(VENV)/ready
	$(BIN)/python benchmarks/gpu_pack.py --data "$$MSCA_DATA" --perceptual-weights $(WEIGHTS)/vgg19_small16x_fp16.npz \
		--backbone-weights $(WEIGHTS)/efficientnet_lite0_fp16.npz --out gpu-pack

# work, time and memory of everything, beside an earlier commit, SPADE and dense attention: results/bench.json
bench: $(VENV)/ready
	$(BIN)/python benchmarks/bench.py --out results/bench.json

# how the package is cut, beside what it was
figures: $(VENV)/ready
	$(BIN)/python tools/figures.py

# Chromium for the test of `msca app`, where there is none and apt can install it; that test is skipped where it cannot
browser:
	@.ci/browser

# after editing notebooks: run them with saved outputs, export the modules, clean, write README.md
notebooks: $(VENV)/ready
	PATH="$(BIN):$$PATH" $(BIN)/nbdev-export
	PATH="$(BIN):$$PATH" $(BIN)/nbdev-test --n-workers 2 --save
	PATH="$(BIN):$$PATH" $(BIN)/nbdev-clean
	$(MAKE) readme

readme: $(VENV)/ready
	PATH="$(BIN):$$PATH" $(BIN)/python docs/readme.py

# the documentation site, in _site/html; a warning is an error
docs: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python docs/site.py

clean:
	rm -rf $(VENV) .cache build dist demo _proc _site *.egg-info .pytest_cache
