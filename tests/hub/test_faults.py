"""Reading from a Hub that fails: each program ends with a sentence, and a training can resume."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hub import last_line, make_environment, run_program
from tests.support.loopback_hub import READ_TOKEN, Fault
from tests.support.training import ROOT, make_command, read_results


pytestmark = pytest.mark.processes
ENDED = {
    401: "you are not logged in",
    429: "the Hub has received too many requests",
    500: "the Hub has an internal error (500)",
}


@pytest.fixture(scope="module")
def published(pushed, hub_server, tmp_path_factory) -> str:
    """Publishes the faces of the pushed training as a data set on the Hub."""
    environment = make_environment(hub_server, tmp_path_factory.mktemp("publishing"))
    process = run_program(["-m", "scripts.publish_data", pushed.faces, "somebody/streamed", "--public"], environment)
    assert process.returncode == 0, process.stderr
    return "somebody/streamed"


@pytest.mark.parametrize(("file", "status"), [("config.json", 429), ("model.safetensors", 500)])
def test_model_that_the_hub_does_not_give(hub, pushed, tmp_path, file, status):
    hub.faults.append(Fault(f"resolve/.*/{file}", status))
    command = ["predict.py", "--model", "somebody/tiny", "--data_dir", pushed.faces, "--output", tmp_path / "a.csv"]
    sentence = last_line(run_program(command, make_environment(hub, tmp_path / "home")))
    assert "No model could be loaded from somebody/tiny" in sentence and ENDED[status] in sentence


def test_revision_that_is_not_there(hub, pushed, tmp_path):
    environment = make_environment(hub, tmp_path / "home", AGEGENDER_MODEL="somebody/tiny@nope")
    sentence = last_line(run_program(["app.py"], environment))
    assert sentence.endswith("the repo has no such branch, tag or commit.")


@pytest.mark.parametrize("status", [401, 429])
def test_data_that_the_hub_does_not_give(hub, published, pushed, tmp_path, status):
    hub.faults.append(Fault(f"datasets/{published}", status))
    command = make_command(published, pushed.network, tmp_path / "run", validation_share=None)
    environment = make_environment(hub, tmp_path / "home", HF_DATASETS_CACHE=str(tmp_path / "cache"))
    sentence = last_line(run_program(["train.py", *command], environment))
    assert f"'{published}' is no file or folder here" in sentence and ENDED[status] in sentence


@pytest.mark.parametrize("workers", [0, 1])
def test_stream_that_breaks_off(hub, published, pushed, tmp_path, workers):
    """Fails in the second epoch: the training ends with a command that resumes it."""
    words = {"streaming": True, "validation_share": None, "num_train_epochs": 2, "dataloader_num_workers": workers}
    environment = make_environment(hub, tmp_path / "home", HF_DATASETS_CACHE=str(tmp_path / "cache"))
    command = ["train.py", *make_command(published, pushed.network, tmp_path / "run", **words)]
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=environment,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for line in process.stdout:
        if line.startswith("Epoch 1:"):
            hub.faults.append(Fault("GET .*train-", 500))
    errors = process.stderr.read()
    assert process.wait() == 1 and "Traceback" not in errors, errors
    sentence = errors.splitlines()[-1]
    assert "No more training images could be read: the Hub has an internal error (500)" in sentence
    assert sentence.endswith("--resume_from_checkpoint latest.")
    if workers:
        hub.faults.clear()
        process = run_program([*command, "--resume_from_checkpoint", "latest"], environment)
        assert process.returncode == 0, process.stderr
        assert len(read_results(tmp_path / "run")["history"]) == 2


ASK = """
import json
from huggingface_hub import HfApi, snapshot_download

api = HfApi()
information = api.model_info("somebody/tiny")
answers = {"name": api.whoami()["name"], "private": information.private, "sha": information.sha}
answers["files"] = [sorted(file.rfilename for file in information.siblings), sorted(api.list_repo_files("somebody/tiny"))]
print(json.dumps(answers | {"snapshot": snapshot_download("somebody/moved")}))
"""


def test_what_the_client_asks_of_a_hub(hub, pushed, tmp_path):
    """User, content of a repo, and a snapshot, which follows `main`."""
    environment, snapshots = make_environment(hub, tmp_path, READ_TOKEN), []
    hub.add_files("somebody/moved", {"config.json": b"{}", "notes.txt": b"first"})
    for _ in range(2):
        process = run_program(["-c", ASK], environment)
        assert process.returncode == 0, process.stderr
        answers = json.loads(process.stdout)
        snapshots.append(Path(answers["snapshot"]))
        hub.add_files("somebody/moved", {"notes.txt": b"second"})
    assert answers["name"] == "somebody" and answers["private"]
    assert answers["sha"] == hub.repo("somebody/tiny").resolve("main")
    assert answers["files"] == [sorted(hub.repo("somebody/tiny").read()["files"])] * 2
    assert [(folder / "notes.txt").read_text() for folder in snapshots] == ["first", "second"]
    # What did not change is not fetched again: both lead to one file.
    assert len({(folder / "config.json").resolve() for folder in snapshots}) == 1
