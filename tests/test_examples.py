"""The examples in README, docs and docstrings run and print what they show; their commands have arguments that exist."""

import importlib
import os
import re
import shutil
import zipfile
from pathlib import Path

import pytest

import app
from hub.loading import load_pipeline
from tests.support.examples import (
    MORE,
    ROOT,
    Command,
    find_commands,
    find_docstrings,
    find_examples,
    find_texts,
    parses,
    run_examples,
)
from tests.support.films import write_film
from tests.support.hub import make_environment, run_program
from tests.support.processes import run_here


TEXTS = find_texts()
CODE = [place for place, text in TEXTS.items() if find_examples(text)]
COMMANDS = [command for place, text in TEXTS.items() for command in find_commands(place, text)]
CHEAP = {"predict", "scripts.preview_augmentation"}  # programs whose commands run
# What an example leaves to the reader.
STAND_INS = {"{{ name }}": "."}
PAGE = "http://127.0.0.1:7860"
ASTRONAUT = ROOT / "assets" / "astronaut.jpg"
pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")


@pytest.fixture
def folder(tmp_path, monkeypatch, photo) -> Path:
    """The repository's files, and those that the examples take as the reader's own, in the working directory."""
    # Links to files in folders of its own: what an example writes stays out of the repository.
    ignored = shutil.ignore_patterns(".*", "__pycache__", "runs", "node_modules")
    shutil.copytree(ROOT, tmp_path, ignore=ignored, copy_function=os.symlink, dirs_exist_ok=True)
    for name in ("photo.jpg", "a.jpg", "b.jpg", "my_photos/1.jpg", "my_photos/sub/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ASTRONAUT, tmp_path / name)
    write_film(tmp_path / "film.mp4", [photo.resize((320, 320))] * 5)
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("notes.jpg", "dear diary")
    (tmp_path / "adience").mkdir()
    (tmp_path / "adience" / "fold_0_data.txt").write_text(
        "user_id\toriginal_image\tface_id\tage\tgender\n7153718@N04\t11597935265.jpg\t2282\t(25, 32)\tf\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    return tmp_path


@pytest.fixture
def served(monkeypatch, tmp_path_factory) -> str:
    """The address of the page, which finds a photo at each public address."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("visitors")))
    pipe = load_pipeline(str(ROOT))
    page = app.build_page(pipe)
    page.launch(prevent_thread_lock=True, quiet=True, **app.make_launch_options(pipe))
    for module in (
        "space.inference",
        "photos.fetching",
    ):  # not earlier: the MCP server, imported above, would keep these
        monkeypatch.setattr(f"{module}.fetch", lambda address: ASTRONAUT.read_bytes())
    yield page.local_url.rstrip("/")
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("place", CODE)
def test_code_prints_what_it_shows(place, folder, request):
    text, module = TEXTS[place], place.partition(":")[0]
    for name, stand_in in STAND_INS.items():
        text = text.replace(name, stand_in)
    namespace = {}
    if not module.endswith(".md"):
        namespace = vars(importlib.import_module(module)).copy()
    if PAGE in text:
        text = text.replace(PAGE, request.getfixturevalue("served"))
    run_examples(place, text, namespace)


@pytest.mark.parametrize("shown", ["[0.84, 'b', …]", "[0.83, 'c', …]", "[0.83, 'b']", "[0.83, 'b', 7.1]"])
def test_an_example_that_shows_something_else_fails(shown):
    text = "```python\nvalues = [0.8349,\n  'b', 7.04]\n# [0.83, 'b', …]\nprint('loading')\n\nvalues\n# {}\n```\n"
    for right in ("[0.83, 'b', 7.0]", "[0.8349,\n#   'b', 7.04]", "[1, …]", "…7.04]"):
        run_examples("page", text.format(right), {})
    with pytest.raises(AssertionError, match="Failed example"):
        run_examples("page", text.format(shown), {})
    run_examples("page", "```python\nprint(7, 0.8349)  # 7 0.83\n```\n", {})
    with pytest.raises(AssertionError, match="Failed example"):
        run_examples("page", "```python\nprint(7, 0.8349)  # 7 0.84\n```\n", {})


def test_examples_are_found():
    """In docstrings, an example is code with prompts in a fenced block."""
    assert len(CODE) > 5 and len(COMMANDS) > 60
    for place, text in find_docstrings().items():
        assert place in CODE or not re.search(r"\bExample\b|>>>", text), place


def find_first(program: str) -> list[str]:
    """Returns the arguments of the first command that a program's docstring shows."""
    own = (command for command in COMMANDS if command.place == f"{program}:1" and command.program == program)
    return next(command.words for command in own if MORE.isdisjoint(command.words))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.place} {' '.join(command.words)[:60]}")
def test_command_has_arguments_that_exist(command: Command, monkeypatch, capsys):
    """In a sentence a command may lack arguments, or the value of its last one."""
    first = find_first(command.program)
    words = [item for word in command.words for item in (first if word in MORE else [word])]
    ways = [words] if command.is_whole else [words, first + words, [*words, "1"]]
    assert any(parses(command.program, way, monkeypatch) for way in ways), capsys.readouterr().err


RUN = {
    (one.program, *one.words) for one in COMMANDS if one.program in CHEAP and one.is_whole and "--output" in one.words
}


@pytest.mark.slow
@pytest.mark.parametrize("words", sorted(RUN), ids=" ".join)
def test_command_runs(words, folder, capsys, request):
    """A command that names the repo user/name finds the shipped weights there, on a Hub of the tests."""
    if "user/name" in words:
        hub, files = request.getfixturevalue("hub"), ("config.json", "preprocessor_config.json", "model.safetensors")
        hub.add_files("user/name", {name: (ROOT / name).read_bytes() for name in files})
        ended = run_program(["-m", *words], make_environment(hub, folder / "home"), cwd=folder)
        printed = ended.stdout + ended.stderr
    else:
        run_here(words[0], list(words[1:]))
        printed = capsys.readouterr().out
    output = words[words.index("--output") + 1]
    assert f"Wrote {output}" in printed, printed
    assert Path(output).stat().st_size
