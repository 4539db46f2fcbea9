"""The uncertainty of each measure of a candidate, as an interval; lower is better. Pure.

Promises:
- A measured latency has the interval that its own samples and its ratio to the float allow; a price is as uncertain as its
  latency; an estimate is as uncertain as `ESTIMATE_BAND` says. An unknown measure is None.

Will not: judge or choose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mlpack.core import stats
from mlpack.core.records import Estimate, Measurement, Result
from mlpack.core.stats import Interval
from mlpack.core.text import words

SIZE_BAND = 0.005
"""Packages within 1 % of each other (half of it each) count as equal: nobody should get a slower model for a few kilobytes."""

ESTIMATE_BAND = 0.15
"""Two estimates of one model count as equal if they differ by less than about a third. They share their errors, so this is far less
than the error of each, and still more than a count of bytes can decide."""

Band = Callable[[Result, "Measurement | None", "Estimate | None"], "Interval | None"]


def _latency_band(result: Result, baseline: Measurement | None, estimate: Estimate | None) -> Interval | None:
    """The median latency and its noise: the interval of its own samples, joined with that of the interleaved ratio to the float.

    Neither the ratio nor the samples show drift between two candidates' runs. Where they disagree, that is the drift, and the
    hull of both holds it.
    """
    measurement = result.measurement
    if measurement is None or not measurement.latency_ms:
        return _estimated(estimate.latency_ms) if estimate else None
    own = stats.latency_interval(measurement.latency_ms)
    if baseline is None or not measurement.ratio_samples or not baseline.latency_ms or measurement.machine != baseline.machine:
        return own
    return own.hull(stats.quantile_interval(measurement.ratio_samples).scaled(stats.median(baseline.latency_ms)))


def _cost_band(result: Result, baseline: Measurement | None, estimate: Estimate | None) -> Interval | None:
    """The price, as uncertain as the latency it was computed from (the share per request that is fixed makes this
    generous)."""
    cost, latency = result.cost_per_million_usd, _latency_band(result, baseline, None)
    if cost is None:
        return _estimated(estimate.cost_per_million_usd) if estimate else None
    if latency is None or latency.value <= 0:
        return Interval(low=cost, value=cost, high=cost)
    return Interval(low=cost * latency.low / latency.value, value=cost, high=cost * latency.high / latency.value)


def _size_band(result: Result, _baseline: Measurement | None, _estimate: Estimate | None) -> Interval | None:
    """The size of everything that ships, uncompressed, give or take `SIZE_BAND`."""
    if result.artifact is None:
        return None
    size = float(result.artifact.size_bytes)
    return Interval(low=size * (1 - SIZE_BAND), value=size, high=size * (1 + SIZE_BAND))


def _accuracy_band(result: Result, _baseline: Measurement | None, _estimate: Estimate | None) -> Interval | None:
    """The drop against the float with its paired interval: lower is better, as with every other measure."""
    accuracy = result.measurement.accuracy if result.measurement else None
    if accuracy is None:
        return None
    low, high = min(accuracy.ci_low, accuracy.drop), max(accuracy.ci_high, accuracy.drop)
    return Interval(low=low, value=accuracy.drop, high=high)


def _estimated(value: float) -> Interval:
    return Interval(low=value * (1 - ESTIMATE_BAND), value=value, high=value * (1 + ESTIMATE_BAND))


BANDS: Mapping[str, Band] = {
    "cost": _cost_band,
    "latency": _latency_band,
    "size": _size_band,
    "accuracy": _accuracy_band,
}
"""Each measure as an interval, lower is better; None where it is not known."""

LABELS: Mapping[str, tuple[str, Callable[[float, int], str]]] = {
    "cost": ("cost per million requests", words.usd),
    "latency": ("median latency", words.ms),
    "size": ("package size", words.size),
    "accuracy": ("accuracy drop", words.share),
}
"""The name of each measure, and how its values are written."""
