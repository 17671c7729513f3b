"""Where a model runs: on one GPU, its layers over several, some of them in host memory, or on a CPU.

Decided before a weight is read, from the model's shapes and the free memory. Knows devices. Does not know what a model
is for. Which layer goes where is worked out by accelerate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from vlmmerge.errors import VlmMergeError
from vlmmerge.generate.skeleton import make_skeleton, parameter_bytes
from vlmmerge.recipe import Generate

GIB = 2**30
# What of free bytes weights get: the rest is for caches and work, and where parents do not fit beside the model for two
# of their slots. More where the model stays whole, for nothing is as fast.
WHOLE, DIVIDED = 0.9, 0.8
HOST = "cpu"
AS_SAID = "as the recipe says"
LARGER = "larger GPUs, `generate.dtype: bfloat16` if the weights are float32, or `generate.device: cpu`, which is slow"


@dataclass(frozen=True)
class Placement:
    """Where the parts of a model lie.

    Args:
        device: Where prompts and pictures' features go: where the embeddings work.
        why: The reason, in words.
        device_map: A GPU's number by a module's name, or `HOST` for what waits in host memory and is sent to a GPU
            whenever it works; as accelerate makes it, and transformers takes it. Empty where there is no GPU.
    """

    device: torch.device
    why: str
    device_map: Mapping[str, int | str] = field(default_factory=dict)

    @property
    def is_spread(self) -> bool:
        """Whether the model lies in more than one place."""
        return len(set(self.device_map.values())) > 1

    @property
    def devices(self) -> set[torch.device]:
        """Where anything lies."""
        return {_as_device(place) for place in self.device_map.values()} or {self.device}

    @property
    def has_waiting(self) -> bool:
        """Whether layers wait in host memory."""
        return HOST in self.device_map.values()

    def where(self, name: str) -> torch.device:
        """Where a parameter lies, by its name."""
        found = {module: place for module, place in self.device_map.items() if f"{name}.".startswith(f"{module}.")}
        place = found[max(found, key=len)] if found else self.device_map.get("", self.device)
        return _as_device(place)

    def share_out(self, sizes: Mapping[str, int]) -> dict[torch.device, int]:
        """The bytes on each device, of parameters' by name."""
        found: dict[torch.device, int] = {}
        for name, num_bytes in sizes.items():
            found[self.where(name)] = found.get(self.where(name), 0) + num_bytes
        return found


def best_device() -> str:
    """The kind of device that models run on by default."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_of(settings: Generate) -> torch.device:
    """The kind of device that a model runs on, or the very one if the recipe names it."""
    return torch.device(settings.device if settings.device != "auto" else best_device())


def free_memory(device: torch.device) -> int | None:
    """Free bytes of a GPU's memory, or of the host's; None where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] if torch.cuda.is_available() else None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def free_gpus(settings: Generate) -> dict[int, int]:
    """Free bytes of each GPU that a model may use, by number: of all, or of the one that the recipe names."""
    named = device_of(settings)
    if named.type != "cuda":
        return {}
    numbers = range(torch.cuda.device_count()) if named.index is None else [named.index]
    found = {number: free_memory(torch.device("cuda", number)) for number in numbers}
    return {number: free for number, free in found.items() if free is not None}


def place_model(
    folder: Path, settings: Generate, *, trusts_code: bool = False, num_gpus: int | None = None
) -> Placement:
    """Decide where a checkpoint's model runs; no weights are read.

    Args:
        folder: A local checkpoint.
        settings: The recipe's `generate` section.
        trusts_code: Whether code that comes with the checkpoint may run.
        num_gpus: Not more than these, the first ones; None for all that the recipe leaves to choose.

    Raises:
        VlmMergeError: GPUs and host memory together have no room for it.
        CheckpointError: transformers does not know the model.
    """
    gpus = dict(islice(free_gpus(settings).items(), num_gpus))
    if not gpus:
        why = "there is no GPU of CUDA" if settings.device == "auto" else AS_SAID
        return Placement(device_of(settings), why)
    model, host = make_skeleton(folder, settings, trusts_code=trusts_code), free_memory(torch.device(HOST)) or 0
    found = choose_placement(model, gpus, host)
    if found is None:
        gib = sum(parameter_bytes(model).values()) / GIB
        free = {f"cuda:{number}": num_bytes for number, num_bytes in gpus.items()} | {"host memory": host}
        raise VlmMergeError(
            f"{folder} has {gib:.2f} GiB of weights, and there is no room for them",
            details=[f"{name}: {num_bytes / GIB:.2f} GiB free" for name, num_bytes in free.items()],
            hint=LARGER,
        )
    is_named = device_of(settings).index is not None
    return replace(found, why=AS_SAID) if is_named and not found.is_spread else found


