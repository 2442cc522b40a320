"""Arguments and results that the benchmarks share."""

import argparse
import json
from pathlib import Path

from metrics.results import write_json


ROOT = Path(__file__).resolve().parent.parent


def make_parser(description: str) -> argparse.ArgumentParser:
    """Returns a parser of `--model` and `--output` that shows the description as it is written."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", default=str(ROOT), help="Model folder or Hub id. Default: this folder.")
    parser.add_argument("--output", type=Path, help="JSON file for the results.")
    return parser


def report(results: dict, output: Path | None):
    """Prints the results, and writes them to a JSON file if one is given."""
    print(json.dumps(results, indent=2))
    if output:
        write_json(output, results)
