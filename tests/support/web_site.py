"""A site on the loopback network, and addresses of its photo in all the ways that people and servers write them."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote_to_bytes


try:
    import brotli
except ImportError:
    brotli = None

# What a visitor may paste. `{}` is the host with its port, which another function may have to spell in letters of Unicode.
SPELLINGS = [
    "http://{}/photo.jpg",
    "HTTP://{}/photo.jpg",
    "Http:\\\\{}\\photo.jpg",
    "http:/{}/photo.jpg",
    " \t\u00a0http://{}/photo.jpg\r\n",
    "http://{}/pho\n\tto.jpg",
    "<http://{}/photo.jpg>",
    '"http://{}/photo.jpg"',
    " 'http://{}/photo.jpg' ",
    "http://{}/photo.jpg#top of the page",
    "http://{}/f\u00f6t\u00f6 1.jpg",
    "http://{}/f%C3%B6t%c3%b6%201.jpg",
    "http://{}/\u0444\u043e\u0442\u043e.jpg",
    "http://{}/a+b.jpg",
    "http://{}/100%.jpg",
    "http://{}/search?q=gr\u00fcn und blau&size=\u0444",
    "http://{}/moved-relative",
    "http://{}/moved-latin",
    "http://{}/moved-utf8",
    "http://{}/moved-upper",
]
PATHS = {
    b"/photo.jpg",
    "/f\u00f6t\u00f6 1.jpg".encode(),
    b"/f\xf6t\xf6.jpg",  # of a server that names files in Latin-1
    "/\u0444\u043e\u0442\u043e.jpg".encode(),
    b"/a+b.jpg",
    b"/100%.jpg",
    "/search?q=gr\u00fcn und blau&size=\u0444".encode(),
}
MOVED = {
    "/moved-relative": b"f%C3%B6t%C3%B6 1.jpg",
    "/moved-latin": b"/f\xf6t\xf6.jpg",
    "/moved-utf8": "/\u0444\u043e\u0442\u043e.jpg".encode(),
    "/moved-upper": b" HTTP://%s/photo.jpg ",
}
HOSTS = {
    "b\u00fccher.example": "xn--bcher-kva.example",
    "B\u00dcCHER.Example": "xn--bcher-kva.example",
    "b%C3%BCcher.example": "xn--bcher-kva.example",
    "\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444": "xn--e1afmkfd.xn--p1ai",
    "stra\u00dfe.example": "xn--strae-oqa.example",
    "\u65e5\u672c\u8a9e\u3002example": "xn--wgv71a119e.example",
    "\u2603.example": "xn--n3h.example",
}
NO_HOSTS = ["a b.example", "a%2Fb.example", "a%40b.example", "a.example:99999", "a.example:x", "[::1", "%00"]


def deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


PACKERS = {
    "gzip": gzip.compress,
    "GZIP": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": deflate,
    "deflate, gzip": lambda content: gzip.compress(zlib.compress(content)),
    "identity": bytes,
    "utf-8": bytes,  # no compression; browsers ignore it
    **({"br": brotli.compress} if brotli else {}),
}


class Handler(BaseHTTPRequestHandler):
    """Answers the paths of `PATHS` with the site's photo, packed as the header `packing` of the site says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        site = self.server
        site.requests.append((self.path, dict(self.headers)))
        if self.path in MOVED:
            self.answer(302, {"Location": MOVED[self.path].replace(b"%s", self.headers["Host"].encode())}, b"")
        elif self.path == "/elsewhere":
            self.answer(302, {"Location": b"file:///etc/hostname"}, b"")
        elif self.path == "/cut-off":
            self.answer(200, {"Content-Length": b"999999"}, site.photo[:100])
            self.close_connection = True
        elif self.path == "/chunks":
            self.answer(
                200, {"Transfer-Encoding": b"chunked"}, b"%x\r\n%s\r\n0\r\n\r\n" % (len(site.photo), site.photo)
            )
        elif self.path == "/empty":
            self.answer(200, {}, b"")
        elif "User-Agent" not in self.headers or "python" in self.headers["User-Agent"].lower():
            self.answer(403, {}, b"Please name yourself.")
        elif unquote_to_bytes(self.path) in PATHS:
            packed = {"Content-Encoding": site.packing.encode()} if site.packing else {}
            self.answer(200, packed | {"Content-Type": b"text/html"}, PACKERS.get(site.packing, bytes)(site.photo))
        else:
            self.answer(404, {}, b"Not here.")

    def answer(self, status: int, headers: dict[str, bytes], body: bytes):
        if not {"Content-Length", "Transfer-Encoding"} & headers.keys():
            headers = headers | {"Content-Length": str(len(body)).encode()}
        head = b"".join(b"%s: %s\r\n" % (name.encode(), value) for name, value in headers.items())
        self.wfile.write(b"HTTP/1.1 %d X\r\n%s\r\n%s" % (status, head, body))

    def log_message(self, *args):
        pass


def renew(site: ThreadingHTTPServer, host: str) -> ThreadingHTTPServer:
    """Forgets what a test has asked for and set, and sets the host that the next one asks."""
    site.packing, site.host = "", f"{host}:{site.server_port}"
    site.requests.clear()
    return site


@contextmanager
def run_site(photo: bytes) -> Iterator[ThreadingHTTPServer]:
    """Runs a site that answers with `photo` on all addresses of 127/8."""
    with ThreadingHTTPServer(("0.0.0.0", 0), Handler) as site:
        site.photo, site.packing, site.requests = photo, "", []
        Thread(target=site.serve_forever, args=(0.01,), daemon=True).start()
        yield site
        site.shutdown()
