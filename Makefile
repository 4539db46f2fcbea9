# The words of this project. Each makes what it needs; nothing outside .venv, .mlpack and out is written.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Threads that fight over two cores make tests slow and timings wrong.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test slow soak lint bench docs clean debian

# constraints.txt is what the project is developed and tested on; pyproject.toml declares the honest ranges.
# torch first and by its exact version: any other way of asking may bring gigabytes of CUDA.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar off "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --progress-bar off --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(READY)
	$(BIN)/mlpack build recipes/fashion.yaml --out out/fashion
	$(BIN)/mlpack run out/fashion

test: $(READY)
	$(BIN)/python -m pytest tests -q -n 2 -m "not slow"

slow: $(READY) debian
	$(BIN)/python -m pytest tests -q -n 2 -m slow
	$(BIN)/python -m pytest tests_slow -q -n 2 --dist loadscope

# The slow tests with large counts and lasting faults, then every property test with twenty times the examples; prints the counts
# that docs/reliability.md has.
soak: $(READY) debian
	MLPACK_SOAK=1 $(BIN)/python -m pytest tests_slow -q -s
	$(BIN)/python -m pytest tests -q -n 2 -m hypothesis --hypothesis-profile=soak --hypothesis-show-statistics

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/budgets.py

bench: $(READY) debian
	$(BIN)/python -m sample_models.minilm.fetch
	$(BIN)/python bench/all.py

docs: $(READY)
	$(BIN)/python tools/make_docs.py

# What the slow tests boot, push and break: real registries, containers and data. Installed only as root, named otherwise.
debian:
	@sh tools/debian.sh

clean:
	rm -rf $(VENV) out .mlpack .pytest_cache .mypy_cache .ruff_cache
