"""
Uploads to the Hugging Face Hub, with one plain sentence for whatever goes wrong.

    python hub.py push runs/agegender user/name
"""

import argparse
import json
import os
import shlex
from pathlib import Path

from huggingface_hub import HfApi

from hub_errors import plain_errors


def create_repo(repo_id: str, private: bool = False, repo_type: str = "model") -> str:
    """
    Creates a repo where there is none yet, and makes sure that it can be written to.

    Args:
        repo_id: `name` or `user/name`.
        private: For nobody else to see. A repo that is there already stays as it is.
        repo_type: `model` or `dataset`.

    Returns:
        The full id `user/name`.

    Raises:
        ValueError: if there is no login or no right to write, if the Hub cannot be reached, or if the repo is to be private
            but is there already and public.
    """
    api = HfApi()
    with plain_errors(f"{repo_id} cannot be written to on the Hub"):
        # None leaves it to the settings of an organisation, which may make all repos private.
        repo_id = api.create_repo(repo_id, private=private or None, repo_type=repo_type, exist_ok=True).repo_id
        # Of a repo that exists, creating it again says nothing about the right to write.
        api.auth_check(repo_id, repo_type=repo_type, write=True)
        is_public = private and not api.repo_info(repo_id, repo_type=repo_type).private
    if is_public:
        raise ValueError(f"{repo_id} is on the Hub already and public: make it private in its settings first.")
    return repo_id


def describe_upload(results: dict) -> str:
    """The message of a commit: the data, the epoch and its metrics."""
    metrics, data = results["metrics"]["validation"], results["arguments"]["data_dir"]
    words = [f"epoch {results['best_epoch']}"]
    if metrics["age_mae"] is not None:
        words.append(f"age MAE {metrics['age_mae']:.2f} years")
    if metrics["gender_accuracy"] is not None:
        words.append(f"gender {metrics['gender_accuracy']:.1%}")
    return f"Train on {data}: {', '.join(words)} on validation"


def push_to_hub(folder: Path, repo_id: str):
    """
    Uploads the files of a finished training, but not its checkpoints, in one commit into a repo that exists.

    Raises:
        ValueError: if the folder is none, or if the upload fails; with the command that tries again.
    """
    results_file = folder / "train_results.json"
    if not results_file.is_file():
        raise ValueError(f"{folder} holds no train_results.json: give the --output_dir of a finished training.")
    results = json.loads(results_file.read_text())
    if results["arguments"]["hub_model_id"] != repo_id:
        # Only here: they import torch, which takes longer than many an upload.
        from model_card import write_card
        from results import write_json

        results["arguments"]["hub_model_id"] = repo_id
        write_json(results_file, results)
        write_card(folder, results)
    command = shlex.join(["python", os.path.relpath(__file__), "push", str(folder), repo_id])
    with plain_errors(
        f"The upload to {repo_id} failed", f"Everything is in {folder}; this pushes it again: {command}"
    ):
        commit = HfApi().upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            ignore_patterns=["*/*"],  # checkpoints and logs lie in folders, what makes up the model does not
            commit_message=describe_upload(results),
        )
    print(f"Uploaded to {commit.commit_url}")


def push_epoch(folder: Path, repo_id: str):
    """Uploads what a training has so far; where that fails, says so and lets the training go on."""
    try:
        push_to_hub(folder, repo_id)
    except ValueError as error:
        print(f"{error}\nThe training goes on.")


def main():
    parser = argparse.ArgumentParser(description="Uploads the result of a training to the Hub.", allow_abbrev=False)
    parser.add_argument("command", choices=["push"])
    parser.add_argument("folder", type=Path, help="The --output_dir of a finished training.")
    parser.add_argument("repo_id", help="user/name; made where there is none yet.")
    parser.add_argument("--private", action="store_true", help="Make it a private repo.")
    arguments = parser.parse_args()
    push_to_hub(arguments.folder, create_repo(arguments.repo_id, arguments.private))


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        raise SystemExit(f"hub.py: error: {error}")
