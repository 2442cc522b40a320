"""Tables and sentences of a results JSON, the one source of the figures in the docs, the report, the card and the page."""

from typing import NamedTuple

from image_processing_agegender import SMALL_CHILD_AGE, SURE_GENDER, SURE_GENDER_OF_SMALL_CHILD
from metrics.results import (
    ADULT_AGE,
    ADULT_AGES,
    INTERVAL_COVERAGE,
    LEAST_PROBABILITY,
    format_value,
    is_measured,
    name_count,
)


RANGE = f"{100 * INTERVAL_COVERAGE:.0f} % range"
# Metrics of a split, and errors at an age: format and heading.
METRICS = {
    "age_mae": (".2f", "mean age error (MAE), years"),
    "age_cs5": (".1%", "within five years (CS@5)"),
    "gender_accuracy": (".1%", "gender as labelled"),
}
ERRORS = {
    "num_images": (",", "images"),
    "age_mae": (".2f", "MAE, years"),
    "age_bias": ("+.2f", "bias, years"),
    "gender_accuracy": (".1%", "gender as labelled"),
    "interval_coverage": (".1%", f"age in {RANGE}"),
    "interval_width": (".1f", f"width of the {RANGE}, years"),
}
STATISTICS = {
    name: ERRORS[name] for name in ("age_mae", "age_bias", "gender_accuracy", "interval_coverage")
}  # of groups
ADULTS, ADULT_SUFFIX = "{}–{}".format(*ADULT_AGES), "_{}_{}".format(*ADULT_AGES)
FEATURE_NAMES = {"race": "race label", "gender": "gender label", "ages": "age"}
RULE_NAMES = {
    "answer": "the age",
    "interval": f"the lower end of the {RANGE}",
    "probability": f"P(age ≥ line) ≥ {100 * LEAST_PROBABILITY:.0f} %",
}
BRACKETS = "In brackets: 95 % intervals."
TELL_PEOPLE = (
    "Tell the people whom the camera sees: under the EU AI Act (Regulation 2024/1689), sorting people by age or gender from "
    "their faces can be biometric categorisation, of which they must be told (Art. 50(3))."
)
DEPLOYERS = (
    "The model estimates apparent age: how old a face looks. It is no age-assurance system. ISO/IEC 27566-1 describes such "
    "systems by function, performance, privacy, security and acceptability; a model with the errors reported here is at most a part "
    "of one.",
    TELL_PEOPLE,
    "Make no decisions about people with it: neither access nor refusal, neither price nor treatment.",
)
VALIDATION_NOTE = (
    "Validation images choose the epoch of a training, half of them calibrate its weights, and all of them chose the shipped "
    "weights: expect a little less on other images."
)


class Table(NamedTuple):
    """A table of text, whose first columns name the row."""

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""


def format_figure(value: float | None, style: str) -> str:
    """Returns a figure as a table cell, with a blank before a percent sign, a dash if it has no value."""
    return format_value(value, style).replace("%", " %")


def format_estimate(estimate: dict | None, style: str) -> str:
    """Returns a figure with its interval, as in `2.98 (2.80 to 3.15)`, and the count of a share, as in `3 of 20: 15.0 % (…)`."""
    if not estimate or not is_measured(estimate["value"]):
        return "–"
    text = format_figure(estimate["value"], style)
    if is_measured(estimate["low"]):
        text += f" ({format_figure(estimate['low'], style)} to {format_figure(estimate['high'], style)})"
    return f"{estimate['count']:,} of {estimate['num_images']:,}: {text}" if "count" in estimate else text


def find_groups(groups: dict, *features: str) -> list[dict]:
    """Returns the groups that are made by exactly these features; without a feature, the one of all images."""
    return [row for row in groups["by_group"] if FEATURE_NAMES.keys() & row.keys() == set(features)]


