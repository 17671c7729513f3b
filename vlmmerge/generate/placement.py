"""Where a model runs, and whether it has room there.

Knows devices and their free memory. Does not know what a model is for. A model runs on one device: its layers are not
spread over several.
"""

from pathlib import Path

import torch

from vlmmerge.errors import VlmMergeError
from vlmmerge.recipe import Generate

GIB = 2**30
ELSEWHERE = "a larger GPU, or `generate.device: cpu`, which is slow; layers are not spread over several GPUs"


def best_device() -> str:
    """The kind of device that models run on by default."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_of(settings: Generate) -> torch.device:
    """Where a model runs."""
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


def describe_device(settings: Generate, num_there: int, num_beside: int) -> str:
    """Which device, why, and whether its memory suffices.

    Args:
        settings: The recipe's `generate` section.
        num_there: Bytes of weights where the model runs.
        num_beside: Bytes of weights in host memory beside that.
    """
    device = device_of(settings)
    why = "as the recipe says"
    if settings.device == "auto":
        why = f"the first of {torch.cuda.device_count()} GPUs" if device.type == "cuda" else "there is no GPU of CUDA"
    free, host = free_memory(device), free_memory(torch.device("cpu"))
    parts = [f"{device}, {why}: {_of(num_there, free)}"]
    if num_beside:
        parts.append(f"host memory, for the GPU has no room for it: {_of(num_beside, host)}")
    return "; ".join(parts)


def _of(num_wanted: int, num_free: int | None) -> str:
    if num_free is None:
        return f"{num_wanted / GIB:.2f} GiB of weights"
    verdict = "" if num_wanted <= num_free else ", which is too little"
    return f"{num_wanted / GIB:.2f} GiB of weights, {num_free / GIB:.2f} GiB free{verdict}"


def check_room(folder: Path, device: torch.device) -> None:
    """Check that a GPU has room for a checkpoint's weights, before any is read.

    Raises:
        VlmMergeError: It has not.
    """
    num_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    free = free_memory(device)
    if device.type == "cuda" and free is not None and num_bytes > free:
        raise VlmMergeError(
            f"{folder} has {num_bytes / GIB:.2f} GiB of weights, and {device} {free / GIB:.2f} GiB of free memory",
            hint=ELSEWHERE,
        )
