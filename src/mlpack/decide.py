"""Hold measurements against budgets, and choose one candidate.

Promises: pure; the same results give the same decision; every reason is in words and numbers; a number that is
missing never counts as one that fits. Among candidates within budget a difference counts only beyond the noise of
both (see `BANDS`). It measures nothing, prices nothing, and never compares times of different machines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mlpack import stats, words
from mlpack.records import Budgets, Decision, Measurement, Result, Status, Verdict
from mlpack.stats import Interval

PREFERENCES = ("cost", "latency", "size", "accuracy")
"""The measures in the order in which they break ties; `prefer` moves one of them to the front."""

SIZE_BAND = 0.005
"""Packages within 1 % of each other (half of it each) are equal: nobody should get a slower model for a few
kilobytes."""

NO_SIZES: Mapping[str, int] = MappingProxyType({})


def decide(
    results: Sequence[Result],
    baselines: Mapping[str, Measurement],
    budgets: Budgets,
    prefer: str,
    float_sizes: Mapping[str, int] = NO_SIZES,
) -> Decision:
    """One verdict per result, in the same order, and the winner.

    `baselines`: per target id, the measurement of its float model; a result that holds this very measurement *is* the
    float. `float_sizes`: package bytes per target id of floats that are not among the results. `prefer`: one of
    `PREFERENCES` (else ValueError).
    """
    if prefer not in PREFERENCES:
        raise ValueError(f"prefer must be one of {', '.join(PREFERENCES)}, not {prefer!r}")
    floats = {r.candidate.target.id: r for r in results if is_float(r, baselines)}
    sizes = dict(float_sizes) | {target: r.artifact.size_bytes for target, r in floats.items() if r.artifact}
    judged = [_judge(result, baselines, budgets, sizes) for result in results]
    fitting = [one for one in judged if one.status is Status.OK]
    if not fitting:
        return Decision(chosen=None, verdicts=tuple(one.verdict() for one in judged))
    contest = _choose(fitting, prefer)
    return Decision(
        chosen=contest.winner.id,
        verdicts=tuple(one.verdict(contest.reasons.get(one.id, ())) for one in judged),
    )


def is_float(result: Result, baselines: Mapping[str, Measurement]) -> bool:
    """Whether this candidate is the float model that its target's candidates are compared with."""
    baseline = baselines.get(result.candidate.target.id)
    return baseline is not None and result.measurement == baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """A result held against the budgets, with its bands and how it stands against its float."""

    result: Result
    status: Status
    reasons: tuple[str, ...]
    bands: Mapping[str, Interval | None]
    slower: bool = False
    larger: bool = False
    float_itself: bool = False

    @property
    def id(self) -> str:
        return self.result.candidate.id

    def verdict(self, more: Sequence[str] = ()) -> Verdict:
        return Verdict(candidate_id=self.id, status=self.status, reasons=(*more, *self.reasons))


def _judge(result: Result, baselines: Mapping[str, Measurement], budgets: Budgets, sizes: Mapping[str, int]) -> _Judged:
    """Status and reasons of one candidate, before any is compared with another."""
    target = result.candidate.target.id
    baseline = baselines.get(target)
    bands = {name: band(result, baseline) for name, band in BANDS.items()}
    if result.candidate.skipped is not None:
        return _Judged(result=result, status=Status.SKIPPED, reasons=(result.candidate.skipped,), bands=bands)
    if result.failure is not None:
        return _Judged(result=result, status=Status.FAILED, reasons=(result.failure,), bands=bands)
    itself = is_float(result, baselines)
    over, fits = _budget_reasons(result, budgets, itself=itself)
    if result.over_limit is not None:
        known = tuple(check.text for check in over if check.known)
        return _Judged(result=result, status=Status.OVER_BUDGET, reasons=(result.over_limit, *known), bands=bands)
    if result.artifact is None:
        return _Judged(result=result, status=Status.FAILED, reasons=("no package was made for it",), bands=bands)
    slower, speed = (False, ()) if itself else _speed(result)
    larger, growth = (False, ()) if itself else _growth(result.artifact.size_bytes, sizes.get(target))
    return _Judged(
        result=result,
        status=Status.OVER_BUDGET if over else Status.OK,
        reasons=(*(check.text for check in over), *speed, *growth, *(check.text for check in fits)),
        bands=bands,
        slower=slower,
        larger=larger,
        float_itself=itself,
    )


