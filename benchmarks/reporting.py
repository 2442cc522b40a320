"""Arguments and results that the benchmarks share."""

import json
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

from files.writing import OutputParser
from metrics.results import write_json


ROOT = Path(__file__).resolve().parent.parent


def make_parser(description: str, with_model: bool = True) -> OutputParser:
    """Returns a parser of `--model`, `--output` and `--overwrite` that shows the description as it is written."""
    parser = OutputParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    if with_model:
        parser.add_argument("--model", default=str(ROOT), help="Model folder or Hub id. Default: this folder.")
    parser.add_output(help="JSON file for the results.")
    return parser


def report(results: dict, output: Path | None):
    """Prints the results, and writes them to a JSON file if one is given."""
    print(json.dumps(results, indent=2))
    if output:
        write_json(output, results)
        print(f"Wrote {output}")
