"""What the search may never see: held-out pictures, by name, by bytes and by likeness.

Knows evalsets and what a recipe chooses of them. Does not know models.
"""

from collections.abc import Iterator
from itertools import product

from vlmmerge.errors import EvalsetError
from vlmmerge.evalsets import find_split, load, origin
from vlmmerge.evalsets.likeness import like_pictures
from vlmmerge.recipe import EvalsetChoice
from vlmmerge.recipe.sections import Evalset

MOST_SHOWN = 20


def check_apart(evalset: Evalset) -> None:
    """Check, without a look at pictures, that what a recipe chooses is there, and what it holds out is another split.

    Raises:
        EvalsetError: It is not.
    """
    for seen, unseen in _pairs(evalset):
        _check_splits(seen, unseen, "search and held-out data", "hold out a split that the search never sees")


def check_pictures_apart(evalset: Evalset) -> None:
    """Check that the search sees no picture that is held out, nor one like it.

    Bundled splits are not read: a test holds them apart. All others are; a picture of 800 x 600 took 6 ms (2026-11).

    Raises:
        EvalsetError: It does, or a split cannot be read.
    """
    for seen, unseen in _pairs(evalset):
        _check_pictures(seen, unseen, "search and held-out data", "leave these samples out of one of the two")


def check_both_apart(seen: EvalsetChoice, unseen: EvalsetChoice, what: str, hint: str) -> None:
    """Check that what is learnt from and what is scored are there, are two splits, and share no like pictures.

    Args:
        seen, unseen: Both choices.
        what: Both, in words.
        hint: What to do.

    Raises:
        EvalsetError: It is not so.
    """
    _check_splits(seen, unseen, what, hint)
    _check_pictures(seen, unseen, what, hint)


def _check_splits(seen: EvalsetChoice, unseen: EvalsetChoice, what: str, hint: str) -> None:
    for choice in (seen, unseen):
        find_split(choice.name, choice.split, choice.samples)
    if origin(seen.name, seen.split) == origin(unseen.name, unseen.split):
        raise EvalsetError(f"{what} share their pictures: {_names(seen, unseen)}", hint=hint)


def _check_pictures(seen: EvalsetChoice, unseen: EvalsetChoice, what: str, hint: str) -> None:
    if _is_bundled(seen) and _is_bundled(unseen):
        return
    samples, others = (load(choice.name, choice.split, choice.samples) for choice in (seen, unseen))
    if pairs := like_pictures(samples, others):
        texts = [f"{one} and {other}: {bits} of 255 bits differ" for one, other, bits in pairs]
        more = [f"... and {len(pairs) - MOST_SHOWN} more"] if len(pairs) > MOST_SHOWN else []
        raise EvalsetError(
            f"{what} share {len(pairs)} pictures, or have like ones: {_names(seen, unseen)}",
            details=[*texts[:MOST_SHOWN], *more],
            hint=hint,
        )


def _pairs(evalset: Evalset) -> Iterator[tuple[EvalsetChoice, EvalsetChoice]]:
    """What the search sees, with what it does not."""
    for seen, unseen in product((evalset.search, evalset.finals), (evalset.held_out, evalset.retention)):
        if seen and unseen:
            yield seen, unseen


def _is_bundled(choice: EvalsetChoice) -> bool:
    evalset, _ = find_split(choice.name, choice.split)
    return not evalset.hub and not evalset.is_own


def _names(seen: EvalsetChoice, unseen: EvalsetChoice) -> str:
    return f"{seen.name}:{seen.split} and {unseen.name}:{unseen.split}"
