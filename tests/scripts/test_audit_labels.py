"""Labels that are contradicted are found, and others are not."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from image_processing_agegender import AgeGenderImageProcessor
from scripts.audit_labels import audit
from tests.support.models import make_model
from tests.support.processes import run_here
from tests.support.training import write_faces


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")


def make_people(count: int = 600) -> tuple[pd.DataFrame, np.ndarray]:
    """Right labels, and features that show age and gender with some noise."""
    random = np.random.default_rng(0)
    ages, genders = random.integers(0, 90, count).astype(float), random.integers(0, 2, count).astype(float)
    features = np.c_[
        ages + random.normal(0, 3, count), 4 * genders + random.normal(size=count), random.normal(size=(count, 6))
    ]
    return pd.DataFrame({"age": ages, "gender": genders, "group": np.arange(count)}), features


def test_wrong_labels_are_found():
    table, features = make_people()
    table.loc[[3, 50], "gender"] = 1 - table.loc[[3, 50], "gender"]
    table.loc[[10, 200], "age"] = (table.loc[[10, 200], "age"] + 45) % 90
    table.loc[301, ["group", "age"]] = table.loc[300, "group"], table.loc[300, "age"] + 6  # two of one image
    table.loc[5, "age"], table.loc[6, "gender"] = np.nan, np.nan
    doubtful = audit(table, features)
    reasons = doubtful["reasons"]
    assert {3, 50} <= set(reasons.index[reasons.str.contains("gender")])
    assert {10, 200} <= set(reasons.index[reasons.str.contains("age")])
    assert {300, 301} == set(reasons.index[reasons.str.contains("near-duplicate")])
    assert set(doubtful.index[:2]) == {10, 200} and doubtful["quality"].is_monotonic_increasing
    assert set(reasons.index[reasons.str.contains("gender")][:2]) == {3, 50}
    assert len(doubtful) < 20
    assert abs(doubtful.loc[10, "predicted_age"] - (table.loc[10, "age"] - 45) % 90) < 15


@pytest.mark.parametrize("count", [0, 1, 2])
def test_images_of_one_gender_cannot_be_audited(count):
    """Nor can those with one image of the other gender, or two that are near-duplicates."""
    table, features = make_people(50)
    table = table.assign(gender=(table.index < count).astype(float), group=table["group"].replace(1, 0))
    with pytest.raises(ValueError, match="two images or more of each gender"):
        audit(table, features)


def test_few_images_of_a_gender_lie_in_several_folds():
    """If folds did not regard the gender, both would lie in one, and the fit to the others would see one gender."""
    table, features = make_people(50)
    table["gender"] = (table.index % 25 == 0).astype(float)
    audit(table, features)


def test_the_command_writes_a_table_and_a_sheet(tmp_path):
    faces = write_faces(tmp_path / "faces", 40)
    model, saved = make_model(0), tmp_path / "model"
    model.save_pretrained(saved)
    size = {"height": model.config.image_size, "width": model.config.image_size}
    AgeGenderImageProcessor(size=size).save_pretrained(saved)
    command = ["--data_dir", str(faces), "--model", str(saved), "--output_dir", str(tmp_path / "audit")]
    run_here("scripts.audit_labels", command)
    rows = pd.read_csv(tmp_path / "audit" / "labels.csv")
    assert {"file_name", "age", "gender", "predicted_age", "predicted_gender", "reasons", "quality"} <= set(rows)
    assert set(rows["gender"].dropna()) <= {"male", "female"}
    Image.open(tmp_path / "audit" / "contact_sheet.jpg").verify()
