"""
A Hub on 127.0.0.1 for tests, with files on disk. It implements the requests of huggingface_hub for uploads and downloads.

Repos are created, files uploaded (regular and LFS), committed, listed and downloaded at branches and commits over HTTP: the
real client runs unpatched with `HF_ENDPOINT` set to [`LoopbackHub.url`]. As on the Hub, large files are on another host
(`localhost` instead of 127.0.0.1), which accepts no tokens. Any request can be made to fail, see [`Fault`].
"""

import base64
import hashlib
import json
import re
import socket
import struct
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.hub_repos import Refusal, Repo


USER = "somebody"
WRITE_TOKEN, READ_TOKEN = "hf_write", "hf_read"
LFS_SUFFIXES = (".safetensors", ".png", ".jpg", ".parquet", ".bin")
REPO = r"/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)"
FILE = r"/(?P<kind>datasets/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
LFS_BATCH = r"/(?P<kind>datasets/)?(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch"


@dataclass
class Fault:
    """
    Makes requests fail.

    Attributes:
        pattern: Regular expression that is searched in `METHOD /path`.
        status: Status of the response; None closes the connection within the request's body.
        times: Number of requests that fail; None for all.
        skip: Number of requests that succeed first.
    """

    pattern: str
    status: int | None = None
    times: int | None = None
    skip: int = 0

    def meets(self, line: str) -> bool:
        if self.times == 0 or not re.search(self.pattern, line):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times = self.times and self.times - 1
        return True


class LoopbackHub:
    """
    The server, as a context manager or with `start` and `stop`. It keeps its address when it starts again.

    Attributes:
        url: Address for `HF_ENDPOINT`.
        tokens: Access of each token: write or read.
        faults: A list of [`Fault`].
        requests: Lines `METHOD /path` of all requests.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.tokens = {WRITE_TOKEN: "write", READ_TOKEN: "read"}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.lock = threading.Lock()
        self.port = 0
        (folder / "storage").mkdir(parents=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), type("Handler", (Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    @contextmanager
    def unreachable(self):
        """Stops the server within the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def __enter__(self) -> "LoopbackHub":
        self.start()
        return self

    def __exit__(self, *exception):
        self.stop()

    def repo(self, repo_id: str, kind: str = "models") -> Repo:
        return Repo(self.folder / kind / repo_id)

    def stored(self, oid: str) -> Path:
        """Returns the path of a file's content by its git or LFS id."""
        return self.folder / "storage" / oid

    def read_file(self, repo_id: str, path: str, kind: str = "models") -> bytes:
        return self.stored(self.repo(repo_id, kind).read()["files"][path]["oid"]).read_bytes()

    def add_files(self, repo_id: str, files: dict[str, bytes], title: str = "added on the Hub") -> str:
        """Commits files to a model repo, which is created if needed, without a client. Returns the commit id."""
        repo = self.repo(repo_id)
        if not repo.exists:
            repo.create(private=False)
        entries = repo.read()["files"]
        for path, data in files.items():
            oid = hashlib.sha256(data).hexdigest()
            self.stored(oid).write_bytes(data)
            entries[path] = {"oid": oid, "size": len(data), "lfs": path.endswith(LFS_SUFFIXES)}
        return repo.commit(entries, title, repo.resolve("main"))

    def find_fault(self, line: str) -> Fault | None:
        with self.lock:
            self.requests.append(line)
            return next((fault for fault in self.faults if fault.meets(line)), None)


