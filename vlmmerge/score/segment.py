"""Text to words: MeCab or Sudachi with a pinned dictionary, or characters; one tagger a process.

Knows segmenters. Knows no metric. The segmenter is part of every score that uses it: its name and its packages'
versions are in the signature, and nothing is put in its place where it is missing. On one and the same 1000 captions
CIDEr-D is .486 with unidic-lite or ipadic, .480, .465 and .455 with Sudachi's modes A, B and C, .601 with characters.
"""

import importlib
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from importlib import metadata

from fugashi import GenericTagger

from vlmmerge.errors import ScoreError

DEFAULT_SEGMENTER = "unidic-lite"

# Longer text is segmented in pieces: Sudachi takes 49149 bytes at most, and MeCab crashes at some 300 000 letters.
MAX_CHARACTERS = 12_000


@dataclass(frozen=True)
class Segmenter:
    """What makes words of text.

    Attributes:
        split: Words of a text of at most `MAX_CHARACTERS`, without white space in them.
        signature: Name and versions.
    """

    split: Callable[[str], list[str]]
    signature: str


@lru_cache(maxsize=2**16)  # candidates of one search give many answers more than once
def words(text: str, segmenter: str = DEFAULT_SEGMENTER) -> tuple[str, ...]:
    """Segment a text into words; white space ends a word and is dropped.

    Args:
        text: Any text, normalised or not; NUL and lone surrogates, which taggers cannot read, become `?` and a space.
        segmenter: A key of `SEGMENTERS`.

    Raises:
        ScoreError: The segmenter is unknown or not installed.

    >>> words("白い犬が走っている。")
    ('白い', '犬', 'が', '走っ', 'て', 'いる', '。')
    """
    split, text = _load(segmenter).split, readable(text)
    pieces = (text[start : start + MAX_CHARACTERS] for start in range(0, len(text), MAX_CHARACTERS))
    return tuple(word for piece in pieces for word in split(piece))


@lru_cache(maxsize=2**16)
def content_words(text: str, segmenter: str = DEFAULT_SEGMENTER) -> tuple[str, ...]:
    """Segment after NFKC and drop punctuation.

    >>> content_words("犬が、走る。")
    ('犬', 'が', '走る')
    """
    return tuple(word for word in words(unicodedata.normalize("NFKC", text), segmenter) if not is_punctuation(word))


@lru_cache(maxsize=2**14)
def is_punctuation(word: str) -> bool:
    """True for one punctuation character, or one repeated (`...`); ・ joins the parts of a name and is a word.

    >>> [is_punctuation(word) for word in ("。", "...", "・", "犬")]
    [True, True, False, False]
    """
    return word != "・" and unicodedata.category(word[0])[0] == "P" and word == word[0] * len(word)


def readable(text: str) -> str:
    """Replace what C libraries cannot take in a string: a lone surrogate by `?`, NUL by a space."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", " ")


def segmenter_name(segmenter: str) -> str:
    """Name and versions of the segmenter, for signatures.

    Raises:
        ScoreError: The segmenter is unknown or not installed.

    >>> segmenter_name("unidic-lite").startswith("unidic-lite-")
    True
    """
    return _load(segmenter).signature


@cache
def _load(segmenter: str) -> Segmenter:
    if segmenter not in SEGMENTERS:
        raise ScoreError(f"unknown segmenter `{segmenter}`", hint=f"known: {', '.join(SEGMENTERS)}")
    load, packages = SEGMENTERS[segmenter]
    try:
        return load()
    except ModuleNotFoundError as error:
        raise ScoreError(f"the segmenter `{segmenter}` is not installed", hint=f"pip install {packages}") from error


def _mecab(package: str) -> Segmenter:
    folder = importlib.import_module(package.replace("-", "_")).DICDIR
    # fugashi's own choice would be `unidic` wherever somebody has installed it, and the scores would move.
    tagger = GenericTagger(f'-Owakati -d "{folder}" -r "{folder}/mecabrc"')
    return Segmenter(lambda text: tagger.parse(text).split(), f"{package}-{metadata.version(package)}")


def _sudachi(mode: str) -> Segmenter:
    sudachipy = importlib.import_module("sudachipy")
    importlib.import_module("sudachidict_core")  # Sudachi's own error would not be ModuleNotFoundError
    tokenize = sudachipy.Dictionary(dict="core").tokenizer(mode=mode).tokenize
    versions = f"{metadata.version('sudachipy')}-core-{metadata.version('sudachidict_core')}"

    def split(text: str) -> list[str]:
        return [word for morpheme in tokenize(text) for word in morpheme.surface().split()]

    return Segmenter(split, f"sudachi-{mode.lower()}-{versions}")


def _characters() -> Segmenter:
    return Segmenter(lambda text: list("".join(text.split())), "characters")


# Each segmenter with the packages that it needs. `sudachi` is mode C, as in its own command: whole names are words.
SEGMENTERS: dict[str, tuple[Callable[[], Segmenter], str]] = {
    "unidic-lite": (partial(_mecab, "unidic-lite"), "unidic-lite"),
    "ipadic": (partial(_mecab, "ipadic"), "ipadic"),
    "sudachi": (partial(_sudachi, "C"), "sudachipy sudachidict_core"),
    "sudachi-a": (partial(_sudachi, "A"), "sudachipy sudachidict_core"),
    "sudachi-b": (partial(_sudachi, "B"), "sudachipy sudachidict_core"),
    "sudachi-c": (partial(_sudachi, "C"), "sudachipy sudachidict_core"),
    "characters": (_characters, ""),
}
