"""
Writes the tables of groups into docs/results.md, from the results of evaluation.py.

    python -m scripts.write_tables --results benchmarks/evaluation_validation.json
"""

import argparse
import json
from pathlib import Path

from hub.errors import run
from metrics.tables import fill_tables


PAGE = Path(__file__).resolve().parents[1] / "docs" / "results.md"


def main():
    parser = argparse.ArgumentParser(description="Writes the tables of groups into docs/results.md.")
    parser.add_argument("--results", type=Path, required=True, help="JSON file that evaluation.py wrote.")
    groups = json.loads(parser.parse_args().results.read_text(encoding="utf-8")).get("groups")
    if not groups:
        raise ValueError("The results have no groups: measure again with `python evaluation.py --output FILE`.")
    PAGE.write_text(fill_tables(PAGE.read_text(encoding="utf-8"), groups), encoding="utf-8")


if __name__ == "__main__":
    run(main)
