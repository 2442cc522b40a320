"""Uploads to the Hugging Face Hub, with one plain sentence for whatever goes wrong."""

import json
import shlex
from pathlib import Path

from huggingface_hub import HfApi

from hub.errors import plain_errors
from metrics.results import weights_sha256, write_json


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


def read_results(folder: Path) -> dict:
    """
    The results of a finished training, once they are seen to be those of the weights beside them.

    Raises:
        ValueError: if there are none, or if they are cut off or of other weights.
    """
    file = folder / "train_results.json"
    rewrite = "the training's own command with --resume_from_checkpoint latest writes"
    if not file.is_file():
        raise ValueError(
            f"{folder} holds no train_results.json: give the --output_dir of a finished training; where its export was "
            f"interrupted, {rewrite} it anew."
        )
    try:
        results = json.loads(file.read_text())
    except ValueError:
        results = {}
    weights = weights_sha256(folder)
    if weights is None or results.get("weights_sha256") != weights:
        raise ValueError(
            f"{folder} is not pushed: its weights are not those of its train_results.json, so the export was interrupted "
            f"or a file was cut off or changed since; {rewrite} both anew."
        )
    return results


def describe_upload(results: dict) -> str:
    """The message of a commit: the data, the epoch and its metrics."""
    metrics, data = results["metrics"]["validation"], results["arguments"]["data_dir"]
    words = [f"epoch {results['best_epoch']}"]
    if metrics["age_mae"] is not None:
        words.append(f"age MAE {metrics['age_mae']:.2f} years")
    if metrics["gender_accuracy"] is not None:
        words.append(f"gender {metrics['gender_accuracy']:.1%}")
    return f"Train on {data}: {', '.join(words)} on validation"


def push_to_hub(folder: Path, repo_id: str, private: bool):
    """
    Uploads the files of a finished training, but not its checkpoints, in one commit into a repo that exists.

    Args:
        folder: The `--output_dir`.
        repo_id: `user/name`; the card and the results name it from now on.
        private: What the command that tries again says of the repo, which may be gone by then.

    Raises:
        ValueError: if the folder is none, or if the upload fails; with the command that tries again.
    """
    results = read_results(folder)
    if results["arguments"]["hub_model_id"] != repo_id:
        from hub.model_card import write_card  # only here: it imports torch, which takes longer than many an upload

        results["arguments"]["hub_model_id"] = repo_id
        write_card(folder, results)
        write_json(folder / "train_results.json", results)
    words = ["python", "-m", "scripts.push_to_hub", str(folder), repo_id]
    command = shlex.join([*words, "--private" if private else "--no-private"])
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


def push_epoch(folder: Path, repo_id: str, private: bool):
    """Uploads what a training has so far; where that fails, says so and lets the training go on."""
    try:
        push_to_hub(folder, repo_id, private)
    except ValueError as error:
        print(f"{error}\nThe training goes on.")
