"""N-grams of words and how often each occurs.

Knows sequences of words. Knows neither segmenters nor metrics.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

NGram = tuple[str, ...]


def ngrams(words: Sequence[str], order: int) -> Iterable[NGram]:
    """Every `order` words that follow each other, from left to right.

    >>> list(ngrams(["赤い", "バス", "です"], 2))
    [('赤い', 'バス'), ('バス', 'です')]
    """
    return zip(*(words[start:] for start in range(order)), strict=False)


def count_ngrams(words: Sequence[str], max_order: int) -> Counter[NGram]:
    """How often each n-gram of 1 to `max_order` words occurs; in order of length, then of the first occurrence."""
    counts: Counter[NGram] = Counter()
    for order in range(1, max_order + 1):
        counts.update(ngrams(words, order))
    return counts
