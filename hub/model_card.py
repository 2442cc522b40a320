"""Files written beside trained weights: results, curves and the model card."""

import json
import math
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from metrics.results import (
    ADULT_AGES,
    WHOLE_YEARS,
    format_hardware,
    is_measured,
    name_count,
    name_data,
    warn_of_few,
    write_json,
)
from metrics.tables import (
    DEPLOYERS,
    format_markdown,
    make_error_table,
    make_group_tables,
    make_result_table,
    make_sentences,
)


HOME_PAGE = "https://susanqq.github.io/UTKFace"
TEMPLATE = Path(__file__).with_name("model_card.md")
METRIC_NAMES = {"age_mae": "Age MAE (years)", "age_cs5": "CS@5", "gender_accuracy": "Gender accuracy"}


def write_results(folder: Path, results: dict):
    """Writes `curves.png`, the model card `README.md` and, last, `train_results.json` to a model folder."""
    draw_curves(results["history"], folder / "curves.png")
    write_card(folder, results)
    write_json(folder / "train_results.json", results)


def draw_curves(history: list[dict], file: Path):
    """Draws loss, age error and gender accuracy by epoch."""
    from matplotlib.figure import Figure  # only here: uploads need no drawing

    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    loss_axes, age_axes, gender_axes = figure.subplots(1, 3)
    loss_axes.plot(
        epochs, [row.get("train_loss", math.nan) for row in history], marker=".", label="training (augmented)"
    )
    loss_axes.plot(epochs, [row["loss"] for row in history], marker=".", label="validation")
    loss_axes.set(title="Loss", xlabel="epoch")
    loss_axes.legend()
    low, high = ADULT_AGES
    for axes, key, factor, title in (
        (age_axes, "age_mae", 1, "Age MAE, years"),
        (gender_axes, "gender_accuracy", 100, "Gender accuracy, %"),
    ):
        for suffix, label in (("", "all ages"), (f"_{low}_{high}", f"{low}–{high} years")):
            axes.plot(epochs, [factor * row[key + suffix] for row in history], marker=".", label=label)
        training = [factor * row.get(f"train_{key}", math.nan) for row in history]
        axes.plot(epochs, training, linestyle="--", color="grey", label="training (augmented)")
        axes.set(title=title, xlabel="epoch")
        axes.legend()
    figure.savefig(file, dpi=110)


def describe_start(model: str | None, config: Path | None = None) -> str:
    """
    Describes the initial weights of a training.

    Args:
        model: Folder or Hub id of the initial model, whose card's first paragraph is quoted; None for random weights.
        config: JSON file of the network with random weights.
    """
    if model is None:
        return f"random weights, network of `{config.name}`."
    card = Path(model) / "README.md"
    paragraphs = ModelCard.load(card).text.strip().split("\n\n") if card.is_file() else []
    description = next((paragraph for paragraph in paragraphs if not paragraph.startswith("#")), "")
    return f"`{name_data(model)}`. {description}".strip()


def describe_data(results: dict) -> str:
    """Describes the training images and the teachers."""
    arguments = results["arguments"]
    sizes = ", ".join(f"{count:,} {name}" for name, count in results["split_images"].items())
    text = f"{arguments['data_dir']}, {sizes} images."
    if results["extra_images"]:
        text += f" Also {', '.join(arguments['extra_data'])}, {name_count(results['extra_images'], 'image')}."
    if arguments["teacher"]:
        text += f" Teachers: {', '.join(arguments['teacher'])}."
    return text


def make_card_data(name: str, results: dict) -> ModelCardData:
    """Returns the card's metadata with the results as `model-index`. Only Hub ids are data sets or base models."""
    arguments = results["arguments"]
    eval_results = [
        EvalResult(
            task_type="age-gender-estimation",
            dataset_type="utkface" if results["is_utkface"] else "faces",
            dataset_name=arguments["data_dir"],
            dataset_split=split,
            metric_type=key,
            metric_name=metric_name,
            metric_value=metrics[key],
        )
        for split, metrics in results["metrics"].items()
        for key, metric_name in METRIC_NAMES.items()
        if is_measured(metrics[key])
    ]
    # No pipeline_tag: the Hub's code for image classification does not load this model.
    return ModelCardData(
        language="en",
        license="other",
        license_name="non-commercial-research" if results["is_utkface"] else "terms-of-the-training-images",
        license_link=HOME_PAGE if results["is_utkface"] else None,
        library_name="transformers",
        tags=["age-estimation", "gender-classification", "face", "custom_code"],
        datasets=[data for data in (arguments["data_dir"], *(arguments["extra_data"] or ())) if "/" in data] or None,
        base_model=arguments["model"] if "/" in (arguments["model"] or "") else None,
        model_name=name,
        eval_results=eval_results,
    )


def write_card(folder: Path, results: dict):
    """Writes the model card `README.md`."""
    name = results["arguments"]["hub_model_id"] or folder.resolve().name
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    split = list(results["metrics"])[-1]  # the test images where there are any
    groups = (results.get("groups") or {}).get(split)
    card = ModelCard.from_template(
        make_card_data(name, results),
        template_path=TEMPLATE,
        name=name,
        megabytes=round((folder / "model.safetensors").stat().st_size / 1e6, 1),
        unit=WHOLE_YEARS if config["age_statistic"] == "median" else "",
        results=format_markdown(make_result_table(results["metrics"])),
        errors=format_markdown(make_error_table(results["errors"]["validation"])),
        split=split,
        group_tables=[(table.title, format_markdown(table)) for table in make_group_tables(groups)] if groups else [],
        sentences=" ".join(make_sentences(groups)) if groups else "",
        deployers=DEPLOYERS,
        warning=warn_of_few(results["metrics"]["validation"]["num_images"]),
        hardware=format_hardware(results["hardware"]),
        data=describe_data(results),
        **{key: results[key] for key in ("date", "best_epoch", "start", "is_utkface")},
    )
    card.save(folder / "README.md")