def _speed(result: Result) -> tuple[bool, tuple[str, ...]]:
    """Whether it is slower than its float beyond noise, and that in words. From blocks in which both ran in turn."""
    if result.measurement is None or not result.measurement.ratio_samples:
        return False, ()
    samples = result.measurement.ratio_samples
    ratio = stats.quantile_interval(samples)
    seen = (
        f"median latency {words.number(ratio.value)} × the float's "
        f"({words.number(ratio.low)} to {words.number(ratio.high)}, {words.count(len(samples), 'interleaved block')})"
    )
    if ratio.low > 1:
        return True, (f"slower than its float: {seen}",)
    if ratio.high < 1:
        return False, (f"faster than its float: {seen}",)
    return False, (f"no faster and no slower than its float, within noise: {seen}",)


def _growth(size_bytes: int, float_bytes: int | None) -> tuple[bool, tuple[str, ...]]:
    """Whether the package is larger than its float's, and that in words."""
    if float_bytes is None or size_bytes <= float_bytes:
        return False, ()
    ours, theirs = words.apart(size_bytes, float_bytes, words.size)
    return True, (f"larger than its float: {ours} against {theirs}",)


# --- budgets ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """One budget held against one number."""

    fits: bool
    known: bool
    text: str


def _budget_reasons(result: Result, budgets: Budgets, *, itself: bool) -> tuple[list[_Check], list[_Check]]:
    """Every budget that is set, broken ones apart from kept ones, in the order of `Budgets`."""
    checks = []
    if budgets.accuracy_drop is not None:
        checks.append(_accuracy(result, budgets.accuracy_drop, itself=itself))
    measured = result.measurement
    for share, limit in ((0.5, budgets.latency_p50_ms), (0.95, budgets.latency_p95_ms), (0.99, budgets.latency_p99_ms)):
        if limit is not None:
            checks.append(_latency(measured, share, limit))
    if budgets.cold_start_ms is not None:
        samples = measured.cold_start_ms if measured else ()
        value = stats.median(samples) if samples else None
        checks.append(_plain("cold start p50", value, budgets.cold_start_ms, words.ms, f" (n={len(samples)})"))
    for label, value, limit, write in (
        (
            "package size",
            result.artifact.size_bytes if result.artifact else None,
            budgets.package_size_bytes,
            words.size,
        ),
        ("peak memory", measured.peak_memory_bytes if measured else None, budgets.peak_memory_bytes, words.size),
        ("cost per million requests", result.cost_per_million_usd, budgets.cost_per_million_usd, words.usd),
    ):
        if limit is not None:
            checks.append(_plain(label, value, limit, write))
    return [c for c in checks if not c.fits], [c for c in checks if c.fits]


def _plain(label: str, value: float | None, limit: float, write: Callable[[float, int], str], context: str = "") -> _Check:
    """A number that must not be above its limit. NaN fits nothing."""
    if value is None:
        text = f"{label} is not known, so the budget of {words.limit(write(limit, 3))} cannot be shown to hold"
        return _Check(fits=False, known=False, text=text)
    shown, bound = words.apart(value, limit, write)
    if value <= limit:
        margin = "" if limit <= 0 else f", {words.number(100 * (limit - value) / limit, 2)} % below it"
        return _Check(fits=True, known=True, text=f"{label} {shown} fits the budget of {bound}{margin}{context}")
    return _Check(fits=False, known=True, text=f"{label} {shown} exceeds the budget of {bound}{context}")


def _latency(measured: Measurement | None, share: float, limit: float) -> _Check:
    """A percentile of the latency. A p99 is refused where it would rest on fewer than five observations."""
    label = f"latency p{share * 100:.0f}"
    n = len(measured.latency_ms) if measured else 0
    if measured is None or n == 0:
        return _plain(label, None, limit, words.ms)
    if share == 0.99 and n < stats.P99_SAMPLES:
        text = (
            f"{label} is refused below {stats.P99_SAMPLES} samples (n={n}), "
            f"so the budget of {words.limit(words.ms(limit))} cannot be shown to hold"
        )
        return _Check(fits=False, known=False, text=text)
    batch = "" if measured.batch == 1 else f", batch {measured.batch}"
    return _plain(label, stats.percentile(measured.latency_ms, share), limit, words.ms, f" (n={n}{batch})")


