"""Pushing to the Hub with the real client: the content of the repo, and the state after an upload that fails."""

import csv
import json
import re
import shlex
import shutil
import uuid
from operator import itemgetter
from pathlib import Path
from signal import SIGKILL

import pytest
from huggingface_hub import ModelCard

from tests.support.hub import last_line, make_environment, run_program
from tests.support.loopback_hub import READ_TOKEN, WRITE_TOKEN, Fault
from tests.support.training import ROOT, make_command, read_results, write_faces


pytestmark = pytest.mark.processes
MODEL_FILES = {
    "README.md",
    "config.json",
    "configuration_agegender.py",
    "curves.png",
    "face_detection.py",
    "image_formats.py",
    "image_processing_agegender.py",
    "image_reading.py",
    "model.safetensors",
    "modeling_agegender.py",
    "pipeline_agegender.py",
    "preprocessor_config.json",
    "train_results.json",
}
READ_SPLITS = """
import hashlib
import json
import sys

sys.path.insert(0, sys.argv[1])
from datasets import Image

from data.utkface import load_utkface


def hash_image(row):
    return row | {"image": hashlib.sha256(row["image"]["bytes"]).hexdigest()}


dataset = load_utkface(sys.argv[2]).cast_column("image", Image(decode=False))
print(json.dumps({name: [hash_image(row) for row in split] for name, split in dataset.items()}))
"""
# train.py, killed in its second export before the card of the new weights is written.
KILLED_TRAINING = """
import os
import sys

sys.path.insert(0, sys.argv.pop(1))
import train
from hub import model_card

write_card, calls = model_card.write_card, []


def kill(*arguments):
    calls.append(arguments)
    if len(calls) == 2:
        os.kill(os.getpid(), 9)
    write_card(*arguments)


model_card.write_card = kill
train.main()
"""


@pytest.fixture
def environment(hub, tmp_path) -> dict:
    return make_environment(hub, tmp_path / "home")


@pytest.fixture
def changed(pushed, tmp_path) -> Path:
    """A copy of the pushed folder with other content in a small and in a large file."""
    folder = shutil.copytree(pushed.folder, tmp_path / "run")
    with (folder / "README.md").open("a") as card:
        card.write(f"\n{uuid.uuid4()}\n")
    (folder / "curves.png").write_bytes(uuid.uuid4().bytes * 1000)
    return folder


def push(folder: Path, environment: dict, *words: str, repo_id: str = "somebody/tiny"):
    return run_program(["-m", "scripts.push_to_hub", folder, repo_id, *words], environment)


def run_printed(sentence: str, environment: dict):
    """Runs the command in an error message."""
    words = shlex.split(sentence.rpartition("again, run: ")[2])
    assert words[0] == "python"
    return run_program(words[1:], environment)


def assert_commits_are_whole(hub, repo_id: str):
    """Checks that each commit has all files of a model, with the card and results of its weights."""
    commit = hub.repo(repo_id).read()
    while commit["parent"]:
        files = commit["files"]
        assert files.keys() == MODEL_FILES
        results = json.loads(hub.stored(files["train_results.json"]["oid"]).read_text())
        assert results["weights_sha256"] == files["model.safetensors"]["oid"]
        card = hub.stored(files["README.md"]["oid"]).read_text()
        assert f"weights of epoch {results['best_epoch']}," in " ".join(card.split())
        assert f"epoch {results['best_epoch']}, " in commit["title"]
        commit = hub.repo(repo_id).read(commit["parent"])


def test_a_training_makes_a_private_repo_in_one_commit(pushed, hub):
    repo, results = hub.repo("somebody/tiny"), read_results(pushed.folder)
    assert repo.private
    files = repo.read(pushed.revision)["files"]
    assert files.keys() == MODEL_FILES
    for name, file in files.items():
        assert hub.stored(file["oid"]).read_bytes() == (pushed.folder / name).read_bytes(), name
    assert {name for name, file in files.items() if file["lfs"]} == {"model.safetensors", "curves.png"}
    metrics = results["metrics"]["validation"]
    assert repo.history()[-1] == (
        f"Train on faces: epoch {results['best_epoch']}, age MAE {metrics['age_mae']:.2f} years, "
        f"gender {metrics['gender_accuracy']:.1%} on validation"
    )
    assert repo.read(repo.read(pushed.revision)["parent"])["title"] == "initial commit"
    assert f"Uploaded to {hub.url}/somebody/tiny/commit/{pushed.revision}" in pushed.output