def find_group(groups: dict, **features: str) -> dict | None:
    """Returns the group with exactly these features, such as `gender="female", ages="21–30"`, None if it has no images."""
    rows = find_groups(groups, *features)
    return next((row for row in rows if all(row[name] == value for name, value in features.items())), None)


def find_bands(groups: dict | None, errors: dict) -> list[dict]:
    """Returns the groups by age; without groups those of `describe_errors`, whose estimates have no intervals."""
    if groups:
        return find_groups(groups, "ages")
    return [
        {"ages": row["ages"], "num_images": row["num_images"]}
        | {name: {"value": row.get(name), "low": None, "high": None} for name in STATISTICS}
        for row in errors.get("by_age") or []
        if row["ages"] != "all"
    ]


def make_metric_cells(metrics: dict, suffix: str = "") -> list[str]:
    """Returns the metrics for all ages, with the suffix of `ADULT_SUFFIX` for adults."""
    return [format_figure(metrics.get(key + suffix), style) for key, (style, _) in METRICS.items()]


def make_result_table(metrics: dict[str, dict]) -> Table:
    """Makes the table of the metrics by split, for all ages and for adults."""
    header = ["split", "ages", "images", *(heading for _, heading in METRICS.values())]
    rows = [
        [split, ages, format_figure(values.get(f"num_images{suffix}"), ","), *make_metric_cells(values, suffix)]
        for split, values in metrics.items()
        for ages, suffix in (("all", ""), (ADULTS, ADULT_SUFFIX))
    ]
    return Table("Accuracy", header, rows)


def make_error_table(errors: dict) -> Table:
    """Makes the table of the errors by labelled age."""
    rows = [
        [row["ages"], *(format_figure(row.get(key), style) for key, (style, _) in ERRORS.items())]
        for row in errors.get("by_age") or []
    ]
    note = "Bias: above zero the age is too high on average, below too low."
    return Table("Errors by age", ["age", *(heading for _, heading in ERRORS.values())], rows, note)


def make_group_table(groups: dict, *features: str) -> Table:
    """Makes the table of the groups by some features; it has no rows where their labels are absent."""
    names = [FEATURE_NAMES[name] for name in features]
    header = [*names, "images", *(heading for _, heading in STATISTICS.values())]
    rows = [
        [row[name] for name in features]
        + [f"{row['num_images']:,}"]
        + [format_estimate(row.get(key), style) for key, (style, _) in STATISTICS.items()]
        for row in find_groups(groups, *features)
    ]
    return Table(f"By {' and '.join(names)}", header, rows, f"{BRACKETS} A dash: too few images to tell.")


def make_rule_table(groups: dict) -> Table:
    """Makes the table of the rules that draw a line at an age."""
    minors = list(groups["rules"][0]["false_adults"]) if groups["rules"] else []
    header = ["line", "who passes", *(f"passes at {ages}" for ages in minors), f"refused at {ADULT_AGE} and above"]
    rows = [
        [
            f"{row['line']} years",
            f"{RULE_NAMES[row['rule']]}" + ", if at least the line" * (row["rule"] != "probability"),
        ]
        + [format_estimate(row["false_adults"][ages], ".1%") for ages in minors]
        + [format_estimate(row["adults_refused"], ".1%")]
        for row in groups["rules"]
    ]
    note = f"Challenge 25 asks whoever is taken for younger than 25 for a proof of being {ADULT_AGE}. {BRACKETS}"
    return Table("Lines at an age", header, rows, note)


def make_reliability_table(groups: dict) -> Table:
    """Makes the table of the calibration error of P(age ≥ T)."""
    rows = [
        [f"{row['threshold']} years", f"{row['num_images']:,}", format_figure(row["calibration_error"], ".1%")]
        for row in groups["reliability"]
    ]
    note = "ECE: how far P(age ≥ T) is from the share of faces that are so old, on average over ten bins."
    return Table("Probability of an age", ["T", "images", "ECE of P(age ≥ T)"], rows, note)


