"""Check one candidate against the budgets, and say of each in words and numbers whether it is kept. Pure.

Promises:
- A missing number never fits. An estimated number fits nothing unless the recipe says `accept_estimates`, and it is called
  estimated wherever it is written.
- A measure that has no estimates (cold start, memory) stays unknown.

Will not: compare candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlpack.core import stats
from mlpack.core.records import Accuracy, Budgets, Estimate, Measurement, Result
from mlpack.core.stages import SHARE
from mlpack.core.text import words
from mlpack.evaluation.metrics import METRICS

WARNING = "warning: "
"""The prefix of a reason that every report shows without unfolding."""
LARGE_DROP, LARGE_RISE = 0.05, 0.1
"""The loss that is accepted without a budget: this share of the float's value, or of its error where lower is better. A loss that
is certainly larger is over budget; one that may be larger is a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One budget held against one number."""

    fits: bool
    known: bool
    text: str
    excess: float = 0.0
    """The excess of a known number over its limit, as a share of the limit."""


def checks(result: Result, budgets: Budgets, estimate: Estimate | None, *, itself: bool) -> tuple[list[Check], list[Check]]:
    """The checks of every budget that is set, in the order of `Budgets`: the broken ones, then the kept ones.

    `estimate`: replaces missing measurements (see `substitute`). `itself`: the candidate is the float of its target.
    """
    results = []
    if budgets.accuracy_drop is not None:
        emulated = _emulated(result, accept=budgets.accept_estimates)
        results.append(emulated or _accuracy(result, budgets.accuracy_drop, budgets.confidence, itself=itself))
    if budgets.isa is not None:
        results.append(_isa(result))
    measurement = result.measurement
    for share, limit in ((0.5, budgets.latency_p50_ms), (0.95, budgets.latency_p95_ms), (0.99, budgets.latency_p99_ms)):
        if limit is not None:
            results.append(_latency(measurement, share, limit, estimate, accept=budgets.accept_estimates))
    for stage, limit in budgets.stages_ms.items():
        results.append(_stage(measurement, stage, limit))
    if budgets.cold_start_ms is not None:
        samples = measurement.cold_start_ms if measurement else ()
        value = stats.median(samples) if samples else None
        check = _plain("cold start p50", value, budgets.cold_start_ms, words.ms, f" (n={len(samples)})")
        results.append(_never_estimated(check, estimate))
    if budgets.package_size_bytes is not None:
        size = result.artifact.size_bytes if result.artifact else None
        results.append(_plain("package size", size, budgets.package_size_bytes, words.size))
    if budgets.peak_memory_bytes is not None:
        memory = (measurement.peak_memory_bytes or None) if measurement else None
        results.append(_never_estimated(_plain("peak memory", memory, budgets.peak_memory_bytes, words.size), estimate))
    if (limit := budgets.cost_per_million_usd) is not None:
        label, cost = "cost per million requests", result.cost_per_million_usd
        if cost is not None or estimate is None:
            results.append(_plain(label, cost, limit, words.usd))
        else:
            value, accept = estimate.cost_per_million_usd, budgets.accept_estimates
            results.append(_estimated(label, value, limit, words.usd, estimate, accept=accept))
    return [c for c in results if not c.fits], [c for c in results if c.fits]


def rank(estimates: Sequence[Estimate], budgets: Budgets, prefer: str) -> tuple[Estimate, ...]:
    """A candidate's estimates, best first: those within every budget for estimates come first, then those with the lower latency
    (if `prefer` says so) or price."""

    def key(one: Estimate) -> tuple[bool, float, float, str]:
        limits = (budgets.latency_p50_ms, budgets.latency_p95_ms, budgets.latency_p99_ms)
        slow = any(limit is not None and not one.latency_ms <= limit for limit in limits)
        dear = budgets.cost_per_million_usd is not None and not one.cost_per_million_usd <= budgets.cost_per_million_usd
        first, second = one.cost_per_million_usd, one.latency_ms
        return (slow or dear, *((second, first) if prefer == "latency" else (first, second)), one.device)

    return tuple(sorted(estimates, key=key))


def substitute(result: Result, budgets: Budgets, prefer: str) -> Estimate | None:
    """The estimate that replaces missing measurements: the first of `rank`. None where the latency was measured."""
    if result.measurement is not None and result.measurement.latency_ms:
        return None
    return next(iter(rank(result.estimates, budgets, prefer)), None)


def _estimated(
    label: str, value: float, limit: float, write: Callable[[float, int], str], estimate: Estimate, *, accept: bool
) -> Check:
    """The check of an estimate against a limit: it counts only where the recipe accepts estimates."""
    number, bound = words.apart(value, limit, write)
    if not accept:
        text = (
            f"{label} is estimated ({estimate.device}: {number}), not measured, so the budget of {bound} cannot be shown to hold: "
            "say budgets.accept_estimates: true, or measure on a GPU"
        )
        return Check(fits=False, known=False, text=text)
    plain = _plain(label, value, limit, write)
    sentence = plain.text.replace(
        f"{label} {number}", f"{label} {number}, estimated ({estimate.device} in {estimate.instance}),", 1
    )
    return Check(fits=plain.fits, known=True, text=sentence, excess=plain.excess)


def _never_estimated(check: Check, estimate: Estimate | None) -> Check:
    """The check of a measure without estimates, where `accept_estimates` does not help."""
    if check.fits or check.known or estimate is None:
        return check
    more = "; it was not measured and no estimate is made of it: leave this budget out for a GPU, or measure on one"
    return Check(fits=False, known=False, text=check.text + more)


def _plain(label: str, value: float | None, limit: float, write: Callable[[float, int], str], context: str = "") -> Check:
    """The check of a number that must not be above its limit. NaN fits nothing."""
    if value is None:
        text = f"{label} is not known, so the budget of {words.limit(write(limit, 3))} cannot be shown to hold"
        return Check(fits=False, known=False, text=text)
    number, bound = words.apart(value, limit, write)
    if value <= limit:
        margin = "" if limit <= 0 else f", {words.number(100 * (limit - value) / limit, 2)} % below it"
        return Check(fits=True, known=True, text=f"{label} {number} fits the budget of {bound}{margin}{context}")
    excess = (value - limit) / limit if limit > 0 else 0.0
    return Check(fits=False, known=True, text=f"{label} {number} exceeds the budget of {bound}{context}", excess=excess)


def _latency(measurement: Measurement | None, share: float, limit: float, estimate: Estimate | None, *, accept: bool) -> Check:
    """The check of a percentile of the latency. A p99 with fewer than five observations above it is refused. An estimate is one
    number, which counts for every percentile."""
    label = f"latency p{share * 100:.0f}"
    n = len(measurement.latency_ms) if measurement else 0
    if n == 0 and estimate is not None:
        return _estimated(label, estimate.latency_ms, limit, words.ms, estimate, accept=accept)
    if measurement is None or n == 0:
        return _plain(label, None, limit, words.ms)
    if share == 0.99 and n < stats.P99_SAMPLES:
        text = (
            f"{label} is refused below {stats.P99_SAMPLES} samples (n={n}), "
            f"so the budget of {words.limit(words.ms(limit))} cannot be shown to hold"
        )
        return Check(fits=False, known=False, text=text)
    batch = "" if measurement.batch == 1 else f", batch {measurement.batch}"
    return _plain(label, stats.percentile(measurement.latency_ms, share), limit, words.ms, f" (n={n}{batch})")


def _stage(measurement: Measurement | None, stage: str, limit: float) -> Check:
    """The check of the p95 of a request's stage, which has no estimates."""
    label = f"stage {stage} p95"
    samples = measurement.stages_ms.get(stage, ()) if measurement else ()
    if samples:
        return _plain(label, stats.percentile(samples, SHARE), limit, words.ms, f" (n={len(samples)})")
    check = _plain(label, None, limit, words.ms)
    if measurement is None or not measurement.stages_ms:
        return check
    took_place = ", ".join(measurement.stages_ms)
    return Check(
        fits=False, known=False, text=f"{check.text}: it did not take place in the requests that were measured ({took_place})"
    )


