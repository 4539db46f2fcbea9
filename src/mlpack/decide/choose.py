"""Check candidates against the budgets and choose one. Pure.

Promises:
- The same results give the same decision, and every reason is in words and numbers.
- A missing number never counts as one that fits.
- Among candidates within budget a difference counts only beyond the noise of both (see `bands`).
- A candidate that is only estimated is chosen only where no other fits, and its reasons say so.

Will not: measure, compute prices, or compare times of different machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mlpack.core import stats
from mlpack.core.records import Budgets, Decision, Estimate, Measurement, Result, Status, Verdict
from mlpack.core.stats import Interval
from mlpack.core.text import sinks, words
from mlpack.decide import budgets as checking
from mlpack.decide.bands import BANDS, LABELS

PREFERENCES = ("cost", "latency", "size", "accuracy")
"""The measures in the order in which they break ties; `prefer` moves one of them to the front."""

NO_SIZES: Mapping[str, int] = MappingProxyType({})


def decide(
    results: Sequence[Result],
    baselines: Mapping[str, Measurement],
    budgets: Budgets,
    prefer: str,
    float_sizes: Mapping[str, int] = NO_SIZES,
) -> Decision:
    """One verdict per result, in the same order, and the winner.

    `baselines`: per target id, the measurement of its float model; a result with this very measurement *is* the float.
    `float_sizes`: package bytes per target id of floats that are not among the results. `prefer`: one of `PREFERENCES` (else
    ValueError).
    """
    if prefer not in PREFERENCES:
        raise ValueError(f"prefer must be one of {', '.join(PREFERENCES)}, not {prefer!r}")
    floats = {r.candidate.target.id: r for r in results if is_float(r, baselines)}
    sizes = dict(float_sizes) | {target: r.artifact.size_bytes for target, r in floats.items() if r.artifact}
    contestants = [_judge(result, baselines, budgets, sizes, checking.substitute(result, budgets, prefer)) for result in results]
    candidates = [one for one in contestants if one.status is Status.OK]
    if not candidates:
        return Decision(chosen=None, verdicts=tuple(one.verdict() for one in contestants))
    # A measured candidate that fits is known to fit; an estimated one may.
    entrants = [one for one in candidates if one.estimate is None] or candidates
    contest = _choose(entrants, prefer)
    reasons = dict(contest.reasons) | {one.id: (_only_estimated(one, contest.winner),) for one in candidates if one not in entrants}
    if contest.winner.estimate is not None:
        reasons[contest.winner.id] = (*reasons[contest.winner.id], *_on_an_estimate(contest.winner, contestants))
    warning = None if contest.winner.float_itself else checking.unbounded(contest.winner.result, budgets)
    if warning is not None:
        reasons[contest.winner.id] = (*reasons[contest.winner.id], f"{checking.WARNING}{warning}")
    return Decision(chosen=contest.winner.id, verdicts=tuple(one.verdict(reasons.get(one.id, ())) for one in contestants))


def is_float(result: Result, baselines: Mapping[str, Measurement]) -> bool:
    """Whether this candidate is the float model with which its target's candidates are compared."""
    baseline = baselines.get(result.candidate.target.id)
    if baseline is None or result.measurement is None:
        return False
    # Two sets of timings are never equal by chance. If only the accuracy was measured, two candidates may be equal.
    return result.measurement is baseline or (bool(baseline.latency_ms) and result.measurement == baseline)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contestant:
    """A result with its checks, its bands, and its comparison with the float."""

    result: Result
    status: Status
    reasons: tuple[str, ...]
    bands: Mapping[str, Interval | None]
    slower: bool = False
    larger: bool = False
    float_itself: bool = False
    estimate: Estimate | None = None
    """Replaces its latency and price, where those were not measured."""
    over: tuple[checking.Check, ...] = ()

    @property
    def id(self) -> str:
        return self.result.candidate.id

    def verdict(self, more: Sequence[str] = ()) -> Verdict:
        return Verdict(candidate_id=self.id, status=self.status, reasons=(*more, *self.reasons))