def test_the_card_names_results_and_licence(pushed, hub):
    text = hub.stored(hub.repo("somebody/tiny").read(pushed.revision)["files"]["README.md"]["oid"]).read_text()
    card = ModelCard(text)
    assert (card.data.license, card.data.license_name) == ("other", "apache-2.0-code-non-commercial-weights")
    assert card.data.license_link == "https://susanqq.github.io/UTKFace"
    assert card.data.model_name == "somebody/tiny" and 'model="somebody/tiny"' in card.text
    measured = {(result.dataset_split, result.metric_type): result.metric_value for result in card.data.eval_results}
    assert measured["validation", "age_mae"] == round(
        read_results(pushed.folder)["metrics"]["validation"]["age_mae"], 2
    )
    assert read_results(pushed.folder)["arguments"]["hub_private_repo"] is True


def test_data_and_model_of_the_hub_train_and_failed_uploads_lose_nothing(pushed, hub, tmp_path, datasets_cache):
    """Publishes data, reads and labels them, and trains on them from the pushed model while uploads fail."""
    environment = make_environment(hub, tmp_path / "home", HF_DATASETS_CACHE=str(tmp_path / "cache"))
    hub.faults.append(Fault("datasets/.*/commit/", 500, skip=1))  # the card goes up, the data do not
    publish = ["-m", "scripts.publish_data", pushed.faces, "faces"]
    sentence = last_line(run_program(publish, environment))
    assert "The upload to somebody/faces failed: the Hub has an internal error (500)" in sentence
    assert sentence.endswith("the same command tries again.")
    hub.faults.clear()
    process = run_program(publish, environment)
    assert process.returncode == 0, process.stderr
    repo = hub.repo("somebody/faces", "datasets")
    assert repo.private
    assert repo.history() == ["Faces of faces: 36 train, 4 validation, 3 test", "Name licence and splits"]
    card = hub.read_file("somebody/faces", "README.md", "datasets").decode()
    assert "license_name: non-commercial-research" in card and "split: validation" in card
    datasheet = hub.read_file("somebody/faces", "DATASHEET.md", "datasets").decode()
    assert "# Datasheet of somebody/faces" in datasheet and "| label | train | validation | test |" in datasheet
    expected, found = (
        json.loads(run_program(["-c", READ_SPLITS, ROOT, source], environment, cwd=tmp_path).stdout)
        for source in (pushed.faces, "somebody/faces")
    )
    assert found["train"] != expected["train"]  # mixed, for those who stream them
    for split, rows in expected.items():
        assert sorted(found[split], key=itemgetter("file_name")) == sorted(rows, key=itemgetter("file_name"))

    table = tmp_path / "faces.csv"
    labelling = ["predict.py", "--model", "somebody/tiny", "--data_dir", "somebody/faces", "--no_detection"]
    process = run_program([*labelling, "--output", table], environment)
    assert process.returncode == 0, process.stderr
    assert "43 pictures: 43 faces" in process.stdout
    with table.open() as text:
        labelled = {row["file"] for row in csv.DictReader(text)}
    assert labelled == {row["file_name"] for rows in expected.values() for row in rows}

    changes = {
        "from_scratch": None,
        "config": None,
        "model": "somebody/tiny",
        "validation_share": None,
        "push_to_hub": True,
        "hub_model_id": "somebody/tuned",
        "hub_strategy": "best",
        "learning_rate": 0.002,  # so that the second epoch is better
    }
    # The upload of the first epoch is refused, that of the second goes well, the last one meets errors of the Hub.
    hub.faults += [Fault("tuned/preupload", 403, times=1), Fault("tuned/preupload", 500, skip=1)]
    command = make_command("somebody/faces", pushed.network, tmp_path / "run", **changes)
    process = run_program(["train.py", *command], environment)
    sentence = last_line(process)
    assert "The upload to somebody/tuned failed: your token has no write access" in process.stdout
    assert "The training continues." in process.stdout and "Uploaded to" in process.stdout
    assert "train.py: error: The upload to somebody/tuned failed: the Hub has an internal error (500)" in sentence
    tuned = hub.repo("somebody/tuned")
    assert not tuned.private and len(tuned.history()) == 1 and "epoch 2, " in tuned.history()[0]
    results = read_results(tmp_path / "run")
    assert results["best_epoch"] == 2 and results["split_images"] == {"train": 36, "validation": 4, "test": 3}
    assert results["start"].startswith("`somebody/tiny`")
    assert {path.name for path in (tmp_path / "run").iterdir() if path.is_file()} == MODEL_FILES

    hub.faults.clear()
    (tmp_path / "run" / "curves.png").write_bytes(b"other curves")
    process = run_printed(sentence, environment)
    assert process.returncode == 0, process.stderr
    assert hub.read_file("somebody/tuned", "curves.png") == b"other curves"
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert hub.read_file("somebody/tuned", "model.safetensors") == weights


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("/preupload/", 401), "you are not logged in to the Hub"),
        (Fault("/commit/", 403), "your token has no write access"),
        (Fault("PUT /storage/", 500), "the Hub has an internal error (500)"),
        (Fault("POST .*/commit/"), "the connection to the Hub failed"),
    ],
    ids=lambda value: value.pattern if isinstance(value, Fault) else "",
)
def test_a_failed_upload_says_how_to_push_again(hub, changed, environment, fault, reason):
    commits, content = hub.repo("somebody/tiny").history(), (changed / "curves.png").read_bytes()
    hub.faults.append(fault)
    sentence = last_line(push(changed, environment))
    assert sentence.startswith(f"push_to_hub.py: error: The upload to somebody/tiny failed: {reason}")
    assert f"The model is saved in {changed}" in sentence
    assert hub.repo("somebody/tiny").history() == commits
    hub.faults.clear()
    assert run_printed(sentence, environment).returncode == 0
    assert hub.repo("somebody/tiny").history() == [commits[0], *commits]
    assert hub.read_file("somebody/tiny", "curves.png") == content


