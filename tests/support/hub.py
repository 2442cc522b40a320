"""Programs that know only the loopback Hub, and a model that was pushed to it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.support.loopback_hub import WRITE_TOKEN, LoopbackHub
from tests.support.training import NETWORK, ROOT, make_command, write_faces


class Pushed(NamedTuple):
    """A pushed training: its folders, the commit id and the output."""

    faces: Path
    network: Path
    folder: Path
    revision: str
    output: str


def make_environment(hub: LoopbackHub, home: Path, token: str | None = WRITE_TOKEN, **changes: str) -> dict[str, str]:
    """Returns the environment of a process that uses the loopback Hub with its cache in `home`."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("HF_") and name != "PYTHONPATH"
    }
    login = {"HF_TOKEN": token} if token else {}
    return (
        inherited
        | {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
        | {"NO_PROXY": "127.0.0.1,localhost", "PYTHONUNBUFFERED": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
        | login
        | changes
    )


def run_program(command: list, environment: dict, cwd: Path = ROOT, **options) -> subprocess.CompletedProcess:
    """Runs Python with these arguments."""
    return subprocess.run(
        [sys.executable, *map(str, command)], env=environment, cwd=cwd, capture_output=True, text=True, **options
    )


def last_line(process: subprocess.CompletedProcess) -> str:
    """Returns the error of a program that failed. Fails if it succeeded or printed a traceback."""
    assert process.returncode == 1, process.stdout + process.stderr
    assert "Traceback" not in process.stdout + process.stderr, process.stderr
    return [line for line in process.stderr.splitlines() if "error: " in line][-1]


def push_tiny_model(hub: LoopbackHub, folder: Path) -> Pushed:
    """Trains a tiny model and pushes it."""
    faces, network = write_faces(folder / "faces", 40, test_count=3), folder / "tiny.json"
    network.write_text(json.dumps(NETWORK))
    command = make_command(
        faces, network, folder / "run", push_to_hub=True, hub_model_id="tiny", hub_private_repo=True
    )
    process = run_program(["train.py", *command], make_environment(hub, folder / "home"))
    assert process.returncode == 0, process.stdout + process.stderr
    return Pushed(faces, network, folder / "run", hub.repo("somebody/tiny").resolve("main"), process.stdout)
