"""DARE's and DELLA's masks: SplitMix64's numbers, whatever the chunks, threads and device."""

import math

import pytest
import torch

from vlmmerge.blend import masks
from vlmmerge.blend.masks import keep_mask, stream_key, uniform

SPLITMIX64_FROM_1234567 = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]
"""The first numbers from seed 1234567, of https://prng.di.unimi.it/splitmix64.c (listed on
https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64)."""


def splitmix64(state: int, count: int) -> list[int]:
    """The algorithm in Python's integers, as the source has it."""
    numbers = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        numbers.append(z ^ (z >> 31))
    return numbers


def test_the_numbers_are_splitmix64s(monkeypatch: pytest.MonkeyPatch) -> None:
    assert splitmix64(1234567, 5) == SPLITMIX64_FROM_1234567
    monkeypatch.setattr(masks, "stream_key", lambda seed, parent, slot: 1234567)
    # int32 halves, the low one first, with the sign bit flipped: 0 is the lowest int32.
    halves = [half for z in SPLITMIX64_FROM_1234567 for half in (z % 2**32, z >> 32)]
    assert (uniform(0, "ja", "norm.weight", 10) * 2**32).tolist() == [(half + 2**31) % 2**32 for half in halves]


def test_numbers_over_several_chunks_equal_the_plain_algorithm() -> None:
    count = 2 * masks._chunk_length(torch.device("cpu")) + 5
    state = stream_key(7, "ja", "layers.0.mlp.up_proj.weight") % 2**64
    halves = [half for z in splitmix64(state, count) for half in (z % 2**32, z >> 32)]
    numbers = uniform(7, "ja", "layers.0.mlp.up_proj.weight", 2 * count - 1) * 2**32
    assert numbers.tolist() == [(half + 2**31) % 2**32 for half in halves[:-1]]


