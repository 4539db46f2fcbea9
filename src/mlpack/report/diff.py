"""Compare two builds: what became smaller, faster, cheaper or more accurate, and what is only noise.

Promises:
- Everything except `read` is pure.
- A change counts only beyond the noise of both builds, which comes from their raw samples.
- Times of different machines are called incomparable.

Will not: check budgets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlpack.core import stats
from mlpack.core.stages import STAGES
from mlpack.core.stats import Interval
from mlpack.core.text import sinks, words
from mlpack.decide import bands
from mlpack.evaluation.metrics import METRICS
from mlpack.report import diff_graphs, summary
from mlpack.report.diff_graphs import Change as Change
from mlpack.report.record import BuildRecord, files
from mlpack.report.record.candidates import AccuracyRecord, CandidateRecord, EstimateRecord

read = files.read
"""A record from a build's directory or its build.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureChange:
    """One measure of one candidate, before and after.

    `before`, `after`: in the unit at the end of the measure's name. `low`, `high`: bounds of the relative change, or None. `why`:
    the reason for the verdict.
    """

    candidate: str
    measure: str
    before: float | str | None
    after: float | str | None
    change: Change
    low: float | None
    high: float | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measure:
    """Reads one number of a candidate, writes it, and compares it."""

    name: str
    value: Callable[[CandidateRecord], float | None]
    write: Callable[..., str]
    samples: Callable[[CandidateRecord], Sequence[float]] | None = None
    share: float = 0.5
    timed: bool = False
    slack: float = 0.0
    """Relative change below which two exact numbers count as the same."""


_MEASURES = (
    _Measure(name="package.size_bytes", value=lambda c: c.package.size_bytes, write=words.size),
    _Measure(name="package.compressed_bytes", value=lambda c: c.package.compressed_bytes, write=words.size),
    _Measure(name="model.size_bytes", value=lambda c: c.model.size_bytes, write=words.size),
    _Measure(
        name="cold_start_ms.p50",
        value=lambda c: c.cold_start_ms.p50,
        samples=lambda c: c.cold_start_ms.samples,
        write=words.ms,
        timed=True,
    ),
    _Measure(
        name="latency_ms.p50",
        value=lambda c: c.latency_ms.p50,
        samples=lambda c: c.latency_ms.samples,
        write=words.ms,
        timed=True,
    ),
    _Measure(
        name="latency_ms.p95",
        value=lambda c: c.latency_ms.p95,
        samples=lambda c: c.latency_ms.samples,
        write=words.ms,
        share=0.95,
        timed=True,
    ),
    _Measure(
        name="peak_memory_bytes",
        value=lambda c: c.peak_memory_bytes,
        write=words.size,
        slack=0.02,  # one observation each: the allocator alone varies by about this much
    ),
    _Measure(
        name="cost_per_million_usd",
        value=lambda c: c.cost_per_million_usd,
        samples=lambda c: _priced(c),
        write=words.usd,
        timed=True,
    ),
)

_STAGES = tuple(
    _Measure(
        name=f"stages_ms.{name}.p95",
        value=lambda c, name=name: c.stages_ms[name].p95 if name in c.stages_ms else None,  # type: ignore[misc]
        write=words.ms,
        slack=0.1,  # of hundreds of requests the record keeps the percentile alone
    )
    for name in STAGES
)
"""Stages of requests, where both builds measured them."""
_WRITERS: dict[str, Callable[..., str]] = {measure.name: measure.write for measure in (*_MEASURES, *_STAGES)} | {
    "estimated.latency_ms": words.ms,
    "estimated.cost_per_million_usd": words.usd,
}


