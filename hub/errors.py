"""Plain sentences for what goes wrong between here and the Hugging Face Hub."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub.errors import (
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)


REASONS = {
    401: "there is no login that the Hub accepts (hf auth login makes one)",
    403: "the login has no right to write there (hf auth login takes another token, one that may write)",
    404: "the Hub knows no such repo, or does not show it to this login",
    429: "the Hub takes no more requests from here for now; wait some minutes",
}
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def find_cause(error: BaseException) -> BaseException | None:
    """What the Hub, the connection to it or a full disk raised, where an error comes from that; else None."""
    while error is not None:
        if isinstance(error, HTTPError) or (isinstance(error, OSError) and error.errno in FULL_DISK):
            return error
        error = error.__cause__ or error.__context__
    return None


def explain(error: Exception) -> str:
    """Why a request to the Hub failed, in words and on one line."""
    # Libraries raise errors of their own instead, which say less: which file it was, or that there is no model.
    cause = find_cause(error) or error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(cause, RevisionNotFoundError):
        return "the Hub knows no such branch, tag or commit of it"
    if isinstance(cause, RepositoryNotFoundError):
        status = 404  # 401 to whoever is not logged in
    if isinstance(cause, LocalTokenNotFoundError):
        status = 401  # which the client foresees without asking
    if status in REASONS:
        return REASONS[status]
    if status and status >= 500:
        return f"the Hub has an error of its own ({status}); try again later"
    if isinstance(cause, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE=1 keeps this process from the Hub"
    if isinstance(cause, HTTPError) and status is None:
        return f"the connection to the Hub could not be made or broke ({str(cause) or type(cause).__name__})"
    if isinstance(cause, OSError) and cause.errno in FULL_DISK:
        return f"there is no room left for a file ({os.strerror(cause.errno)})"
    return " ".join(str(cause).split())


@contextmanager
def plain_errors(sentence: str, advice: str = "") -> Iterator[None]:
    """Turns what requests to the Hub raise into a ValueError: the sentence, the reason, and what to do now."""
    try:
        yield
    # Connection errors are no OSError, and a failed upload of a large file is a RuntimeError.
    except (OSError, HTTPError, RuntimeError) as error:
        raise ValueError(f"{sentence}: {explain(error)}. {advice}".strip()) from error


def run(main: Callable[[], None]):
    """
    Calls a program's `main` and prints an error that the user can mend as one sentence, after the program's name.

    Raises:
        SystemExit: with status 1, on a `ValueError`, `OSError` or `ImportError` and when the user presses Ctrl-C.
    """
    program = Path(sys.argv[0]).name  # as argparse names it
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"{program}: error: {explain(error) if isinstance(error, OSError) else error}") from error
    except KeyboardInterrupt:
        raise SystemExit(f"{program}: interrupted") from None