def samples_that_tell(accuracy: Accuracy, limit: float | None) -> int | None:
    """The approximate number of samples that would tell whether the drop keeps its budget; None where there are enough."""
    if limit is None:
        return None
    share = accuracy.metric in METRICS and METRICS[accuracy.metric].share
    around = stats.Interval(low=min(accuracy.ci_low, accuracy.drop), value=accuracy.drop, high=max(accuracy.ci_high, accuracy.drop))
    return stats.samples_that_tell(accuracy.n, around, limit, share=share, confidence=accuracy.confidence)


def unbounded(result: Result, budgets: Budgets) -> str | None:
    """A warning about a candidate that may be much worse than its float where no budget limits that; None when there is none."""
    accuracy = result.measurement.accuracy if result.measurement else None
    if budgets.accuracy_drop is not None or accuracy is None or not accuracy.drop > default_drop(accuracy):
        return None
    return (
        f"its {accuracy.metric} is {words.share(accuracy.value)}, worse than the float's by {words.share(accuracy.drop)}, and no "
        "budget says how much worse it may be: set budgets.accuracy_drop"
    )


def default_drop(accuracy: Accuracy) -> float:
    """The drop that is accepted where a recipe has no budget for it."""
    base, share = _granted(accuracy)
    return abs(base) * share


