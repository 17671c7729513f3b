"""Several processes with a model each on one machine: the GPUs that each of them gets.

Knows shapes and free memory. Does not know what the processes do.
"""

import math
from collections.abc import Mapping
from typing import Any

from vlmmerge.errors import VlmMergeError
from vlmmerge.generate.placement import GIB, WHOLE, choose_placement
from vlmmerge.generate.skeleton import parameter_bytes


def fewest_gpus(model: Any, gpus: Mapping[int, int]) -> int:
    """How many GPUs a model needs at the least, the first ones taken; all of them if it needs host memory beside."""
    numbers = list(gpus)
    for count in range(1, len(numbers)):
        if choose_placement(model, {number: gpus[number] for number in numbers[:count]}, host=0):
            return count
    return len(numbers)


def check_shared(model: Any, gpus: Mapping[int, int], num_actors: int) -> None:
    """Check that every GPU has room for as many models as actors will share it.

    Args:
        model: With or without weights.
        gpus: Free bytes of the GPUs by number, one at least.
        num_actors: How many run at once.

    Raises:
        VlmMergeError: It has not: the last ones would wait in host memory.
    """
    num_bytes, on_one = sum(parameter_bytes(model).values()), math.ceil(num_actors / len(gpus))
    least = min(gpus.values())
    if on_one > 1 and on_one * num_bytes > WHOLE * least:
        at_most = max(int(WHOLE * least) // num_bytes, 1) * len(gpus)
        raise VlmMergeError(
            f"search.actors: {on_one} actors on a GPU need {on_one * num_bytes / GIB:.2f} GiB for their models, and "
            f"{least / GIB:.2f} GiB are free",
            hint=f"`search.actors: {at_most if at_most > 1 else 0}`",
        )


def gpus_for_each(num_gpus: int, num_actors: int, num_needed: int = 1) -> float | None:
    """The GPUs that each of several actors gets, or its share of one; None without GPUs or actors.

    Args:
        num_gpus: How many there are.
        num_actors: How many run at once.
        num_needed: GPUs that the model of one needs.

    Raises:
        VlmMergeError: There are not so many GPUs.

    >>> gpus_for_each(8, 2), gpus_for_each(1, 2), gpus_for_each(2, 3), gpus_for_each(0, 2), gpus_for_each(8, 3, 2)
    (1.0, 0.5, 0.5, None, 2.0)
    """
    if not num_gpus or not num_actors:
        return None
    if num_needed > 1:
        at_most = num_gpus // num_needed
        if num_actors > at_most:
            raise VlmMergeError(
                f"search.actors: {num_actors} actors with a model over {num_needed} GPUs each need "
                f"{num_actors * num_needed} GPUs; there are {num_gpus}",
                hint=f"`search.actors: {at_most}`" if at_most > 1 else "`search.actors: 0`: one model takes them all",
            )
        return float(num_gpus // num_actors)
    actors_on_one = math.ceil(num_actors / num_gpus)
    return math.floor(10_000 / actors_on_one) / 10_000  # Ray counts in ten-thousandths
