"""The bootstrap: what an interval must be, whatever the metric."""

import numpy as np
import pytest

from vlmmerge.score.metric import mean
from vlmmerge.score.statistics import combine_all, interval, paired_interval


def column(values):
    return np.array(values, dtype=np.float64)[:, None]


def test_the_interval_is_close_to_the_normal_one_for_many_samples():
    sample = np.random.default_rng(0).normal(50, 10, size=1000)
    low, high = interval(column(sample), mean)
    half = 1.96 * sample.std() / np.sqrt(1000)
    assert (low, high) == pytest.approx((sample.mean() - half, sample.mean() + half), abs=0.1)


def test_the_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(1)
    intervals = [interval(column(rng.normal(size=60)), mean) for _ in range(300)]
    assert 0.90 <= np.mean([low <= 0 <= high for low, high in intervals]) <= 0.98


def test_the_interval_of_equal_samples_has_no_width():
    assert interval(column([0.1] * 7), mean) == (pytest.approx(0.1, abs=1e-15), pytest.approx(0.1, abs=1e-15))


def test_the_interval_contains_the_value_to_the_last_bit():
    for size in range(1, 60):
        statistics = column([0.1] * size)
        low, high = interval(statistics, mean)
        assert low <= combine_all(statistics, mean) <= high


def test_the_interval_is_the_same_each_time_and_for_any_order():
    sample = np.random.default_rng(2).random((50, 3))
    assert interval(sample, mean) == interval(sample, mean) == interval(sample[::-1], mean)


def test_the_value_does_not_depend_on_the_order_by_one_bit():
    sample = column(np.random.default_rng(3).random(997))
    assert combine_all(sample, mean) == combine_all(sample[::-1], mean)


def test_pairing_finds_a_small_difference_that_two_intervals_hide():
    rng = np.random.default_rng(4)
    first = column(rng.normal(50, 20, size=200))
    second = first - 1 - 0.5 * column(rng.random(200))
    difference, low, high = paired_interval(first, second, mean)
    assert 1 < low < difference < high < 1.5
    assert interval(first, mean)[0] < interval(second, mean)[1]


def test_the_paired_interval_is_the_same_for_any_order_of_samples():
    rng = np.random.default_rng(5)
    first, second, order = rng.random((40, 2)), rng.random((40, 2)), rng.permutation(40)
    assert paired_interval(first, second, mean) == paired_interval(first[order], second[order], mean)