def _granted(accuracy: Accuracy) -> tuple[float, float]:
    """The float's own value, and the share of it that may be lost where there is no budget."""
    if accuracy.lower_is_better:
        return accuracy.value - accuracy.drop, LARGE_RISE
    return accuracy.value + accuracy.drop, LARGE_DROP


def certain_loss(result: Result, budgets: Budgets) -> Check | None:
    """The reason for which a recipe without a budget for accuracy refuses a candidate: it is certainly worse than `default_drop`.
    None where it is not, or there is a budget. (Beside an error of 0 there is no scale: that is a warning.) It does not apply to
    the float itself."""
    accuracy = result.measurement.accuracy if result.measurement else None
    if accuracy is None or budgets.accuracy_drop is not None:
        return None
    limit = default_drop(accuracy)
    if not min(accuracy.ci_low, accuracy.drop) > limit or (accuracy.lower_is_better and limit == 0):
        return None
    base, part = _granted(accuracy)
    number, bound = words.apart(accuracy.drop, limit, words.share)
    text = (
        f"{accuracy.metric} is {words.share(accuracy.value)} and the float's {words.share(base)}: a drop of {number}"
        f"{_context(accuracy)}, where no more than {bound} ({words.percent(part)} of the float's) is accepted without a budget: "
        "set budgets.accuracy_drop to allow it"
    )
    excess = (accuracy.drop - limit) / limit if limit > 0 else 0.0
    return Check(fits=False, known=True, text=text, excess=excess)


def _emulated(result: Result, *, accept: bool) -> Check | None:
    """The words for an accuracy that was not measured on a processor of the target's kind; None where it was, where an emulated one
    is accepted, or where nothing is known."""
    measurement, arch = result.measurement, result.candidate.target.arch
    if measurement is None or measurement.accuracy is None or measurement.machine.arch == arch:
        return None
    proof = measurement.accuracy.proof
    sentence = f"{measurement.accuracy.metric} drop {words.share(measurement.accuracy.drop)}"
    if proof is None or proof.how is None:
        why = f": {proof.why}" if proof is not None else ""
        return Check(fits=False, known=False, text=f"{sentence} is that of the same graph here, not of an {arch} processor{why}")
    text = f"{sentence} is that of an emulated {arch} processor, not measured on one: say budgets.accept_estimates: true"
    return None if accept else Check(fits=False, known=False, text=text)


