"""
Pushes the result of a training to the Hub.

    python -m scripts.push_to_hub runs/agegender user/name
"""

import argparse
from pathlib import Path

from hub.errors import run
from hub.upload import create_repo, push_to_hub, read_results


def main():
    parser = argparse.ArgumentParser(description="Uploads the result of a training to the Hub.", allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="The --output_dir of a finished training.")
    parser.add_argument("repo_id", help="user/name; made where there is none yet.")
    parser.add_argument(
        "--private",
        action=argparse.BooleanOptionalAction,
        help="Make it a private repo, or not. Default: as the training was told.",
    )
    arguments = parser.parse_args()
    trained = read_results(arguments.folder)["arguments"]  # before a repo is made for them
    private = trained["hub_private_repo"] if arguments.private is None else arguments.private
    push_to_hub(arguments.folder, create_repo(arguments.repo_id, private), private)


if __name__ == "__main__":
    run(main)
