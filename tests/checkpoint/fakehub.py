"""A hub of its own on this machine: the HTTP that huggingface_hub speaks, over folders; it counts what it serves.

Everything in huggingface_hub and above it is real. What the answers look like follows the public hub: commits, tags and
branches, X-Repo-Commit and ETag, large files with their sha256, ranges, gated and private repositories.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".gguf", ".parquet")  # what the hub keeps as large files
NAME = r"((?:datasets/)?[^/]+/[^/]+)"


@dataclass
class Repo:
    """A repository: for each commit a folder, for each branch or tag a commit."""

    commits: dict[str, Path]
    refs: dict[str, str]
    refusal: tuple[int, str] | None = None  # the status and X-Error-Code of whatever is asked
    is_gated: bool = False  # files are refused, the page is not


@dataclass
class FakeHub:
    """What it holds (data as `datasets/org/name`), and what it has served: (method, path, bytes of the answer)."""

    repos: dict[str, Repo] = field(default_factory=dict)
    served: list[tuple[str, str, int]] = field(default_factory=list)
    url: str = ""
    knows_ranges: bool = True

    def add(self, name: str, folder: Path, **settings: Any) -> str:
        """Publish a folder as the newest commit of a repository; returns the commit."""
        commit = hashlib.sha1(f"{name}{len(self.repos.get(name, Repo({}, {})).commits)}".encode()).hexdigest()
        repo = self.repos.setdefault(name, Repo({}, {}, **settings))
        repo.commits[commit] = folder
        repo.refs["main"] = commit
        return commit

    def num_bytes(self, suffix: str = "") -> int:
        """How many bytes of files with such a name were served."""
        return sum(number for _, path, number in self.served if path.endswith(suffix))


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path, query = unquote(urlsplit(self.path).path), parse_qs(urlsplit(self.path).query)
        if found := re.fullmatch(rf"/api/(?:models/)?{NAME}(?:/(revision|tree)/(.+))?", path):
            repo = self._repo(found[1])
            commit = self._commit(repo, found[3] or "main") if repo else None
            if repo and commit:
                entries = _entries(repo.commits[commit])
                self._send_json(entries if found[2] == "tree" else _info(found[1], commit, entries, "blobs" in query))
        elif found := re.fullmatch(rf"/{NAME}/resolve/([^/]+|refs/pr/\d+)/(.+)", path):
            repo = self._repo(found[1], is_file=True)
            commit = self._commit(repo, found[2]) if repo else None
            if repo and commit:
                self._send_file(repo.commits[commit] / found[3], commit)
        else:
            self._refuse(404, "NotFound")

    def _repo(self, name: str, is_file: bool = False) -> Repo | None:
        repo = self.hub.repos.get(name)
        refusal = (401, "RepoNotFound") if repo is None else repo.refusal
        if repo and repo.is_gated and is_file:
            refusal = (403, "GatedRepo")
        if refusal:
            self._refuse(*refusal)
            return None
        return repo

    def _commit(self, repo: Repo, revision: str) -> str | None:
        commit = repo.refs.get(revision, revision)
        if commit not in repo.commits:
            self._refuse(404, "RevisionNotFound")
            return None
        return commit

    def _send_file(self, file: Path, commit: str) -> None:
        if not file.is_file():
            self._refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
            return
        size = file.stat().st_size
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        etag = f'"{digest if file.suffix in LARGE else digest[:40]}"'
        headers = {"X-Repo-Commit": commit, "ETag": etag, "Accept-Ranges": "bytes"}
        if file.suffix in LARGE:
            headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(size)}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, end = 0, size
        if wanted and self.hub.knows_ranges and self.command == "GET":
            start, end = int(wanted[1]), min(int(wanted[2] or size - 1) + 1, size)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self._send(206 if "Content-Range" in headers else 200, file.read_bytes()[start:end], headers)

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        sent = 0
        if self.command == "GET":
            try:
                for start in range(0, len(content), 2**16):
                    sent += self.wfile.write(content[start : start + 2**16])
            except OSError:  # the client had enough
                self.close_connection = True
        self.hub.served.append((self.command, unquote(urlsplit(self.path).path), sent))


def _entries(folder: Path) -> list[dict[str, Any]]:
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        entry = {"type": "file", "path": str(file.relative_to(folder)), "size": len(content), "oid": digest[:40]}
        if file.suffix in LARGE:
            entry["lfs"] = {"oid": digest, "sha256": digest, "size": len(content), "pointerSize": 134}
        found.append(entry)
    return found


def _info(name: str, commit: str, entries: list[dict[str, Any]], has_blobs: bool) -> dict[str, Any]:
    siblings = [
        {"rfilename": entry["path"]}
        | ({"size": entry["size"], "blobId": entry["oid"], "lfs": entry.get("lfs")} if has_blobs else {})
        for entry in entries
    ]
    return {"id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": [], "private": False}
