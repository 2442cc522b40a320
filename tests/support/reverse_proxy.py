"""A reverse proxy on the loopback network that shows a page below a path of another site."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import httpx2
import trustme
import uvicorn
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tests.support.processes import find_free_port


NOT_PASSED_ON = {"connection", "keep-alive", "transfer-encoding", "host"}


def make_proxy(target: str, prefix: str, strips: bool, headers: dict[str, str]):
    """
    Makes the ASGI app of a proxy, which answers any path that is not below the prefix with status 404.

    Args:
        target: The address of the page, without a slash at its end.
        prefix: The path below which the proxy shows it, percent-encoded.
        strips: Whether the proxy removes the prefix from the path that the page gets.
        headers: The headers that the page gets besides those of the browser.
    """
    client = httpx2.AsyncClient(timeout=None, trust_env=False)

    async def proxy(scope, receive, send):
        request, path = Request(scope, receive), scope["raw_path"].decode()
        if path != prefix and not path.startswith(f"{prefix}/"):
            await Response(status_code=404)(scope, receive, send)
            return
        path = path.removeprefix(prefix) or "/" if strips else path
        query = f"?{scope['query_string'].decode()}" if scope["query_string"] else ""
        passed_on = [(name, value) for name, value in request.headers.items() if name not in NOT_PASSED_ON]
        forwarded = client.build_request(
            request.method,
            target + path + query,
            headers=passed_on + list(headers.items()),
            content=await request.body(),
        )
        answer = await client.send(forwarded, stream=True)
        response = StreamingResponse(answer.aiter_raw(), answer.status_code)
        response.raw_headers = [pair for pair in answer.headers.raw if pair[0].lower().decode() not in NOT_PASSED_ON]
        try:
            await response(scope, receive, send)
        finally:
            await answer.aclose()

    return proxy


@contextmanager
def run_proxy(
    target: str,
    prefix: str,
    strips: bool,
    port: int | None = None,
    certificate: trustme.LeafCert | None = None,
    names_itself: bool = True,
) -> Iterator[str]:
    """
    Runs a proxy in a thread, with https if it has a certificate; yields the address of the page behind it.

    Args:
        names_itself: Whether the page gets the scheme, the host and the port that a browser sees.
    """

    def make_context(config: uvicorn.Config, make_default) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context

    port, scheme = port or find_free_port(), "https" if certificate else "http"
    headers = {"Host": f"127.0.0.1:{port}", "X-Forwarded-Host": f"127.0.0.1:{port}", "X-Forwarded-Proto": scheme}
    app = make_proxy(target.rstrip("/"), prefix, strips, headers if names_itself else {})
    options = {"ssl_context_factory": make_context} if certificate else {}
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", lifespan="off", **options))
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.02)
    try:
        yield f"{scheme}://127.0.0.1:{port}{prefix}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
