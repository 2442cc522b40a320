"""Tables and sentences: their figures are those of the JSON."""

import pytest

from metrics.tables import (
    describe_false_adults,
    describe_person,
    describe_teenagers,
    describe_young_adults,
    fill_marks,
    find_bands,
    find_group,
    format_estimate,
    format_figure,
    format_groups,
    format_markdown,
    make_group_table,
    make_rule_table,
)
from tests.support.groups import make_groups


GROUPS = make_groups()


def test_estimates_as_text():
    assert format_estimate({"value": 2.977, "low": 2.8, "high": 3.15}, ".2f") == "2.98 (2.80 to 3.15)"
    assert format_estimate({"value": 0.15, "low": None, "high": None}, ".1%") == "15.0 %"
    share = {"count": 3, "num_images": 20, "value": 0.15, "low": 0.05, "high": 0.36}
    assert format_estimate(share, ".1%") == "3 of 20: 15.0 % (5.0 % to 36.0 %)"
    assert [format_figure(value, ".1%") for value in (0.5, None)] == ["50.0 %", "–"]
    assert format_estimate(None, ".1%") == "–" == format_estimate({"value": None, "low": None, "high": None}, ".2f")


@pytest.mark.parametrize(
    ("gender", "ages", "side"), [("male", "21–30", "too low"), ("male", "76–120", "too high or too low")]
)
def test_sentences_to_a_person_carry_the_figures(gender, ages, side):
    row, text = find_group(GROUPS, gender=gender, ages=ages), describe_person(GROUPS, gender, ages)
    error, accuracy, covered = (row[name] for name in ("age_mae", "gender_accuracy", "interval_coverage"))
    assert f"off by {error['value']:.1f} years on average ({error['low']:.1f} to {error['high']:.1f})" in text
    assert f"labelled one for {100 * accuracy['value']:.0f} of 100" in text
    assert f"labelled age for {100 * covered['value']:.0f} of 100" in text
    assert f"Measured on {row['num_images']} photos of faces labelled {gender}, {ages} years" in text
    low, high = row["age_bias"]["low"], row["age_bias"]["high"]
    assert ("neither clearly" in text) == (low <= 0 <= high)
    sure = next(row["sure"] for row in GROUPS["sure_genders"] if row["ages"] == ages)
    assert (
        f"**unsure** for {sure['num_images'] - sure['count']} of {sure['num_images']} faces of both genders at {ages} years"
        in text
    )


@pytest.mark.parametrize("ages", ["4–12", "13–20", "21–30"])
def test_only_people_of_13_to_20_hear_how_many_minors_pass_for_adults(ages):
    assert (describe_false_adults(GROUPS) in describe_person(GROUPS, "male", ages)) == (ages == "13–20")


def test_a_person_hears_that_a_group_is_too_small():
    assert describe_person(GROUPS, "female", "0–3") == "Only 9 photos of such faces were measured: too few to tell."
    assert describe_person({"by_group": []}, "male", "0–3").startswith("Only 0 photos")


def test_sentences_carry_the_counts():
    assert (
        "The model reads 30 of 70 faces labelled 13–17 years as 18 or older, 42 to 44 of 100 by the 95 % interval. "
        "Asking for P(age ≥ 18) ≥ 95 % still passes 22 of them." in describe_false_adults(GROUPS)
    )
    assert "2.75 (2.45 to 3.05) years as the mean of both genders (3.00 (2.60 to 3.40) male" in describe_young_adults(
        GROUPS
    )
    assert "within 13–16 years for 20 of 50: 40.0 %" in describe_teenagers(GROUPS)


def test_tables_show_each_group_and_rule():
    table = make_group_table(GROUPS, "race", "gender")
    assert table.header[:3] == ["race label", "gender label", "images"] and len(table.rows) == 6
    assert make_group_table({"by_group": []}, "race").rows == []
    rules = make_rule_table(GROUPS)
    assert len(rules.rows) == 6 and rules.rows[0][2].startswith("30 of 340: 8.8 %")
    lines = format_markdown(rules).splitlines()
    assert lines[1] == "|---" * 6 + "|" and lines[2].startswith("| 18 years | the age, if at least the line | 30 of")
    text = format_groups(GROUPS)
    assert all(word in text for word in ("By race label and gender label:", "Lines at an age:", "30 of 340", "ECE"))


def test_a_page_gets_the_texts_that_it_has_marks_for():
    mark, texts = (
        "<!-- Lines at an age -->\n",
        {"Other": "no", "Lines at an age": format_markdown(make_rule_table(GROUPS))},
    )
    page = fill_marks(f"Before.\n\n{mark}old\n<!-- end -->\n\nAfter.\n", texts)
    filled = f"Before.\n\n{mark}{texts['Lines at an age']}\n\n<!-- end -->\n\nAfter.\n"
    assert page == filled == fill_marks(page, texts)


def test_without_groups_bands_have_no_intervals():
    errors = {"by_age": [{"ages": "all", "num_images": 9}, {"ages": "0–3", "num_images": 9, "age_mae": 1.5}]}
    (band,) = find_bands(None, errors)
    assert band["age_mae"] == {"value": 1.5, "low": None, "high": None} and band["gender_accuracy"]["value"] is None
    assert find_bands(GROUPS, errors)[0] == find_group(GROUPS, ages="0–3")
