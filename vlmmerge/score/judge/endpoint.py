"""One request to an OpenAI-compatible endpoint: sent, sent again where that can help, and read.

Knows HTTP and the form of chat completions. Does not know what is asked. The key travels in a header only: it is in no
message, whatever a server says, and goes to no other host, for redirections are not followed.
"""

import http.client
import json
import math
import socket
import ssl
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from vlmmerge.errors import ScoreError
from vlmmerge.score.judge.settings import Judge

LONGEST_BACKOFF = 60.0  # seconds, where the server does not ask for more
LONGEST_WAIT = 600.0  # seconds; a server that asks for more is out of quota
LARGEST_REPLY = 2**24  # bytes
LONGEST_SHOWN = 300  # characters of a server's words
# How servers call a refusal to read the request, by their filters, where they make an error of it.
REFUSALS = ("content_filter", "content_policy")


class Endpoint:
    """A judge's endpoint, for any number of threads.

    Raises:
        ScoreError: The key cannot be one.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge, self._key = judge, judge.key
        self._stopped, self._fault = threading.Event(), ScoreError("the judge was asked no further")
        self._opener = urllib.request.build_opener(_NoRedirection)

    def stop(self) -> None:
        """Send nothing more; whoever waits for the next try gives up now."""
        self._stopped.set()

    def ask(self, body: bytes) -> str:
        """Send a request until it is answered. The first error ends the other threads' requests too.

        Args:
            body: A chat completion's request, as JSON.

        Returns:
            The text of the reply; empty where the judge refuses.

        Raises:
            ScoreError: The endpoint cannot be reached, does not let us in or does not know the request, or all tries
                failed.
        """
        try:
            return self._ask(body)
        except ScoreError as error:
            self._fault = self._fault if self._stopped.is_set() else error
            self.stop()
            raise self._fault from None

    def _ask(self, body: bytes) -> str:
        tries = self._judge.max_retries + 1
        for attempt in range(tries):
            try:
                return self._post(body)
            except _Passing as passing:
                fault = passing
            if attempt + 1 < tries:
                self._wait(attempt, fault)
        raise self._error(f"gave no answer in {tries} tries, last: {fault}", fault.words, LATER)

    def _wait(self, attempt: int, fault: "_Passing") -> None:
        """Wait before the next try, unless the judge is asked no further or would have us wait too long."""
        seconds = wait_seconds(attempt, fault.retry_after, self._judge.first_wait)
        if seconds > LONGEST_WAIT:
            raise self._error(f"asks to come back in {seconds:,.0f} s: {fault}", fault.words, LATER)
        self._stopped.wait(seconds)

    def _post(self, body: bytes) -> str:
        if self._stopped.is_set():
            raise self._fault
        headers = {"Content-Type": "application/json", "User-Agent": "vlmmerge"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self._judge.endpoint, body, headers)
        try:
            with self._opener.open(request, timeout=self._judge.patience) as response:
                raw = response.read(LARGEST_REPLY)
        except urllib.error.HTTPError as error:
            return self._refused(error)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreached(error) from None
        return _reply(raw, self._hide(raw))

    def _refused(self, error: urllib.error.HTTPError) -> str:
        """What to make of a status that is no success."""
        with error:
            try:
                words = self._hide(error.read(LARGEST_REPLY))
            except (OSError, http.client.HTTPException):
                words = ""
        if error.code in (408, 425, 429) or error.code >= 500:
            raise _Passing(f"HTTP {error.code}", words, error.headers.get("Retry-After"))
        if error.code == 400 and any(refusal in words for refusal in REFUSALS):
            return ""
        variable = self._judge.api_key_variable
        hints = {
            401: f"set {variable} to a key for {self._judge.host}; it is {'not accepted' if self._key else 'not set'}",
            403: f"the key in {variable} may not use this model" if self._key else f"set {variable}",
            404: f"check the url, which mostly ends with /v1, and the model's name, {self._judge.model}",
        }
        told = f"does not take the request: HTTP {error.code}"
        raise self._error(told, words, hints.get(error.code, "check the judge's url and model"))

    def _unreached(self, error: Exception) -> Exception:
        """What to make of a connection that failed: an error to raise."""
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)):
            hint = f"check the url, {self._judge.url}, and that the server runs"
            return self._error("cannot be reached", self._hide(str(reason).encode()), hint)
        silence = isinstance(reason, TimeoutError)
        return _Passing(f"silence for {self._judge.patience:g} s" if silence else f"{type(reason).__name__}")

    def _error(self, what: str, words: str, hint: str) -> ScoreError:
        return ScoreError(
            f"the judge at {self._judge.host} {what}", details=[words[:LONGEST_SHOWN]] if words else [], hint=hint
        )

    def _hide(self, raw: bytes) -> str:
        """A server's words on one line, without the key."""
        text = raw.decode("utf-8", "replace")
        text = text.replace(self._key, "(key)") if self._key else text
        return " ".join(text.split())


LATER = "run it again later: judgements that were given are kept"


class _Passing(Exception):
    """A fault that may be gone at the next try."""

    def __init__(self, what: str, words: str = "", retry_after: str | None = None) -> None:
        super().__init__(what)
        self.words, self.retry_after = words, retry_after


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        return None


def _reply(raw: bytes, words: str) -> str:
    """The text of a chat completion; empty for a refusal, which has none."""
    try:
        content = json.loads(raw)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _Passing("a reply that is no chat completion", words) from None
    return content if isinstance(content, str) else ""


def wait_seconds(attempt: int, retry_after: str | None, first: float) -> float:
    """How long to wait before a try: twice as long each time, and no shorter than the server asks.

    Args:
        attempt: How many tries failed before the last one.
        retry_after: The server's header, in seconds or as a date.
        first: Seconds before the first retry.

    >>> [wait_seconds(attempt, None, 1.0) for attempt in (0, 1, 2, 9)]
    [1.0, 2.0, 4.0, 60.0]
    >>> wait_seconds(0, "20", 1.0), wait_seconds(3, "2", 1.0)
    (20.0, 8.0)
    """
    return max(min(first * 2.0**attempt, LONGEST_BACKOFF), _asked(retry_after or ""))


def _asked(retry_after: str) -> float:
    try:
        seconds = float(retry_after)
        return seconds if math.isfinite(seconds) else 0.0
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    now = datetime.now(UTC)
    return (moment - (now if moment.tzinfo else now.replace(tzinfo=None))).total_seconds()
