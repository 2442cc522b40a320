"""Repos on the Hugging Face Hub: made and written to, with one plain sentence for whatever goes wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

from httpx2 import HTTPError
from huggingface_hub import HfApi
from huggingface_hub.errors import OfflineModeIsEnabled


REASONS = {
    401: "there is no login that the Hub accepts (hf auth login makes one)",
    403: "the login has no right to write there (hf auth login takes another token, one that may write)",
    404: "the Hub knows no such repo, or does not show it to this login",
    429: "the Hub takes no more requests from here for now; wait some minutes",
}


def explain(error: Exception) -> str:
    """Why a request to the Hub failed, in words and on one line."""
    if isinstance(error, RuntimeError) and error.__cause__:
        error = error.__cause__  # huggingface_hub says which file it was uploading, but not what went wrong
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in REASONS:
        return REASONS[status]
    if status and status >= 500:
        return f"the Hub has an error of its own ({status}); try again later"
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE=1 keeps this process from the Hub"
    if isinstance(error, HTTPError) and status is None:
        return f"the connection to the Hub could not be made or broke ({str(error) or type(error).__name__})"
    return " ".join(str(error).split())


@contextmanager
def plain_errors(sentence: str, advice: str = "") -> Iterator[None]:
    """Turns what requests to the Hub raise into a ValueError: the sentence, the reason, and what to do now."""
    try:
        yield
    # Connection errors are no OSError, and a failed upload of a large file is a RuntimeError.
    except (OSError, HTTPError, RuntimeError) as error:
        raise ValueError(f"{sentence}: {explain(error)}. {advice}".strip()) from error


def create_repo(repo_id: str, private: bool = False, repo_type: str = "model") -> str:
    """
    Creates a repo where there is none yet, and makes sure that it can be written to.

    Args:
        repo_id: `name` or `user/name`.
        private: For nobody else to see. A repo that is there already stays as it is.
        repo_type: `model` or `dataset`.

    Returns:
        The full id `user/name`.

    Raises:
        ValueError: if there is no login or no right to write, if the Hub cannot be reached, or if the repo is to be private
            but is there already and public.
    """
    api = HfApi()
    with plain_errors(f"{repo_id} cannot be written to on the Hub"):
        # None leaves it to the settings of an organisation, which may make all repos private.
        repo_id = api.create_repo(repo_id, private=private or None, repo_type=repo_type, exist_ok=True).repo_id
        # Of a repo that exists, creating it again says nothing about the right to write.
        api.auth_check(repo_id, repo_type=repo_type, write=True)
        is_public = private and not api.repo_info(repo_id, repo_type=repo_type).private
    if is_public:
        raise ValueError(f"{repo_id} is on the Hub already and public: make it private in its settings first.")
    return repo_id
