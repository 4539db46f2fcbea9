"""Chooses the ends of an activation's range from the values that calls reached, by the method of the config. Pure.

    minmax      all values
    percentile  as far as this share of the values lies from zero
    entropy     the range whose steps differ least from the distribution that is cut there (relative entropy)
    mse         the range whose steps have the least mean square error

Promises:
- A range lies within the values that were reached, is not empty where anything but zero was reached, and is the same for the
  same tally.
- Zero, which every grid holds exactly, has no weight in entropy and mse.

Source of `entropy`: S. Migacz, "8-bit Inference with TensorRT", GTC 2017; here over the steps that the range will have,
symmetric or not, in place of the 128 of absolute values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from mlpack.passes.quantize.calibration.tally import Tally

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

Method = Literal["minmax", "entropy", "percentile", "mse"]
METHODS: tuple[str, ...] = get_args(Method)
PERCENTILE = 99.999

_NARROWEST = 128
"""The smallest part of the extreme values that is tried as a range."""
_TRIED = 96
_BINS_A_STEP = 4
_ALMOST_NOTHING = 1e-9
"""The share of an empty bin of the steps: its relative entropy would be infinite."""
_ROUNDS = 6
_SMALLER = 0.9
"""Of mse: the factor between the ends that are tried; it comes closer to 1 from round to round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The steps of a range: so many over it, or for `symmetric` over as much on both sides of zero (`if_signed`: if the values lie
    on both sides; else 255 over it)."""

    steps: int = 255
    symmetric: bool = False
    if_signed: bool = False


UNSIGNED = Grid()
"""0 to 255 over a range whose ends differ, or as well -128 to 127."""
SIGNED = Grid(steps=254, symmetric=True)
"""-127 to 127, as TensorRT has it."""
CENTRED = Grid(steps=254, symmetric=True, if_signed=True)
"""Zero in the middle where there are both signs."""


def check(samples: int, percentile: float) -> None:
    """Raise ValueError for settings that no calibration can have."""
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    if not 50 <= percentile <= 100:
        raise ValueError(f"percentile is a share of values in percent, from 50 to 100 (such as 99.99), not {percentile:g}")


def cut(tally: Tally, method: str, grid: Grid, percentile: float = PERCENTILE) -> tuple[float, float]:
    """The lowest and the highest value that are kept. ValueError for an empty tally."""
    if tally.low is None or tally.high is None:
        raise ValueError("no call had values in this tensor")
    low, high = tally.low.value, tally.high.value
    grid = UNSIGNED if grid.if_signed and not low < 0 < high else grid
    reach = max(-low, high)
    if method == "minmax" or reach == 0:
        return low, high
    middles, counts = tally.histogram()
    middles = middles.clip(low, high)  # the middle of the outermost bin may lie further out than what is in it
    if method == "percentile":
        limit = _percentile(middles, counts, percentile) or reach
        return max(low, -limit), min(high, limit)
    nonzero = middles != 0
    middles, counts = middles[nonzero], counts[nonzero]
    if method == "entropy":
        limit = min(_candidates(reach), key=lambda end: (_apart(middles, counts, (max(low, -end), min(high, end)), grid), -end))
        return max(low, -limit), min(high, limit)
    return _least_square(middles, counts, (low, high), grid)


def _percentile(middles: Array, counts: Array, percentile: float) -> float:
    """The distance from zero within which this share of the values lies."""
    import numpy as np

    far = np.abs(middles)
    order = np.argsort(far, kind="stable")
    place = int(np.searchsorted(counts[order].cumsum(), counts.sum() * percentile / 100))
    # A value is off from the middle of its bin by half a bin: the range ends behind the bin.
    return float(far[order[min(place, len(order) - 1)]]) * (1 + 2.0**-11)


def _candidates(reach: float) -> list[float]:
    import numpy as np

    return [float(end) for end in np.geomspace(reach / _NARROWEST, reach, _TRIED)]


def _spread(ends: tuple[float, float], grid: Grid) -> tuple[float, float]:
    """The ends as the grid has them: zero lies between them, in the middle of a symmetric one."""
    low, high = min(ends[0], 0.0), max(ends[1], 0.0)
    reach = max(-low, high)
    return (-reach, reach) if grid.symmetric else (low, high)


def _apart(middles: Array, counts: Array, ends: tuple[float, float], grid: Grid) -> float:
    """The relative entropy between the distribution, cut here with everything further at the ends, and its steps, as far as it is
    more than chance."""
    import numpy as np

    low, high = _spread(ends, grid)
    bins = grid.steps * _BINS_A_STEP
    place = np.floor((middles - low) / (high - low) * bins).astype(np.int64)
    inside = (middles >= low) & (middles <= high)
    counts_kept = np.bincount(np.clip(place[inside], 0, bins - 1), counts[inside], minlength=bins)
    whole = np.bincount(np.clip(place, 0, bins - 1), counts, minlength=bins)
    if not counts_kept.any():
        return float("inf")
    filled = (counts_kept > 0).astype(np.float64)
    in_step = filled.reshape(-1, _BINS_A_STEP).sum(1)
    each = counts_kept.reshape(-1, _BINS_A_STEP).sum(1) / np.maximum(1, in_step)
    steps = np.repeat(each, _BINS_A_STEP) * filled / counts_kept.sum()
    there = whole > 0
    p, q = whole[there] / whole.sum(), np.maximum(steps[there], _ALMOST_NOTHING)
    # Bins differ from their step's mean by chance alone, which narrow ranges, of many filled bins, would pay for (Miller, 1955).
    by_chance = (filled.sum() - (in_step > 0).sum()) / (2 * whole.sum())
    return float((p * np.log(p / q)).sum() - by_chance)


def _least_square(middles: Array, counts: Array, reached: tuple[float, float], grid: Grid) -> tuple[float, float]:
    """Both ends in turn, from the extreme values inwards, in ever finer steps."""
    low, high = reached
    best = square(middles, counts, reached, grid)
    factor = _SMALLER
    for number in range(_ROUNDS):
        wide = 46 if number == 0 else 8
        for end in (1, 0):
            if (high if end else -low) <= 0:
                continue
            before = (low, high)
            for power in range(-wide, wide + 1):
                moved = before[end] * factor**power
                limits = (before[0], min(moved, reached[1])) if end else (max(moved, reached[0]), before[1])
                if grid.symmetric:
                    limit = limits[1] if end else -limits[0]
                    limits = (max(reached[0], -limit), min(reached[1], limit))
                if (error := square(middles, counts, limits, grid)) < best:
                    best, (low, high) = error, limits
        factor = factor**0.3
    return low, high


def square(middles: Array, counts: Array, ends: tuple[float, float], grid: Grid) -> float:
    """The sum of the squared errors of the grid's steps over this range."""
    import numpy as np

    low, high = _spread(ends, grid)
    if high <= low:
        return float((counts * middles**2).sum())
    scale = (high - low) / grid.steps
    zero = np.rint(-low / scale)
    steps = np.clip(np.rint(middles / scale) + zero, 0, grid.steps)
    return float((counts * ((steps - zero) * scale - middles) ** 2).sum())
