"""Order statistics: exact on small cases, honest on random ones."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpack.core import stats

numbers = st.lists(st.floats(min_value=0, max_value=1e9, allow_nan=False), min_size=1, max_size=200)


def test_percentile_interpolates_between_neighbours() -> None:
    assert stats.percentile([4, 1, 3, 2], 0.5) == 2.5
    assert stats.percentile([1, 2, 3, 4, 5], 0.95) == pytest.approx(4.8)
    assert stats.percentile([7], 0.99) == 7


def test_percentile_of_nothing_or_beyond_the_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="0 samples"):
        stats.percentile([], 0.5)
    with pytest.raises(ValueError):
        stats.percentile([1], 1.5)


@given(numbers)
def test_median_agrees_with_the_standard_library(samples: list[float]) -> None:
    assert stats.median(samples) == pytest.approx(statistics.median(samples))


@given(numbers, st.floats(min_value=0.01, max_value=0.99))
def test_quantile_interval_holds_its_value_within_the_samples(samples: list[float], share: float) -> None:
    around = stats.quantile_interval(samples, share)
    assert min(samples) <= around.low <= around.value <= around.high <= max(samples)


def test_median_interval_of_six_is_their_range_of_nine_is_not() -> None:
    """From the tables: 6 samples give ranks 1 and 6 (97 %), 9 give ranks 2 and 8 (96 %)."""
    six = stats.quantile_interval([1, 2, 3, 4, 5, 6])
    nine = stats.quantile_interval([1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert (six.low, six.high) == (1, 6)
    assert (nine.low, nine.high) == (2, 8)


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_quantile_interval_covers_the_truth_as_it_says(share: float) -> None:
    draw = random.Random(1)
    truth = share  # of the uniform distribution
    hits = 0
    for _ in range(400):
        around = stats.quantile_interval([draw.random() for _ in range(120)], share)
        hits += around.low <= truth <= around.high
    assert hits >= 0.92 * 400


def test_latency_interval_is_wider_when_the_machine_drifts() -> None:
    """The same numbers in another order: shuffled they are noise, sorted they are a drift."""
    draw = random.Random(2)
    steady = [10 + draw.random() for _ in range(400)]
    calm, drifting = stats.latency_interval(steady), stats.latency_interval(sorted(steady))
    assert calm.value == drifting.value
    assert drifting.high - drifting.low > 4 * (calm.high - calm.low)


def test_block_medians_leave_out_a_short_rest() -> None:
    assert stats.block_medians([1.0] * 20 + [2.0] * 20 + [3.0] * 9) == (1.0, 2.0)
    assert stats.block_medians([1.0] * 20 + [3.0] * 10) == (1.0, 3.0)


def test_bootstrap_gives_same_interval_twice_and_holds_value() -> None:
    draw = random.Random(3)
    first, second = [draw.gauss(10, 1) for _ in range(60)], [draw.gauss(12, 1) for _ in range(60)]

    def ratio(a: list[float], b: list[float]) -> float:
        return stats.median(b) / stats.median(a)

    once, again = stats.bootstrap_interval(ratio, first, second), stats.bootstrap_interval(ratio, first, second)
    assert once == again
    assert 1.1 < once.low < once.value < once.high < 1.3


def test_overlap_is_mutual_and_includes_touching() -> None:
    low, high = stats.Interval(low=1, value=2, high=3), stats.Interval(low=3, value=4, high=5)
    assert low.overlaps(high)
    assert high.overlaps(low)
    assert not low.overlaps(stats.Interval(low=3.1, value=4, high=5))


@pytest.mark.parametrize(
    ("n", "drop", "limit", "share", "enough"),
    [
        (100, (-0.02, 0.0, 0.04), 0.02, True, 400),  # half of 0.04 has to become 0.02: four times as many
        (100, (0.0, 0.01, 0.03), 0.02, True, 400),
        (100, (0.01, 0.03, 0.06), 0.02, True, 900),  # beyond the limit, and not certainly
        (100, (0.0, 0.01, 0.02), 0.02, True, None),
        (100, (0.03, 0.05, 0.2), 0.02, True, None),  # wide, and certain all the same
        (100, (0.0, 0.02, 0.04), 0.02, True, 10_000),
        (50, (0.0, 0.0, 0.0), 0.02, True, 183),  # the rule of three, on two sides
        (183, (0.0, 0.0, 0.0), 0.02, True, None),
        (50, (-stats.unseen(50), 0.0, stats.unseen(50)), 0.02, True, 183),
        (183, (-stats.unseen(183), 0.0, stats.unseen(183)), 0.02, True, None),
        (50, (0.0, 0.0, 0.0), 0.02, False, None),
        (50, (1.0, 1.0, 1.0), 0.02, True, None),
        (50, (-0.1, 0.0, 0.1), 0.0, True, None),  # no number of samples shows a drop of nothing
    ],
)
def test_how_many_samples_would_tell(n: int, drop: tuple[float, ...], limit: float, share: bool, enough: int | None) -> None:
    around = stats.Interval(low=drop[0], value=drop[1], high=drop[2])
    assert stats.samples_that_tell(n, around, limit, share=share) == enough


def test_as_many_as_would_tell_do_tell() -> None:
    """With the interval that n times as many samples have, nothing is left to tell."""
    for low, value, high in ((-0.1, 0.0, 0.05), (0.0, 0.015, 0.09), (-0.3, 0.1, 0.5)):
        enough = stats.samples_that_tell(200, stats.Interval(low=low, value=value, high=high), 0.02, share=True)
        assert enough is not None
        shrunk = (200 / enough) ** 0.5
        around = stats.Interval(low=value - (value - low) * shrunk, value=value, high=value + (high - value) * shrunk)
        assert stats.samples_that_tell(enough, around, 0.02 + 1e-12, share=True) in (None, enough + 1)


@pytest.mark.parametrize(
    ("share", "freedom", "value"),
    [(0.975, 1, 12.706), (0.975, 2, 4.303), (0.975, 19, 2.093), (0.995, 5, 4.032), (0.75, 10, 0.6998), (0.975, 10_000, 1.9602)],
)
def test_students_t_is_the_tables(share: float, freedom: int, value: float) -> None:
    assert stats.student_t(share, freedom) == pytest.approx(value, abs=6e-4)


@settings(deadline=None)
@given(st.integers(1, 400), st.data(), st.sampled_from([0.25, 0.025, 0.0005]))
def test_exact_bounds_are_scipys(n: int, data: st.DataObject, tail: float) -> None:
    from scipy.stats import beta

    count = data.draw(st.integers(0, n))
    low, high = stats.binomial_bounds(count, n, tail)
    assert low == pytest.approx(beta.ppf(tail, count, n - count + 1) if count else 0.0, abs=1e-9)
    assert high == pytest.approx(beta.ppf(1 - tail, count + 1, n - count) if count < n else 1.0, abs=1e-9)
