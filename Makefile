PYTHON ?= python

.PHONY: style quality test app

style:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

quality:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

test:
	$(PYTHON) -m pytest

app:
	$(PYTHON) app.py
