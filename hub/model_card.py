"""Files written beside trained weights: results, curves and the model card."""

import json
import math
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hub.provenance import find_arguments, find_trainings, list_origins
from metrics.results import (
    ADULT_AGES,
    WHOLE_YEARS,
    format_hardware,
    is_measured,
    name_data,
    warn_of_few,
    write_json,
)
from metrics.tables import (
    DEPLOYERS,
    VALIDATION_NOTE,
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


def describe_weights(results: dict) -> str:
    """Describes which weights were measured."""
    if results["arguments"]["num_train_epochs"]:
        return f"the\nweights of epoch {results['best_epoch']}, selected on validation images"
    return "weights that this\nlast step calibrated and did not train"


def describe_encoders(config: dict) -> str:
    """Describes the encoders of a network."""
    number = 1 + len(config.get("more_encoders") or ())
    return "one convolutional encoder" if number == 1 else f"{number} convolutional encoders side by side"


def make_card_data(name: str, results: dict) -> ModelCardData:
    """
    Returns the metadata of the card, and of the page's README, with the results as `model-index`.

    Only Hub ids are data sets or base models. Figures are rounded as in the tables.
    """
    arguments, of_utkface = results["arguments"], results["is_utkface"]
    eval_results = [
        EvalResult(
            task_type="age-gender-estimation",
            task_name="Apparent age and gender",
            dataset_type="utkface" if of_utkface else "faces",
            dataset_name="UTKFace" if of_utkface else arguments["data_dir"],
            dataset_split=split,
            metric_type=key,
            metric_name=metric_name,
            metric_value=round(metrics[key], 2 if key == "age_mae" else 3),
        )
        for split, metrics in results["metrics"].items()
        for key, metric_name in METRIC_NAMES.items()
        if is_measured(metrics[key])
    ]
    data = find_arguments([results, *find_trainings(results)], "data_dir")
    data += find_arguments(find_trainings(results), "extra_data")
    # No pipeline_tag: the Hub's code for image classification does not load this model.
    return ModelCardData(
        language="en",
        license="other",
        license_name="apache-2.0-code-non-commercial-weights" if of_utkface else "terms-of-the-training-images",
        license_link=HOME_PAGE if of_utkface else None,
        library_name="transformers",
        tags=["age-estimation", "gender-classification", "face", *["utkface"] * of_utkface, "custom_code"],
        datasets=[name for name in data if "/" in name] or None,
        base_model=arguments["model"] if "/" in (arguments["model"] or "") else None,
        model_name=name,
        eval_results=eval_results,
    )


def write_card(folder: Path, results: dict):
    """Writes the model card `README.md`."""
    name = results["arguments"]["hub_model_id"] or folder.resolve().name
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    split = list(results["metrics"])[-1]  # the test images where there are any
    groups, images = (results.get("groups") or {}).get(split), results["metrics"][split]["num_images"]
    card = ModelCard.from_template(
        make_card_data(name, results),
        template_path=TEMPLATE,
        name=name,
        megabytes=round((folder / "model.safetensors").stat().st_size / 1e6, 1),
        image_size=config["image_size"],
        encoders=describe_encoders(config),
        last_age=config["num_age_classes"] - 1,
        sha256=results["weights_sha256"],
        unit=WHOLE_YEARS if config["age_statistic"] == "median" else "",
        results=format_markdown(make_result_table(results["metrics"])),
        errors=format_markdown(make_error_table(results["errors"]["validation"])),
        evaluation=f"{images:,} {split} images of {results['arguments']['data_dir']}, which no training used.",
        note=VALIDATION_NOTE if split == "validation" else "",
        split=split,
        group_tables=[(table.title, format_markdown(table)) for table in make_group_tables(groups)] if groups else [],
        sentences=" ".join(make_sentences(groups)) if groups else "",
        deployers=DEPLOYERS,
        warning=warn_of_few(results["metrics"]["validation"]["num_images"]),
        hardware=format_hardware(results["hardware"]),
        origins=list_origins(results),
        weights=describe_weights(results),
        **{key: results[key] for key in ("date", "is_utkface")},
    )
    card.save(folder / "README.md")