def test_a_connection_that_breaks_once_is_made_again(hub, changed, environment):
    hub.faults.append(Fault("PUT /storage/", times=1))
    assert push(changed, environment).returncode == 0
    assert hub.read_file("somebody/tiny", "curves.png") == (changed / "curves.png").read_bytes()


@pytest.mark.parametrize(
    ("token", "repo_id", "reason"),
    [
        (
            "hf_wrong",
            "somebody/tiny",
            "you are not logged in to the Hub or your token is invalid; run `hf auth login`",
        ),
        (None, "somebody/tiny", "you are not logged in to the Hub or your token is invalid; run `hf auth login`"),
        (READ_TOKEN, "somebody/tiny", "your token has no write access"),
        (WRITE_TOKEN, "another/tiny", "your token has no write access"),
    ],
)
def test_who_may_not_write_is_told_before_an_upload(hub, pushed, tmp_path, token, repo_id, reason):
    requests = len(hub.requests)
    process = push(pushed.folder, make_environment(hub, tmp_path, token), repo_id=repo_id)
    assert last_line(process).startswith(f"push_to_hub.py: error: {repo_id} cannot be written to on the Hub: {reason}")
    assert not [line for line in hub.requests[requests:] if "/preupload/" in line or line.startswith("PUT")]


def test_a_push_under_another_name_writes_it_into_the_card(hub, changed, environment):
    assert push(changed, environment, "--no-private", repo_id="somebody/renamed").returncode == 0
    card = hub.read_file("somebody/renamed", "README.md").decode()
    assert 'model="somebody/renamed"' in card and "somebody/tiny" not in card
    assert json.loads(hub.read_file("somebody/renamed", "train_results.json"))["arguments"]["hub_model_id"] == (
        "somebody/renamed"
    )
    assert not hub.repo("somebody/renamed").private  # as the word said, and not as the training was
    sentence = last_line(push(changed, environment, "--private", repo_id="somebody/renamed"))
    assert re.search("somebody/renamed exists and is public: make it private", sentence)


@pytest.mark.parametrize(
    ("trained_private", "word"), [(True, None), (False, None), (True, "--no-private"), (False, "--private")]
)
def test_a_repo_that_is_gone_is_made_again_as_private_as_it_was(hub, changed, environment, trained_private, word):
    """As in the training or as the option says, also with the command of a failed upload."""
    results = read_results(changed)
    results["arguments"] |= {"hub_model_id": "somebody/again", "hub_private_repo": trained_private}
    (changed / "train_results.json").write_text(json.dumps(results))
    private = {None: trained_private, "--private": True, "--no-private": False}[word]
    repo = hub.repo("somebody/again")
    hub.faults.append(Fault("/preupload/", 403))
    sentence = last_line(push(changed, environment, *[word] * bool(word), repo_id="somebody/again"))
    assert repo.private == private
    shutil.rmtree(repo.folder)
    hub.faults.clear()
    assert run_printed(sentence, environment).returncode == 0
    assert repo.private == private
    shutil.rmtree(repo.folder)


