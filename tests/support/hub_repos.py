"""Repos of the loopback Hub as files on disk, and its error responses."""

import hashlib
import json
from pathlib import Path


class Refusal(Exception):
    """An error response: status, error code of the Hub, message and additional headers."""

    def __init__(self, status: int, code: str, message: str, headers: dict | None = None):
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": message, "Retry-After": "0"} | (headers or {})


class Repo:
    """A repo: commits as JSON files, each with the list of all files, and `main` with the id of the latest."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def exists(self) -> bool:
        return (self.folder / "main").is_file()

    @property
    def private(self) -> bool:
        return (self.folder / "private").is_file()

    def create(self, private: bool):
        (self.folder / "commits").mkdir(parents=True)
        if private:
            (self.folder / "private").touch()
        self.commit({}, "initial commit", parent=None)

    def commit(self, files: dict, title: str, parent: str | None) -> str:
        content = json.dumps({"files": files, "title": title, "parent": parent})
        commit_id = hashlib.sha1(content.encode()).hexdigest()
        (self.folder / "commits" / commit_id).write_text(content)
        (self.folder / "main").write_text(commit_id)
        return commit_id

    def resolve(self, revision: str) -> str:
        commit_id = (self.folder / "main").read_text() if revision == "main" else revision
        if not (self.folder / "commits" / commit_id).is_file():
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit_id

    def read(self, revision: str = "main") -> dict:
        """Reads a commit: title, parent and, by path, files with size, oid and whether they are LFS files."""
        return json.loads((self.folder / "commits" / self.resolve(revision)).read_text())

    def history(self) -> list[str]:
        """Returns the titles of the commits, latest first, without the initial one."""
        titles, commit = [], self.read()
        while commit["parent"]:
            titles.append(commit["title"])
            commit = self.read(commit["parent"])
        return titles
