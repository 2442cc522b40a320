"""The start of the page: which model it loads, what it says if there is none, and that its calls have examples."""

import json
import sys

import httpx2
import pytest

import app
from hub.errors import run
from hub.loading import load_pipeline, split_revision
from image_processing_agegender import AgeGenderImageProcessor
from tests.support.models import make_config, make_model


@pytest.fixture(autouse=True)
def command(monkeypatch):
    """The command line, without arguments."""
    monkeypatch.setattr(sys, "argv", ["app.py"])


def test_arguments_name_model_and_address(monkeypatch):
    started = {}

    class Page:
        def launch(self, **options):
            started.update(options)

    monkeypatch.setattr(app, "load_pipeline", lambda *source, **options: started.update(source=source, **options))
    monkeypatch.setattr(app, "build_page", lambda pipe, revision: Page())
    monkeypatch.setattr(app, "make_launch_options", lambda pipe: {})
    monkeypatch.setenv("AGEGENDER_MODEL", "me/other")
    monkeypatch.setattr(
        sys, "argv", ["app.py", "--model", "me/model@v1", "--host", "0.0.0.0", "--port", "8080", "--backend", "onnx"]
    )
    app.main()
    assert started["source"] == ("me/model", "v1") and started["backend"] == "onnx"
    assert (started["server_name"], started["server_port"], started["share"]) == ("0.0.0.0", 8080, None)


def test_ports_that_there_are_not_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["app.py", "--port", "70000"])
    with pytest.raises(SystemExit):
        app.main()
    assert "--port must be from 1 to 65535, got 70000." in capsys.readouterr().err


def test_split_revision(tmp_path):
    assert split_revision("me/model") == ("me/model", None)
    assert split_revision("me/model@v1.2") == ("me/model", "v1.2")
    folder = tmp_path / "a@b"
    folder.mkdir()
    assert split_revision(str(folder)) == (str(folder), None)


def write_model(folder):
    make_model().save_pretrained(folder)
    AgeGenderImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


def write_other_network(folder):
    write_model(folder)
    make_config(depths=[1, 3]).save_pretrained(folder)


def write_pointer(folder):
    """What git leaves of the weights where it has no git-lfs."""
    write_model(folder)
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda folder: None, "No model could be loaded from {}"),
        (write_other_network, "{} is no AgeGender model of this network: it lacks"),
        (write_pointer, "No model could be loaded from {}"),
    ],
)
@pytest.mark.parametrize("is_default", [True, False])
def test_start_without_a_model_ends_with_a_sentence(monkeypatch, tmp_path, write, sentence, is_default):
    write(tmp_path)
    monkeypatch.setenv("AGEGENDER_MODEL", "" if is_default else str(tmp_path))
    monkeypatch.setattr(app, "FOLDER", tmp_path)
    monkeypatch.setattr(app, "build_page", lambda pipe: pytest.fail("a page without a model"))
    with pytest.raises(SystemExit, match=sentence.format(tmp_path)):
        run(app.main)


def test_revision_reaches_the_hub(monkeypatch):
    asked = []

    def download(repo, **options):
        asked.append((repo, options["revision"]))
        raise OSError("We couldn't connect.\nA second line.")

    monkeypatch.setenv("AGEGENDER_MODEL", "me/model@v1")
    monkeypatch.setattr("hub.loading.snapshot_download", download)
    with pytest.raises(SystemExit, match="me/model.*We couldn't connect."):
        run(app.main)
    assert asked == [("me/model", "v1")]


def test_start_with_a_cache_that_cannot_be_written_names_its_variable(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))

    def download(repo, **options):
        (tmp_path / "file" / "hub").mkdir()

    monkeypatch.setenv("AGEGENDER_MODEL", "me/model")
    monkeypatch.setattr("hub.loading.snapshot_download", download)
    with pytest.raises(SystemExit, match="me/model.*Not a directory: .*; set HF_HOME to a folder"):
        run(app.main)


def test_page_shows_no_results_of_other_weights(own_folder, tmp_path):
    """Those of this folder are not those of the tiny random model."""
    write_model(tmp_path)
    page = app.build_page(load_pipeline(str(tmp_path)))
    texts = [str(block.get_config().get("value")) for block in page.blocks.values()]
    assert any("There is no record of it beside these weights" in text for text in texts)


def test_page_names_itself(url):
    config = httpx2.get(f"{url}config").json()
    assert config["title"] == app.TITLE
    assert httpx2.get(f"{url}favicon.ico").content == (app.FOLDER / "assets" / "favicon.png").read_bytes()


def test_without_the_mcp_package_the_app_says_so_once(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "space.mcp_server", raising=False)
    monkeypatch.setitem(sys.modules, "mcp.server.fastmcp", None)  # its import is an ImportError now
    assert set(app.make_launch_options(None)["app_kwargs"]) == {"exception_handlers", "middleware"}
    assert capsys.readouterr().out.count(app.NO_MCP) == 1


def test_every_call_of_the_page_has_an_example(demo):
    for function in demo.fns.values():
        json.dumps([component.example_payload() for component in function.inputs])
