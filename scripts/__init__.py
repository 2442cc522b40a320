"""Programs for rare tasks, run as `python -m scripts.NAME`."""