def _isa(result: Result) -> Check:
    """Whether the accuracy is known to hold on every processor of the target."""
    accuracy = result.measurement.accuracy if result.measurement else None
    if accuracy is None or accuracy.proof is None:
        text = "accuracy is not known, so that it holds on every processor of the target (isa: proven) cannot be shown"
        return Check(fits=False, known=False, text=text)
    proof = accuracy.proof
    if proof.how is None:
        return Check(fits=False, known=proof.agreement is not None, text=f"accuracy is not proven (isa: proven): {proof.why}")
    return Check(fits=True, known=True, text=f"accuracy is proven ({proof.how}): {proof.why}")


def _worst(accuracy: Accuracy) -> str:
    """The output and column of the drop, for a metric that takes the worst of them."""
    if accuracy.compared_with == "labels" or accuracy.output is None:
        return ""
    return f": {accuracy.output}" + ("" if accuracy.column is None else f", column {accuracy.column}")


def _context(accuracy: Accuracy) -> str:
    """The basis of a drop: ` (95 % interval -0.0010 to 0.0060, n=200, compared with the float baseline: logits)`."""
    compared = "" if accuracy.compared_with == "labels" else f", compared with the {accuracy.compared_with}"
    around = f"{words.percent(accuracy.confidence)} interval {words.share(accuracy.ci_low)} to {words.share(accuracy.ci_high)}, "
    return f" ({'' if accuracy.interval == 'none' else around}n={accuracy.n}{compared}{_worst(accuracy)})"


def _accuracy(result: Result, limit: float, confidence: float | None, *, itself: bool) -> Check:
    """The check of the drop, or with a `confidence` of the upper end of its interval. An interval that reaches across the budget
    leaves it open."""
    accuracy = result.measurement.accuracy if result.measurement else None
    if accuracy is None:
        text = f"accuracy was not measured, so the budget of {words.limit(words.share(limit))} for its drop cannot be shown to hold"
        return Check(fits=False, known=False, text=text)
    if itself:
        text = f"the float itself: {accuracy.metric} {words.share(accuracy.value)} (n={accuracy.n}), which every drop is from"
        return Check(fits=True, known=True, text=text)
    number, bound = words.apart(accuracy.drop, limit, words.share)
    fits = accuracy.drop <= limit
    excess = (accuracy.drop - limit) / limit if not fits and limit > 0 else 0.0
    if fits and confidence is not None:
        return _with_confidence(accuracy, limit, confidence)
    text = f"{accuracy.metric} drop {number} {'fits' if fits else 'exceeds'} the budget of {bound}{_context(accuracy)}"
    if fits and accuracy.ci_high > limit:
        text += "; not certain: the interval reaches beyond the budget"
    if not fits and accuracy.ci_low <= limit and confidence is None:
        text += "; not certain: the interval reaches into the budget"
    return Check(fits=fits, known=True, text=text + _enough(accuracy, limit), excess=excess)


def _with_confidence(accuracy: Accuracy, limit: float, confidence: float) -> Check:
    """The check of a drop whose interval has to be within the budget too."""
    drop, bound = words.apart(accuracy.drop, limit, words.share)
    sure = words.percent(confidence)
    if accuracy.interval == "none" or not accuracy.confidence >= confidence:
        text = (
            f"{accuracy.metric} drop {drop} is within the budget of {bound}, but how sure that is cannot be said (n={accuracy.n}), "
            f"so {sure} confidence cannot be shown: give more samples, or a metric with a value for each"
        )
        return Check(fits=False, known=False, text=text)
    most, bound = words.apart(accuracy.ci_high, limit, words.share)
    sentence = f"{accuracy.metric} drop {drop}, at most {most} with {sure} confidence"
    if accuracy.ci_high <= limit:
        return Check(fits=True, known=True, text=f"{sentence}: within the budget of {bound}{_context(accuracy)}")
    text = f"{sentence}: the budget of {bound} is not certain to hold{_context(accuracy)}{_enough(accuracy, limit)}"
    return Check(fits=False, known=True, text=text, excess=(accuracy.ci_high - limit) / limit if limit > 0 else 0.0)


def _enough(accuracy: Accuracy, limit: float) -> str:
    enough = samples_that_tell(accuracy, limit)
    return "" if enough is None else f"; n={accuracy.n:,} is too small to tell, about {enough:,} samples would do"