def make_bin_tables(groups: dict) -> list[Table]:
    """Makes the table of the bins of P(age ≥ T) for each threshold."""
    return [
        Table(
            f"P(age ≥ {row['threshold']}) and the share of faces that are so old",
            [f"mean P(age ≥ {row['threshold']}) in the bin", "labelled at least so old"],
            [
                [format_figure(part["probability"], ".1%"), format_estimate(part["share"], ".1%")]
                for part in row["bins"]
            ],
            BRACKETS,
        )
        for row in groups["reliability"]
    ]


def make_sure_gender_table(groups: dict) -> Table:
    """Makes the table of the genders that the page names, and of those that it calls unsure."""
    names = {"sure": "sure", "right_where_sure": "as labelled where sure", "right_where_unsure": "where unsure"}
    rows = [[row["ages"], *(format_estimate(row[name], ".1%") for name in names)] for row in groups["sure_genders"]]
    lines = f"{SURE_GENDER:.0%}, or {SURE_GENDER_OF_SMALL_CHILD:.0%} at an estimated age below {SMALL_CHILD_AGE} years"
    lines = lines.replace("%", " %")
    note = f"Sure: a probability of at least {lines}. The page calls other genders unsure. {BRACKETS}"
    return Table("Genders that are sure, by age", ["age", *names.values()], rows, note)


def describe_young_adults(groups: dict) -> str:
    """Describes the error of young adults, "" if there are too few."""
    if not (found := groups["young_adults"]):
        return ""
    genders = ", ".join(f"{format_estimate(value, '.2f')} {gender}" for gender, value in found["age_mae"].items())
    mean = format_estimate(found["age_mae_of_genders"], ".2f")
    return f"At {found['ages']} years, the MAE is {mean} years as the mean of both genders ({genders})."


def describe_teenagers(groups: dict) -> str:
    """Describes how many teenagers, and how many adults, are answered as teenagers."""
    found = groups["teenagers"]
    if not found["within"]["num_images"]:
        return ""
    within, adults = (format_estimate(found[name], ".1%") for name in ("within", "adults_within"))
    return f"The age lies within {found['ages']} years for {within} of those labelled so, and for {adults} of adults."


def find_rule(groups: dict, line: int, rule: str) -> dict | None:
    """Returns the errors of a rule, None if nobody is labelled 13–17 years."""
    rows = (row for row in groups["rules"] if (row["line"], row["rule"]) == (line, rule))
    return next((row for row in rows if row["false_adults"]["13–17"]["num_images"]), None)


def describe_false_adults(groups: dict) -> str:
    """Describes how many minors pass for adults by their age and by their probability, "" if there are none."""
    answer, probable = (find_rule(groups, ADULT_AGE, rule) for rule in ("answer", "probability"))
    if not answer or not probable:
        return ""
    found, other = (row["false_adults"]["13–17"] for row in (answer, probable))
    low, high = (f"{100 * found[end]:.0f}" for end in ("low", "high"))
    return (
        f"The model reads {found['count']:,} of {found['num_images']:,} faces labelled 13–17 years as {ADULT_AGE} or older, "
        f"{low} to {high} of 100 by the 95 % interval. Asking for P(age ≥ {ADULT_AGE}) ≥ {100 * LEAST_PROBABILITY:.0f} % still "
        f"passes {other['count']:,} of them. It is no check of anyone's age."
    )


