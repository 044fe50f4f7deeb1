# Each target works from a fresh clone; the first one that runs creates .venv.
#   make demo    the demo sweep: training, MLflow, report (some minutes on two CPU cores)
#   make test    the whole test suite
#   make lint    ruff, ruff format, mypy, import-linter
#   make coverage  the test suite with the share of lines that it runs, in htmlcov/
#   make docs    the documentation site, in site/
#   make bench   speed beside peers, measured in one run
#   make chaos   a thousand workers killed in small sweeps; the summary is in results/reliability

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# More than the two cores of CI: many tests wait for processes that they have killed or started.
TEST_JOBS ?= 3

.PHONY: demo test lint coverage docs bench chaos clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/mixbench sweep demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile --cov --cov-report=term:skip-covered --cov-report=html

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

bench: $(VENV)/.installed-dev
	$(BIN)/python -m tests.bench

chaos: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos

clean:
	rm -rf $(VENV) build dist site htmlcov .coverage *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mixbench needs Python 3.11 or newer; choose one with: make PYTHON=python3.12"; exit 2; }
	@if ! $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then \
	  version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -q && apt-get install -y -q python$$version-venv; \
	  else \
	    echo "Python's venv is missing; install it with: sudo apt-get install python$$version-venv"; \
	    exit 2; \
	  fi; \
	fi
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.installed
