"""
Lists the images whose labels predictions of other images, or near-duplicates, contradict.

    pip install cleanlab==2.9.0     # brings scikit-learn
    python -m scripts.audit_labels --data_dir my_faces --model . --output_dir audit

The predictions are out of fold: simple classifiers on a network's features, fitted to the other images. The network must not
have been trained on these labels. For UTKFace, on which the shipped weights were trained, give public weights, such as
`--model runs/reproduce/start_faceres` (see docs/training.md).
"""

from pathlib import Path

import datasets
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data.labels import GENDERS
from data.transforms import compute_features
from data.utkface import load_utkface
from files.writing import OutputParser
from hub.errors import run
from hub.loading import load_model
from image_reading import to_rgb
from metrics.results import name_count


FOLDS = 5
SHEET_IMAGES = 100


def predict_out_of_fold(
    estimator, folds, features: np.ndarray, labels: np.ndarray, groups: np.ndarray, **options
) -> np.ndarray:
    """Returns predictions for labelled images from fits to the others, without their near-duplicates; NaN without a label."""
    known = np.isfinite(labels)
    values = cross_val_predict(
        make_pipeline(StandardScaler(), estimator),
        features[known],
        labels[known],
        groups=groups[known],
        cv=folds,
        **options,
    )
    predictions = np.full((len(labels), *values.shape[1:]), np.nan)
    predictions[known] = values
    return predictions


def audit(table: pd.DataFrame, features: np.ndarray) -> pd.DataFrame:
    """
    Finds the rows whose label is contradicted.

    Args:
        table: Columns `age` (years) and `gender` (index), NaN if unknown, and `group`, which near-duplicates share.
        features: Of the images, from a network that has not seen the labels, shape `(num_images, num_features)`.

    Returns:
        These rows of the table, the most doubtful first, with `predicted_age`, `predicted_gender`, `reasons` and `quality`, the
        lowest of the label qualities that cleanlab gives age and gender, 0 to 1.

    Raises:
        ValueError: if fewer than two groups of images have an age, or either gender.
    """
    from cleanlab.filter import find_label_issues  # only here: it takes seconds to import
    from cleanlab.rank import get_label_quality_scores
    from cleanlab.regression.rank import get_label_quality_scores as get_age_quality_scores

    table, groups = table.copy(), table["group"].to_numpy()
    ages, genders = table["age"].to_numpy(float), table["gender"].to_numpy(float)
    aged, gendered = np.isfinite(ages), np.isfinite(genders)
    num_aged, *num_gendered = (len(np.unique(groups[rows])) for rows in (aged, genders == 0, genders == 1))
    if min(num_aged, *num_gendered) < 2:
        raise ValueError(
            "An audit needs labelled ages of two images or more, and two images or more of each gender. Near-duplicates count as "
            "one image."
        )
    regression, folds = RidgeCV(np.logspace(0, 5, 6)), GroupKFold(min(FOLDS, num_aged))
    table["predicted_age"] = predict_out_of_fold(regression, folds, features, ages, groups).round(1)
    # Both genders are in each fold, or else a fit to the others might see only one.
    classifier, folds = LogisticRegression(C=0.01, max_iter=300), StratifiedGroupKFold(min(FOLDS, *num_gendered))
    probabilities = predict_out_of_fold(classifier, folds, features, genders, groups, method="predict_proba")
    table["predicted_gender"] = [
        GENDERS[row.argmax()] if known else None for row, known in zip(probabilities, gendered)
    ]
    labels = genders[gendered].astype(int)
    quality = pd.DataFrame(1.0, index=table.index, columns=["age", "gender"])
    quality.loc[aged, "age"] = get_age_quality_scores(ages[aged], table["predicted_age"][aged].to_numpy())
    quality.loc[gendered, "gender"] = get_label_quality_scores(labels, probabilities[gendered])
    doubts = {"gender": np.zeros(len(table), bool)}
    doubts["gender"][gendered] = find_label_issues(labels, probabilities[gendered], n_jobs=1)
    errors = (table["predicted_age"] - ages).abs()
    doubts["age"] = (errors > 4 * errors.median() + ages / 4).to_numpy()  # errors grow with age
    of_group = table.groupby("group")
    spread = of_group["age"].transform("max") - of_group["age"].transform("min")
    doubts["near-duplicate"] = ((spread > 5) | (of_group["gender"].transform("nunique") > 1)).to_numpy()
    table["reasons"] = [" ".join(name for name in doubts if doubts[name][row]) for row in range(len(table))]
    table["quality"] = quality.min(axis=1)
    return table[table["reasons"] != ""].sort_values("quality", kind="stable")


def draw_sheet(doubtful: pd.DataFrame, images: datasets.Dataset, file: Path):
    """Writes a picture of the first rows: each image with its label and the prediction."""
    columns, shown = 10, doubtful.head(SHEET_IMAGES)
    rows = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(1.5 * columns, 1.95 * rows), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    for number, (axes, (index, row)) in enumerate(zip(figure.axes, shown.iterrows()), start=1):
        image = images[index]["image"]
        axes.imshow(to_rgb(image["bytes"] or image["path"]))
        gender = GENDERS[int(row.gender)] if np.isfinite(row.gender) else "?"
        predicted = f"{row.predicted_age:.0f} {row.predicted_gender or '?'}"
        axes.set_title(f"{number}: {row.age:.0f} {gender}\nread {predicted}", fontsize=7)
    figure.savefig(file, dpi=110)


def main():
    parser = OutputParser(description="Lists the images whose labels predictions or near-duplicates contradict.")
    parser.add_argument("--data_dir", required=True, help="Folder, archive, table (CSV, Parquet) or data set id.")
    parser.add_argument(
        "--model",
        required=True,
        help="Network whose features are taken, not trained on these labels: a folder or Hub id.",
    )
    parser.add_output("--output_dir", required=True, help="Folder for labels.csv and contact_sheet.jpg.")
    arguments = parser.parse_args()
    images = datasets.concatenate_datasets(list(load_utkface(arguments.data_dir).values()))
    images = images.cast_column("image", datasets.Image(decode=False))
    model, processor = load_model(arguments.model)
    features = compute_features(images, model, processor).with_format("numpy", columns=["pixel_values"])[:][
        "pixel_values"
    ]
    table = images.select_columns(["file_name", "age_low", "age_high", "gender", "group"]).to_pandas()
    table["age"] = (table.pop("age_low") + table.pop("age_high")) / 2  # the middle of a band
    doubtful = audit(table, features)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    named = doubtful.assign(gender=[GENDERS[int(each)] if np.isfinite(each) else None for each in doubtful["gender"]])
    named.round(4).to_csv(arguments.output_dir / "labels.csv", index=False)
    draw_sheet(doubtful, images, arguments.output_dir / "contact_sheet.jpg")
    counts = ", ".join(
        f"{doubtful['reasons'].str.contains(name).sum():,} by {name}" for name in ("gender", "age", "near-duplicate")
    )
    print(f"{name_count(len(doubtful), 'image')} of {len(images):,} are doubtful: {counts}.")
    print(f"Wrote labels.csv and contact_sheet.jpg, the first {SHEET_IMAGES} of them, into {arguments.output_dir}")


if __name__ == "__main__":
    run(main)
