"""Whether a metric of the new version is good, bad, or unknown: by bounds on counts, beside the other version's. Pure.

Promises: what is missing, not finite, negative or counted by one source of two is never good; what both versions suffer from is
nobody's fault.

Bad: Wilson's lower bound (z = 3) of any source is above `max(limit, baseline + margin)`, of 30 requests or more. Good: the upper
bound (z = 1.64) of all sources together is below it, of `3 / limit` requests or more. Baselines lean to the side of doubt: the old
version's upper bound (z = 1.64) where the new one is to be called bad, its lower one where it is to be called good. Sources may
count one error twice, so the largest must convince for bad, and their sum for good. Where the old version itself is above the
limit (its lower bound, z = 3), the new one is good only below the limit itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mlpack_control.counts import Count, count_of, lower, upper
from mlpack_control.records import Rule

GOOD, BAD, UNKNOWN, SICK = "good", "bad", "unknown", "sick"
"""`sick`: unknown, because the old version is above the limit as well."""
Z_BAD, Z_GOOD = 3.0, 1.64
LEAST_BAD = 30


def judge(rule: Rule, new: Any, old: Any) -> dict[str, Any]:
    """The verdict on one metric, its reason, and the numbers that were compared. `new` and `old`: counts by metric and source."""
    news, olds = _counts(rule, new), _counts(rule, old)
    missing = [source for source in rule.sources if source not in news]
    sick = any(lower(count, Z_BAD) > rule.limit and count.total >= LEAST_BAD for count in olds.values())
    for source, count in news.items():
        bound = lower(count, Z_BAD)
        threshold = max(rule.limit, _baseline(olds.get(source), upper) + rule.margin)
        if count.total >= LEAST_BAD and bound > threshold:
            why = f"{source}: at least {_percent(bound)} of {_n(count.total)} are bad, more than {_percent(threshold)}"
            return _row(rule, BAD, why, {"lower": bound, "threshold": threshold}, news, olds)
    if missing:
        return _row(rule, SICK if sick else UNKNOWN, f"no counts from {', '.join(missing)}", {}, news, olds)
    both, before = _together(news), _together(olds) if len(olds) == len(rule.sources) else None
    bound = upper(both, Z_GOOD)
    threshold = rule.limit if sick else max(rule.limit, _baseline(before, lower) + rule.margin)
    numbers = {"upper": bound, "threshold": threshold}
    if both.total < 3 / rule.limit:
        why = f"{_n(both.total)} requests of {_n(math.ceil(3 / rule.limit))} that a verdict needs"
    elif bound < threshold:
        return _row(
            rule,
            GOOD,
            f"at most {_percent(bound)} of {_n(both.total)} are bad, less than {_percent(threshold)}",
            numbers,
            news,
            olds,
        )
    else:
        why = f"up to {_percent(bound)} of {_n(both.total)} may be bad, and {_percent(threshold)} is the threshold"
    if sick:
        return _row(rule, SICK, f"{why}; the old version is above the limit too", numbers, news, olds)
    return _row(rule, UNKNOWN, why, numbers, news, olds)


def _counts(rule: Rule, value: Any) -> dict[str, Count]:
    """The counts of the rule's own sources that can be read."""
    given = value.get(rule.metric) if isinstance(value, Mapping) else None
    pairs = {source: count_of(given.get(source)) for source in rule.sources} if isinstance(given, Mapping) else {}
    return {source: count for source, count in pairs.items() if count is not None}


def _together(counts: Mapping[str, Count]) -> Count:
    """What all sources saw: their errors added, of the requests that the one that saw fewest saw."""
    total = min(count.total for count in counts.values())
    return Count(min(total, sum(count.bad for count in counts.values())), total)


def _baseline(count: Count | None, bound: Any) -> float:
    """The old version's bound; 0 where too few requests say anything."""
    return float(bound(count, Z_GOOD)) if count is not None and count.total >= LEAST_BAD else 0.0


def _row(
    rule: Rule, verdict: str, why: str, numbers: Mapping[str, float], news: Mapping[str, Count], olds: Mapping[str, Count]
) -> dict[str, Any]:
    return {
        "metric": rule.metric,
        "verdict": verdict,
        "why": why,
        "limit": rule.limit,
        "margin": rule.margin,
        "new": {source: list(count) for source, count in news.items()},
        "old": {source: list(count) for source, count in olds.items()},
        **{key: round(value, 9) for key, value in numbers.items()},
    }


def _percent(share: float) -> str:
    return f"{share * 100:.3f} %"


def _n(number: float) -> str:
    return f"{number:.0f}"
