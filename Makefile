# Two commands are all that anyone needs:
#   make demo   sets everything up, makes the picture, says where it is
#   make test   sets everything up, runs every notebook and the tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
export OMP_NUM_THREADS ?= 1
export MPLBACKEND ?= Agg
export MSCA_CACHE ?= $(abspath .cache)

.PHONY: demo test test-long browser notebooks readme clean

$(VENV)/ready: settings.ini setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/ready
	$(BIN)/msca demo --out demo

test: $(VENV)/ready browser
	PATH="$(BIN):$$PATH" $(BIN)/nbdev-test --n-workers 2
	PATH="$(BIN):$$PATH" $(BIN)/python -m pytest -rs -m "not slow" tests

test-long: $(VENV)/ready browser
	PATH="$(BIN):$$PATH" $(BIN)/nbdev-test --n-workers 2 --flags slow
	PATH="$(BIN):$$PATH" $(BIN)/python -m pytest -rs tests

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

clean:
	rm -rf $(VENV) .cache build dist demo _proc *.egg-info .pytest_cache
