# The words of this project. Each makes what it needs; nothing outside .venv, .mlpack and out is written.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Threads that fight over two cores make tests slow and timings wrong.
export OMP_NUM_THREADS ?= 1
# Bytecode is kept: else every process that a test starts compiles mlpack again, and pytest rewrites every file of tests again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test slow soak coverage mutants lint lock bench docs site dist clean debian parts

# The locks are what the project is developed and tested on, every file by its hash; pyproject.toml declares the honest ranges.
# Nothing is resolved (--no-deps) and nothing built here but this project. Which torch comes is for pip's own configuration to say:
# a build for the CPU, or PyPI's for CUDA, and then what it needs besides, gigabytes of it (tools/lock.py).
PIP := $(BIN)/python -m pip install --quiet --progress-bar off --no-deps
# pip compiles what it installs on one core, for more than a minute: it is told not to (a false value is its --no-compile), and all
# cores compile it at the end, but for other people's tests.
$(READY): export PIP_NO_COMPILE = 0
$(READY): pyproject.toml requirements.lock requirements-cuda.lock tools/lock.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python tools/lock.py torch
	$(PIP) --require-hashes --only-binary :all: --requirement requirements.lock
	$(BIN)/python tools/lock.py cuda
	$(PIP) --no-build-isolation --editable .
	$(BIN)/python -m pip check
	$(BIN)/python -m compileall -q -j 0 -x '/tests?/' $(VENV)/lib >/dev/null || true
	touch $@

demo: $(READY)
	$(BIN)/mlpack build recipes/fashion.yaml --out out/fashion
	$(BIN)/mlpack run out/fashion

# Fast tests write their small files into memory, where nobody waits for a disk.
test: $(READY)
	TMPDIR="$$($(BIN)/python -m tools.scratch)" $(BIN)/python -m pytest tests -q -n 2 --dist worksteal -m "not slow" --durations=10 --durations-min=1

slow: $(READY) debian
	$(BIN)/python -m pytest tests -q -n 2 --dist worksteal -m slow
	$(BIN)/python -m pytest tests_slow -q -n 2 --dist loadscope

# The slow tests with large counts and lasting faults, then every property test with twenty times the examples; prints the counts
# that docs/reliability.md has.
soak: $(READY) debian
	MLPACK_SOAK=1 $(BIN)/python -m pytest tests_slow -q -s
	MLPACK_SOAK=1 $(BIN)/python -m pytest tests/registry/test_damages.py -q -n 2 -m slow
	$(BIN)/python -m pytest tests -q -n 2 -m hypothesis --hypothesis-profile=soak --hypothesis-show-statistics

# What fast and slow tests reach together, children included, in build/coverage/html; fails below the floor in pyproject.toml. It is
# not a part of test and slow: counting lines makes them slower.
COVERED := $(BIN)/python -m coverage run -m pytest -q -n 2
coverage: $(READY) debian
	rm -rf build/coverage
	$(COVERED) tests
	$(COVERED) tests_slow --dist loadscope
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage html --quiet --directory build/coverage/html
	$(BIN)/python -m coverage report

# Whether the tests of the pure modules see a change of the code: a sample of single mutants, of which nine in ten have to be noticed.
mutants: $(READY)
	$(BIN)/python tools/mutants.py

# mypy takes the longest: what follows it runs beside it.
lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(BIN)/mypy & types=$$!; { $(BIN)/lint-imports && $(BIN)/python tools/budgets.py; }; rest=$$?; wait $$types && exit $$rest

# Writes the locks anew after pyproject.toml has changed; with UPGRADE=1, with the newest versions that fit.
lock: $(READY)
	$(BIN)/python tools/lock.py write $(if $(UPGRADE),--upgrade)

bench: $(READY) debian
	$(BIN)/python -m sample_models.minilm.fetch
	$(BIN)/python bench/all.py

# What pages say of the code is filled in, then the site is built from them.
docs: $(READY)
	$(BIN)/python tools/make_docs.py
	$(MAKE) site

# The documentation site in build/site, strictly, by programs in an environment of their own: needs no .venv, and no network once
# that is there. To read it:  python3 -m http.server --bind 127.0.0.1 --directory build/site
SITE := build/site-env
$(SITE)/.ready: requirements-site.lock
	rm -rf $(SITE)
	$(PYTHON) -m venv $(SITE)
	$(SITE)/bin/python -m pip install --quiet --progress-bar off --no-deps --require-hashes --only-binary :all: --requirement $<
	touch $@

site: $(SITE)/.ready
	$(SITE)/bin/zensical build --clean --strict
	$(SITE)/bin/python tools/docs/site.py build/site

# Wheel and sdist in dist/, by the locked build backend in an environment of its own: nothing else can have a hand in them.
dist:
	rm -rf dist build/dist-env
	$(PYTHON) -m venv build/dist-env
	build/dist-env/bin/python tools/lock.py backend
	build/dist-env/bin/python -m hatchling build --directory dist

# What the slow tests boot, push and break: real registries, containers and data. Installed only as root, named otherwise.
debian:
	@sh tools/debian.sh

# Root file systems that the slow tests boot packages in, made ahead: the first tests that need one wait a minute for it otherwise.
parts: debian
	$(PYTHON) -m tools.parts

clean:
	rm -rf $(VENV) build dist mutants out .cache .mlpack .pytest_cache .mypy_cache .ruff_cache
