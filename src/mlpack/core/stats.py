"""Order statistics of measured samples: percentiles, their intervals, and a seeded bootstrap.

Promises:
- The same samples give the same numbers on every machine: no clock, a fixed seed, the standard library only.
- An interval is not called one of 95 % where there are too few samples for it: see `quantile_interval`.

Will not: know units, or judge. `decide` and `diff` do.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
BLOCK = 20
"""Calls in a block. Neighbouring latencies are alike (turbo, other tenants), so blocks, not calls, are treated as independent."""
P99_SAMPLES = 500
"""Below this a p99 rests on fewer than five observations: twenty-run p99s of one model ranged from 1.12 to 2.44 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A point estimate and the range that holds the truth, as far as the samples can say."""

    low: float
    value: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Whether the two intervals overlap, so that the values cannot be told apart."""
        return self.low <= other.high and other.low <= self.high

    def hull(self, other: Interval) -> Interval:
        """The smallest interval that holds both; the point estimate stays this one's."""
        return Interval(low=min(self.low, other.low), value=self.value, high=max(self.high, other.high))

    def scaled(self, factor: float) -> Interval:
        """The interval times a factor that is not negative."""
        return Interval(low=self.low * factor, value=self.value * factor, high=self.high * factor)


def percentile(samples: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the samples lie, interpolated linearly. ValueError on none or a wrong
    share."""
    if not samples or not 0 <= share <= 1:
        raise ValueError(f"no percentile {share} of {len(samples)} samples")
    ordered = sorted(samples)
    rank = share * (len(ordered) - 1)
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    # The first form is exact where both are equal: a weighted sum may differ from them in the last bit.
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def median(samples: Sequence[float]) -> float:
    """The 0.5 percentile."""
    return percentile(samples, 0.5)


def quantile_interval(samples: Sequence[float], share: float = 0.5, confidence: float = CONFIDENCE) -> Interval:
    """A distribution-free interval of a quantile: two order statistics chosen by the binomial distribution.

    With too few samples for the confidence (fewer than 6 for a median at 95 %) it is the range of the samples.
    """
    ordered = sorted(samples)
    value = percentile(ordered, share)
    n = len(ordered)
    tail = (1 - confidence) / 2
    lower, upper, cumulative = 0, n - 1, 0.0
    for k in range(n):
        cumulative += _binomial(n, k, share)
        if cumulative <= tail:
            lower = k
        if cumulative >= 1 - tail:
            upper = k
            break
    return Interval(low=min(ordered[lower], value), value=value, high=max(ordered[upper], value))


def _binomial(n: int, k: int, p: float) -> float:
    """The probability of k hits in n trials."""
    if p in (0.0, 1.0):
        return float(k == round(n * p))
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))


def block_medians(samples: Sequence[float], length: int = BLOCK) -> tuple[float, ...]:
    """Medians of consecutive blocks; a last one shorter than half a block joins none."""
    cuts = [samples[start : start + length] for start in range(0, len(samples), length)]
    return tuple(median(cut) for cut in cuts if len(cut) * 2 >= length)


def latency_interval(samples: Sequence[float]) -> Interval:
    """The median of timings in the order they were taken, and its interval.

    From the medians of consecutive blocks where there are at least six blocks, so that drift counts as noise; else
    from single calls.
    """
    blocks = block_medians(samples)
    around = quantile_interval(blocks if len(blocks) >= 6 else samples)
    value = median(samples)
    return Interval(low=min(around.low, value), value=value, high=max(around.high, value))


def student_t(share: float, freedom: int) -> float:
    """Student's t: the value below which `share` (0.5 to 1, excluded) lies, for this many degrees of freedom."""
    x = beta_quantile(2 * (1 - share), freedom / 2, 0.5)
    return math.sqrt(freedom * (1 - x) / x) if x > 0 else math.inf


def binomial_bounds(count: float, n: float, tail: float) -> tuple[float, float]:
    """The share of hits, where `count` of n are hits: the exact interval of Clopper and Pearson with `tail` on either side.

    Both may be sums of shares of hits: the bounds are then wider than they need be.
    """
    low = beta_quantile(tail, count, n - count + 1) if count > 0 else 0.0
    high = beta_quantile(1 - tail, count + 1, n - count) if count < n else 1.0
    return low, high


def beta_quantile(share: float, a: float, b: float) -> float:
    """The value below which `share` of a beta distribution lies, by bisection."""
    low, high = 0.0, 1.0
    while (middle := (low + high) / 2) not in (low, high):
        if _incomplete_beta(middle, a, b) < share:
            low = middle
        else:
            high = middle
    return high


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (Lentz's method; DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)) / a
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    fraction = d
    for m in range(1, 10_000):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / ((1 + step * d) or tiny)
            c = (1 + step / c) or tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * fraction


def bootstrap_interval(
    statistic: Callable[..., float], *samples: Sequence[float], rounds: int = 1000, confidence: float = CONFIDENCE
) -> Interval:
    """The percentile interval of `statistic(*samples)`, each sample drawn again with replacement and by itself.
    Seeded."""
    draw = random.Random(20)
    estimates = [statistic(*(draw.choices(sample, k=len(sample)) for sample in samples)) for _ in range(rounds)]
    tail = (1 - confidence) / 2
    value = statistic(*samples)
    return Interval(low=min(percentile(estimates, tail), value), value=value, high=max(percentile(estimates, 1 - tail), value))


def unseen(n: int, confidence: float = CONFIDENCE) -> float:
    """The largest share that may differ where none of n samples does, with this two-sided confidence: about 3.7/n for 95 %."""
    return float(1 - ((1 - confidence) / 2) ** (1 / n))


def samples_that_tell(n: int, drop: Interval, limit: float, *, share: bool, confidence: float = CONFIDENCE) -> int | None:
    """About how many samples would show on which side of a limit a drop lies; None where n samples show it already, or no number
    would.

    The width of the interval shrinks with the root of n, and has to end short of the limit. Where no sample differs it shrinks
    with n itself, which holds only for a metric that is a `share` (see `unseen`).
    """
    if limit <= 0 or n <= 0 or not all(map(math.isfinite, (drop.low, drop.value, drop.high))):
        return None
    bound = unseen(n, confidence)
    if share and drop.value == 0 and (drop.low == drop.high or math.isclose(drop.high, bound)):
        return math.ceil(round(math.log((1 - confidence) / 2) / math.log1p(-limit), 6)) if bound > limit and limit < 1 else None
    if drop.low == drop.high:
        return None
    if drop.high <= limit or drop.low > limit:
        return None
    # No number of samples can decide a drop at the limit itself: a tenth of the limit is the nearest considered.
    gap = max(abs(limit - drop.value), limit / 10)
    half = max(drop.high - drop.value, drop.value - drop.low)
    return max(n + 1, math.ceil(round(n * (half / gap) ** 2, 6)))
