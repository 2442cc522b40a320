"""
Uploads the result of a training to the Hub.

    python -m scripts.push_to_hub runs/agegender user/name
"""

import argparse
from pathlib import Path

from hub.errors import run
from hub.upload import create_repo, push_to_hub, read_results


def main():
    parser = argparse.ArgumentParser(description="Uploads the result of a training to the Hub.", allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="The --output_dir of a finished training.")
    parser.add_argument("repo_id", help="user/name; created if it does not exist.")
    parser.add_argument(
        "--private", action=argparse.BooleanOptionalAction, help="Create a private repo. Default: as in the training."
    )
    arguments = parser.parse_args()
    trained = read_results(arguments.folder)["arguments"]  # before the repo is created
    private = trained["hub_private_repo"] if arguments.private is None else arguments.private
    push_to_hub(arguments.folder, create_repo(arguments.repo_id, private), private)


if __name__ == "__main__":
    run(main)