class Handler(BaseHTTPRequestHandler):
    """Handles one connection; a subclass sets `hub`."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"
    # Method, pattern of the path, function and required access: none, a login, read or write.
    routes = [
        ("GET", r"/api/whoami-v2", "who_am_i", "login"),
        ("POST", r"/api/repos/create", "create_repo", "login"),
        ("POST", r"/api/validate-yaml", "validate_yaml", None),
        ("GET", REPO + r"(/revision/(?P<revision>[^/]+))?", "describe_repo", "read"),
        ("GET", REPO + r"/tree/(?P<revision>[^/]+)(/(?P<path>.+))?", "list_tree", "read"),
        ("POST", REPO + r"/paths-info/(?P<revision>[^/]+)", "describe_paths", "read"),
        ("GET", REPO + r"/refs", "list_refs", "read"),
        ("GET", REPO + r"/auth-check", "check_access", "read"),
        ("GET", REPO + r"/auth-check/write", "check_access", "write"),
        ("POST", REPO + r"/preupload/(?P<revision>[^/]+)", "choose_upload", "write"),
        ("POST", REPO + r"/commit/(?P<revision>[^/]+)", "commit", "write"),
        ("POST", LFS_BATCH, "offer_lfs", "write"),
        ("PUT", r"/storage/(?P<oid>[0-9a-f]+)", "store", None),
        ("POST", r"/storage/verify", "verify", "login"),
        ("GET", r"/storage/(?P<oid>[0-9a-f]+)", "send_stored", None),
        ("GET", FILE, "resolve_file", "read"),
    ]

    def handle_request(self):
        address = urlsplit(self.path)
        self.query, path = parse_qs(address.query), unquote(address.path)
        fault = self.hub.find_fault(f"{self.command} {self.path}")
        if fault and fault.status is None:
            return self.cut()
        self.body = self.read_body()
        try:
            if fault:
                raise Refusal(fault.status, "", f"a fault of the test: {fault.status}")
            # The path is not unquoted: some requests quote a revision or a file in a folder as one word.
            for method, pattern, function, right in self.routes:
                match = re.fullmatch(pattern, address.path)
                if match and method == self.command.replace("HEAD", "GET"):
                    parts = {key: unquote(value) for key, value in match.groupdict().items() if value}
                    if "repo" in parts:
                        self.kind = parts.pop("kind", "models").strip("/")
                        self.repo_id = parts.pop("repo")
                        self.repo = self.hub.repo(self.repo_id, self.kind)
                    self.check(right)
                    return getattr(self, function)(**parts)
            raise Refusal(404, "", f"{path} is not implemented")
        except Refusal as refusal:
            self.answer({"error": str(refusal)}, refusal.status, refusal.headers)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def log_message(self, *message):
        pass

    def read_body(self, limit: int | None = None) -> bytes:
        """Reads the request's body, whole or in chunks; with a limit only the first bytes."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(min(int(self.headers.get("Content-Length", 0)), limit or 1 << 40))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
            if limit and len(body) >= limit:
                return body
        self.rfile.readline()
        return body

    def cut(self):
        """Closes the connection after the first part of the body."""
        self.read_body(limit=100)
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.wfile = self.rfile = open("/dev/null", "r+b")  # the handler flushes and closes it

    def answer(self, content, status: int = 200, headers: dict | None = None):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        content_type = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        self.send_response(status)
        for name, value in ({"Content-Length": len(data), "Content-Type": content_type} | (headers or {})).items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def check(self, right: str | None):
        """Raises [`Refusal`] if the token, or none, does not allow the request."""
        if right is None:
            return
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens or right == "login" and not token:
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        if right == "login":
            return
        if not self.repo.exists or (self.repo.private and not token):
            raise Refusal(404 if token else 401, "RepoNotFound", "Repository not found")
        if right == "write":
            self.check_writing(self.repo_id)

    def check_writing(self, repo_id: str):
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.hub.tokens.get(token) != "write" or not repo_id.startswith(f"{USER}/"):
            raise Refusal(403, "", f"You don't have the rights to write to {repo_id}")

    def who_am_i(self):
        self.answer({"type": "user", "name": USER, "auth": {"type": "access_token"}, "orgs": []})

    def create_repo(self):
        values = json.loads(self.body)
        repo_id = f"{values.get('organization') or USER}/{values['name']}"
        kind = f"{values.get('type', 'model')}s"
        repo, url = (
            self.hub.repo(repo_id, kind),
            f"{self.hub.url}/{'datasets/' if kind == 'datasets' else ''}{repo_id}",
        )
        self.check_writing(repo_id)
        if repo.exists:
            return self.answer({"error": "You already created this repo", "url": url}, 409)
        repo.create(values.get("visibility") == "private")
        self.answer({"url": url, "name": repo_id})

    def validate_yaml(self):
        self.answer({"errors": [], "warnings": []})

    def check_access(self):
        self.answer({})

    def list_refs(self):
        branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": self.repo.resolve("main")}
        self.answer({"branches": [branch], "converts": [], "tags": []})

    def describe_repo(self, revision: str = "main"):
        self.answer(
            {
                "id": self.repo_id,
                "author": USER,
                "sha": self.repo.resolve(revision),
                "private": self.repo.private,
                "lastModified": "2026-01-01T00:00:00.000Z",
                "tags": [],
                "siblings": [{"rfilename": path} for path in self.repo.read(revision)["files"]],
            }
        )

    def describe_file(self, path: str, file: dict) -> dict:
        lfs = {"oid": file["oid"], "size": file["size"], "pointerSize": 134}
        return {"type": "file", "path": path, "size": file["size"], "oid": file["oid"]} | (
            {"lfs": lfs} if file["lfs"] else {}
        )

    def describe_folder(self, path: str) -> dict:
        return {"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0}

    def list_tree(self, revision: str, path: str = ""):
        files = self.repo.read(revision)["files"]
        prefix = f"{path}/" if path else ""
        inside = [name for name in files if name.startswith(prefix)]
        if path and not inside:
            raise Refusal(404, "EntryNotFound", f"{path} does not exist")
        folders = {str(parent) for name in inside for parent in Path(name).parents if str(parent) != "."}
        entries = [self.describe_folder(name) for name in sorted(folders) if name.startswith(prefix)]
        entries += [self.describe_file(name, files[name]) for name in inside]
        if self.query.get("recursive", ["false"])[0].lower() != "true":
            entries = [entry for entry in entries if "/" not in entry["path"].removeprefix(prefix)]
        self.answer(entries)

    def describe_paths(self, revision: str):
        files = self.repo.read(revision)["files"]
        if self.headers.get("Content-Type", "").startswith("application/json"):
            paths = json.loads(self.body)["paths"]
        else:
            paths = parse_qs(self.body.decode())["paths"]
        entries = [self.describe_file(path, files[path]) for path in paths if path in files]
        folders = [path for path in paths if any(name.startswith(f"{path}/") for name in files)]
        self.answer(entries + [self.describe_folder(path) for path in folders])

    def choose_upload(self, revision: str):
        files = self.repo.read(revision)["files"]
        self.answer(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular",
                        "shouldIgnore": False,
                        "oid": files.get(file["path"], {}).get("oid"),
                    }
                    for file in json.loads(self.body)["files"]
                ]
            }
        )

    def offer_lfs(self):
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            oid, entry = wanted["oid"], {"oid": wanted["oid"], "size": wanted["size"]}
            if not self.hub.stored(oid).exists():
                entry["actions"] = {
                    "upload": {"href": f"http://localhost:{self.hub.port}/storage/{oid}"},
                    "verify": {"href": f"{self.hub.url}/storage/verify"},
                }
            objects.append(entry)
        self.answer({"transfer": "basic", "objects": objects})

    def store(self, oid: str):
        if self.headers.get("Authorization"):
            raise Refusal(400, "", "A token was sent to a host that must not receive it")
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(400, "", f"The content is not that of {oid}")
        self.hub.stored(oid).write_bytes(self.body)
        self.answer({})

    def verify(self):
        wanted = json.loads(self.body)
        if self.hub.stored(wanted["oid"]).stat().st_size != wanted["size"]:
            raise Refusal(400, "", "The size differs")
        self.answer({})

    def commit(self, revision: str):
        lines = [json.loads(line) for line in self.body.splitlines()]
        with self.hub.lock:
            parent = self.repo.resolve(revision)
            files = self.repo.read(revision)["files"]
            for line in lines[1:]:
                value, path = line["value"], line["value"]["path"]
                if line["key"] == "file":
                    data = base64.b64decode(value["content"])
                    oid = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
                    self.hub.stored(oid).write_bytes(data)
                    files[path] = {"oid": oid, "size": len(data), "lfs": False}
                elif line["key"] == "lfsFile":
                    size = self.hub.stored(value["oid"]).stat().st_size
                    files[path] = {"oid": value["oid"], "size": size, "lfs": True}
                elif line["key"] == "deletedFile":
                    files.pop(path)
                elif line["key"] == "deletedFolder":
                    files = {name: file for name, file in files.items() if not name.startswith(path.rstrip("/") + "/")}
            commit_id = self.repo.commit(files, lines[0]["value"]["summary"], parent)
        prefix = "datasets/" if self.kind == "datasets" else ""
        self.answer({"commitUrl": f"{self.hub.url}/{prefix}{self.repo_id}/commit/{commit_id}", "commitOid": commit_id})

    def resolve_file(self, revision: str, path: str):
        commit_id = self.repo.resolve(revision)
        file = self.repo.read(revision)["files"].get(path)
        headers = {"X-Repo-Commit": commit_id}
        if file is None:
            raise Refusal(404, "EntryNotFound", f"{path} does not exist", headers)
        headers["ETag"] = f'"{file["oid"]}"'
        if not file["lfs"]:
            return self.send_stored(file["oid"], headers)
        headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": file["size"]}
        self.answer(b"", 302, headers | {"Location": f"http://localhost:{self.hub.port}/storage/{file['oid']}"})

    def send_stored(self, oid: str, headers: dict | None = None):
        data = self.hub.stored(oid).read_bytes()
        start = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not start:
            return self.answer(data, 200, headers)
        first, last = int(start[1]), int(start[2] or len(data) - 1)
        part = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        self.answer(data[first : last + 1], 206, (headers or {}) | part)
