"""What `metrics.groups` returns, made up: figures that differ from group to group."""

from itertools import product

from metrics.groups import FEATURES


RACES, GENDERS = ("Asian", "Black", "White"), ("female", "male")
BANDS = ("0–3", "4–12", "13–20", "21–30", "31–40", "41–50", "51–60", "61–75", "76–120")


def make_estimate(value: float, reach: float) -> dict:
    return {"value": round(value, 4), "low": round(value - reach, 4), "high": round(value + reach, 4)}


def make_share(count: int, number: int) -> dict:
    return {"count": count, "num_images": number} | make_estimate(count / number, 0.01)


def make_group(number: int, **features: str) -> dict:
    row = features | {"num_images": 9 + number}
    if row["num_images"] >= 10:
        row["age_mae"] = make_estimate(1 + number / 10, 0.25)
        row["age_bias"] = make_estimate(number / 10 - 1.5, 0.4)
        row["gender_accuracy"] = make_estimate(0.99 - number / 300, 0.02)
        row["interval_coverage"] = make_estimate(0.88 + number / 1000, 0.03)
    return row


def make_groups() -> dict:
    names = {"race": RACES, "gender": GENDERS, "ages": BANDS}
    rows = [make_group(500)]
    for features in FEATURES:
        for number, values in enumerate(product(*(names[name] for name in features))):
            rows.append(make_group(number, **dict(zip(features, values))))
    lines = [(line, rule) for line in (18, 25) for rule in ("answer", "interval", "probability")]
    return {
        "by_group": rows,
        "young_adults": {
            "ages": "18–30",
            "num_images": 300,
            "age_mae": {"male": make_estimate(3, 0.4), "female": make_estimate(2.5, 0.4)},
            "age_mae_of_genders": make_estimate(2.75, 0.3),
        },
        "sure_genders": [
            {
                "ages": ages,
                "sure": make_share(60 + number, 100),
                "right_where_sure": make_share(50 + number, 60 + number),
                "right_where_unsure": make_share(20, 40 - number),
            }
            for number, ages in enumerate(("all", *BANDS))
        ],
        "rules": [
            {
                "line": line,
                "rule": rule,
                "false_adults": {
                    ages: make_share(30 - number * 4, size)
                    for ages, size in (("0–17", 340), ("13–17", 70), ("14–17", 60))
                },
                "adults_refused": make_share(40 + 100 * number, 1500),
            }
            for number, (line, rule) in enumerate(lines)
        ],
        "teenagers": {"ages": "13–16", "within": make_share(20, 50), "adults_within": make_share(9, 1500)},
        "reliability": [
            {
                "threshold": threshold,
                "num_images": 1840,
                "calibration_error": 0.011 + number / 1000,
                "bins": [
                    {"probability": 0.05 + part / 10, "share": make_share(10 * part + 4 + number, 104)}
                    for part in range(10)
                ],
            }
            for number, threshold in enumerate((13, 16, 18, 21, 25))
        ],
    }
