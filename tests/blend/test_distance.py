"""blend/distance.py: unrelated weights are told from a base's descendants, whatever their scale and number."""

import math

import pytest
import torch
from torch import Tensor

from vlmmerge.blend.distance import NUM_LOOKED_AT, DistanceMeter, ancestry_warnings
from vlmmerge.blend.work import Read


def noise(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def reader(tensor: Tensor) -> Read:
    return lambda start, stop: tensor.flatten()[start:stop]


def distances(base: list[Tensor], **parents: list[Tensor]) -> dict[str, float]:
    meter = DistanceMeter()
    for number, tensor in enumerate(base):
        meter.add(tensor.shape, reader(tensor), {name: reader(tower[number]) for name, tower in parents.items()})
    return meter.distances()


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 3.0])
def test_unrelated_weights_of_any_scale_are_warned_of_with_their_distance(scale: float) -> None:
    base = [noise(0, 300, 200), noise(1, 64, 64)]
    found = distances(base, vlm=base, ja=[noise(2, 300, 200, scale=scale), noise(3, 64, 64, scale=scale)])
    assert found["vlm"] == 0.0 and found["ja"] == pytest.approx(math.sqrt(1 + scale**2), rel=0.02)
    assert ancestry_warnings({"vlm": 0.0, "ja": math.sqrt(1 + scale**2)}) == [
        f"`base` seems no ancestor of `ja`: they are {math.sqrt(1 + scale**2):.2f} lengths of `base` apart, and "
        "unrelated weights are 1 or more, fine-tuned ones below 0.3 or so; check `parents.base`"
    ]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.8])
def test_a_bases_descendant_is_as_far_as_it_moved_and_warned_of_by_no_one(share: float) -> None:
    base = [noise(0, 300, 200)]
    found = distances(base, ja=[base[0] + noise(1, 300, 200, scale=share)])
    assert found["ja"] == pytest.approx(share, abs=0.01) and not ancestry_warnings(found)


@pytest.mark.parametrize("shape", [(1500, 2048), (4096, 301), (2, NUM_LOOKED_AT)])
def test_looking_at_some_elements_comes_near_to_looking_at_all(shape: tuple[int, int]) -> None:
    """Every other column has moved."""
    base, columns = noise(0, *shape), torch.arange(shape[1]) % 2
    parent = base + noise(1, *shape) * columns
    exact = float((parent - base).norm() / base.norm())
    assert base.numel() > NUM_LOOKED_AT
    assert distances([base], ja=[parent])["ja"] == pytest.approx(exact, rel=0.02)


def test_a_large_slot_counts_for_as_much_as_its_elements() -> None:
    base = [noise(0, 1024, 1024), noise(1, 32, 32)]
    moved_small = distances(base, ja=[base[0], base[1] + 1])
    moved_large = distances(base, ja=[base[0] + 1, base[1]])
    assert moved_large["ja"] == pytest.approx(1.0, rel=0.02) and moved_small["ja"] == pytest.approx(1 / 32, rel=0.02)


def test_norms_do_not_make_unrelated_weights_look_related() -> None:
    base, other = [noise(0, 64, 64), torch.full((64,), 9.0)], [noise(1, 64, 64), torch.full((64,), 9.0)]
    assert distances(base, ja=other) == distances(base[:1], ja=other[:1])


def test_a_base_of_zeros_is_infinitely_far_and_damaged_parents_are_left_to_the_blend() -> None:
    zeros, ones = [torch.zeros(4, 4)], [torch.ones(4, 4)]
    assert distances(zeros, ja=ones) == {"ja": math.inf} and ancestry_warnings({"ja": math.inf})
    assert math.isnan(distances(ones, ja=[torch.full((4, 4), math.nan)])["ja"]) and not ancestry_warnings(
        {"ja": math.nan}
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_nothing_is_changed_and_any_dtype_is_measured(dtype: torch.dtype) -> None:
    base, parent = noise(0, 64, 64).to(dtype), noise(1, 64, 64).to(dtype)
    before = base.clone(), parent.clone()
    assert distances([base], ja=[parent])["ja"] == pytest.approx(math.sqrt(2), rel=0.05)
    assert torch.equal(base, before[0]) and torch.equal(parent, before[1])
