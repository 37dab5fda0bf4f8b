# Two commands: `make demo` and `make test`. Each sets up what it needs; a second call does not install again.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
STAMPS := .stamps

.PHONY: demo test lint docs format clean

demo: $(STAMPS)/demo
	$(VENV)/bin/prunetune demo

test: $(STAMPS)/test lint
	$(PY) -m pytest -n auto --dist worksteal

lint: $(STAMPS)/test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(PY) -m mypy

docs: $(STAMPS)/test
	$(PY) -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "the site is in build/docs/index.html"

format: $(STAMPS)/test
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# The first of these that is Python 3.11 or newer makes the environment.
$(VENV)/bin/python:
	@for python in python3.11 python3 python3.12 python3.13; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$python"; exec $$python -m venv $(VENV); \
	  fi; \
	done; echo "prunetune needs Python 3.11 or newer; none was found as python3.11, python3, python3.12 or python3.13" >&2; exit 1

$(STAMPS)/demo: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install --disable-pip-version-check -q -e '.[vision]'
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/test: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install --disable-pip-version-check -q -e '.[test]'
	@mkdir -p $(STAMPS) && touch $@

clean:
	rm -rf $(STAMPS) build dist .mypy_cache .ruff_cache .pytest_cache