def _judge(
    result: Result,
    baselines: Mapping[str, Measurement],
    budgets: Budgets,
    sizes: Mapping[str, int],
    estimate: Estimate | None,
) -> _Contestant:
    """Status and reasons of one candidate, before any is compared with another."""
    target = result.candidate.target.id
    baseline = baselines.get(target)
    bands = {name: band(result, baseline, estimate) for name, band in BANDS.items()}
    if result.candidate.skipped is not None:
        return _Contestant(result=result, status=Status.SKIPPED, reasons=(result.candidate.skipped,), bands=bands)
    if result.failure is not None:
        return _Contestant(result=result, status=Status.FAILED, reasons=(result.failure, *_alone(result)), bands=bands)
    itself = is_float(result, baselines)
    over, fits = checking.checks(result, budgets, estimate, itself=itself)
    ruined = None if itself else checking.certain_loss(result, budgets)
    over = [*([] if ruined is None else [ruined]), *over]
    if result.over_limit is not None:
        certain = tuple(check.text for check in over if check.known)
        return _Contestant(result=result, status=Status.OVER_BUDGET, reasons=(result.over_limit, *certain), bands=bands)
    if result.artifact is None:
        return _Contestant(result=result, status=Status.FAILED, reasons=("no package was made for it",), bands=bands)
    slower, speed = (False, ()) if itself else _speed(result)
    larger, growth = (False, ()) if itself else _growth(result.artifact.size_bytes, sizes.get(target))
    return _Contestant(
        result=result,
        status=Status.OVER_BUDGET if over else Status.OK,
        reasons=(*(check.text for check in over), *speed, *growth, *(check.text for check in fits)),
        bands=bands,
        slower=slower,
        larger=larger,
        float_itself=itself,
        estimate=estimate,
        over=tuple(over),
    )


def _alone(result: Result) -> tuple[str, ...]:
    """The command that runs the failed step alone."""
    script = result.reproduced_by
    return () if script is None else (f"to run this step alone, in the build's directory: python {sinks.shell(script)}",)


def _speed(result: Result) -> tuple[bool, tuple[str, ...]]:
    """Whether the candidate is slower than its float beyond noise, and a sentence about it, from blocks in which both ran in
    turn."""
    if result.measurement is None or not result.measurement.ratio_samples:
        return False, ()
    samples = result.measurement.ratio_samples
    ratio = stats.quantile_interval(samples)
    comparison = (
        f"median latency {words.number(ratio.value)} × the float's "
        f"({words.number(ratio.low)} to {words.number(ratio.high)}, {words.count(len(samples), 'interleaved block')})"
    )
    if ratio.low > 1:
        return True, (f"slower than its float: {comparison}",)
    if ratio.high < 1:
        return False, (f"faster than its float: {comparison}",)
    return False, (f"no faster and no slower than its float, within noise: {comparison}",)


def _growth(size_bytes: int, float_bytes: int | None) -> tuple[bool, tuple[str, ...]]:
    """Whether the package is larger than its float's, and a sentence about it."""
    if float_bytes is None or size_bytes <= float_bytes:
        return False, ()
    ours, theirs = words.apart(size_bytes, float_bytes, words.size)
    return True, (f"larger than its float: {ours} against {theirs}",)


# --- choosing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contest:
    winner: _Contestant
    reasons: Mapping[str, tuple[str, ...]]


def _choose(candidates: Sequence[_Contestant], prefer: str) -> _Contest:
    """Remove, measure by measure, the candidates that are worse than the best beyond noise; of the rest the first id wins.

    Overlap is not transitive, so candidates are not sorted: each round compares with that round's best only.
    """
    remaining = sorted(candidates, key=lambda one: one.id)
    losers: dict[str, tuple[str, _Contestant | None]] = {}
    remaining = _behind_their_float(remaining, prefer, losers)
    order = (prefer, *(name for name in PREFERENCES if name != prefer))
    for measure in order:
        with_value = [one for one in remaining if (band := one.bands[measure]) is not None and band.value == band.value]
        if not with_value or len(remaining) == 1:
            continue
        best = min(with_value, key=lambda one: (_band(one, measure).value, one.id))
        equals = [one for one in with_value if _equal(one, best, measure)]
        losers |= {one.id: (measure, best) for one in remaining if one not in equals}
        remaining = equals
    winner = remaining[0]
    reasons = {one.id: (_loss_reason(one, winner, losers.get(one.id), order),) for one in candidates if one is not winner}
    reasons[winner.id] = (_win_reason(winner, len(candidates), remaining, prefer),)
    return _Contest(winner=winner, reasons=reasons)


def _behind_their_float(
    standing: list[_Contestant], prefer: str, losers: dict[str, tuple[str, _Contestant | None]]
) -> list[_Contestant]:
    """Remove candidates that are slower (or larger) than a float that fits the budgets too: such a pass costs what it should
    save."""
    targets = {one.result.candidate.target.id for one in standing if one.float_itself}
    ahead = []
    for one in standing:
        behind = {"latency": one.slower, "cost": one.slower, "size": one.larger, "accuracy": False}[prefer]
        if behind and one.result.candidate.target.id in targets:
            losers[one.id] = (
                f"its float fits the budgets too and is {'smaller' if prefer == 'size' else 'faster'}",
                None,
            )
        else:
            ahead.append(one)
    return ahead