def _accuracy(result: Result, limit: float, *, itself: bool) -> _Check:
    """The drop by its point value; an interval that reaches across the budget is said to leave it open."""
    accuracy = result.measurement.accuracy if result.measurement else None
    if accuracy is None:
        text = f"accuracy was not measured, so the budget of {words.limit(words.share(limit))} for its drop cannot be shown to hold"
        return _Check(fits=False, known=False, text=text)
    if itself:
        text = f"the float itself: {accuracy.metric} {words.share(accuracy.value)} (n={accuracy.n}), which every drop is from"
        return _Check(fits=True, known=True, text=text)
    shown, bound = words.apart(accuracy.drop, limit, words.share)
    fits = accuracy.drop <= limit
    text = (
        f"{accuracy.metric} drop {shown} {'fits' if fits else 'exceeds'} the budget of {bound} "
        f"(95 % interval {words.share(accuracy.ci_low)} to {words.share(accuracy.ci_high)}, n={accuracy.n}"
        f"{'' if accuracy.compared_with == 'labels' else f', compared with the {accuracy.compared_with}'})"
    )
    if fits and accuracy.ci_high > limit:
        text += "; not certain: the interval reaches beyond the budget"
    if not fits and accuracy.ci_low <= limit:
        text += "; not certain: the interval reaches into the budget, more evaluation data could settle it"
    return _Check(fits=fits, known=True, text=text)


# --- noise bands ------------------------------------------------------------------------------------------------------


def _latency_band(result: Result, baseline: Measurement | None) -> Interval | None:
    """The median latency and its noise: what its own samples leave open, and what the interleaved ratio to the float
    does.

    The ratio knows nothing of drift between two candidates' runs, the samples know nothing of it either: where they
    disagree, that is the drift, and the hull of both holds it.
    """
    measured = result.measurement
    if measured is None or not measured.latency_ms:
        return None
    own = stats.latency_interval(measured.latency_ms)
    if baseline is None or not measured.ratio_samples or not baseline.latency_ms or measured.machine != baseline.machine:
        return own
    return own.hull(stats.quantile_interval(measured.ratio_samples).scaled(stats.median(baseline.latency_ms)))


def _cost_band(result: Result, baseline: Measurement | None) -> Interval | None:
    """The price, as uncertain as the latency it was computed from (the share per request that is fixed makes this
    generous)."""
    cost, latency = result.cost_per_million_usd, _latency_band(result, baseline)
    if cost is None:
        return None
    if latency is None or latency.value <= 0:
        return Interval(low=cost, value=cost, high=cost)
    return Interval(low=cost * latency.low / latency.value, value=cost, high=cost * latency.high / latency.value)


def _size_band(result: Result, _baseline: Measurement | None) -> Interval | None:
    """Everything that ships, uncompressed, give or take `SIZE_BAND`."""
    if result.artifact is None:
        return None
    size = float(result.artifact.size_bytes)
    return Interval(low=size * (1 - SIZE_BAND), value=size, high=size * (1 + SIZE_BAND))


def _accuracy_band(result: Result, _baseline: Measurement | None) -> Interval | None:
    """The drop against the float with its paired interval: lower is better, as with every other measure."""
    accuracy = result.measurement.accuracy if result.measurement else None
    if accuracy is None:
        return None
    low, high = min(accuracy.ci_low, accuracy.drop), max(accuracy.ci_high, accuracy.drop)
    return Interval(low=low, value=accuracy.drop, high=high)


BANDS: Mapping[str, Callable[[Result, Measurement | None], Interval | None]] = {
    "cost": _cost_band,
    "latency": _latency_band,
    "size": _size_band,
    "accuracy": _accuracy_band,
}
"""Each measure as an interval, lower is better; None where it is not known."""

_SAID: Mapping[str, tuple[str, Callable[[float, int], str]]] = {
    "cost": ("cost per million requests", words.usd),
    "latency": ("median latency", words.ms),
    "size": ("package size", words.size),
    "accuracy": ("accuracy drop", words.share),
}


# --- choosing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contest:
    winner: _Judged
    reasons: Mapping[str, tuple[str, ...]]


