"""A metric's value with what it is made of, and the paired interval of a drop between two of them. numpy is loaded when
something is scored.

Promises: the drop between two models is judged on the same resamples of samples (bootstrap, fixed seed: equal numbers
everywhere), or, for a value that is no mean of anything, by leaving out groups of samples (jackknife). It knows no
metric by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.errors import MeasureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

RESAMPLES = 2_000
SEED = 20_260_101
JACKKNIFE_GROUPS = 20
_WEIGHTS_BYTES_MAX = 64 << 20
_T_TWO_SIDED_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101,
    2.093,
)  # fmt: skip
"""Student's t for 1 to 19 degrees of freedom: two to twenty jackknife groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """A metric's value, and what it is made of.

    `per_sample`: one row a sample (a query, for retrieval); None where only the whole has a value. `reduce`: the values
    of resamples, from how often each sample stands in each (rows of weights); the mean where it is None. `without`: the
    value of some samples alone (a mask of those kept). `output`, `column`, `threshold`: what it was read from.
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
    """Scores of samples: their value is that of the resample in which each stands once."""
    import numpy as np

    n = len(per_sample)
    value = float(reduced(per_sample, np.ones((1, n)), reduce)[0])
    return Scores(value=value, per_sample=per_sample, n=n, reduce=reduce, **more)


def interval(sign: float, drop: float, baseline: Scores, candidate: Scores) -> tuple[float, float]:
    """The 95 % interval of `drop`, which is sign times baseline minus candidate. MeasureError where they are no pair."""
    import numpy as np

    if baseline.n != candidate.n:
        raise MeasureError(f"the baseline was scored on {baseline.n} samples and the candidate on {candidate.n}: not a pair")
    if baseline.per_sample is None or candidate.per_sample is None:
        return _jackknife(sign, drop, baseline, candidate)
    if np.array_equal(baseline.per_sample, candidate.per_sample):
        return drop, drop
    drops = [
        sign * (reduced(baseline.per_sample, w, baseline.reduce) - reduced(candidate.per_sample, w, candidate.reduce))
        for w in _resamples(candidate.n)
    ]
    low, high = np.nanpercentile(np.concatenate(drops), [2.5, 97.5])
    return float(low), float(high)


def _resamples(n: int) -> Iterator[Array]:
    """How often each of n samples stands in each resample, a block of rows at a time (bounded memory)."""
    import numpy as np

    random = np.random.Generator(np.random.PCG64(SEED))
    rows = max(1, min(RESAMPLES, _WEIGHTS_BYTES_MAX // (8 * n)))
    for start in range(0, RESAMPLES, rows):
        count = min(rows, RESAMPLES - start)
        drawn = random.integers(0, n, size=(count, n)) + n * np.arange(count)[:, None]
        yield np.bincount(drawn.reshape(-1), minlength=count * n).reshape(count, n).astype(np.float64)


def _jackknife(sign: float, drop: float, baseline: Scores, candidate: Scores) -> tuple[float, float]:
    """The interval of a drop from leaving out one of at most twenty groups of samples at a time (every twentieth sample
    is a group).
    """
    import numpy as np

    groups = min(JACKKNIFE_GROUPS, candidate.n)
    if baseline.without is None or candidate.without is None or groups < 2:
        return drop, drop
    places = np.arange(candidate.n) % groups
    left = [sign * (baseline.without(places != group) - candidate.without(places != group)) for group in range(groups)]
    spread = np.asarray(left) - np.mean(left)
    half = _T_TWO_SIDED_95[groups - 2] * math.sqrt((groups - 1) / groups * float(np.square(spread).sum()))
    return drop - half, drop + half
