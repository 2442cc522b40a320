"""Trainings as they are started: by torchrun and by accelerate launch, with the ready files of configs/accelerate."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from tests.support.processes import find_free_port
from tests.support.training import ROOT, make_command, read_results


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")

CONFIGS = ROOT / "configs" / "accelerate"
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch"]

# train.py as it is, but for one function in the second process.
FAILING_TRAINING = """
import os, runpy, sys
sys.path.insert(0, {root!r})
import training_parts
def fail(*args):
    raise ValueError("the second process has lost its data")
if os.environ["RANK"] == "1":
    training_parts.count_errors = fail
runpy.run_path({root!r} + "/train.py", run_name="__main__")
"""


def start(command: list[str], cache: Path) -> subprocess.Popen:
    environment = os.environ | {"HF_DATASETS_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def test_an_error_in_one_process_ends_all_with_its_message(faces, network, tmp_path):
    script = tmp_path / "failing.py"
    script.write_text(FAILING_TRAINING.format(root=str(ROOT)))
    command = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(find_free_port())]
    process = start(
        [sys.executable, *command, str(script), *make_command(faces, network, tmp_path / "run")],
        datasets.config.HF_DATASETS_CACHE,
    )
    seen = process.communicate(timeout=300)[0]
    assert process.returncode == 1
    assert "error: the second process has lost its data" in seen
    # torchrun's summary tells which process was the first to fail, and of what.
    root_cause = seen.partition("Root Cause")[2]
    assert "rank      : 1" in root_cause and "ValueError: the second process has lost its data" in root_cause
    assert not list((tmp_path / "run").rglob("checkpoint_*"))
    with pytest.raises(ProcessLookupError):  # none is left over
        os.killpg(process.pid, 0)


def test_two_machines_by_the_ready_file_and_ctrl_c(faces, network, tmp_path):
    """
    Both on this machine, one process each. Ctrl-C reaches launchers and trainings, and these once more from their
    launchers.
    """
    port = find_free_port()
    training = make_command(faces, network, tmp_path / "run", num_train_epochs=500, early_stopping_patience=0)
    machines = []
    for rank in range(2):
        words = ["--config_file", str(CONFIGS / "several_nodes.yaml"), "--machine_rank", str(rank)]
        words += ["--num_processes", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", str(port)]
        machines.append(start([*LAUNCH, *words, "train.py", *training], datasets.config.HF_DATASETS_CACHE))
    seen = ""
    while "Epoch 2:" not in seen and (character := machines[0].stdout.read(1)):
        seen += character
    for machine in machines:
        os.killpg(machine.pid, signal.SIGINT)
    outputs = [seen + machines[0].communicate(timeout=120)[0], machines[1].communicate(timeout=120)[0]]
    assert "Saved" in outputs[0] and "Go on with the same command and --resume_from_checkpoint latest" in outputs[0]
    assert "Saved" not in outputs[1] and not any("train.py: error" in text for text in outputs)


def test_the_file_for_the_cpu_trains(faces, network, tmp_path):
    command = [*LAUNCH, "--config_file", str(CONFIGS / "cpu.yaml"), "train.py"]
    process = start(
        [*command, *make_command(faces, network, tmp_path / "run", num_train_epochs=1)],
        datasets.config.HF_DATASETS_CACHE,
    )
    seen = process.communicate(timeout=300)[0]
    assert process.returncode == 0, seen
    assert read_results(tmp_path / "run")["num_processes"] == 1


@pytest.mark.parametrize(
    ("name", "processes", "machines", "multi_gpu"),
    [("one_gpu", 1, 1, False), ("several_gpus", 2, 1, True), ("several_nodes", 16, 2, True), ("cpu", 1, 1, False)],
)
def test_ready_files_are_what_accelerate_reads(name, processes, machines, multi_gpu):
    file = str(CONFIGS / f"{name}.yaml")
    config = load_config_from_file(file)  # refuses unknown fields
    assert (config.num_processes, config.num_machines, config.use_cpu) == (processes, machines, name == "cpu")
    arguments = launch_command_parser().parse_args(["--config_file", file, "train.py"])
    arguments, _, _ = _validate_launch_command(arguments)
    assert (arguments.num_processes, arguments.num_machines, arguments.multi_gpu) == (processes, machines, multi_gpu)
    assert f"accelerate launch --config_file configs/accelerate/{name}.yaml" in (ROOT / "README.md").read_text()


def test_there_is_no_other_ready_file():
    assert sorted(file.stem for file in CONFIGS.iterdir()) == ["cpu", "one_gpu", "several_gpus", "several_nodes"]