def test_a_folder_without_results_is_no_training(hub, tmp_path, environment):
    sentence = last_line(push(tmp_path, environment, repo_id="somebody/nothing"))
    assert "has no train_results.json: give the --output_dir" in sentence
    assert not hub.repo("somebody/nothing").exists


@pytest.mark.parametrize("file", ["model.safetensors", "train_results.json"])
def test_a_folder_whose_weights_and_results_differ_is_not_pushed(hub, changed, environment, file):
    content = (changed / file).read_bytes()
    (changed / file).write_bytes(content[:5000])
    assert len(content) > 5000
    commits = hub.repo("somebody/tiny").history()
    sentence = last_line(push(changed, environment))
    assert sentence.startswith(
        f"push_to_hub.py: error: {changed} is not pushed: its weights are not those of its train_results"
    )
    assert sentence.endswith("run the training's command with --resume_from_checkpoint latest.")
    assert hub.repo("somebody/tiny").history() == commits


def test_a_training_that_is_killed_in_an_export_is_not_pushed_before_it_has_gone_on(hub, pushed, tmp_path):
    environment = make_environment(hub, tmp_path / "home", HF_DATASETS_CACHE=str(tmp_path / "cache"))
    folder = tmp_path / "run"
    command = make_command(
        pushed.faces, pushed.network, folder, push_to_hub=True, hub_model_id="killed", hub_strategy="best"
    )
    process = run_program(["-c", KILLED_TRAINING, ROOT, *command], environment)
    assert process.returncode == -SIGKILL, process.stderr
    assert len(hub.repo("somebody/killed").history()) == 1
    sentence = last_line(push(folder, environment, repo_id="somebody/killed"))
    assert f"{folder} has no train_results.json" in sentence and "--resume_from_checkpoint latest" in sentence
    assert len(hub.repo("somebody/killed").history()) == 1
    process = run_program(["train.py", *command, "--resume_from_checkpoint", "latest"], environment)
    assert process.returncode == 0, process.stderr
    assert_commits_are_whole(hub, "somebody/killed")
    assert hub.read_file("somebody/killed", "model.safetensors") == (folder / "model.safetensors").read_bytes()


def test_two_processes_push_each_best_epoch_once(hub, pushed, tmp_path):
    environment = make_environment(hub, tmp_path / "home", HF_DATASETS_CACHE=str(tmp_path / "cache"))
    folder = tmp_path / "run"
    command = make_command(
        pushed.faces,
        pushed.network,
        folder,
        push_to_hub=True,
        hub_model_id="two",
        hub_strategy="best",
        num_train_epochs=3,
    )
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "train.py"]
    process = run_program([*torchrun, *command], environment, timeout=300)
    assert process.returncode == 0, process.stderr
    results, repo = read_results(folder), hub.repo("somebody/two")
    assert results["num_processes"] == 2
    best = re.findall(r"^Epoch (\d):.*best loss so far$", process.stdout, re.MULTILINE)
    assert len(best) > 1 and process.stdout.count("Uploaded to") == len(best) + 1
    assert "The upload to" not in process.stdout  # none failed
    # The last upload may find all its files there already.
    titles = [title for title in repo.history() if f"epoch {results['best_epoch']}, " not in title]
    assert [re.search(r"epoch (\d), ", title)[1] for title in titles] == best[-2::-1]
    assert_commits_are_whole(hub, "somebody/two")
    for name, file in repo.read()["files"].items():
        assert hub.stored(file["oid"]).read_bytes() == (folder / name).read_bytes(), name


def test_data_without_training_images_make_no_repo(hub, tmp_path):
    """Only images of the published test split. Without a login the program ends before it reads them."""
    environment = make_environment(hub, tmp_path / "home", token=None, HF_DATASETS_CACHE=str(tmp_path / "cache"))
    faces = write_faces(tmp_path / "faces", 0, test_count=4)
    command = ["-m", "scripts.publish_data", faces, "untrained"]
    process = run_program(command, environment)
    reason = "Nothing can be uploaded to untrained: you are not logged in to the Hub"
    assert last_line(process).startswith(f"publish_data.py: error: {reason}") and "Reading faces" not in process.stderr
    sentence = last_line(run_program(command, environment | {"HF_TOKEN": WRITE_TOKEN}))
    assert sentence.startswith(f"publish_data.py: error: {faces} has no train images, only ['test']")
    assert not hub.repo("somebody/untrained", "datasets").exists
