"""Serves the page below a path of another site."""

import os
from urllib.parse import unquote, urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """
    ASGI middleware for a page behind a reverse proxy, below the path that `root_path` of `launch` or `GRADIO_ROOT_PATH` names.

    FastAPI puts that value into the scope as it was given. Routes, mounts and redirects need it without a host and without a
    slash at its end, and with it the path of each request, which lacks it if the proxy strips it.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send):
        if scope["type"] == "http" and (root := unquote(urlsplit(scope.get("root_path", "")).path).strip("/")):
            root, path = f"/{root}", scope["path"]
            is_stripped = path != root and not path.startswith(f"{root}/")
            scope = scope | {"root_path": root, "path": root + path if is_stripped else path}
        await self.app(scope, receive, send)


def find_root_path() -> str:
    """Returns `GRADIO_ROOT_PATH`, a path or an address, with a slash before a path and none at the end."""
    root = os.environ.get("GRADIO_ROOT_PATH", "").strip().rstrip("/")
    return root if not root or root.startswith(("/", "http://", "https://")) else f"/{root}"