def _choose(fitting: Sequence[_Judged], prefer: str) -> _Contest:
    """Drop, measure by measure, whoever is worse than the best beyond noise; what is left at the end wins by its id.

    Overlap is not transitive, so nobody is sorted: each round compares with that round's best only.
    """
    standing = sorted(fitting, key=lambda one: one.id)
    lost: dict[str, tuple[str, _Judged | None]] = {}
    standing = _behind_their_float(standing, prefer, lost)
    order = (prefer, *(name for name in PREFERENCES if name != prefer))
    for measure in order:
        known = [one for one in standing if (band := one.bands[measure]) is not None and band.value == band.value]
        if not known or len(standing) == 1:
            continue
        best = min(known, key=lambda one: (_band(one, measure).value, one.id))
        kept = [one for one in known if _equal(one, best, measure)]
        lost |= {one.id: (measure, best) for one in standing if one not in kept}
        standing = kept
    winner = standing[0]
    reasons = {one.id: (_why_lost(one, winner, lost.get(one.id), order),) for one in fitting if one is not winner}
    reasons[winner.id] = (_why_won(winner, len(fitting), standing, prefer),)
    return _Contest(winner=winner, reasons=reasons)


def _behind_their_float(standing: list[_Judged], prefer: str, lost: dict[str, tuple[str, _Judged | None]]) -> list[_Judged]:
    """Set aside who is slower (or larger) than a float that fits the budgets too: a pass that costs what it should
    save."""
    targets = {one.result.candidate.target.id for one in standing if one.float_itself}
    kept = []
    for one in standing:
        behind = {"latency": one.slower, "cost": one.slower, "size": one.larger, "accuracy": False}[prefer]
        if behind and one.result.candidate.target.id in targets:
            lost[one.id] = (
                f"its float fits the budgets too and is {'smaller' if prefer == 'size' else 'faster'}",
                None,
            )
        else:
            kept.append(one)
    return kept


def _equal(one: _Judged, best: _Judged, measure: str) -> bool:
    """Whether noise hides the difference, or it cannot be known: times of different machines are never compared."""
    ours, theirs = one.result.measurement, best.result.measurement
    if measure in ("cost", "latency") and ours and theirs and ours.machine != theirs.machine:
        return True
    return _band(one, measure).overlaps(_band(best, measure))


def _band(one: _Judged, measure: str) -> Interval:
    band = one.bands[measure]
    if band is None:
        raise ValueError(f"{one.id} has no {measure}")
    return band


def _said(one: _Judged, measure: str) -> str:
    """`$0.52 (0.50 to 0.55)`; a size has no interval worth showing."""
    band, write = one.bands[measure], _SAID[measure][1]
    if band is None:
        return "not known"
    if measure == "size" or band.low == band.high:
        return write(band.value, 3)
    return f"{write(band.value, 3)} ({write(band.low, 3)} to {write(band.high, 3)})"


def _why_lost(one: _Judged, winner: _Judged, how: tuple[str, _Judged | None] | None, order: Sequence[str]) -> str:
    """One sentence against the winner, or against the best that put it out where the winner itself only equals that
    best."""
    if how is None:
        return f"lost to {winner.id}: equal in every measure within noise, and later by id"
    measure, best = how
    if best is None:
        return f"lost to {winner.id}: {measure}"
    ours, theirs = one.bands[measure], winner.bands[measure]
    clear = ours is None or theirs is None or not ours.overlaps(theirs)
    rival = winner if clear else best
    before = order[: order.index(measure)]
    text = f"lost to {winner.id} by {_SAID[measure][0]}: {_said(one, measure)} against {_said(rival, measure)}"
    text += "" if clear else f" of {best.id}, which the winner equals within noise"
    return f"{text}; no clear difference in {' and '.join(before)}" if before else text


def _why_won(winner: _Judged, entered: int, standing: Sequence[_Judged], prefer: str) -> str:
    """What the choice rests on."""
    if entered == 1:
        return "chosen: the only candidate within every budget and limit"
    text = f"chosen by {_SAID[prefer][0]}: {_said(winner, prefer)}, of {entered} candidates within budget"
    return f"{text}; equal to {standing[1].id} in every measure within noise, and earlier by id" if len(standing) > 1 else text
