"""Uploads to the Hugging Face Hub."""

import json
import shlex
from pathlib import Path

from huggingface_hub import HfApi

from hub.errors import plain_errors
from hub.model_card import write_card
from metrics.results import compute_weights_sha256, format_value, write_json


def create_repo(repo_id: str, private: bool = False, repo_type: str = "model") -> str:
    """
    Creates a repo unless it exists and checks the write access to it.

    Args:
        repo_id: `name` or `user/name`.
        private: Whether a new repo is private. An existing repo is not changed.
        repo_type: `model` or `dataset`.

    Returns:
        The full id `user/name`.

    Raises:
        ValueError: if the login has no write access, if the request fails, or if `private` is set but the repo is public.
    """
    api = HfApi()
    with plain_errors(f"{repo_id} cannot be written to on the Hub"):
        # None keeps the default of an organization, which may be private.
        repo_id = api.create_repo(repo_id, private=private or None, repo_type=repo_type, exist_ok=True).repo_id
        # Creating a repo that exists succeeds without write access.
        api.auth_check(repo_id, repo_type=repo_type, write=True)
        is_public = private and not api.repo_info(repo_id, repo_type=repo_type).private
    if is_public:
        raise ValueError(f"{repo_id} exists and is public: make it private in its settings first.")
    return repo_id


def read_results(folder: Path) -> dict:
    """
    Reads the results of a finished training and checks that they belong to the weights in the folder.

    Raises:
        ValueError: if there are none, or if they are truncated or belong to other weights.
    """
    file = folder / "train_results.json"
    rewrite = "To repeat an interrupted export, run the training's command with --resume_from_checkpoint latest."
    if not file.is_file():
        raise ValueError(
            f"{folder} has no train_results.json: give the --output_dir of a finished training. {rewrite}"
        )
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        results = {}
    weights = compute_weights_sha256(folder)
    if weights is None or results.get("weights_sha256") != weights:
        raise ValueError(f"{folder} is not pushed: its weights are not those of its train_results.json. {rewrite}")
    return results


def describe_upload(results: dict) -> str:
    """Returns the commit message: data, epoch and metrics."""
    metrics, data = results["metrics"]["validation"], results["arguments"]["data_dir"]
    age, gender = format_value(metrics["age_mae"], ".2f"), format_value(metrics["gender_accuracy"], ".1%")
    return f"Train on {data}: epoch {results['best_epoch']}, age MAE {age} years, gender {gender} on validation"


def push_to_hub(folder: Path, repo_id: str, private: bool):
    """
    Uploads the files of a finished training, without its checkpoints, in one commit to an existing repo.

    Args:
        folder: The `--output_dir`.
        repo_id: `user/name`, which is written to the model card and the results.
        private: Whether the printed command for another attempt creates a private repo.

    Raises:
        ValueError: if the folder has no valid results, or if the upload fails; with the command for another attempt.
    """
    results = read_results(folder)
    if results["arguments"]["hub_model_id"] != repo_id:
        results["arguments"]["hub_model_id"] = repo_id
        write_card(folder, results)
        write_json(folder / "train_results.json", results)
    words = ["python", "-m", "scripts.push_to_hub", str(folder), repo_id]
    command = shlex.join([*words, "--private" if private else "--no-private"])
    with plain_errors(
        f"The upload to {repo_id} failed", f"The model is saved in {folder}; to push it again, run: {command}"
    ):
        commit = HfApi().upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            ignore_patterns=["*/*"],  # checkpoints and logs are in subfolders
            commit_message=describe_upload(results),
        )
    print(f"Uploaded to {commit.commit_url}")


def push_epoch(folder: Path, repo_id: str, private: bool):
    """Uploads the current best model; prints a failure and lets the training continue."""
    try:
        push_to_hub(folder, repo_id, private)
    except ValueError as error:
        print(f"{error}\nThe training continues.")
