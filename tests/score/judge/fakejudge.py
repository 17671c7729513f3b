"""An OpenAI-compatible endpoint of its own on this machine, which marks answers by how many characters they share.

Everything above HTTP is real. It keeps what it was asked, and can be told to fail in the ways that servers have.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What the server answers.

    Args:
        status: Of HTTP.
        body: As it is sent; a dict as JSON; None cuts the connection.
        headers: Beside the usual ones.
    """

    status: int = 200
    body: dict[str, Any] | str | None = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What it was sent."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """What the user's message says, pictures left out."""
        content = self.body["messages"][0]["content"]
        return content if isinstance(content, str) else content[0]["text"]

    @property
    def material(self) -> dict[str, Any]:
        """The JSON at the prompt's end: what is judged."""
        return json.loads(self.text[self.text.rindex("\n{\n") :])


@dataclass
class FakeJudge:
    """A judge and its server.

    Args:
        replies: What it answers first, in this order; after these it marks.
        mark: From a request to what its reply says.
        asked: Every request, in the order of arrival.
        most_at_once: The most requests that were under way at the same time.
    """

    replies: list[Reply] = field(default_factory=list)
    mark: Callable[[Request], str | None] = lambda request: mark_by_overlap(request)
    asked: list[Request] = field(default_factory=list)
    most_at_once: int = 0
    url: str = ""
    _under_way: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: Request) -> Reply:
        with self._lock:
            self.asked.append(request)
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            reply = self.replies.pop(0) if self.replies else None
        try:
            return reply or Reply(body=completion(self.mark(request)))
        finally:
            with self._lock:
                self._under_way -= 1


def completion(content: str | None) -> dict[str, Any]:
    """A chat completion that says a text, or refuses."""
    message = {"role": "assistant", "content": content, "refusal": None if content else "I cannot help with that."}
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [{"index": 0, "message": message}]}


def mark_by_overlap(request: Request) -> str:
    """1 for nothing in common with a reference, the best mark for the same text; the reference itself gets 8 of 10."""
    material = request.material
    if "references" in material:
        best = max(overlap(material["answer"], reference) for reference in material["references"])
        return json.dumps({"mark": 1 + round(4 * best)})
    return json.dumps({"answer_1": 8, "answer_2": 1 + round(7 * overlap(material["answer_2"], material["answer_1"]))})


def overlap(one: str, other: str) -> float:
    return len(set(one) & set(other)) / max(len(set(one) | set(other)), 1)


@contextmanager
def serving(judge: FakeJudge | None = None) -> Iterator[FakeJudge]:
    """Serve until the end of the block."""
    judge = judge or FakeJudge()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"judge": judge}))
    server.daemon_threads = True  # one that sleeps is not waited for
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    judge.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def silence(seconds: float = 5.0) -> Callable[[Request], str]:
    """A judge that says nothing for longer than it is waited for."""

    def wait(request: Request) -> str:
        time.sleep(seconds)
        return '{"mark": 5}'

    return wait


class _Handler(BaseHTTPRequestHandler):
    judge: FakeJudge

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.path, dict(self.headers), json.loads(sent or b"{}"))
        reply = self.judge.answer(request)
        if not re.fullmatch(r".*/chat/completions", self.path):
            reply = Reply(404, {"error": {"message": "no such path"}})
        if reply.body is None:
            self.connection.close()
            return
        body = reply.body.encode() if isinstance(reply.body, str) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):  # nobody waited
            self.wfile.write(body)
