"""A checkpoint's tokenizer: which row each token has, and how it cuts a text.

Opens a tokenizer.json with the `tokenizers` library, and anything else with transformers; never runs code that comes
with a checkpoint. Knows tokens and texts. Does not know tensors, nor other parents.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import tokenizers

from vlmmerge.errors import CheckpointError

# A folder that holds one of these has a tokenizer.
FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "spiece.model", "vocab.json", "vocab.txt")
TRIAL = "Ab 1, あ漢。\n"
# In characters. A token is a piece of a word, or a run of white space.
LONGEST_TOKEN = 10_000


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """An opened tokenizer.

    Args:
        rows: For each token, as the tokenizer spells it, its row in the embeddings; added tokens such as `<image>` too.
        added: The tokens that are no part of ordinary text: they are found literally, before a text is cut.
        cut: A text as tokens, with none put before or behind.
        decode: The text that some rows stand for.
    """

    rows: Mapping[str, int]
    added: frozenset[str]
    cut: Callable[[str], list[str]]
    decode: Callable[[list[int]], str]

    def readable(self, token: str) -> str:
        """The text of a token where it has one that can be shown, else its spelling (a byte of a character, ...)."""
        text = self.decode([self.rows[token]]).strip() if token in self.rows else ""
        return text if text and text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text else token


def has_tokenizer(folder: Path) -> bool:
    """Whether a checkpoint's folder holds a tokenizer of any kind."""
    return any((folder / each).exists() for each in FILES)


def open_tokenizers(folders: Mapping[str, Path]) -> dict[str, Tokenizer | None]:
    """Open the tokenizer of each checkpoint; None where there is none.

    Returns:
        For each name a tokenizer; where two tokenizer.json are the same, the same object.

    Raises:
        CheckpointError: A tokenizer cannot be opened, or has an absurd token.
    """
    opened: dict[bytes, Tokenizer] = {}
    found: dict[str, Tokenizer | None] = {}
    for name, folder in folders.items():
        file = folder / "tokenizer.json"
        try:
            if file.is_file():
                content = file.read_bytes()
                if content not in opened:
                    opened[content] = _of_library(tokenizers.Tokenizer.from_buffer(content))
                found[name] = opened[content]
            else:
                found[name] = _by_transformers(folder) if has_tokenizer(folder) else None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # whatever a file made the libraries stumble over; their panics are no Exception
            raise CheckpointError(
                f"{folder}: its tokenizer cannot be opened",
                details=[" ".join(str(error).split())[:200] or type(error).__name__],
                hint="save it anew with transformers' `save_pretrained`, which writes a tokenizer.json; "
                "or `--set blend.embeddings=vlm`, which needs none",
            ) from None
        if (tokenizer := found[name]) is not None:
            check_tokens(tokenizer.rows, folder)
    return found


def check_tokens(tokens: Mapping[str, int], where: Path) -> None:
    """Check that no token of a tokenizer is absurdly long.

    Raises:
        CheckpointError: One is.
    """
    longest = max(tokens, key=len, default="")
    if len(longest) > LONGEST_TOKEN:
        raise CheckpointError(
            f"{where}: token {tokens[longest]} of its tokenizer has {len(longest):,} characters, "
            f"wanted at most {LONGEST_TOKEN:,}",
            details=[f"it begins {longest[:40]!r}"],
            hint="fetch the checkpoint again, or take the tokenizer of another release of it",
        )


def _of_library(tokenizer: tokenizers.Tokenizer) -> Tokenizer:
    # A tokenizer.json may carry the settings of someone's training batches.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    added = frozenset(token.content for token in tokenizer.get_added_tokens_decoder().values())

    def cut(text: str) -> list[str]:
        return list(tokenizer.encode(text, add_special_tokens=False).tokens)

    def decode(rows: list[int]) -> str:
        return str(tokenizer.decode(rows, skip_special_tokens=False))

    decode(tokenizer.encode(TRIAL, add_special_tokens=False).ids)  # some files only fail when they are used
    return Tokenizer(tokenizer.get_vocab(with_added_tokens=True), added, cut, decode)


def _by_transformers(folder: Path) -> Tokenizer:
    """What has no tokenizer.json: a sentencepiece model, vocab.json with merges.txt, ..."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        return _of_library(backend)
    added = frozenset(token.content for token in tokenizer.added_tokens_decoder.values())
    return Tokenizer(tokenizer.get_vocab(), added, tokenizer.tokenize, lambda rows: str(tokenizer.decode(rows)))
