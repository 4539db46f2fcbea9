"""Where ranges end: each method against a slow plain reference, on distributions that activations have."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpack.passes.quantize.calibration import cuts
from mlpack.passes.quantize.calibration.cuts import SIGNED, UNSIGNED, Grid
from mlpack.passes.quantize.calibration.tally import Tally

Array = np.ndarray[Any, Any]
SAMPLES = 20_000


def _distributions() -> dict[str, Array]:
    random = np.random.default_rng(5)
    normal = random.normal(size=SAMPLES)
    return {
        "normal": normal,
        "heavy tail": random.standard_t(2, size=SAMPLES),
        "one outlier": np.append(normal, 90.0),
        "after Relu": np.maximum(normal - 0.3, 0),
        "two modes": np.concatenate([normal * 0.1 - 1, normal[:2000] * 0.5 + 20]),
        "below zero": -np.exp(normal),
        "constant": np.full(SAMPLES, 3.7),
    }


DISTRIBUTIONS = {name: values.astype(np.float32) for name, values in _distributions().items()}
each_distribution = pytest.mark.parametrize("values", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS.keys())
each_grid = pytest.mark.parametrize("grid", [UNSIGNED, SIGNED], ids=["unsigned", "signed"])


def tallied(values: Array, calls: int = 4) -> Tally:
    tally = Tally(detailed=True)
    for number, part in enumerate(np.array_split(values, calls)):
        tally.add(part, number)
    return tally


def steps_of(low: float, high: float, grid: Grid) -> tuple[float, float, int]:
    """The step, and the numbers of the lowest and of all steps, as a kernel has them."""
    low, high = min(low, 0.0), max(high, 0.0)
    if grid.symmetric:
        step = max(-low, high) / 127
        return step, -127, 254
    step = (high - low) / 255
    return step, round(low / step), 255


def square(values: Array, low: float, high: float, grid: Grid) -> float:
    """The mean square by which 8 bits are off, value by value."""
    step, first, count = steps_of(low, high, grid)
    rounded = np.clip(np.rint(values.astype(np.float64) / step), first, first + count) * step
    return float(np.square(rounded - values).mean())


@each_distribution
def test_minmax_is_what_was_reached(values: Array) -> None:
    assert cuts.cut(tallied(values), "minmax", UNSIGNED) == (values.min(), values.max())


@each_distribution
@pytest.mark.parametrize("percentile", [90.0123, 99.0321, 99.9312, 100.0])
def test_percentile_keeps_that_share(values: Array, percentile: float) -> None:
    low, high = cuts.cut(tallied(values), "percentile", UNSIGNED, percentile)
    limit = float(np.quantile(np.abs(values), percentile / 100, method="inverted_cdf"))
    assert max(-low, high) == pytest.approx(limit, rel=2e-3)
    assert ((values >= low) & (values <= high)).mean() >= percentile / 100
    assert low >= values.min()
    assert high <= values.max()


@each_distribution
@each_grid
def test_mse_is_off_by_the_least(values: Array, grid: Grid) -> None:
    low, high = cuts.cut(tallied(values), "mse", grid)
    parts = np.geomspace(1 / 100, 1, 50)
    lows = [float(values.min()) * part for part in parts] if values.min() < 0 and not grid.symmetric else [float(values.min())]
    highs = [float(values.max()) * part for part in parts] if values.max() > 0 and not grid.symmetric else [float(values.max())]
    if grid.symmetric:
        reach = float(np.abs(values).max())
        tried = [(-reach * part, reach * part) for part in parts]
    else:
        tried = [(one, other) for one in lows for other in highs]
    least = min(square(values, one, other, grid) for one, other in tried)
    assert square(values, low, high, grid) <= 1.02 * least + 1e-12


def relative_entropy(values: Array, low: float, high: float, grid: Grid) -> float:
    """Of the distribution, cut at these ends, to its steps: bin by bin, from the values themselves."""
    step, first, count = steps_of(low, high, grid)
    start, width = step * first, step / 4
    inside: dict[int, int] = defaultdict(int)
    outside: dict[int, int] = defaultdict(int)
    for value in values[values != 0].tolist():
        place = min(max(math.floor((value - start) / width), 0), 4 * (count + 1) - 1)
        (inside if min(low, 0) <= value <= max(high, 0) else outside)[place] += 1
    level_mass: dict[int, int] = defaultdict(int)
    level_bins: dict[int, int] = defaultdict(int)
    for place, held in inside.items():
        level_mass[place // 4] += held
        level_bins[place // 4] += 1
    total, kept = sum(inside.values()) + sum(outside.values()), sum(inside.values())
    found = 0.0
    for place in {*inside, *outside}:
        p = (inside[place] + outside[place]) / total
        q = level_mass[place // 4] / level_bins[place // 4] / kept if inside[place] else 1e-9
        found += p * math.log(p / q)
    by_chance = (len(inside) - len(level_bins)) / (2 * total)
    return found - by_chance


@pytest.mark.parametrize("name", [name for name in DISTRIBUTIONS if name != "constant"])
@each_grid
def test_entropy_tells_least_apart(name: str, grid: Grid) -> None:
    values = DISTRIBUTIONS[name]
    low, high = cuts.cut(tallied(values), "entropy", grid)
    reach = float(np.abs(values).max())
    ends = [reach * part for part in np.geomspace(1 / 64, 1, 12)]
    ranges = [(max(float(values.min()), -end), min(float(values.max()), end)) for end in ends]
    least = min(relative_entropy(values, one, other, grid) for one, other in ranges)
    assert relative_entropy(values, low, high, grid) <= 1.1 * least + 0.02


def test_entropy_leaves_an_outlier_out_and_mse_weighs_it() -> None:
    few = DISTRIBUTIONS["one outlier"]
    many = np.append(np.random.default_rng(1).normal(size=1_000_000), 90.0).astype(np.float32)
    assert 3 < cuts.cut(tallied(few), "entropy", UNSIGNED)[1] < 12
    assert 4 < cuts.cut(tallied(many), "entropy", UNSIGNED)[1] < 12
    # Cut at 5, the outlier alone would cost 85 squared; each of a thousand times as many values gains 0.01.
    assert cuts.cut(tallied(few), "mse", UNSIGNED)[1] > 80
    assert cuts.cut(tallied(many), "mse", UNSIGNED)[1] < 60


@each_grid
@pytest.mark.parametrize("method", cuts.METHODS)
@pytest.mark.parametrize("value", [3.7, -3.7, 1e-30, 1e30, 5e-324, 1e-40])
def test_a_constant_is_kept(method: str, value: float, grid: Grid) -> None:
    low, high = cuts.cut(tallied(np.full(100, value, np.float32)), method, grid)
    wanted = float(np.float32(value))
    assert low <= wanted <= high
    assert low == high or (low, high) == pytest.approx((wanted, wanted), rel=2e-3)


@pytest.mark.parametrize("method", cuts.METHODS)
def test_zero_and_nothing(method: str) -> None:
    assert cuts.cut(tallied(np.zeros(9, np.float32)), method, UNSIGNED) == (0, 0)
    with pytest.raises(ValueError, match="no call"):
        cuts.cut(Tally(), method, UNSIGNED)


@pytest.mark.parametrize("method", ["entropy", "mse"])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_zero_is_in_the_middle_only_of_both_signs(method: str, name: str) -> None:
    tally = tallied(DISTRIBUTIONS[name])
    grid = SIGNED if DISTRIBUTIONS[name].min() < 0 < DISTRIBUTIONS[name].max() else UNSIGNED
    assert cuts.cut(tally, method, cuts.CENTRED) == cuts.cut(tally, method, grid)


def test_many_zeros_change_nothing_but_the_percentile() -> None:
    values = DISTRIBUTIONS["normal"]
    padded = np.concatenate([values, np.zeros(10 * SAMPLES, np.float32)])
    for method in ("entropy", "mse"):
        assert cuts.cut(tallied(padded), method, UNSIGNED) == cuts.cut(tallied(values), method, UNSIGNED)
    assert cuts.cut(tallied(padded), "percentile", UNSIGNED, 95)[1] < cuts.cut(tallied(values), "percentile", UNSIGNED, 95)[1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=40),
    st.sampled_from(cuts.METHODS),
    st.sampled_from([UNSIGNED, SIGNED]),
)
def test_range_lies_within_what_was_reached_and_holds_something(numbers: list[float], method: str, grid: Grid) -> None:
    values = np.array(numbers, np.float32)
    low, high = cuts.cut(tallied(values, 2), method, grid)
    assert values.min() <= low <= high <= values.max()
    assert max(-low, high) > 0 or not values.any()


@pytest.mark.parametrize(("samples", "percentile"), [(0, 99.0), (1, 49.0), (1, 100.5), (1, math.nan)])
def test_what_no_calibration_can_mean_is_refused(samples: int, percentile: float) -> None:
    with pytest.raises(ValueError, match=r"must be at least 1|is a share"):
        cuts.check(samples, percentile)
