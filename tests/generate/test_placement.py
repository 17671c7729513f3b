"""Which device, why, and whether there is room: told before a weight is read."""

from pathlib import Path

import pytest
import torch

from vlmmerge.errors import VlmMergeError
from vlmmerge.estimate import describe_plan
from vlmmerge.generate import LiveVlm, placement
from vlmmerge.generate.placement import check_room, describe_device, free_memory
from vlmmerge.plan import make_plan
from vlmmerge.recipe import Generate, load_recipe

GIB = 2**30


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, int | None]:
    """Free bytes by kind of device, in place of this machine's."""
    free: dict[str, int | None] = {"cuda": 24 * GIB, "cpu": 100 * GIB}
    monkeypatch.setattr(placement, "free_memory", lambda device: free[device.type])
    return free


def test_the_device_is_told_with_why_and_with_what_it_has_room_for(
    memory: dict[str, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not torch.cuda.is_available():
        told = describe_device(Generate(), 3 * GIB, 0)
        assert told.endswith("there is no GPU of CUDA: 3.00 GiB of weights, 100.00 GiB free")
    assert describe_device(Generate(device="cuda:1"), 15 * GIB, 43 * GIB) == (
        "cuda:1, as the recipe says: 15.00 GiB of weights, 24.00 GiB free; "
        "host memory, for the GPU has no room for it: 43.00 GiB of weights, 100.00 GiB free"
    )
    memory["cpu"] = 2 * GIB
    assert describe_device(Generate(device="cpu"), 3 * GIB, 0) == (
        "cpu, as the recipe says: 3.00 GiB of weights, 2.00 GiB free, which is too little"
    )
    memory["cpu"] = None
    assert describe_device(Generate(device="cpu"), 3 * GIB, 0) == "cpu, as the recipe says: 3.00 GiB of weights"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert describe_device(Generate(), GIB, 0) == "cuda, the first of 2 GPUs: 1.00 GiB of weights, 24.00 GiB free"


def test_a_model_that_a_gpu_has_no_room_for_is_refused_before_it_is_read(
    parents: Path, memory: dict[str, int | None]
) -> None:
    memory["cuda"] = 1000
    with pytest.raises(VlmMergeError) as caught:
        LiveVlm(parents / "vlm", Generate(device="cuda"))
    assert caught.value.message == (f"{parents / 'vlm'} has 0.00 GiB of weights, and cuda 0.00 GiB of free memory")
    assert caught.value.hint == placement.ELSEWHERE
    memory["cuda"] = GIB
    check_room(parents / "vlm", torch.device("cuda"))


def test_the_hosts_free_memory_is_what_the_system_says() -> None:
    free = free_memory(torch.device("cpu"))
    assert free is None or 2**20 < free < 2**50


def test_a_dry_run_tells_device_and_attention(parents: Path) -> None:
    described = describe_plan(
        make_plan(load_recipe(parents / "recipe.yaml", ["generate.device=cpu"]), has_weights=False)
    )
    assert described["device"].startswith("cpu, as the recipe says: 0.00 GiB of weights, ")
    assert described["attention"] == "sdpa"