def choose_placement(model: Any, gpus: Mapping[int, int], host: int) -> Placement | None:
    """Choose the first GPU that has room for all of a model, else all GPUs, else these and host memory.

    Args:
        model: With or without weights.
        gpus: Free bytes of the GPUs by number, one at least.
        host: Free bytes of the host's memory.

    Returns:
        None if all of that is too little.
    """
    num_bytes = sum(parameter_bytes(model).values())
    for number, free in gpus.items():
        if num_bytes <= WHOLE * free:
            why = "the only GPU" if len(gpus) == 1 else f"the first of {len(gpus)} GPUs with room for it"
            return Placement(torch.device("cuda", number), why, {"": number})
    device_map = spread(model, gpus, host)
    return _over_several(model, device_map, len(gpus)) if device_map else None


def spread(model: Any, gpus: Mapping[int, int], host: int) -> dict[str, int | str] | None:
    """Divide a model's layers, in order, among GPUs: evenly, else as they have room, else with the rest in host memory.

    Args:
        model: With or without weights.
        gpus: Free bytes of the GPUs by number, one at least.
        host: Free bytes of the host's memory.

    Returns:
        A device map as accelerate makes it; None if all of that is too little.
    """
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    whole = list(model._no_split_modules or [])
    limits: dict[int | str, int] = {number: int(DIVIDED * free) for number, free in gpus.items()}
    evenly = get_balanced_memory(model, dict(limits), no_split_module_classes=whole)
    for each in (evenly, limits, limits | {HOST: int(DIVIDED * host)}):
        device_map = infer_auto_device_map(model, dict(each), no_split_module_classes=whole)
        if "disk" not in device_map.values():
            return dict(device_map)
    return None


def describe_placement(
    placement: Placement, weights: Mapping[torch.device, int], free: Mapping[torch.device, int | None]
) -> str:
    """Why a model runs where it does, and whether the memory suffices.

    Args:
        placement: Where the model lies.
        weights: Bytes of weights by device.
        free: Free bytes by device; None where nobody tells.
    """
    ordered = sorted(weights, key=lambda device: (device.type != "cuda", device.index or 0))
    told = (f"{_name(device, placement)} {_of(weights[device], free.get(device))}" for device in ordered)
    return f"{placement.why}: {'; '.join(told)}"


def _name(device: torch.device, placement: Placement) -> str:
    return "host memory" if placement.device_map and device.type == HOST else str(device)


def _as_device(place: int | str | torch.device) -> torch.device:
    return torch.device("cuda", place) if isinstance(place, int) else torch.device(place)


def _of(num_wanted: int, num_free: int | None) -> str:
    if num_free is None:
        return f"{num_wanted / GIB:.2f} GiB of weights"
    verdict = "" if num_wanted <= num_free else ", which is too little"
    return f"{num_wanted / GIB:.2f} GiB of weights, {num_free / GIB:.2f} GiB free{verdict}"


def _over_several(model: Any, device_map: dict[str, int | str], num_gpus: int) -> Placement:
    embeddings = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is embeddings)
    used = sorted({place for place in device_map.values() if isinstance(place, int)})
    first = torch.device("cuda", used[0])  # what waits in host memory works there
    found = Placement(first, "", device_map).where(f"{name}.weight")
    why = f"layers over {len(used)} of {num_gpus} GPUs, for none alone has room"
    if HOST in device_map.values():
        why = f"some layers wait in host memory, which is slow, for all GPUs ({num_gpus}) are too small"
    return Placement(found if found.type == "cuda" else first, why, device_map)
