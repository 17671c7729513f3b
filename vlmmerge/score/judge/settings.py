"""Who judges: the endpoint, the model, the name of the variable that holds the key, and how patiently it is asked.

Knows what may be written. Does not know how it is asked, and never holds the key itself.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from vlmmerge.errors import ScoreError


@dataclass(frozen=True)
class Judge:
    """A judge's settings. Url, model and `sends_images` move scores and stand in signatures; the others do not.

    Attributes:
        url: The endpoint without its last part, such as `https://api.openai.com/v1`; `/chat/completions` is added.
        model: The model's name there.
        sends_images: Whether the judge sees the pictures too; it must be able to.
        api_key_variable: The environment variable that holds the key; unset where none is needed.
        concurrency: How many requests are under way at once.
        max_retries: How often a request is sent again after 429, a server's error or silence.
        patience: Seconds without a word from the server before a try is given up.
        first_wait: Seconds before the first retry; each further one waits twice as long.
        cache: The folder in which replies are kept; None for the user's cache folder.

    Raises:
        ScoreError: A setting makes no sense.
    """

    url: str
    model: str
    sends_images: bool = False
    api_key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 8  # hosted services let this much through; a server of one's own fills its batches
    max_retries: int = 6  # with waits that double from a second: a minute in all, the span of most rate limits
    patience: float = 120.0  # large models think
    first_wait: float = 1.0
    cache: Path | None = None

    def __post_init__(self) -> None:
        if "@" in self.url:
            hint = f"put the key into the environment variable {self.api_key_variable}"
            raise ScoreError("the judge's url holds a login, which would be written down", hint=hint)
        if not is_endpoint(self.url):
            hint = "such as https://api.openai.com/v1 or http://localhost:8000/v1"
            raise ScoreError(f"the judge's url is no endpoint: {self.url}", hint=hint)
        if not self.model or self.concurrency < 1 or self.max_retries < 0 or self.patience <= 0:
            raise ScoreError(
                "the judge needs a model's name, a concurrency of at least 1, no fewer than 0 retries, and patience"
            )

    @property
    def endpoint(self) -> str:
        """Where requests go."""
        return self.url.rstrip("/") + "/chat/completions"

    @property
    def host(self) -> str:
        """Host and port, for messages and signatures."""
        return urlsplit(self.url).netloc

    @property
    def cache_folder(self) -> Path:
        """Where replies are kept."""
        of_user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        return self.cache or of_user / "vlmmerge" / "judge"

    @property
    def key(self) -> str:
        """The key from the environment; empty where there is none.

        Raises:
            ScoreError: It cannot be a key, such as one with a line break within.
        """
        key = os.environ.get(self.api_key_variable, "").strip()
        if not all("!" <= character <= "~" for character in key):
            hint = "set it again, to the key alone"
            raise ScoreError(f"what {self.api_key_variable} holds cannot be a key: not all is plain ASCII", hint=hint)
        return key


def is_endpoint(url: str) -> bool:
    """Whether a url can be where chat completions are asked for.

    >>> [is_endpoint(url) for url in ("http://localhost:8000/v1", "localhost:8000", "http://host:x", "file:///etc")]
    [True, False, False, False]
    """
    try:
        split = urlsplit(url)
        has_host = bool(split.hostname) and (split.port is None or split.port > 0)
    except ValueError:
        return False
    is_plain = url.isprintable() and " " not in url and not split.query and not split.fragment
    return split.scheme in ("http", "https") and has_host and is_plain