def compare(before: BuildRecord, after: BuildRecord, only: str | None = None) -> tuple[MeasureChange, ...]:
    """Every measure of every candidate of either build: first the chosen id, then the candidates in `after`'s order.

    `only`: this candidate alone.
    """
    old = {one.id: one for one in before.candidates}
    new = {one.id: one for one in after.candidates}
    changed = Change.SAME if before.chosen == after.chosen else Change.CHANGED
    rows = [_text_change("", "chosen", before.chosen, after.chosen, changed, "")]
    falls = _lower_is_better(before, after)
    for id_ in (*new, *(gone for gone in old if gone not in new)) if only is None else (only,):
        if id_ not in old or id_ not in new:
            change = Change.ADDED if id_ in new else Change.REMOVED
            rows.append(_text_change(id_, "status", _status(old.get(id_)), _status(new.get(id_)), change, ""))
            continue
        first, second = old[id_], new[id_]
        rows.append(_status_row(id_, first, second))
        floats = _same_float(first, before, after)
        both_have = [each for each in _STAGES if each.value(first) is not None and each.value(second) is not None]
        rows.extend(_row(measure, first, second, floats) for measure in (*_MEASURES, *both_have))
        rows.append(_accuracy(first, second, falls=falls))
        rows.append(_drop(first, second, before, after))
        rows.extend(_estimates(first, second))
        rows.extend(
            _text_change(id_, each.measure, each.before, each.after, each.change, each.why)
            for each in diff_graphs.changes(first, second)
        )
    return tuple(rows)


def as_json(rows: Sequence[MeasureChange]) -> list[dict[str, Any]]:
    """The rows for other programs."""
    return [
        {
            "candidate": row.candidate,
            "measure": row.measure,
            "before": row.before,
            "after": row.after,
            "change": str(row.change),
            "low": row.low,
            "high": row.high,
            "why": row.why,
        }
        for row in rows
    ]


def text(rows: Sequence[MeasureChange]) -> str:
    """The rows for people: the changes by candidate, and a count of unchanged measures."""
    lines: list[str] = []
    same: dict[str, int] = {}
    current = ""
    for row in rows:
        if row.change in (Change.SAME, Change.UNKNOWN) and row.measure not in ("chosen",):
            same[row.candidate] = same.get(row.candidate, 0) + 1
            continue
        if row.candidate != current:
            lines.append(sinks.line(row.candidate))
            current = row.candidate
        values = " → ".join(map(sinks.line, both(row)))
        why = f"  ({sinks.line(row.why)})" if row.why else ""
        change = "" if row.measure == "chosen" else f"  {row.change}"
        lines.append(f"{'  ' if row.candidate else ''}{sinks.line(row.measure)}: {values}{change}{why}")
    quiet = sum(same.values())
    return "\n".join([*lines, f"{words.count(quiet, 'measure')} unchanged within noise, or not known"])


def both(row: MeasureChange) -> tuple[str, str]:
    """Before and after as people read them, with as many digits as it takes to tell them apart."""
    write = _WRITERS.get(row.measure) or diff_graphs.writer(row.measure) or words.share
    first, second = row.before, row.after
    if isinstance(first, (int, float)) and isinstance(second, (int, float)) and first != second:
        return words.apart(first, second, write)
    return _one(first, write), _one(second, write)


def _one(value: float | str | None, write: Callable[..., str]) -> str:
    return write(value) if isinstance(value, (int, float)) else str(value or "none")


def _percent(change: float) -> str:
    """A relative change as `+3.2 %`. A small one keeps a digit, so that it does not read as 0."""
    share = 100 * change
    return f"{share:+.1f} %" if abs(share) >= 0.05 or share == 0 else f"{share:+.1g} %"


_Pair = tuple[CandidateRecord, CandidateRecord]


def _same_float(one: CandidateRecord, before: BuildRecord, after: BuildRecord) -> _Pair | None:
    """The float of this candidate's target in both builds, if it is the same package: then its change is the machine's."""
    target = f"{one.target}-{one.arch}"
    floats: list[CandidateRecord] = []
    for record in (before, after):
        if (float_ := record.baseline.targets.get(target)) is not None:
            floats.extend(c for c in record.candidates if c.id == float_.candidate and c.package.digest is not None)
    if len(floats) != 2 or floats[0].package.digest != floats[1].package.digest:
        return None
    return floats[0], floats[1]


