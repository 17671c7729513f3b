"""What several prompts of a batch begin with, worked on once: a picture with its questions, a system prompt.

Knows tokens and what stands where. Does not know models, but for which of them attend to everything that came before.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from vlmmerge.generate.features import Prompt, join

WORTH = 0.2  # of a batch's tokens must be saved, for two passes cost more than one


@dataclass(frozen=True)
class Shared:
    """How the prompts of a batch are cut in two, of which the first parts are shared.

    Args:
        cuts: Tokens of each prompt's first part.
        rows: For each different first part, a prompt that has it.
        parts: For each prompt, the number of its first part in `rows`.
        has_pictures: Whether the pictures are in the first parts; else they are in what follows.
    """

    cuts: tuple[int, ...]
    rows: tuple[int, ...]
    parts: tuple[int, ...]
    has_pictures: bool

    @property
    def num_columns(self) -> int:
        """Tokens of the longest first part."""
        return max(self.cuts)


def can_share(model: Any, prompt: Prompt, num_tokens: int) -> bool:
    """Whether a model lets a prompt be worked on in two passes, with padding in between.

    Not where a layer keeps a running state, or a window that is smaller, in which padding would count; nor where tokens
    attend to later ones, which `token_type_ids` mark.

    Args:
        model: A live one.
        prompt: Any of its prompts.
        num_tokens: Columns of the batch at its fullest.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    is_whole = all(
        type(layer) is DynamicLayer or (type(layer) is DynamicSlidingWindowLayer and num_tokens <= layer.sliding_window)
        for layer in cache.layers
    )
    return is_whole and "token_type_ids" not in prompt.of_tokens and hasattr(model.config, "image_token_id")


def find_shared(prompts: Sequence[Prompt], image_token: int) -> Shared | None:
    """Cut prompts behind their pictures, or before them, wherever more is shared; None where too little is."""
    places = [(prompt.token_ids == image_token).nonzero()[:, 0] for prompt in prompts]
    if any(not len(place) for place in places):
        return None
    behind = cut_at(prompts, [int(place[-1]) + 1 for place in places], has_pictures=True)
    before = cut_at(prompts, [int(place[0]) for place in places], has_pictures=False)
    best = max(behind, before, key=_num_saved)
    return best if _num_saved(best) > WORTH * sum(len(prompt.token_ids) for prompt in prompts) else None


def join_shared(prompts: Sequence[Prompt], shared: Shared) -> dict[str, Any]:
    """Make a batch of prompts whose first parts end in one column."""
    rows = shared.rows if shared.has_pictures else range(len(prompts))
    return join(prompts, shared.cuts, [prompts[row].seen for row in rows])


def cut_at(prompts: Sequence[Prompt], cuts: Sequence[int], *, has_pictures: bool) -> Shared:
    """Cut each prompt behind so many tokens, and find which first parts are the same."""
    known: dict[Hashable, int] = {}
    rows: list[int] = []
    parts: list[int] = []
    for number, (prompt, cut) in enumerate(zip(prompts, cuts, strict=True)):
        pictures = id(prompt.seen) if has_pictures else None  # samples of the same pictures have the same features
        key = (pictures, tuple(prompt.token_ids[:cut].tolist()))
        if key not in known:
            known[key] = len(rows)
            rows.append(number)
        parts.append(known[key])
    return Shared(tuple(cuts), tuple(rows), tuple(parts), has_pictures)


def _num_saved(shared: Shared) -> int:
    return sum(shared.cuts) - sum(shared.cuts[row] for row in shared.rows)
