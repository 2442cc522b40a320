"""
Publishes a face data set on the Hub with its labels, splits and groups of near-duplicates.

    python -m scripts.publish_data UTKFace.tar.gz user/faces

`load_utkface("user/faces")`, and so `--data_dir user/faces`, gives the same splits.
"""

import argparse
from collections import Counter
from pathlib import Path

import datasets
from huggingface_hub import CommitOperationAdd, DatasetCard, DatasetCardData, HfApi
from jinja2 import Template

from data.labels import GENDERS, RACES, is_utkface
from data.utkface import load_utkface
from hub.errors import plain_errors, run
from hub.model_card import HOME_PAGE
from hub.upload import create_repo
from metrics.age_gender import AGE_BANDS, name_band
from metrics.results import name_data
from metrics.tables import format_rows


DATASHEET = Path(__file__).with_name("datasheet.md")
DATA_CARD = """---
{card_data}
---

# {name}

Faces with an age in years (`age`; of some only a band is known, from `age_low` to `age_high`), a gender and a race, if known, and
`group`, a number that near-duplicates of one image share. No group lies in two splits. [DATASHEET.md](DATASHEET.md) tells how they
were collected, whom they show and what they are for.

| split | images |
|---|---|
{rows}

Built from {source}.

## Licence

{licence}
"""
UTKFACE_LICENCE = (
    f"The images are those of [UTKFace]({HOME_PAGE}): for non-commercial research only. They belong to "
    "their owners. Do not make this data set public without their permission."
)
OTHER_LICENCE = "The terms of the images apply: look them up before you share or use them."


def make_data_card(dataset: datasets.DatasetDict, repo_id: str, source: str) -> DatasetCard:
    """Makes the card with licence and splits. `datasets` adds the columns to its header."""
    of_utkface = is_utkface(name for split in dataset.values() for name in split["file_name"])
    card_data = DatasetCardData(
        license="other",
        license_name="non-commercial-research" if of_utkface else "terms-of-the-images",
        license_link=HOME_PAGE if of_utkface else None,
        pretty_name=repo_id.split("/")[-1],
        tags=["face", "age-estimation", "gender-classification"],
        task_categories=["image-classification"],
    )
    return DatasetCard(
        DATA_CARD.format(
            card_data=card_data.to_yaml(),
            name=repo_id,
            rows="\n".join(f"| {name} | {len(split):,} |" for name, split in dataset.items()),
            source=source,
            licence=UTKFACE_LICENCE if of_utkface else OTHER_LICENCE,
        )
    )


def make_count_rows(dataset: datasets.DatasetDict) -> list[list[str]]:
    """Returns a row for each gender, race label and age band that there is: its name, and its images in each split."""
    counts = {}
    for split, images in dataset.items():
        names = [("gender", GENDERS[value] if value is not None else None) for value in images["gender"]]
        names += [("race label", RACES[value] if value is not None else None) for value in images["race"]]
        names += [("age", name_band(value)) for value in images["age"]]
        counts[split] = Counter(names)
    bands = [f"{low}–{high}" for low, high in AGE_BANDS]
    labels = [(kind, name) for kind, of in (("gender", GENDERS), ("race label", RACES), ("age", bands)) for name in of]
    labels += [(kind, None) for kind in ("gender", "race label", "age")]
    return [
        [f"{kind}: {name or 'unknown'}", *(f"{count[kind, name]:,}" for count in counts.values())]
        for kind, name in labels
        if any(count[kind, name] for count in counts.values())
    ]


def make_datasheet(dataset: datasets.DatasetDict, repo_id: str, source: str) -> str:
    """Makes the datasheet (Gebru et al., https://huggingface.co/papers/1803.09010) from its template."""
    of_utkface = is_utkface(name for split in dataset.values() for name in split["file_name"])
    return Template(DATASHEET.read_text(encoding="utf-8"), keep_trailing_newline=True).render(
        name=repo_id,
        source=source,
        splits=list(dataset),
        rows=format_rows(make_count_rows(dataset)),
        is_utkface=of_utkface,
        licence=UTKFACE_LICENCE if of_utkface else OTHER_LICENCE,
    )


def publish(dataset: datasets.DatasetDict, repo_id: str, source: str):
    """
    Uploads card and datasheet of a data set, with its licence, and then the splits, into an existing data set repo.

    Training images are shuffled, since a stream mixes only images that are near each other.

    Raises:
        ValueError: if an upload fails.
    """
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in dataset.items())
    with plain_errors(f"The upload to {repo_id} failed", "Nothing is lost: the same command tries again."):
        texts = {
            "README.md": str(make_data_card(dataset, repo_id, source)),
            "DATASHEET.md": make_datasheet(dataset, repo_id, source),
        }
        HfApi().create_commit(
            repo_id,
            [CommitOperationAdd(name, text.encode()) for name, text in texts.items()],
            repo_type="dataset",
            commit_message="Name licence and splits",
        )
        mixed = datasets.DatasetDict({**dataset, "train": dataset["train"].shuffle(seed=0)})
        commit = mixed.push_to_hub(repo_id, commit_message=f"Faces of {source}: {sizes}")
    print(f"Uploaded to {commit.commit_url}: {sizes} images")


def main():
    parser = argparse.ArgumentParser(description="Publishes a face data set on the Hub.", allow_abbrev=False)
    parser.add_argument("data_dir", help="Folder, tar or zip archive, or table (CSV, Parquet).")
    parser.add_argument("repo_id", help="user/name; created if it does not exist.")
    parser.add_argument("--public", action="store_true", help="Create a public repo. Default: a private one.")
    arguments = parser.parse_args()
    with plain_errors(f"Nothing can be uploaded to {arguments.repo_id}"):
        HfApi().whoami()  # before the minutes that a new data set takes
    dataset = load_utkface(arguments.data_dir)
    if "train" not in dataset:
        raise ValueError(f"{arguments.data_dir} has no train images, only {sorted(dataset)}: nothing is uploaded.")
    repo_id = create_repo(arguments.repo_id, private=not arguments.public, repo_type="dataset")
    publish(dataset, repo_id, name_data(arguments.data_dir))


if __name__ == "__main__":
    run(main)
