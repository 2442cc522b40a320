"""
Publishes a face data set on the Hub, as it was built: labels, groups of near-duplicates and splits.

    python -m scripts.publish_data UTKFace.tar.gz user/faces

`load_utkface("user/faces")`, and with it `--data_dir user/faces`, gives the same splits.
"""

import argparse

import datasets
from huggingface_hub import DatasetCard, DatasetCardData, HfApi

from data.labels import is_utkface
from data.utkface import load_utkface
from hub.errors import plain_errors
from hub.model_card import HOME_PAGE
from hub.upload import create_repo
from metrics.results import name_data


CARD = """---
{card_data}
---

# {name}

Faces with an age in years, a gender and a race, as far as they are known, and `group`, a number that near-duplicates of one
image share. No group lies on two sides of a split.

| split | images |
|---|---|
{rows}

Built from {source}.

## Licence

{licence}
"""
UTKFACE_LICENCE = (
    f"The images are those of [UTKFace]({HOME_PAGE}): for non-commercial research only. They belong to "
    "their owners. Do not make this data set public without their leave."
)
OTHER_LICENCE = "The terms of the images hold: look them up before you share or use them."


def make_card(dataset: datasets.DatasetDict, repo_id: str, source: str) -> DatasetCard:
    """The card, which names the licence and the splits; `datasets` adds the columns to its header."""
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
        CARD.format(
            card_data=card_data.to_yaml(),
            name=repo_id,
            rows="\n".join(f"| {name} | {len(split):,} |" for name, split in dataset.items()),
            source=source,
            licence=UTKFACE_LICENCE if of_utkface else OTHER_LICENCE,
        )
    )


def publish(dataset: datasets.DatasetDict, repo_id: str, source: str):
    """
    Uploads the splits of a data set, and first of all the card with their licence, into a data set repo that exists.

    Training images go up in a drawn order, since whoever streams them mixes only those that are near each other.

    Raises:
        ValueError: if an upload fails.
    """
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in dataset.items())
    with plain_errors(f"The upload to {repo_id} failed", "Nothing is lost: the same command tries again."):
        HfApi().upload_file(
            path_or_fileobj=str(make_card(dataset, repo_id, source)).encode(),
            path_in_repo="README.md",
            repo_id=repo_id,
            repo_type="dataset",
            commit_message="Name licence and splits",
        )
        mixed = datasets.DatasetDict({**dataset, "train": dataset["train"].shuffle(seed=0)})
        commit = mixed.push_to_hub(repo_id, commit_message=f"Faces of {source}: {sizes}")
    print(f"Uploaded to {commit.commit_url}: {sizes} images")


def main():
    parser = argparse.ArgumentParser(description="Publishes a face data set on the Hub.", allow_abbrev=False)
    parser.add_argument("data_dir", help="Folder, tar or zip archive, or Parquet folder.")
    parser.add_argument("repo_id", help="user/name; made where there is none yet.")
    parser.add_argument("--public", action="store_true", help="For everybody to see. Default: a private repo.")
    arguments = parser.parse_args()
    with plain_errors(f"Nothing can be uploaded to {arguments.repo_id}"):
        HfApi().whoami()  # before the minutes that a new data set takes
    dataset = load_utkface(arguments.data_dir)
    if "train" not in dataset:
        raise ValueError(f"{arguments.data_dir} has no train images, only {sorted(dataset)}: nothing is uploaded.")
    repo_id = create_repo(arguments.repo_id, private=not arguments.public, repo_type="dataset")
    publish(dataset, repo_id, name_data(arguments.data_dir))


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        raise SystemExit(f"publish_data: error: {error}")
