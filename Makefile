# Two commands for a fresh clone with Python and make: `make serve` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: serve test lint format clean

serve: $(VENV)/.installed
	$(BIN)/gunicorn -c deploy/gunicorn.conf.py

test: $(VENV)/.installed-test lint
	$(BIN)/python -X dev -W error -m pytest --cov --cov-report=term

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/flake8
	$(BIN)/pylint wsgi_store tests deploy/gunicorn.conf.py
	$(BIN)/mypy

format: $(VENV)/.installed-test
	$(BIN)/ruff format .

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --editable '.[test]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info
