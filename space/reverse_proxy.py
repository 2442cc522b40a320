"""Serves the page below a path of another site."""

import os
from collections.abc import Callable
from urllib.parse import quote, unquote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


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
            if path != root and not path.startswith(f"{root}/"):
                path = root + path
            scope = scope | {"root_path": root, "path": path}
            if path == f"{root}/":
                # With Gradio 6.31 relative links begin at the page itself. If the visitor's address lacks the slash at its end,
                # scripts would be asked for above the path, and a proxy that strips the path asks for the same page with and
                # without that slash. The link to the manifest is not relative and would leave the path.
                base = f'<base href="{quote(root)}/"'.encode()
                manifest = b'href="/manifest.json"', b'href="manifest.json"'
                send = rewrite(send, lambda body: body.replace(b'<base href="./"', base).replace(*manifest))
        await self.app(scope, receive, send)


def rewrite(send: Send, change: Callable[[bytes], bytes]) -> Send:
    """Returns a `send` that changes the body of an answer, which comes in one piece."""

    async def send_changed(message: Message):
        if message["type"] == "http.response.start":
            del MutableHeaders(scope=message)["content-length"]  # another length
        elif message["type"] == "http.response.body":
            message["body"] = change(message.get("body", b""))
        await send(message)

    return send_changed


def find_root_path() -> str:
    """Returns `GRADIO_ROOT_PATH`, a path or an address, with a slash before a path and none at the end."""
    root = os.environ.get("GRADIO_ROOT_PATH", "").strip().rstrip("/")
    return root if not root or root.startswith(("/", "http://", "https://")) else f"/{root}"
