"""A metric's value with its parts, and the paired interval of the drop between two of them. numpy is imported when something is
scored.

Promises:
- The drop between two models is computed on the same resamples of samples (bootstrap with a fixed seed: equal numbers
  everywhere). For a value that is no mean it leaves out groups of samples (jackknife).
- Few samples, or few that differ, make the interval wider (Student's t, the binomial's exact bounds), never narrower.

Will not: know any metric by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlpack.core import stats
from mlpack.core.records import Spread
from mlpack.errors import MeasureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

RESAMPLES = 2_000
SEED = 20_260_101
JACKKNIFE_GROUPS = 20
FEW_SAMPLES = 30
"""With fewer samples, resamples spread less than other samples would: the interval is at least Student's."""
FEW_DIFFER = 10
"""Where fewer samples than this differ, resamples cannot tell how many other samples would."""
_WEIGHTS_BYTES_MAX = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """A metric's value and its parts.

    `per_sample`: one row a sample (a query, for retrieval); None where only the whole has a value. `reduce`: the values of
    resamples, from how often each sample occurs in each (rows of weights); the mean where it is None. `without`: the value of
    some samples alone (a mask of those kept). `output`, `column`, `threshold`: what was read.
    """

    value: float
    per_sample: Array | None
    n: int
    output: str = ""
    column: int | None = None
    threshold: float | None = None
    reduce: Callable[[Array], Array] | None = None
    without: Callable[[Array], float] | None = None


def reduced(per_sample: Array, weights: Array, reduce: Callable[[Array], Array] | None) -> Array:
    """The value of every resample."""
    import numpy as np

    if reduce is not None:
        return np.asarray(reduce(weights))
    return np.asarray((weights @ per_sample.astype(np.float64)) / weights.sum(axis=1))


