"""Reading from a Hub that fails: models and data are refused with a sentence, and a training can resume."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data.splits import describe_split
from data.utkface import load_utkface
from tests.support.hub import make_environment, run_program
from tests.support.loopback_hub import READ_TOKEN, Fault
from tests.support.training import ROOT, make_command, read_results


pytestmark = pytest.mark.processes
REASONS = {
    401: "you are not logged in",
    429: "the Hub has received too many requests",
    500: "the Hub has an internal error (500)",
}
LOAD = """
import sys

from data.utkface import load_utkface
from hub.loading import load_model, split_revision

for line in sys.stdin:
    kind, source = line.split()
    try:
        load_utkface(source) if kind == "data" else load_model(*split_revision(source))
        print("loaded", flush=True)
    except ValueError as error:
        print(error, flush=True)
"""


@pytest.fixture(scope="module")
def published(pushed, hub_server, tmp_path_factory) -> str:
    """Publishes the faces of the pushed training as a data set on the Hub."""
    environment = make_environment(hub_server, tmp_path_factory.mktemp("publishing"))
    process = run_program(["-m", "scripts.publish_data", pushed.faces, "somebody/streamed", "--public"], environment)
    assert process.returncode == 0, process.stderr
    return "somebody/streamed"


@pytest.fixture(scope="module")
def load(hub_server, tmp_path_factory) -> Callable[[str, str], str]:
    """Loads a model or data in one process for all tests, without a cache; returns what it prints."""
    folder = tmp_path_factory.mktemp("loading")
    environment = make_environment(hub_server, folder / "home", HF_DATASETS_CACHE=str(folder / "cache"))
    process = subprocess.Popen(
        [sys.executable, "-c", LOAD],
        env=environment | {"PYTHONPATH": str(ROOT)},
        cwd=folder,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )

    def ask(kind: str, source: str) -> str:
        for cache in ("home", "cache"):
            shutil.rmtree(folder / cache, ignore_errors=True)
        process.stdin.write(f"{kind} {source}\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    yield ask
    process.stdin.close()
    assert process.wait(60) == 0


@pytest.mark.parametrize(("file", "status"), [("config.json", 429), ("model.safetensors", 500)])
def test_model_that_the_hub_does_not_send(hub, pushed, load, file, status):
    hub.faults.append(Fault(f"resolve/.*/{file}", status))
    sentence = load("model", "somebody/tiny")
    assert sentence.startswith("No model could be loaded from somebody/tiny") and REASONS[status] in sentence


def test_revision_that_does_not_exist(hub, pushed, load):
    assert load("model", "somebody/tiny@nope").endswith("the repo has no such branch, tag or commit.")


@pytest.mark.parametrize("status", [401, 500])
def test_data_that_the_hub_does_not_send(hub, published, load, status):
    hub.faults.append(Fault(f"datasets/{published}", status))
    sentence = load("data", published)
    assert sentence.startswith(f"'{published}' is no file or folder here") and REASONS[status] in sentence


def test_stream_that_breaks_off(hub, published, pushed, tmp_path, datasets_cache):
    """Fails in the second epoch, in a worker: the training ends with a command that resumes it."""
    words = {"streaming": True, "validation_share": None, "num_train_epochs": 2, "dataloader_num_workers": 1}
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
    hub.faults.clear()
    process = run_program([*command, "--resume_from_checkpoint", "latest"], environment)
    assert process.returncode == 0, process.stderr
    results = read_results(tmp_path / "run")
    assert len(results["history"]) == 2 and results["split_images"] == {"train": 36, "validation": 4, "test": 3}
    assert results["split"] == describe_split(load_utkface(pushed.faces))
    fetched = {file.name.split("-")[0] for file in (tmp_path / "home").rglob("*.parquet")}
    assert fetched == {"validation", "test"}  # training images are streamed


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
