"""The processes that a launcher started together (`accelerate launch`, `torchrun`): all look and fit, one writes.

Knows accelerate. Does not know what is looked at. Where nothing was launched there is one process, which does it all.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from vlmmerge.generate.placement import best_device

if TYPE_CHECKING:
    from accelerate import PartialState

Thing = TypeVar("Thing")


def crew() -> "PartialState":
    """Meet the other processes, and take one's own GPU, if that was not done before."""
    from accelerate import PartialState

    return PartialState(cpu=best_device() == "cpu")


def share(things: Sequence[Thing]) -> Sequence[Thing]:
    """This process's share: every process has at least one thing, or there is nothing to share and each has all."""
    state = crew()
    return things[state.process_index :: state.num_processes] if is_shared(things) else things


def is_shared(things: Sequence[Any]) -> bool:
    """Whether `share` divides them."""
    return 1 < crew().num_processes <= len(things)


def add_up(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The sum of each process's tensors, new."""
    from accelerate.utils import reduce

    return [reduce(tensor.clone(), "sum") for tensor in tensors]


def collect(thing: Thing) -> list[Thing]:
    """Each process's thing, in their order."""
    from accelerate.utils import gather_object

    return list(gather_object([thing]))


def part() -> bool:
    """Part from the other processes, after the last that is done together; whether this is the one that goes on."""
    state = crew()
    is_main = state.is_main_process
    state.destroy_process_group()
    return bool(is_main)
