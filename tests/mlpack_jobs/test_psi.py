"""PSI: against sums by hand, and what it says of empty bins, NaN, constants, texts, categories and little data."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack_jobs import psi

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2))


def finding(before: list[Any], today: list[Any], limit: float = 0.2) -> psi.Finding:
    bins = psi.reference(before)
    return psi.compare(bins["counts"], psi.counts(json.loads(json.dumps(bins)), today), limit)


def test_it_is_the_sum_that_one_gets_by_hand() -> None:
    told = psi.compare({"a": 500, "b": 300, "c": 200}, {"a": 300, "b": 300, "c": 400}, 0.2)
    # half a value more in each bin: (300.5 - 500.5) / 1001.5 ln(300.5 / 500.5) + 0 + (400.5 - 200.5) / 1001.5 ln(400.5 / 200.5)
    assert told.psi == pytest.approx(0.101879 + 0.138173, abs=1e-6)
    assert told.chance == pytest.approx(13.8155 * (1 / 1000 + 1 / 1000), rel=0.03)  # chi-square of 2 degrees, 0.999
    assert told.verdict == "drift"


def test_the_same_shift_in_few_values_may_be_chance() -> None:
    told = psi.compare({"a": 50, "b": 30, "c": 20}, {"a": 30, "b": 30, "c": 40}, 0.2)
    assert told.psi == pytest.approx((20 * math.log(50.5 / 30.5) + 20 * math.log(40.5 / 20.5)) / 101.5)
    assert told.verdict == "unknown"


def test_an_empty_bin_counts_as_half_a_value() -> None:
    told = psi.compare({"a": 100}, {"b": 100}, 0.2)
    assert told.psi == pytest.approx(2 * 100 / 101 * math.log(201))
    assert told.verdict == "drift"


@pytest.mark.parametrize("size", [0, 1, 29])
def test_little_data_say_nothing(size: int) -> None:
    assert finding([1.0] * 1000, [5.0] * size) == ("unknown", None, None, 1000, size)
    assert finding([1.0] * size, [5.0] * 1000).verdict == "unknown"


def test_numbers_are_in_tenths_and_a_shift_is_seen() -> None:
    chance = random.Random(1)
    before = [chance.gauss(0, 1) for _ in range(5000)]
    assert sorted(psi.reference(before)["counts"].values()) == [500] * 10
    assert finding(before, [chance.gauss(0, 1) for _ in range(2000)]).verdict == "stable"
    assert finding(before, [chance.gauss(0.7, 1) for _ in range(2000)]).verdict == "drift"


def test_constants_are_stable_until_they_change() -> None:
    assert finding([3] * 2000, [3.0] * 2000)[:2] == ("stable", 0.0)
    assert finding([3] * 2000, [4] * 2000).verdict == "drift"


def test_missing_values_are_a_bin_of_their_own() -> None:
    numbers = [float(at) for at in range(2000)]
    holes = [None, math.nan, math.inf, -math.inf] * 250
    assert psi.reference(numbers + holes)["counts"][psi.MISSING] == 1000
    assert finding(numbers, numbers[:1000] + holes).verdict == "drift"
    assert finding(holes * 2, holes * 2)[:2] == ("stable", 0.0)


def test_categories_that_were_never_seen_are_others() -> None:
    before = ["basic", "pro"] * 1000
    assert finding(before, ["basic"] * 990 + ["pro"] * 1000 + ["gold"] * 10).verdict == "stable"
    assert finding(before, ["gold"] * 1000).verdict == "drift"
    assert finding([True, False] * 500, [1, 0] * 500).verdict == "drift"  # numbers where booleans were


def test_many_categories_are_the_most_frequent_ones_and_others() -> None:
    before = [f"{at % 50}" for at in range(3000)] + ["most"] * 500
    bins = psi.reference(before)
    assert len(bins["values"]) == psi.CATEGORIES
    assert bins["values"][0] == '"most"'
    assert bins["counts"][psi.OTHER] == 60 * 31
    assert finding(before, before[::-1])[:2] == ("stable", 0.0)


def test_texts_that_differ_are_judged_by_their_length() -> None:
    before = ["x" * (at % 40) + str(at) for at in range(2000)]
    assert finding(before, ["y" * (at % 40) + str(at) for at in range(2000)]).verdict == "stable"
    assert finding(before, [str(at) for at in range(2000)]).verdict == "drift"


def test_numbers_that_became_texts_drift() -> None:
    assert finding([float(at) for at in range(1000)], [str(at) for at in range(1000)]).verdict == "drift"


def test_of_many_features_without_drift_hardly_one_is_called_so() -> None:
    chance = random.Random(7)
    drifting = 0
    for _ in range(100):
        before, today = ([chance.gauss(0, 1) for _ in range(size)] for size in (500, 120))
        bins = psi.reference(before)
        drifting += psi.compare(bins["counts"], psi.counts(bins, today), 0.01, 100).verdict == "drift"
    assert drifting == 0


@given(st.lists(VALUES, max_size=80), st.lists(VALUES, max_size=80))
def test_whatever_the_values_are_there_is_a_verdict(before: list[Any], today: list[Any]) -> None:
    told = finding(before, today)
    assert told.verdict in ("drift", "stable", "unknown")
    assert told.psi is None or (math.isfinite(told.psi) and told.psi >= 0)
    assert (told.n, told.m) == (len(before), len(today))
