"""A report on a model as one HTML page that loads nothing: to attach to a decision, to print or to archive."""

import shlex
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from metrics.charts import make_age_charts, make_group_charts
from metrics.results import format_hardware, warn_of_few
from metrics.tables import (
    DEPLOYERS,
    VALIDATION_NOTE,
    make_bin_tables,
    make_error_table,
    make_group_table,
    make_group_tables,
    make_result_table,
    make_sentences,
)


FILE_NAME = "report.html"
# Arguments of evaluation.py on which the figures depend, and their defaults.
SETTINGS = {"split_seed": None, "validation_share": None, "mixed_precision": "no"}


def name_command(results: dict) -> str:
    """Returns the command that writes a report with the same figures."""
    settings = {name: results[name] for name in ("model", "data_dir", "split")}
    settings |= {name: results[name] for name, default in SETTINGS.items() if results[name] != default}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return shlex.join(["python", "evaluation.py", *words, "--report", "report"])


def write_report(folder: Path, results: dict) -> Path:
    """
    Writes `report.html` and returns its path.

    Args:
        folder: Created if it does not exist.
        results: What evaluation.py writes as JSON, with `groups`.
    """
    groups = results["groups"]
    facts = {
        "Model": results["model"],
        "SHA-256 of the weights": results["weights_sha256"] or "not known: the model is on the Hub",
        "Images": f"{results['metrics']['num_images']:,} of the {results['split']} split of {results['data_dir']}",
        "Date": results["date"],
        "Hardware": format_hardware(results["hardware"]),
        "Precision": {"no": "fp32"}.get(results["mixed_precision"], results["mixed_precision"]),
        "Versions": ", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        "Command": name_command(results),
    }
    tables = [make_result_table({results["split"]: results["metrics"]}), make_error_table(results["errors"])]
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    text = environment.get_template(FILE_NAME).render(
        title="Apparent age and gender: what the model gets right and wrong",
        facts=facts,
        warning=warn_of_few(results["metrics"]["num_images"]),
        split_note=VALIDATION_NOTE if results["split"] == "validation" else "",
        deployers=DEPLOYERS,
        charts=make_age_charts(groups, results["errors"]) + make_group_charts(groups),
        sentences=make_sentences(groups),
        tables=tables + make_group_tables(groups),
        details=[make_group_table(groups, "race", "gender", "ages"), *make_bin_tables(groups)],
    )
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FILE_NAME
    file.write_text(text, encoding="utf-8")
    return file