def of(per_sample: Array, reduce: Callable[[Array], Array] | None = None, **more: Any) -> Scores:
    """Scores of samples: their value is that of the resample in which each occurs once."""
    import numpy as np

    n = len(per_sample)
    value = float(reduced(per_sample, np.ones((1, n)), reduce)[0])
    return Scores(value=value, per_sample=per_sample, n=n, reduce=reduce, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The interval of a drop, and its method: `bootstrap`, `exact` (at least the bounds of a binomial), `jackknife`, or `none`,
    which says nothing beyond the drop itself."""

    low: float
    high: float
    how: str

    def hull(self, low: float, high: float, how: str | None = None) -> Range:
        """The smallest range that holds both; `how` is the other's where that one widens it."""
        wider = low < self.low or high > self.high
        return Range(low=min(self.low, low), high=max(self.high, high), how=how if how and wider else self.how)


def spread(sign: float, drop: float, baseline: Scores, candidate: Scores, *, share: bool = False) -> Spread:
    """The data from which the interval of such a drop is computed at any confidence."""
    if baseline.n != candidate.n:
        raise MeasureError(f"the baseline was scored on {baseline.n} samples and the candidate on {candidate.n}: not a pair")
    if baseline.per_sample is None or candidate.per_sample is None:
        return _jackknife(sign, baseline, candidate)
    estimate = _bootstrap(sign, baseline, candidate)
    return replace(estimate, unseen=_unseen(sign, drop, baseline, candidate)) if share else estimate


def read(estimate: Spread, drop: float, confidence: float) -> Range:
    """The interval at that confidence. It needs no numpy: a build that finds everything in the store reads it, too."""
    tail = (1 - confidence) / 2
    low = high = drop
    if estimate.drops:
        low, high = (stats.percentile(estimate.drops, share) for share in (tail, 1 - tail))
    bounds = Range(low=low, high=high, how=estimate.how)
    if estimate.freedom:
        half = stats.student_t(1 - tail, estimate.freedom) * estimate.error
        bounds = bounds.hull(drop - half, drop + half) if estimate.drops else replace(bounds, low=drop - half, high=drop + half)
    if estimate.unseen is not None:
        unseen, won, n = estimate.unseen
        bounds = bounds.hull(-_most(won, unseen, n, tail), _most(unseen, won, n, tail), "exact")
    least = bounds.low if estimate.least is None else min(drop, estimate.least)
    most = bounds.high if estimate.most is None else max(drop, estimate.most)
    return replace(bounds, low=max(bounds.low, least), high=min(bounds.high, most))


def _bootstrap(sign: float, baseline: Scores, candidate: Scores) -> Spread:
    import numpy as np

    assert baseline.per_sample is not None
    assert candidate.per_sample is not None
    n = candidate.n
    if n < 2:
        return Spread(how="none")
    if np.array_equal(baseline.per_sample, candidate.per_sample):
        return Spread(how="bootstrap")
    drops = np.concatenate(
        [
            sign * (reduced(baseline.per_sample, w, baseline.reduce) - reduced(candidate.per_sample, w, candidate.reduce))
            for w in _resamples(n)
        ]
    )
    estimate = Spread(how="bootstrap", drops=tuple(map(float, np.sort(drops[np.isfinite(drops)]))))
    if n >= FEW_SAMPLES:
        return estimate
    return replace(estimate, error=float(np.nanstd(drops)) * math.sqrt(n / (n - 1)), freedom=n - 1)


def _unseen(sign: float, drop: float, baseline: Scores, candidate: Scores) -> tuple[float, float, int] | None:
    """The numbers of samples lost, won and all, where few of them differ: other samples may then widen the interval."""
    import numpy as np

    assert baseline.per_sample is not None
    assert candidate.per_sample is not None
    n, ours, theirs = candidate.n, candidate.per_sample, baseline.per_sample
    differ = int((ours != theirs).reshape(n, -1).any(axis=1).sum()) if ours.shape == theirs.shape else n
    if differ >= FEW_DIFFER:
        return None
    if ours.ndim == 1 and candidate.reduce is None:
        each = sign * (theirs.astype(np.float64) - ours.astype(np.float64))
        return float(np.clip(each, 0, 1).sum()), float(np.clip(-each, 0, 1).sum()), n
    return min(max(drop, 0.0), 1.0) * n, min(max(-drop, 0.0), 1.0) * n, n


def _most(share_lost: float, won: float, n: int, tail: float) -> float:
    """The upper end of the share lost minus the share won: how many differ, and of those how many are lost, each by its own exact
    bounds, which share the tail."""
    differ = share_lost + won
    if won == 0:  # every sample that differs is lost
        return stats.binomial_bounds(differ, n, tail)[1]
    least, most = stats.binomial_bounds(differ, n, tail / 2)
    surplus = 2 * stats.binomial_bounds(share_lost / differ * max(differ, 1.0), max(differ, 1.0), tail / 2)[1] - 1
    return surplus * (most if surplus > 0 else least)


def _resamples(n: int) -> Iterator[Array]:
    """How often each of n samples occurs in each resample, a block of rows at a time (bounded memory)."""
    import numpy as np

    random = np.random.Generator(np.random.PCG64(SEED))
    rows = max(1, min(RESAMPLES, _WEIGHTS_BYTES_MAX // (8 * n)))
    for start in range(0, RESAMPLES, rows):
        count = min(rows, RESAMPLES - start)
        drawn = random.integers(0, n, size=(count, n)) + n * np.arange(count)[:, None]
        yield np.bincount(drawn.reshape(-1), minlength=count * n).reshape(count, n).astype(np.float64)


def _jackknife(sign: float, baseline: Scores, candidate: Scores) -> Spread:
    """The spread from leaving out one of at most twenty groups of samples at a time (every twentieth sample is a group)."""
    import numpy as np

    groups = min(JACKKNIFE_GROUPS, candidate.n)
    if baseline.without is None or candidate.without is None or groups < 2:
        return Spread(how="none")
    places = np.arange(candidate.n) % groups
    drops = [sign * (baseline.without(places != group) - candidate.without(places != group)) for group in range(groups)]
    around = np.asarray(drops) - np.mean(drops)
    return Spread(how="jackknife", error=math.sqrt((groups - 1) / groups * float(np.square(around).sum())), freedom=groups - 1)
