"""Corrects what Gradio 6.31 sends: the preview that other sites show of a link to the page, and its commands for bash."""

import re
from html import escape
from pathlib import Path
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import FileResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from space.reverse_proxy import find_root_path, rewrite
from space.theme import PAGE_DESCRIPTION, TITLE


PICTURE = Path(__file__).resolve().parents[1] / "assets" / "app.png"
PICTURE_PATH = "/preview.png"
CHARSET = b'<meta charset="utf-8" />'
GRADIO_PREVIEW = re.compile(rb'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>')
# In bash each part of a pipe has its own variables, so that the second command knows no EVENT_ID.
READ_EVENT = re.compile(rb'\| read EVENT_ID; (curl -N [^"\\]+EVENT_ID)')


class PageSource:
    """ASGI middleware that corrects the page and the description of its endpoints, and serves the picture of the preview."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        if path == PICTURE_PATH:
            return await FileResponse(PICTURE)(scope, receive, send)
        if path == "":
            preview = make_preview(find_own_address(scope)).encode()
            send = rewrite(send, lambda body: GRADIO_PREVIEW.sub(b"", body).replace(CHARSET, CHARSET + preview, 1))
        if path in ("", "/gradio_api/info"):
            send = rewrite(send, lambda body: READ_EVENT.sub(rb"| { read EVENT_ID; \1; }", body))
        await self.app(scope, receive, send)


def find_own_address(scope: Scope) -> str:
    """Returns the address of the page as its visitors see it, without a slash at the end."""
    root, headers = find_root_path(), Headers(scope=scope)
    if root.startswith("http"):
        return root
    scheme = headers.get("x-forwarded-proto", scope["scheme"]).split(",")[0].strip()
    return f"{scheme}://{headers.get('x-forwarded-host', headers.get('host', ''))}{quote(root)}"


def make_preview(address: str) -> str:
    """Returns the elements that programs read for a preview; they need absolute addresses, and run no scripts."""
    values = {"type": "website", "url": f"{address}/", "title": TITLE, "description": PAGE_DESCRIPTION}
    values["image"] = f"{address}{PICTURE_PATH}"
    tags = [f'<meta property="og:{name}" content="{escape(value)}">' for name, value in values.items()]
    tags.append('<meta name="twitter:card" content="summary_large_image">')
    tags.append(f'<meta name="description" content="{escape(PAGE_DESCRIPTION)}">')
    return "\n".join(tags)
