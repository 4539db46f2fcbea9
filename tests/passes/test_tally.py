"""What calls reached, whatever their order and number: the same tally, of the same size."""

from __future__ import annotations

import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpack.passes.quantize.calibration.tally import Extreme, Tally

Array = np.ndarray[Any, Any]
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
calls = st.lists(st.lists(numbers, max_size=12), min_size=1, max_size=8)


def tallied(parts: list[Array]) -> Tally:
    tally = Tally(detailed=True)
    for number, part in enumerate(parts):
        tally.add(part, number)
    return tally


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(calls, st.randoms())
def test_histogram_is_that_of_all_values_in_any_order(given_: list[list[float]], random: Any) -> None:
    parts = [np.array(part, np.float32) for part in given_]
    together = tallied([np.concatenate(parts)])
    random.shuffle(parts)
    apart = tallied(parts)
    for one, other in zip(together.histogram(), apart.histogram(), strict=True):
        assert np.array_equal(one, other)
    assert apart.histogram()[1].sum() == apart.values == sum(map(len, parts))


@settings(max_examples=200, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=30))
def test_a_value_is_off_from_its_bin_by_a_thousandth(given_: list[float]) -> None:
    values = np.sort(np.array(given_, np.float32)).astype(np.float64)
    middles, counts = tallied([values.astype(np.float32)]).histogram()
    binned = np.repeat(middles, counts)
    small = max(np.abs(values).max() / 2**13, 1e-40)
    off = np.abs(binned - values)
    assert (off <= np.maximum(np.abs(values) / 1000, small)).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(numbers, min_size=1, max_size=5), min_size=2, max_size=8))
def test_a_range_without_a_call_is_that_of_the_others(given_: list[list[float]]) -> None:
    tally = tallied([np.array(part, np.float32) for part in given_])
    assert tally.low is not None
    assert tally.high is not None
    for call in {tally.low.call, tally.high.call}:
        others = [np.float32(value) for number, part in enumerate(given_) if number != call for value in part]
        assert tally.without(call) == (min(others), max(others))


def test_one_call_has_no_others() -> None:
    tally = tallied([np.ones(3, np.float32)])
    assert tally.high == Extreme(1.0, 0)
    assert tally.without(0) is None


def test_calls_with_nothing_or_what_is_not_finite() -> None:
    tally = tallied([np.zeros(0, np.float32), np.array([1, np.nan], np.float32), np.array([2.0, np.inf], np.float32)])
    assert (tally.broken, tally.broken_calls, tally.calls, tally.low) == ((1, "NaN"), 2, 0, None)


def test_memory_does_not_grow_with_calls() -> None:
    tally = Tally(detailed=True)
    random = np.random.default_rng(0)
    values = random.normal(size=1000).astype(np.float32)
    tally.add(values, 0)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(1, 2000):
        tally.add(values * np.float32(number), number)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 4096
    held = sum(sys.getsizeof(getattr(tally, name)) for name in Tally.__slots__)
    assert held < 300_000
    assert tally.values == 2_000_000
