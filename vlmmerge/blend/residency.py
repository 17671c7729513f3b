"""Where the parents' towers stay: where the model runs, or in host memory, from which slot after slot is sent there.

Knows tensors, devices and bytes. Does not know what is done with them, nor models.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from vlmmerge.errors import VlmMergeError

GIB = 2**30
# What of the device's free memory `auto` gives to parents: the rest is for answering, which takes it later.
SHARE = 0.8
ALIGNED = 512  # bytes; tensors in one buffer begin where torch's own would

Slots = TypeVar("Slots")
Item = tuple[Slots, Mapping[str, Tensor]]
"""A slot, and tensors by name."""


def choose_residency(wanted: str, num_bytes: int, num_free: int | None, num_buffered: int = 0) -> str:
    """Choose where the parents' towers stay.

    Args:
        wanted: `device`, `host` or `auto`, as in the recipe.
        num_bytes: What the towers need.
        num_free: Free bytes of the device's own memory; None if the device has none (a CPU): all is the same then.
        num_buffered: What the buffers need, through which towers in host memory are sent to the device.

    Returns:
        `device` or `host`.

    Raises:
        VlmMergeError: `device` is wanted, and the towers do not fit; or not even the buffers do.
    """
    if wanted == "device" and num_free is not None and num_bytes > num_free:
        raise VlmMergeError(
            f"blend.residency: the parents' language towers need {num_bytes / GIB:.1f} GiB on the device, and "
            f"{num_free / GIB:.1f} GiB are free",
            hint="take `residency: auto`, or `host`",
        )
    if wanted == "device" or num_free is None:
        return wanted.replace("auto", "device")
    if wanted == "auto" and num_bytes <= SHARE * num_free:
        return "device"
    if num_buffered > num_free:
        raise VlmMergeError(
            f"blend.residency: two slots on their way from host memory need {num_buffered / GIB:.1f} GiB on the "
            f"device, and beside the model {num_free / GIB:.1f} GiB are free",
            hint="a larger GPU, several, or `generate.device: cpu`, which is slow",
        )
    return "host"


def free_bytes(device: torch.device) -> int | None:
    """Free bytes of a device's own memory; None if it has none, does not tell, or is not there."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" and torch.cuda.is_available() else None


def place(tensor: Tensor, device: torch.device, residency: str) -> Tensor:
    """Put a tensor in host memory where it stays: on the device, or pinned if there is a GPU to send it to."""
    if residency == "device":
        return tensor.to(device)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def buffer_bytes(tensors: Mapping[str, Tensor]) -> int:
    """The bytes that the tensors of a slot take in a buffer."""
    return sum(-(-tensor.nbytes // ALIGNED) * ALIGNED for tensor in tensors.values())


def send_ahead(items: Sequence[Item[Slots]], device: torch.device) -> Iterator[Item[Slots]]:
    """Send slots to a device one by one, each while the one before it is worked on: two buffers, and a stream aside.

    Args:
        items: Slots with their tensors, in host memory (pinned, or sending waits), contiguous.
        device: Where to.

    Yields:
        Each slot with its tensors on the device. What is done with them must be launched on the device's current stream
        before the next slot is drawn; they are overwritten after that.
    """
    longest = max((buffer_bytes(tensors) for _, tensors in items), default=0)
    buffers = [torch.empty(longest, dtype=torch.uint8, device=device) for _ in range(2)]
    lane = _Lane(device)
    done: list[Any] = [None, None]  # when what was in a buffer is no longer needed
    sent: list[Any] = []
    try:
        for number in range(len(items) + 1):
            if number < len(items):
                slot, tensors = items[number]
                sent.append((slot, *lane.send(tensors, buffers[number % 2], done[number % 2])))
            if number > 0:
                slot, there, arrived = sent.pop(0)
                lane.wait_for(arrived)
                yield slot, there
                done[(number - 1) % 2] = lane.mark()
    finally:
        lane.end()


class _Lane:
    """A CUDA stream beside the current one; on any other device all is done at once, in order."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.aside = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self.aside:
            self.aside.wait_stream(torch.cuda.current_stream(device))  # the buffers may still serve someone else

    def send(self, tensors: Mapping[str, Tensor], buffer: Tensor, done: Any) -> tuple[dict[str, Tensor], Any]:
        """Copy tensors into a buffer once that is `done` with; returns them there, and an event: they have arrived."""
        parts, start = {}, 0
        for name, tensor in tensors.items():
            parts[name] = buffer[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
            start += buffer_bytes({name: tensor})
        if self.aside is None:
            for name, tensor in tensors.items():
                parts[name].copy_(tensor)
            return parts, None
        with torch.cuda.stream(self.aside):
            if done:
                self.aside.wait_event(done)
            for name, tensor in tensors.items():
                parts[name].copy_(tensor, non_blocking=True)
            return parts, self.aside.record_event()

    def wait_for(self, arrived: Any) -> None:
        """Let the current stream wait for an event."""
        if self.aside:
            torch.cuda.current_stream(self.device).wait_event(arrived)

    def end(self) -> None:
        """Let the current stream, which gets the buffers' memory next, wait for what was sent and not drawn."""
        if self.aside:
            torch.cuda.current_stream(self.device).wait_stream(self.aside)

    def mark(self) -> Any:
        """An event: what has been launched on the current stream is done."""
        return torch.cuda.current_stream(self.device).record_event() if self.aside else None