def _equal(one: _Contestant, best: _Contestant, measure: str) -> bool:
    """Whether noise hides the difference, or it cannot be known: times of different machines are never compared."""
    ours, theirs = one.result.measurement, best.result.measurement
    if measure in ("cost", "latency") and ours and theirs and ours.machine != theirs.machine:
        return True
    return _band(one, measure).overlaps(_band(best, measure))


def _band(one: _Contestant, measure: str) -> Interval:
    band = one.bands[measure]
    if band is None:
        raise ValueError(f"{one.id} has no {measure}")
    return band


def _measure_text(one: _Contestant, measure: str) -> str:
    """`$0.52 (0.50 to 0.55)`; a size has no interval worth showing."""
    band, write = one.bands[measure], LABELS[measure][1]
    if band is None:
        return "not known"
    if measure == "size" or band.low == band.high:
        return write(band.value, 3)
    if measure in ("cost", "latency") and one.estimate is not None:
        return f"{write(band.value, 3)} estimated ({one.estimate.device})"
    return f"{write(band.value, 3)} ({write(band.low, 3)} to {write(band.high, 3)})"


def _loss_reason(one: _Contestant, winner: _Contestant, how: tuple[str, _Contestant | None] | None, order: Sequence[str]) -> str:
    """One sentence against the winner, or against the best of the round that removed it where it equals the winner."""
    if how is None:
        return f"lost to {winner.id}: equal in every measure within noise, and later by id"
    measure, best = how
    if best is None:
        return f"lost to {winner.id}: {measure}"
    ours, theirs = one.bands[measure], winner.bands[measure]
    clear = ours is None or theirs is None or not ours.overlaps(theirs)
    rival = winner if clear else best
    before = order[: order.index(measure)]
    text = f"lost to {winner.id} by {LABELS[measure][0]}: {_measure_text(one, measure)} against {_measure_text(rival, measure)}"
    text += "" if clear else f" of {best.id}, which the winner equals within noise"
    return f"{text}; no clear difference in {' and '.join(before)}" if before else text


def _win_reason(winner: _Contestant, entered: int, standing: Sequence[_Contestant], prefer: str) -> str:
    """A sentence about the measure that decided."""
    if entered == 1 and winner.estimate is not None:
        return "chosen on an estimate: the only candidate that breaks no budget or limit, as far as it is known"
    if entered == 1:
        return "chosen: the only candidate within every budget and limit"
    text = f"chosen by {LABELS[prefer][0]}: {_measure_text(winner, prefer)}, of {entered} candidates within budget"
    return f"{text}; equal to {standing[1].id} in every measure within noise, and earlier by id" if len(standing) > 1 else text


def _only_estimated(one: _Contestant, winner: _Contestant) -> str:
    """The reason for which a candidate with an estimated speed stands behind a measured one."""
    return (
        f"lost to {winner.id}: that was measured and fits every budget, this one's latency and price are only estimated: "
        f"{_measure_text(one, 'latency')}, {_measure_text(one, 'cost')} per million"
    )


def _on_an_estimate(winner: _Contestant, contestants: Sequence[_Contestant]) -> tuple[str, ...]:
    """The reasons for a decision that rests on an estimate: the estimate, that it was not measured, and which budgets every
    measured candidate misses."""
    estimate = winner.estimate
    if estimate is None:
        return ()
    any_measured = any(one.estimate is None and one.result.artifact is not None for one in contestants)
    others = "no candidate that was measured fits" if any_measured else "no candidate was measured"
    sentence = (
        f"{others}, and this one may fit: latency {words.ms(estimate.latency_ms)} and "
        f"{words.usd(estimate.cost_per_million_usd)} per million, both estimated on {estimate.device} ({estimate.instance} at "
        f"{words.usd(estimate.usd_per_hour)} an hour); it was not run on a GPU"
    )
    missed = []
    for one in contestants:
        if one.status is Status.OVER_BUDGET and one.estimate is None:
            broken = [f"{check.text}{_beyond(check)}" for check in one.over] or list(one.reasons[:1])
            missed.append(f"{one.id} misses: {'; '.join(broken)}")
    return (sentence, f"the estimate: {estimate.basis}", *missed)


def _beyond(check: checking.Check) -> str:
    return f", {words.number(100 * check.excess, 2)} % above it" if check.excess > 0 else ""
