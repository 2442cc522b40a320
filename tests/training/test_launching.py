"""The ready files of configs/accelerate, and a training that accelerate launch starts with one of them."""

import os
import signal
import subprocess
import sys

import datasets
import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from tests.support.processes import find_free_port
from tests.support.training import ROOT, make_command


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")

CONFIGS = ROOT / "configs" / "accelerate"


@pytest.mark.slow
@pytest.mark.processes
def test_two_machines_by_the_ready_file_and_ctrl_c(faces, network, tmp_path):
    """
    Both on this machine, one process each. Ctrl-C reaches launchers and trainings, and the trainings once more from their
    launchers.
    """
    environment = os.environ | {
        "HF_DATASETS_CACHE": str(datasets.config.HF_DATASETS_CACHE),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    port = find_free_port()
    training = make_command(faces, network, tmp_path / "run", num_train_epochs=500, early_stopping_patience=0)
    machines = []
    for rank in range(2):
        words = ["--config_file", str(CONFIGS / "several_nodes.yaml"), "--machine_rank", str(rank)]
        words += ["--num_processes", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", str(port)]
        machines.append(
            subprocess.Popen(
                [sys.executable, "-m", "accelerate.commands.launch", *words, "train.py", *training],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
    seen = ""
    while "Epoch 2:" not in seen and (character := machines[0].stdout.read(1)):
        seen += character
    for machine in machines:
        os.killpg(machine.pid, signal.SIGINT)
    outputs = [seen + machines[0].communicate(timeout=120)[0], machines[1].communicate(timeout=120)[0]]
    assert "Saved" in outputs[0] and "the same command and --resume_from_checkpoint latest" in outputs[0]
    assert "labels from the file names" in outputs[0] and "labels from the file names" not in outputs[1]
    assert "Saved" not in outputs[1] and not any("train.py: error" in text for text in outputs)


@pytest.mark.parametrize(
    ("name", "processes", "machines"),
    [("one_gpu", 1, 1), ("several_gpus", 2, 1), ("several_nodes", 16, 2), ("cpu", 1, 1)],
)
def test_ready_files_are_what_accelerate_reads(name, processes, machines):
    file = str(CONFIGS / f"{name}.yaml")
    config = load_config_from_file(file)  # refuses unknown fields
    assert (config.num_processes, config.num_machines, config.use_cpu) == (processes, machines, name == "cpu")
    assert config.distributed_type == ("MULTI_GPU" if processes > 1 else "NO")
    command = f"accelerate launch --config_file configs/accelerate/{name}.yaml"
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert any(command in page.read_text() for page in pages)
    assert launch_command_parser().parse_args(["--config_file", file, "train.py"]).config_file == file


def test_there_is_no_other_ready_file():
    assert sorted(file.stem for file in CONFIGS.iterdir()) == ["cpu", "one_gpu", "several_gpus", "several_nodes"]