def _row(measure: _Measure, before: CandidateRecord, after: CandidateRecord, floats: _Pair | None) -> MeasureChange:
    """Compare one number of both: better, worse, or the same within noise."""
    first, second = measure.value(before), measure.value(after)
    name, id_ = measure.name, after.id
    if first is None or second is None:
        return _text_change(id_, name, first, second, Change.UNKNOWN, "" if first is second else "not known on one side")
    if measure.timed and before.machine != after.machine:
        return _text_change(id_, name, first, second, Change.INCOMPARABLE, "measured on different machines")
    if first <= 0 or second <= 0:
        return _text_change(id_, name, first, second, Change.SAME if first == second else Change.UNKNOWN, "")
    old, new = _band(measure, before, first), _band(measure, after, second)
    drift = _drift(measure, floats)
    old = old.hull(old.scaled(drift))
    if old.low <= 0:  # samples of other programs may hold 0, which has no relative change
        return _text_change(id_, name, first, second, Change.SAME if first == second else Change.UNKNOWN, "")
    low, high = new.low / old.high - 1, new.high / old.low - 1
    change = Change.SAME
    if not old.overlaps(new) and abs(second / first - 1) > measure.slack:
        change = Change.BETTER if second < first else Change.WORSE
    middle = _percent(second / first - 1)
    why = middle if low == high else f"{middle}, between {100 * low:+.1f} and {100 * high:+.1f} %"
    if abs(drift - 1) >= 0.005:
        why += f"; the same float moved by {100 * (drift - 1):+.1f} %, so the machine did"
    return MeasureChange(candidate=id_, measure=name, before=first, after=second, change=change, low=low, high=high, why=why)


_ESTIMATES: dict[str, Callable[[EstimateRecord], float]] = {
    "estimated.latency_ms": lambda estimate: estimate.latency_ms,
    "estimated.cost_per_million_usd": lambda estimate: estimate.cost_per_million_usd,
}


def _estimates(before: CandidateRecord, after: CandidateRecord) -> Iterator[MeasureChange]:
    """Compare estimates, where either build has some. Those of another device, another table or other assumptions are not compared:
    the estimate's model may have changed instead of the candidate."""
    first, second = before.estimated, after.estimated
    if first is None and second is None:
        return
    for name, number in _ESTIMATES.items():
        old = number(first) if first else None
        new = number(second) if second else None
        if first is None or second is None or old is None or new is None:
            yield _text_change(after.id, name, old, new, Change.UNKNOWN, "estimated on one side only")
        elif first.device != second.device:
            yield _text_change(after.id, name, old, new, Change.INCOMPARABLE, f"{first.device}, then {second.device}")
        elif _model(first) != _model(second):
            yield _text_change(after.id, name, old, new, Change.INCOMPARABLE, "estimated by another table or other assumptions")
        else:
            low, high = (old, new) if old <= new else (new, old)
            clear = high * (1 - bands.ESTIMATE_BAND) > low * (1 + bands.ESTIMATE_BAND)
            change = (Change.WORSE if new > old else Change.BETTER) if clear else Change.SAME
            moved = _percent(new / old - 1) if old > 0 else "from nought"
            yield _text_change(after.id, name, old, new, change, f"{moved}, estimated ({first.device})")


def _model(estimate: EstimateRecord) -> str:
    """The part of an estimate's basis about its model: all but the first part, which is about the graph."""
    return estimate.basis.partition("; ")[2]


def _drift(measure: _Measure, floats: _Pair | None) -> float:
    """How much slower the machine was in the second build; 1 when that is unknown."""
    first, second = (measure.value(floats[0]), measure.value(floats[1])) if floats and measure.timed else (None, None)
    return second / first if first and second and first > 0 and second > 0 else 1.0


def _band(measure: _Measure, one: CandidateRecord, value: float) -> Interval:
    """The number and its noise; an exact one has none."""
    samples = measure.samples(one) if measure.samples else ()
    if not samples:
        return Interval(low=value, value=value, high=value)
    around = stats.latency_interval(samples) if measure.share == 0.5 else stats.quantile_interval(samples, measure.share)
    return around.hull(Interval(low=value, value=value, high=value))


def _priced(one: CandidateRecord) -> Sequence[float]:
    """Latencies scaled so that their median is the price, which has the same noise."""
    samples, p50, cost = one.latency_ms.samples, one.latency_ms.p50, one.cost_per_million_usd
    return [sample * cost / p50 for sample in samples] if samples and p50 and cost else ()


def _lower_is_better(*records: BuildRecord) -> bool:
    """The metric's direction. For a user's own metric it follows from a drop and the value that belongs to it."""
    for record in records:
        if (name := record.baseline.metric) in METRICS:
            return METRICS[name].lower_is_better
        for one in record.candidates:
            base = record.baseline.targets.get(f"{one.target}-{one.arch}")
            value, drop = one.accuracy.value, one.accuracy.drop
            if base is None or base.value is None or value is None or drop is None:
                continue
            if way := drop * (base.value - value):
                return way < 0
    return False