def describe_person(groups: dict, gender: str, ages: str) -> str:
    """Describes in Markdown how well the model does for a group, to a person of it."""
    row = find_group(groups, gender=gender, ages=ages)
    count = row["num_images"] if row else 0
    if not row or "age_mae" not in row:
        return f"Only {name_count(count, 'photo')} of such faces {'was' if count == 1 else 'were'} measured: too few to tell."

    def tell(estimate: dict, factor: float, style: str) -> str:
        if not is_measured(estimate["low"]):
            return ""
        low, high = sorted(factor * estimate[end] for end in ("low", "high"))
        return f" ({low:{style}} to {high:{style}})"

    error, bias = row["age_mae"], row["age_bias"]
    lines = [f"The **age** is off by {error['value']:.1f} years on average{tell(error, 1, '.1f')}."]
    if is_measured(bias["low"]) and bias["low"] <= 0 <= bias["high"]:
        lines.append(f"It is neither clearly too high nor too low: {bias['value']:+.1f} years{tell(bias, 1, '+.1f')}.")
    else:
        side, sign = ("high", 1) if bias["value"] > 0 else ("low", -1)
        lines.append(f"On average it is too {side}, by {abs(bias['value']):.1f} years{tell(bias, sign, '.1f')}.")
    for name, start in (
        ("gender_accuracy", "The **gender** is the labelled one for"),
        ("interval_coverage", f"The **{RANGE}** holds the labelled age for"),
    ):
        if is_measured(row[name]["value"]):
            lines.append(f"{start} {100 * row[name]['value']:.0f} of 100 such faces{tell(row[name], 100, '.0f')}.")
    sure = next((each["sure"] for each in groups.get("sure_genders") or () if each["ages"] == ages), None)
    if sure and sure["num_images"]:
        number = sure["num_images"] - sure["count"]
        lines.append(
            f"The page calls the gender **unsure** for {number:,} of {name_count(sure['num_images'], 'face')} of both genders at {ages} years."
        )
    first, last = map(int, ages.split("–"))
    if first <= 17 and last >= 13 and (minors := describe_false_adults(groups)):
        lines.append(minors)
    intro = (
        f"Measured on {name_count(count, 'photo')} of faces labelled {gender}, {ages} years, that no training used:"
    )
    return "\n".join([intro, "", *(f"- {line}" for line in lines), "", BRACKETS])


def make_sentences(groups: dict) -> list[str]:
    """Returns what is told about ages of interest, without sentences about labels that are absent."""
    texts = (describe_young_adults(groups), describe_teenagers(groups), describe_false_adults(groups))
    return [text for text in texts if text]


def format_rows(rows: list[list[str]]) -> str:
    """Returns the rows of a Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def format_markdown(table: Table) -> str:
    """Returns a table in Markdown, with its note."""
    lines = [format_rows([table.header]), "|---" * len(table.header) + "|", format_rows(table.rows)]
    return "\n".join([*lines, *(["", table.note] if table.note else [])])


def fill_marks(page: str, texts: dict[str, str]) -> str:
    """Returns a Markdown page with texts by their titles, each between `<!-- TITLE -->` and the next `<!-- end -->`."""
    for title, text in texts.items():
        head, mark, rest = page.partition(f"<!-- {title} -->\n")
        if mark:
            page = f"{head}{mark}{text}\n\n{rest[rest.index('<!-- end -->') :]}"
    return page


def format_text(table: Table) -> str:
    """Returns a table for a terminal, in columns of equal width."""
    widths = [max(map(len, column)) for column in zip(table.header, *table.rows)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in (table.header, *table.rows)]
    return "\n".join([f"{table.title}:", *lines, *([table.note] if table.note else [])])


def make_group_tables(groups: dict) -> list[Table]:
    """Makes the tables of all groups but those of three features, without the tables that have no rows."""
    features = (("race",), ("gender",), ("ages",), ("gender", "ages"), ("race", "gender"))
    tables = [make_group_table(groups, *names) for names in features]
    tables += [make_rule_table(groups), make_reliability_table(groups), make_sure_gender_table(groups)]
    return [table for table in tables if table.rows]


def format_groups(groups: dict) -> str:
    """Returns the tables and sentences about groups for a terminal."""
    texts = [format_text(table) for table in make_group_tables(groups)]
    return "\n\n".join([*texts, *make_sentences(groups)])
