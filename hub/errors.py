"""Words errors in one sentence: those of the Hugging Face Hub, and those that end a program."""

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import constants
from huggingface_hub.errors import (
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)


REASONS = {
    401: "you are not logged in to the Hub or your token is invalid; run `hf auth login`",
    403: "your token has no write access to it; run `hf auth login` with a token that has",
    404: "the Hub has no such repo, or your token has no access to it",
    429: "the Hub has received too many requests; wait some minutes",
}
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
DISK_ERRORS = FULL_DISK | {errno.EROFS, errno.EACCES, errno.EPERM}
# Variables that say where libraries write.
CACHES = ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_MODULES_CACHE", "HF_ASSETS_CACHE", "HF_XET_CACHE")
# Connection errors are not an OSError, and a failed upload of a large file is a RuntimeError.
HUB_ERRORS = (OSError, HTTPError, RuntimeError)


def find_cause(error: BaseException) -> BaseException | None:
    """Returns the error of the Hub, of the connection or of the disk that led to `error`, or None."""
    while error is not None:
        if isinstance(error, HTTPError) or (isinstance(error, OSError) and error.errno in DISK_ERRORS):
            return error
        error = error.__cause__ or error.__context__
    return None


def explain(error: BaseException) -> str:
    """Returns the reason of an error in one line, without a full stop."""
    # Libraries raise their own errors from these, with less information.
    cause = find_cause(error) or error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(cause, RevisionNotFoundError):
        return "the repo has no such branch, tag or commit"
    if isinstance(cause, RepositoryNotFoundError):
        status = 404  # the Hub answers 401 without a login
    if isinstance(cause, LocalTokenNotFoundError):
        status = 401  # raised by the client without a request
    if status in REASONS:
        return REASONS[status]
    if status and status >= 500:
        return f"the Hub has an internal error ({status}); try again later"
    if isinstance(cause, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE=1 disables requests to the Hub"
    if isinstance(cause, HTTPError) and status is None:
        return f"the connection to the Hub failed ({str(cause) or type(cause).__name__})"
    if isinstance(cause, OSError) and cause.errno in FULL_DISK:
        return f"the disk is full ({os.strerror(cause.errno)}){find_remedy(cause)}"
    if isinstance(cause, OSError) and cause.filename and cause.strerror:
        return f"{cause.strerror}: {os.fsdecode(cause.filename)}{find_remedy(cause)}"
    return str(cause).strip().partition("\n")[0].removesuffix(".")


def find_remedy(error: OSError) -> str:
    """Returns what to change if a file cannot be written: the variable of a library's cache, or another folder."""
    if error.errno != errno.ENOENT and isinstance(error.filename, str):
        file = Path(error.filename)
        for name in CACHES:
            folder = Path(os.environ.get(name) or (constants.HF_HOME if name == "HF_HOME" else os.devnull))
            if file.is_relative_to(folder) or folder.is_relative_to(file):
                return f"; set {name} to a folder that can be written to"
    return "; choose a folder that can be written to" if error.errno == errno.EROFS else ""


@contextmanager
def plain_errors(sentence: str, advice: str = "", errors: tuple = HUB_ERRORS) -> Iterator[None]:
    """Turns `errors` into a ValueError with the sentence, the reason and the advice."""
    try:
        yield
    except errors as error:
        raise ValueError(f"{sentence}: {explain(error)}. {advice}".strip()) from error


def run(main: Callable[[], None]):
    """
    Calls a program's `main` and prints an error that the user can fix as one sentence, after the program's name.

    Raises:
        SystemExit: with status 1, on a `ValueError`, `OSError` or `ImportError`, and on Ctrl-C.
    """
    program = Path(sys.argv[0]).name  # as argparse names it
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A console may lack characters, as that of Windows lacks “≤”. They must not end a program.
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
    except (ValueError, ImportError) as error:
        raise SystemExit(f"{program}: error: {error}") from error
    except OSError as error:
        raise SystemExit(f"{program}: error: {explain(error)}.") from error
    except KeyboardInterrupt:
        raise SystemExit(f"{program}: interrupted") from None
