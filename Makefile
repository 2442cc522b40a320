PYTHON ?= python

.PHONY: quick test style quality app web

quick:
	$(PYTHON) -m pytest -m "not slow and not browser and not processes"

test:
	$(PYTHON) -m pytest

style:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

quality:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

app:
	$(PYTHON) app.py

web:
	rm -rf web/dist
	$(PYTHON) -m scripts.build_web --output web/dist