def test_signed_and_unsigned_arithmetic_mix_to_the_same_numbers() -> None:
    """One is the CPU's, the other a GPU's."""
    counters = torch.randint(-(2**63), 2**63 - 1, (999,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(masks._mix_signed(counters.clone()), masks._mix_unsigned(counters.clone()))


def test_a_mask_of_numbers_is_the_mask_of_truth_values() -> None:
    whole = keep_mask(3, "ja", "norm.weight", torch.Size([13, 17]), 0.4)
    numbers = keep_mask(3, "ja", "norm.weight", torch.Size([13, 17]), 0.4, dtype=torch.float32)
    assert whole.dtype == torch.bool and numbers.dtype == torch.float32 and torch.equal(numbers, whole.float())


def test_a_chunk_of_a_mask_is_that_part_of_it() -> None:
    whole = keep_mask(3, "ja", "norm.weight", torch.Size([221]), 0.4)
    for start, stop in ((0, 1), (7, 8), (8, 100), (99, 221)):
        assert torch.equal(
            keep_mask(3, "ja", "norm.weight", torch.Size([stop - start]), 0.4, start=start), whole[start:stop]
        )


@pytest.mark.parametrize("chunk", [1, 2, 7, 64])
def test_masks_do_not_depend_on_the_chunks(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = torch.Size([13, 17])
    whole, numbers = keep_mask(3, "ja", "norm.weight", shape, 0.4), uniform(3, "ja", "norm.weight", 221)
    monkeypatch.setattr(masks, "_chunk_length", lambda device: chunk)
    assert torch.equal(keep_mask(3, "ja", "norm.weight", shape, 0.4), whole)
    assert torch.equal(uniform(3, "ja", "norm.weight", 221), numbers)


def test_masks_do_not_depend_on_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    try:
        made = []
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            made.append(keep_mask(3, "ja", "norm.weight", torch.Size([300_001]), 0.4))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


def test_masks_do_not_touch_nor_read_the_global_generator() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = keep_mask(3, "ja", "norm.weight", torch.Size([64]), 0.5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(keep_mask(3, "ja", "norm.weight", torch.Size([64]), 0.5), first)


def test_any_stretch_of_the_numbers_equals_that_part_of_the_whole() -> None:
    whole = uniform(1, "ja", "norm.weight", 100)
    for start in (0, 1, 2, 37, 99, 100):
        for count in (0, 1, 2, 5, 63):
            stretch = uniform(1, "ja", "norm.weight", min(count, 100 - start), start)
            assert torch.equal(stretch, whole[start : start + count])


@pytest.mark.parametrize("density", [2**-33, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1 - 2**-33, 1.0])
def test_an_element_is_kept_where_its_number_is_below_the_density(density: float) -> None:
    kept = keep_mask(2, "vlm", "norm.weight", torch.Size([50, 41]), density)
    assert kept.shape == (50, 41)
    assert torch.equal(kept.flatten(), uniform(2, "vlm", "norm.weight", 2050) < density)


@pytest.mark.parametrize("chunk", [3, 2**15])
def test_each_element_can_have_a_probability_of_its_own(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "_chunk_length", lambda device: chunk)
    shape = torch.Size([50, 41])
    probability = uniform(9, "vlm", "norm.weight", 2050).float().view(shape)
    probability[0, :4] = torch.tensor([1.0, 2**-33, 0.5, 0.25])
    kept = keep_mask(2, "vlm", "norm.weight", shape, probability)
    assert torch.equal(kept.flatten(), uniform(2, "vlm", "norm.weight", 2050) < probability.flatten().double())
    assert kept[0, 0]
    same = torch.full(shape, 0.3)
    assert torch.equal(
        keep_mask(2, "vlm", "norm.weight", shape, same), keep_mask(2, "vlm", "norm.weight", shape, float(same[0, 0]))
    )


def test_density_1_keeps_everything() -> None:
    assert keep_mask(0, "vlm", "norm.weight", torch.Size([999]), 1.0).all()


def test_a_mask_of_lower_density_is_a_subset_of_one_of_higher_density() -> None:
    sparse, dense = (keep_mask(0, "vlm", "norm.weight", torch.Size([5000]), density) for density in (0.3, 0.6))
    assert not (sparse & ~dense).any()


@pytest.mark.parametrize("density", [0.1, 0.5, 0.83])
def test_the_share_kept_is_the_density(density: float) -> None:
    count = 400_000
    kept = keep_mask(5, "ja", "embed_tokens.weight", torch.Size([count]), density).float().mean().item()
    assert abs(kept - density) < 4 * math.sqrt(density * (1 - density) / count)


def test_the_numbers_are_uniform_and_neighbours_are_independent() -> None:
    count = 400_000
    numbers = uniform(5, "ja", "embed_tokens.weight", count)
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0
    filled = torch.histc(numbers, bins=100, min=0.0, max=1.0)
    chi_square = ((filled - count / 100) ** 2 / (count / 100)).sum().item()
    assert 50 < chi_square < 160  # 99 degrees of freedom: mean 99, standard deviation 14
    for lag in (1, 2, 3, 1024):
        pairs = torch.stack([numbers[:-lag], numbers[lag:]])
        assert abs(torch.corrcoef(pairs)[0, 1].item()) < 4 / math.sqrt(count)


@pytest.mark.parametrize(
    "other",
    [(1, "ja", "norm.weight"), (0, "vlm", "norm.weight"), (0, "ja", "lm_head.weight"), (-1, "ja", "norm.weight")],
)
def test_another_seed_parent_or_slot_gives_an_independent_mask(other: tuple[int, str, str]) -> None:
    count = 100_000
    one, two = uniform(0, "ja", "norm.weight", count), uniform(*other, count)
    assert abs(torch.corrcoef(torch.stack([one, two]))[0, 1].item()) < 4 / math.sqrt(count)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_masks_are_the_same_on_cpu_and_gpu() -> None:
    shape = torch.Size([301, 997])
    on_gpu = keep_mask(3, "ja", "norm.weight", shape, 0.4, device=torch.device("cuda"))
    assert torch.equal(on_gpu.cpu(), keep_mask(3, "ja", "norm.weight", shape, 0.4))
    probability = uniform(9, "ja", "norm.weight", shape.numel()).float().view(shape)
    on_gpu = keep_mask(3, "ja", "norm.weight", shape, probability.cuda(), device=torch.device("cuda"))
    assert torch.equal(on_gpu.cpu(), keep_mask(3, "ja", "norm.weight", shape, probability))
