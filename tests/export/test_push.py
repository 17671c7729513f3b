"""push.py: an export goes to the hub in one commit, by the hub's own client against an endpoint on this machine."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vlmmerge.errors import RunError
from vlmmerge.export.push import check_hub_id

if TYPE_CHECKING:
    from conftest import Cli, WholeRun

FIXED = "blend.ratios={vlm: {weight: 0.9, density: 0.6}, ja: {weight: 1.1, density: 0.5}}"


class Hub(ThreadingHTTPServer):
    """As much of the hub as an upload needs; it keeps what it is sent."""

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.token = token
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def reply(self, status: int, answer: object = None) -> None:
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_PUT(self) -> None:
        self.server.blobs[self.path.removeprefix("/blob/")] = self.body()
        self.reply(200)

    def do_POST(self) -> None:
        body = self.body()
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self.reply(401, {"error": "Invalid credentials in Authorization header"})
        elif self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self.reply(200, {"url": f"{self.server.address}/me/merge", "id": "me/merge"})
        elif self.path == "/api/validate-yaml":
            self.reply(200, {"errors": [], "warnings": []})
        elif self.path == "/api/models/me/merge/preupload/main":
            modes = {True: "lfs", False: "regular"}
            asked = [file["path"] for file in json.loads(body)["files"]]
            files = [
                {"path": path, "uploadMode": modes[path.endswith(".safetensors")], "shouldIgnore": False, "oid": None}
                for path in asked
            ]
            self.reply(200, {"files": files})
        elif self.path == "/me/merge.git/info/lfs/objects/batch":
            objects = [
                each | {"actions": {"upload": {"href": f"{self.server.address}/blob/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            self.reply(200, {"transfer": "basic", "objects": objects})
        elif self.path == "/api/models/me/merge/commit/main":
            self.commit([json.loads(line) for line in body.splitlines()])
        else:
            self.reply(404, {"error": f"{self.path} is no part of this hub"})

    def commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            if line["key"] == "file":
                self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                self.server.files[line["value"]["path"]] = self.server.blobs[line["value"]["oid"]]
        address = f"{self.server.address}/me/merge/commit/0123456789abcdef"
        self.reply(200, {"commitOid": "0123456789abcdef", "commitUrl": address})


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub(token="hf_secret")
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    yield hub
    hub.shutdown()
    hub.server_close()


def run_against(hub: Hub, token: str, home: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """The command in a new process, for the hub's client reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": hub.address, "HF_TOKEN": token, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "vlmmerge.cli", *map(str, arguments)]
    return subprocess.run(command, env=os.environ | settings, text=True, capture_output=True, check=False)


def test_every_file_arrives_and_the_card_names_the_model(hub: Hub, parents: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run_against(
        hub, hub.token, tmp_path / "home", "blend", parents / "recipe.yaml", "--set", FIXED, "--out", out,
        "--push", "me/merge", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pushed"] == f"{hub.address}/me/merge/commit/0123456789abcdef"
    assert [(each["name"], each["visibility"]) for each in hub.created] == [("merge", "private")]
    local = {path.name: path.read_bytes() for path in out.iterdir()}
    card = local.pop("README.md").replace(b'"PATH"', b'"me/merge"')
    assert hub.files.pop("README.md") == card and b'from_pretrained("me/merge"' in card
    assert hub.files == local


def test_without_a_token_the_folder_stays_and_the_hint_says_how_to_log_in(
    hub: Hub, parents: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run_against(
        hub, "hf_wrong", tmp_path / "home", "blend", parents / "recipe.yaml", "--set", FIXED, "--out", out,
        "--push", "me/merge",
    )  # fmt: skip
    assert done.returncode == 1 and hub.files == {}
    assert f"error: me/merge was not uploaded; {out} is whole\n" in done.stderr
    assert "Invalid credentials" in done.stderr or "401" in done.stderr
    assert "hint: run `hf auth login` with a token that may write, and the same command again" in done.stderr
    assert (out / "model.safetensors").exists()


def test_a_name_that_is_none_is_told_before_anything_is_written(cli: "Cli", parents: Path, tmp_path: Path) -> None:
    arguments = ("--set", FIXED, "--out", tmp_path / "out", "--push", "not/a/name")
    done = cli.run("blend", parents / "recipe.yaml", *arguments)
    assert done.status == 1 and not (tmp_path / "out").exists()
    assert done.err.startswith("error: not/a/name is no name for a model on the hub: ")
    with pytest.raises(RunError, match="hint: wanted ORGANISATION/NAME"):
        check_hub_id("a--b..")


def test_a_mergekit_file_is_not_pushed(cli: "Cli", whole_run: "WholeRun", tmp_path: Path) -> None:
    done = cli.run("export", whole_run.folder, "--mergekit", tmp_path / "best.yaml", "--push", "me/merge")
    assert (done.status, done.err) == (1, "error: --push uploads a Hugging Face folder\nhint: use it with --out\n")
