"""Many requests to a judge: each that was never answered is sent once, several at a time.

Knows requests, threads and the cache. Does not know what is asked.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.progress import track

from vlmmerge.score.judge.cache import Cache
from vlmmerge.score.judge.endpoint import Endpoint
from vlmmerge.score.judge.settings import Judge

# Fewer are soon done; and a search, which shows a bar of its own, mostly asks for fewer at a time.
MANY = 100

Content = str | Sequence[Mapping[str, object]]


def ask_all(judge: Judge, contents: Sequence[Content], label: str) -> list[str]:
    """Have a judge reply to messages, with a progress bar on stderr where there are many to ask.

    Args:
        judge: Whom to ask.
        contents: Each a user's message: a text, or parts with pictures among them.
        label: Shown before the bar.

    Returns:
        One reply a message, in their order; of messages that are alike one is sent.

    Raises:
        ScoreError: A request cannot be answered, or a reply cannot be kept. What was answered before is kept.
    """
    bodies = [_body(judge, content) for content in contents]
    keys = [_key(judge, body) for body in bodies]
    cache, wanted = Cache(judge.cache_folder), dict(zip(keys, bodies, strict=True))
    replies = {key: reply for key in wanted if (reply := cache.read(key)) is not None}
    missing = {key: body for key, body in wanted.items() if key not in replies}
    replies |= _ask_missing(judge, missing, cache, label)
    return [replies[key] for key in keys]


def _ask_missing(judge: Judge, missing: dict[str, bytes], cache: Cache, label: str) -> dict[str, str]:
    if not missing:
        return {}
    endpoint = Endpoint(judge)

    def ask(key: str) -> str:
        reply = endpoint.ask(missing[key])
        cache.write(key, reply)
        return reply

    threads = ThreadPoolExecutor(judge.concurrency)
    try:
        replies = threads.map(ask, missing)
        console = Console(stderr=True)
        is_silent = not console.is_terminal or len(missing) < MANY
        shown = track(replies, label, len(missing), transient=True, console=console, disable=is_silent)
        return dict(zip(missing, shown, strict=True))
    finally:  # after a fault nothing more is sent
        endpoint.stop()
        threads.shutdown(cancel_futures=True)


def _body(judge: Judge, content: Content) -> bytes:
    # No limit of tokens: its name differs between services and models, and the prompt asks for a few tokens only.
    request = {"model": judge.model, "temperature": 0, "messages": [{"role": "user", "content": content}]}
    return json.dumps(request).encode()


def _key(judge: Judge, body: bytes) -> str:
    """The checksum of where a request goes and all that it says; the key is no part of it."""
    return hashlib.sha256(judge.endpoint.encode() + b"\n" + body).hexdigest()
