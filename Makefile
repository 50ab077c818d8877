# make demo    set up, then the whole path on real data: train, export, bench, recommend, report
# make test    set up, then the tests of a contributor: everything but what is marked slow
# make test-all  set up, then every test
# make check   set up, then format, lint, types, layers, vocabulary and workflows
# make docs    set up, then the documentation as a site in build/site: open build/site/index.html
# make dist    set up, then what a release publishes, into dist/

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# dev,peers,ray to test and measure the other libraries too, and searches on a cluster
EXTRAS ?= dev

.PHONY: setup demo docs test test-all check dist format clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

demo: setup
	PATH="$(abspath $(BIN)):$$PATH" bash bench/demo.sh demo

docs: setup
	$(BIN)/python -m sphinx --fail-on-warning --quiet -c docs -d build/doctrees . build/site

# The workers share the cores: threads of BLAS that wait for each other spin, and double a test's processor time.
test test-all: export OPENBLAS_NUM_THREADS = 1
test test-all: export OMP_NUM_THREADS = 1

test: setup
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not slow"

test-all: setup
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.vocabulary
	$(BIN)/zizmor --offline --quiet .github

dist: setup
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python .ci/dist.py

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
