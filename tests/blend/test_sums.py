"""Sums in one fixed order: right, and the same bits however they are cut."""

import math

import pytest
import torch

from vlmmerge.blend import sums
from vlmmerge.blend.sums import WIDTH, dot, dot_rows, l1_norm

COUNTS = [0, 1, 2, 3, 1000, WIDTH - 1, WIDTH, WIDTH + 1, 3 * WIDTH + 77]


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    one, other = (torch.randn(shape, generator=generator) for _ in range(2))
    return one, other


@pytest.mark.parametrize("count", COUNTS)
def test_sums_are_exact_to_the_last_digits_of_float64(count: int) -> None:
    one, other = pair(count)
    products = [a * b for a, b in zip(one.tolist(), other.tolist(), strict=True)]
    scale = sum(map(abs, products))
    assert dot(one, other).item() == pytest.approx(math.fsum(products), abs=1e-15 * scale)
    assert l1_norm(one).item() == pytest.approx(math.fsum(map(abs, one.tolist())), rel=1e-14)
    assert dot(one, other).shape == () and dot(one, other).dtype == torch.float64


def test_the_sums_of_rows_are_those_of_each_row_alone() -> None:
    one, other = pair(130, 1001)
    by_row = torch.stack([dot_rows(a[None], b[None])[0] for a, b in zip(one, other, strict=True)])
    assert torch.equal(dot_rows(one, other), by_row)
    torch.testing.assert_close(by_row, (one.double() * other.double()).sum(dim=1), rtol=1e-12, atol=1e-12)


def test_the_sums_of_no_columns_are_zeros() -> None:
    assert dot_rows(torch.ones(3, 0), torch.ones(3, 0)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("length", [1, 5000, WIDTH, 10**9])
def test_sums_do_not_depend_on_how_much_is_taken_at_once(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = pair(5 * WIDTH + 7)
    rows, columns = pair(57, 911)
    whole, by_row = dot(one, other), dot_rows(rows, columns)
    monkeypatch.setattr(sums, "_block_length", lambda device: length)
    assert torch.equal(dot(one, other), whole)
    assert torch.equal(dot_rows(rows, columns), by_row)


def test_sums_do_not_depend_on_the_number_of_threads() -> None:
    one, other = pair(9 * WIDTH + 7)
    before = torch.get_num_threads()
    try:
        made = []
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            made.append(dot(one, other))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])


def test_sums_change_nothing_and_never_hide_a_nan() -> None:
    one, other = pair(1001)
    before = one.clone()
    dot(one, other)
    l1_norm(one)
    assert torch.equal(one, before)
    one[500] = torch.nan
    assert dot(one, other).isnan() and l1_norm(one).isnan()


def test_squares_that_overflow_float32_do_not_overflow_here() -> None:
    large = torch.full((10,), 1e30)
    assert dot(large, large).item() == pytest.approx(1e61, rel=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cpu_and_gpu_give_the_same_sums() -> None:
    one, other = pair(301, 997)
    assert torch.equal(dot(one.cuda(), other.cuda()).cpu(), dot(one, other))
    assert torch.equal(dot_rows(one.cuda(), other.cuda()).cpu(), dot_rows(one, other))
