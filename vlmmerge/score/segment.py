"""Text to words: MeCab with a pinned dictionary, one tagger a process.

Knows dictionaries. Knows no metric. The dictionary is part of every score that uses it, so it is named in the signature
and nothing is put in its place where it is missing.
"""

import importlib
from functools import cache, lru_cache
from importlib import metadata

from fugashi import GenericTagger

from vlmmerge.errors import ScoreError

DEFAULT_SEGMENTER = "unidic-lite"

# Each dictionary's module, which is named like its package on PyPI but for the hyphen.
DICTIONARIES = {"unidic-lite": "unidic_lite", "ipadic": "ipadic"}


@lru_cache(maxsize=2**16)  # candidates of one search give many answers more than once
def words(text: str, dictionary: str = DEFAULT_SEGMENTER) -> tuple[str, ...]:
    """Segment a text into words; white space ends a word and is dropped.

    Args:
        text: Any text, normalised or not; NUL and lone surrogates, which MeCab cannot read, become `?` and a space.
        dictionary: A key of `DICTIONARIES`.

    Raises:
        ScoreError: The dictionary is unknown or not installed.

    >>> words("白い犬が走っている。")
    ('白い', '犬', 'が', '走っ', 'て', 'いる', '。')
    """
    return tuple(_tagger(dictionary).parse(readable(text)).split())


def readable(text: str) -> str:
    """Replace what C libraries cannot take in a string: a lone surrogate by `?`, NUL by a space."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", " ")


def segmenter_name(dictionary: str) -> str:
    """Name and version of the dictionary, for signatures.

    Raises:
        ScoreError: The dictionary is unknown or not installed.

    >>> segmenter_name("unidic-lite").startswith("unidic-lite-")
    True
    """
    _tagger(dictionary)
    return f"{dictionary}-{metadata.version(dictionary)}"


@cache
def _tagger(dictionary: str) -> GenericTagger:
    if dictionary not in DICTIONARIES:
        raise ScoreError(f"unknown dictionary `{dictionary}`", hint=f"known: {', '.join(DICTIONARIES)}")
    try:
        folder = importlib.import_module(DICTIONARIES[dictionary]).DICDIR
    except ModuleNotFoundError as error:
        hint = f"pip install {dictionary}"
        raise ScoreError(f"the dictionary `{dictionary}` is not installed", hint=hint) from error
    # fugashi's own choice would be `unidic` wherever somebody has installed it, and the scores would move.
    return GenericTagger(f'-Owakati -d "{folder}" -r "{folder}/mecabrc"')