def _accuracy(before: CandidateRecord, after: CandidateRecord, *, falls: bool) -> MeasureChange:
    """Compare the metric's value. Its noise is that of the paired drops, without the part that both share."""
    was, now = before.accuracy.value, after.accuracy.value
    id_, name = after.id, "accuracy.value"
    if was is None or now is None:
        return _text_change(id_, name, was, now, Change.UNKNOWN, "" if was is now else "not known on one side")
    if _basis(before.accuracy) != _basis(after.accuracy):
        return _text_change(id_, name, was, now, Change.INCOMPARABLE, "another metric, or another number of samples")
    old, new = _value_band(before.accuracy, was, falls=falls), _value_band(after.accuracy, now, falls=falls)
    low, high = new.low - old.high, new.high - old.low
    change = Change.SAME
    if not old.overlaps(new):
        change = Change.BETTER if (now > was) != falls else Change.WORSE
    why = f"{now - was:+.4f}, between {low:+.4f} and {high:+.4f}"
    if before.accuracy.isa != after.accuracy.isa:
        why += f"; {before.accuracy.isa} then {after.accuracy.isa} instructions"
    return MeasureChange(candidate=id_, measure=name, before=was, after=now, change=change, low=low, high=high, why=why)


def _drop(first: CandidateRecord, second: CandidateRecord, before: BuildRecord, after: BuildRecord) -> MeasureChange:
    """Compare the drops, each against the float of its own build."""
    was, now = (None if one.is_baseline else one.accuracy.drop for one in (first, second))
    id_, name = second.id, "accuracy.drop"
    if was is None or now is None:
        return _text_change(id_, name, was, now, Change.UNKNOWN, "" if was is now else "not known on one side")
    old, new = (one.accuracy for one in (first, second))
    if (old.metric, old.compared_with) != (new.metric, new.compared_with):
        return _text_change(id_, name, was, now, Change.INCOMPARABLE, "another metric")
    change = Change.SAME
    if not _drop_band(old, was).overlaps(_drop_band(new, now)):
        change = Change.WORSE if now > was else Change.BETTER
    drops = [summary.drop_phrase(one, summary.confidence(record)) or "" for one, record in ((first, before), (second, after))]
    return _text_change(id_, name, was, now, change, ", then ".join(drops))


def _basis(accuracy: AccuracyRecord) -> tuple[str | None, int | None, str | None]:
    return accuracy.metric, accuracy.n, accuracy.compared_with


def _drop_band(accuracy: AccuracyRecord, drop: float) -> Interval:
    low, high = (drop if end is None else end for end in (accuracy.ci_low, accuracy.ci_high))
    return Interval(low=min(drop, low), value=drop, high=max(drop, high))


def _value_band(accuracy: AccuracyRecord, value: float, *, falls: bool) -> Interval:
    """The value with the half-widths of its drop's interval: a larger drop is a lower value, or a higher one of a metric that
    should be low."""
    drop = accuracy.drop
    if drop is None or accuracy.ci_low is None or accuracy.ci_high is None:
        return Interval(low=value, value=value, high=value)
    worse, better = max(0.0, accuracy.ci_high - drop), max(0.0, drop - accuracy.ci_low)
    below, above = (better, worse) if falls else (worse, better)
    return Interval(low=value - below, value=value, high=value + above)


def _status(one: CandidateRecord | None) -> str | None:
    return None if one is None else one.status


def _status_row(id_: str, before: CandidateRecord, after: CandidateRecord) -> MeasureChange:
    first, second = before.status, after.status
    change = Change.SAME
    if first != second:
        change = Change.BETTER if second == "ok" else Change.WORSE if first == "ok" else Change.CHANGED
    why = after.reasons[0] if change is Change.WORSE and after.reasons else ""
    return _text_change(id_, "status", first, second, change, why)


def _text_change(
    id_: str, measure: str, before: float | str | None, after: float | str | None, change: Change, why: str
) -> MeasureChange:
    """A row without a noise band."""
    return MeasureChange(candidate=id_, measure=measure, before=before, after=after, change=change, low=None, high=None, why=why)
