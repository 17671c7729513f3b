"""Batches of like length, filled to a budget of tokens; and the budget that suits a machine.

Knows numbers of tokens and seconds. Does not know what is in a batch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from vlmmerge.cache import cache_folder, keep

SMALLEST = 2**11
# More rows than these make nothing faster: on a CPU a few thousand tokens fill the cores, and its memory gives no
# warning before it is full.
LARGEST, LARGEST_ON_CPU = 2**20, 2**15
# Prompts are worked on in parts of so many tokens: enough to be busy with, and what lies between two layers stays small
# (on a CPU about as large as its caches).
PART, PART_ON_CPU = 2**14, 2**11
WORTH = 1.05  # a budget twice as large must be so much faster
PATIENCE = 2  # doublings without that, in a row, end the search: one may be noise
SHORT_TRIAL, AGAIN = 1.0, 2  # seconds; so short a trial is made so many times more: a moment of other work may spoil it
LONGEST_TRIAL = 60.0  # seconds; a machine that needs so long has enough to do


def fill(sizes: Sequence[int], budget: int) -> int:
    """How many of the first rows make a batch: at least one, else as many as fit when all are as long as the longest.

    Args:
        sizes: Tokens of each row at its fullest.
        budget: Tokens of a batch.

    >>> fill([3, 4, 5, 6], 12), fill([20, 20], 12)
    (2, 1)
    """
    number, longest = 1, sizes[0]
    while number < len(sizes) and (number + 1) * max(longest, sizes[number]) <= budget:
        longest = max(longest, sizes[number])
        number += 1
    return number


def find_budget(seconds: Callable[[int], float | None], largest: int) -> int:
    """Find about how many tokens a batch should have, by trying twice as many again and again.

    Args:
        seconds: Of a batch of so many tokens; None if they do not fit in memory.
        largest: Not more than these.

    Returns:
        The number with the most tokens a second; `SMALLEST` if not even that fits.

    >>> find_budget(lambda tokens: 1 + tokens / 2**14, largest=2**20) >= 2**17  # launching costs a second
    True
    >>> find_budget(lambda tokens: None if tokens > 5000 else 1.0, largest=2**20)
    4096
    """
    best, best_rate, num_worse, budget = SMALLEST, 0.0, 0, SMALLEST
    while budget <= largest and num_worse < PATIENCE:
        if (taken := _shortest(seconds, budget)) is None:
            break
        num_worse = 0 if budget / taken > best_rate * WORTH else num_worse + 1
        if budget / taken > best_rate:
            best, best_rate = budget, budget / taken
        if taken > LONGEST_TRIAL:
            break
        budget *= 2
    return best


def _shortest(seconds: Callable[[int], float | None], budget: int) -> float | None:
    first = seconds(budget)
    others = [seconds(budget) for _ in range(AGAIN)] if first is not None and first < SHORT_TRIAL else []
    return None if first is None else min([first, *(other for other in others if other is not None)])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a device or in this process. (Of the latter torch tells in words only.)"""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def recall_budget(key: str) -> int | None:
    """The budget that was found for a model and a machine, if one was."""
    try:
        found = int(_file(key).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if SMALLEST <= found <= LARGEST else None


def remember_budget(key: str, budget: int) -> None:
    """Keep a budget that was found."""
    keep(_file(key), lambda part: part.write_text(f"{budget}\n", encoding="utf-8"))


def _file(key: str) -> Path:
    return cache_folder("batch_tokens") / key
