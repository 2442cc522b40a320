"""The tab about the model: its frames and sentences hold the numbers of the JSON files, and it does without any."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import gradio as gr
import pytest

from metrics.tables import DEPLOYERS, VALIDATION_NOTE, find_group
from space import model_tab
from space.model_facts import (
    TRAINING_FILE,
    describe_curves,
    describe_limits,
    describe_links,
    describe_training_data,
    describe_use,
    make_curve_frame,
)
from tests.support.groups import make_groups


ROOT = Path(__file__).parents[2]


def make_band(ages: str, number: int, **changes) -> dict:
    band = {
        "ages": ages,
        "num_images": number,
        "age_mae": 4.126,
        "age_bias": 1.5,
        "gender_accuracy": 0.95,
        "interval_coverage": 0.9123,
        "interval_width": 17.0,
    }
    return band | changes


TRAINING = {
    "arguments": {"data_dir": "faces.zip", "extra_data": ["more.zip"], "teacher": [], "from_scratch": True},
    "start": "random weights.",
    "split_images": {"train": 12345, "validation": 1111},
    "is_utkface": True,
    "extra_images": 2222,
    "metrics": {
        "validation": {
            "age_mae": 4.126,
            "age_cs5": 0.678,
            "gender_accuracy": None,
            "num_images": 1111,
            "age_mae_21_60": 4.65,
            "age_cs5_21_60": 0.658,
            "gender_accuracy_21_60": 0.978,
            "num_images_21_60": 900,
        }
    },
    "errors": {
        "validation": {
            "by_age": [
                make_band("all", 1111),
                make_band("0–3", 100, gender_accuracy=0.6384, interval_width=2.6),
                make_band("4–12", 900, gender_accuracy=None),
                make_band("76–120", 111, age_bias=-3.94, interval_width=28.4),
            ],
            "gender_confusion": [[90, 10], [20, 80]],
        }
    },
    "history": [
        {"epoch": 1, "train_loss": 4.8214, "loss": 3.8, "train_age_mae": None, "age_mae": 5.0},
        {"epoch": 2, "train_loss": 4.1, "loss": None, "age_mae": 4.5},
    ],
    "training_seconds": 600,
    "weights_sha256": "a",
    "date": "2026-11-24",
}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / TRAINING_FILE).write_text(json.dumps(TRAINING))
    return tmp_path


def build(folder: Path) -> gr.Blocks:
    with gr.Blocks() as demo:
        with gr.Tab("The model"):
            model_tab.build_model_tab(str(folder))
    return demo


def texts(demo: gr.Blocks) -> str:
    return "\n".join(block.value for block in demo.blocks.values() if isinstance(block, gr.Markdown))


def plots(demo: gr.Blocks) -> list:
    return [block for block in demo.blocks.values() if isinstance(block, gr.LinePlot)]


def charts(demo: gr.Blocks) -> str:
    """The HTML of the charts, "" if there are none."""
    return "".join(block.value for block in demo.blocks.values() if isinstance(block, gr.HTML))


def test_curves_leave_out_what_was_not_measured():
    series = {"training": "train_loss", "validation": "loss"}
    frame = make_curve_frame(TRAINING["history"], series)
    assert frame.values.tolist() == [["1", "training", 4.821], ["2", "training", 4.1], ["1", "validation", 3.8]]
    assert make_curve_frame([], series).empty


def test_sentences_carry_the_numbers(folder):
    text = texts(build(folder))
    assert "- `faces.zip`: 12,345 images of UTKFace. They belong to their owners" in text
    assert "- `more.zip`: 2,222 further faces. Their own terms apply." in text
    assert "Another 1,111 images were kept back" in text
    assert "10 minutes for 2 epochs" in text and text.count("random weights") == 1
    assert "1 minute for 2 epochs" in describe_training_data(TRAINING | {"training_seconds": 20})
    assert (
        "| validation | all | 1,111 | 4.13 | 67.8 % | – |\n| validation | 21–60 | 900 | 4.65 | 65.8 % | 97.8 % |"
        in text
    )
    assert (
        "| 0–3 | 100 | 4.13 | +1.50 | 63.8 % | 91.2 % | 2.6 |\n| 4–12 | 900 | 4.13 | +1.50 | – | 91.2 % | 17.0 |"
        in text
    )
    assert VALIDATION_NOTE in text and all(f"- {words}" in text for words in DEPLOYERS)
    assert "gender at 0–3 years: 63.8 % of its answers there are as labelled, 95.0 % at all ages" in text
    assert "76–120 years too young, by 3.9 years on average; only 111 of the 1,111 images" in text
    assert "28 years on average at 76–120 years, where they are widest, and 3 at 0–3 years" in text


def test_old_faces_read_too_old_are_called_so():
    errors = copy.deepcopy(TRAINING["errors"]["validation"])
    errors["by_age"][-1]["age_bias"] = 2.0
    assert "76–120 years too old, by 2.0" in describe_limits(errors, True)


def test_few_images_show_no_limits_and_no_wrong_answer_is_no_error():
    errors = {"by_age": [make_band("all", 199, gender_accuracy=1.0), make_band("0–3", 199, gender_accuracy=1.0)]}
    assert "0–3 years" not in describe_limits(errors, False)
    errors["by_age"][0]["num_images"] = 200
    limits = describe_limits(errors, False)
    assert "faces labelled 0–3 years" in limits and "errs most on gender" not in limits


def test_charts_keep_the_order_of_age(folder):
    html = charts(build(folder))
    assert html.count("<svg") == 4 and html.count("<figcaption>") == 4
    places = [html.index(f">{ages}</text>") for ages in ("0–3", "4–12", "76–120")]
    assert places == sorted(places)


def test_a_visitor_reads_the_figures_of_the_chosen_group(folder):
    groups = make_groups()
    (folder / TRAINING_FILE).write_text(json.dumps(TRAINING | {"groups": {"validation": groups}}))
    demo = build(folder)
    ages, gender = (
        next(block for block in demo.blocks.values() if isinstance(block, kind)) for kind in (gr.Dropdown, gr.Radio)
    )
    assert ages.choices[3] == ("21–30", "21–30") and gender.value == "female"
    answers = [call for call in demo.fns.values() if call.inputs == [ages, gender]]
    assert len(answers) == 2 and all(call.api_visibility == "private" for call in answers)
    for band, label in (("31–40", "male"), ("76–120", "female")):
        row = find_group(groups, gender=label, ages=band)
        text = answers[0].fn(band, label)
        assert f"off by {row['age_mae']['value']:.1f} years on average ({row['age_mae']['low']:.1f} to" in text
        assert f"labelled one for {100 * row['gender_accuracy']['value']:.0f} of 100" in text
    assert charts(demo).count("<svg") == 4
    text = texts(demo)
    assert "The model reads 30 of 70 faces labelled 13–17 years as 18 or older" in text
    assert "| 18 years | the age, if at least the line | 30 of 340: 8.8 %" in text


def test_null_everywhere_leaves_charts_out(folder):
    training = copy.deepcopy(TRAINING)
    for band in training["errors"]["validation"]["by_age"]:
        band.update(dict.fromkeys(set(band) - {"ages", "num_images"}))
    training["metrics"]["validation"] = dict.fromkeys(training["metrics"]["validation"])
    training["history"] = [dict.fromkeys(row) | {"epoch": row["epoch"]} for row in training["history"]]
    training |= {"split_images": None, "start": None, "extra_images": None, "training_seconds": None}
    (folder / TRAINING_FILE).write_text(json.dumps(training))
    demo = build(folder)
    assert not plots(demo) and not charts(demo)
    assert "nan" not in texts(demo).lower() and "None" not in texts(demo)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_without_files_there_are_sentences(tmp_path, content):
    if content is not None:
        (tmp_path / TRAINING_FILE).write_text(content)
    demo = build(tmp_path)
    text = texts(demo)
    assert (
        not plots(demo) and not charts(demo) and not any(isinstance(block, gr.Image) for block in demo.blocks.values())
    )
    assert len(re.findall("beside these weights", text)) == 4
    assert "Make no decisions about people with it" in text and "UTKFace was" not in text


def test_page_of_this_folder_has_all_its_parts():
    demo = build(ROOT)
    pictures = [block for block in demo.blocks.values() if isinstance(block, gr.Image)]
    assert len(pictures) == 3 and all(picture.alt_text and picture.label for picture in pictures)
    assert "3 trainings gave these weights" in texts(demo) and "IMDB-WIKI" in texts(demo)
    assert len(plots(demo)) == 2 and all(plot.label for plot in plots(demo)) and charts(demo).count("<svg") >= 4
    measured = json.loads((ROOT / TRAINING_FILE).read_text())["metrics"]["validation"]
    assert f"{measured['age_mae']:.2f}" in texts(demo) and "beside these weights" not in texts(demo)


def test_page_says_what_the_curves_cover_and_what_came_before():
    assert f"the {len(TRAINING['history'])} epochs" in describe_curves(TRAINING)
    assert "- Initial weights: random weights." in describe_training_data(TRAINING)
    history = [{"epoch": 0, "loss": 4.0}, *TRAINING["history"][:1]]  # a start that was measured is no epoch
    training = TRAINING | {"arguments": {"model": "first"}, "start": "`first`. A start.", "history": history}
    assert "the 1 epoch that" in describe_curves(training)
    assert "- Initial weights: `first`. A start.\n" in describe_training_data(training)


def test_page_tells_of_all_trainings_that_gave_the_weights():
    """The last of them calibrated, which is no training; the one that took longest has the curves and the further faces."""
    steps = {
        "first": TRAINING | {"training_seconds": 600},
        "second": {"training_seconds": 60, "history": [{"epoch": 3}], "arguments": {"model": "first"}},
        "third": {"training_seconds": 0, "history": [{"epoch": 0}], "arguments": {"model": "averaged"}},
    }
    training = TRAINING | {"steps": steps, "extra_images": 0, "history": [{"epoch": 0}], "date": "2026-11-27"}
    training["arguments"] = {"model": "averaged"}
    number = TRAINING["history"][-1]["epoch"]
    assert describe_curves(training) == (
        f"2 trainings gave these weights. The curves cover the {number} epochs of the one that took longest."
    )
    text = describe_training_data(training)
    assert "`more.zip`: 2,222 further faces" in text and "Initial weights" not in text
    assert text.endswith(f"The training took 11 minutes for {number + 3} epochs and ended on 2026-11-27.")


@pytest.mark.parametrize(
    ("teachers", "words"), [(["a"], "1 earlier model: `a`."), (["a", "b"], "2 earlier models: `a`, `b`.")]
)
def test_earlier_models_are_counted_in_words(teachers, words):
    assert words in describe_training_data(TRAINING | {"arguments": {"teacher": teachers}})


@pytest.mark.parametrize(
    ("space", "model", "links"),
    [
        (None, ".", []),
        (None, "me/model", ["/me/model"]),
        ("me/page", ".", ["/spaces/me/page/tree/main", "/spaces/me/page/blob/main/model.safetensors"]),
        ("me/page", "me/model", ["/spaces/me/page/tree/main", "/me/model"]),
    ],
)
def test_links_lead_to_code_and_model(monkeypatch, space, model, links):
    monkeypatch.delenv("SPACE_ID", raising=False)
    if space:
        monkeypatch.setenv("SPACE_ID", space)
    text = describe_links(model)
    assert re.findall(r"https://huggingface\.co([^)]*)", text) == links and "Apache-2.0" in text


def test_links_say_what_the_weights_may_be_used_for():
    assert "non-commercial" in describe_links(str(ROOT))


def test_a_static_page_is_linked_where_it_is_named(monkeypatch):
    monkeypatch.delenv("AGEGENDER_WEB", raising=False)
    assert "your browser" not in describe_links(str(ROOT))
    monkeypatch.setenv("AGEGENDER_WEB", "https://example.org/web/")
    assert "your browser](https://example.org/web/)" in describe_links(str(ROOT))
    assert "weights under the terms of their training images" in describe_links("me/model")


@pytest.mark.parametrize(
    ("model", "revision", "start"),
    [
        (".", None, 'pipeline("age-gender-estimation", model=".", trust'),
        (str(ROOT), None, 'pipeline("age-gender-estimation", model=".", trust'),
        (str(ROOT / "configs"), None, 'model="configs", trust'),  # no path of the server is shown
        ("me/model", None, 'pipeline("age-gender-estimation", model="me/model", trust'),
        ("me/model", "v1", 'pipeline("age-gender-estimation", model="me/model", revision="v1", trust'),
    ],
)
def test_snippet_names_the_model_that_is_served(model, revision, start):
    assert start in describe_use(model, revision)


@pytest.mark.processes
def test_snippet_of_the_page_runs(tmp_path):
    code = re.search("```python\n(.*?)```", describe_use(str(ROOT), None), re.DOTALL).group(1)
    code = code.replace("photo.jpg", "assets/astronaut.jpg")
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path)}
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert out.returncode == 0 and "female" in out.stdout, out.stderr
