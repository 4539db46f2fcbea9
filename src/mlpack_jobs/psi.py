"""The population stability index of one feature: how far its values today are from those that the model was released on. Pure.

    psi = sum over bins of (today - before) * ln(today / before), each share with half a value more in its bin

The half stands in the place of the usual floor of 0.0001, under which a feature without drift, in 22 bins and 100 values, is called
drifting nine times in a hundred where one in a thousand was meant (docs/decisions/0061); with it, once.

Bins are the tenths of the reference's numbers, or each of its values where these are few or no numbers; texts that mostly differ
count by their length. Each feature has two bins more: for values that are missing (null, NaN, infinite), and for others that the
reference does not have.

Promises: a verdict in three values. Without any drift psi is about chi-square * (1/n + 1/m) of two samples, so `drift` needs more
than the limit and more than chance, `stable` needs samples in which chance stays below the limit, and everything else is `unknown`.
Will not: fail on any value that JSON can say.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

BINS = 10
CATEGORIES = 20
"""More values than these are one bin, `other`."""
LEAST = 30
"""Values of a feature, of either side: fewer say nothing."""
_HALF = 0.5
_ALPHA = 0.001
"""How often a feature without drift is called drifting, all of them together."""
MISSING, OTHER = "missing", "other"


class Finding(NamedTuple):
    """Of one feature. `chance`: what psi stays below without drift; `n`, `m`: values before and today."""

    verdict: str
    psi: float | None
    chance: float | None
    n: int
    m: int


def reference(values: Sequence[Any]) -> dict[str, Any]:
    """The bins of a feature and how many values are in each, as JSON."""
    lengths = {"lengths": True} if _are_words(values) else {}
    present = [value for value in (_plain(value, **lengths) for value in values) if value is not None]
    numbers = [value for value in present if _is_number(value)]
    if len(numbers) == len(present) and len(set(numbers)) > BINS:
        ordered = sorted(numbers)
        edges = sorted({ordered[len(ordered) * at // BINS] for at in range(1, BINS)})
        bins: dict[str, Any] = {"edges": edges, **lengths}
    else:
        bins = {"values": [name for name, _ in sorted(Counter(map(_name, present)).items(), key=_often)[:CATEGORIES]], **lengths}
    return {**bins, "counts": counts(bins, values)}


def counts(bins: Mapping[str, Any], values: Iterable[Any]) -> dict[str, int]:
    """How many of the values are in each bin; bins without any are left out."""
    known = set(bins.get("values", ()))

    def bin_of(value: Any) -> str:
        plain = _plain(value, lengths=bool(bins.get("lengths")))
        if plain is None:
            return MISSING
        if "edges" in bins:
            return str(bisect_right(bins["edges"], plain)) if _is_number(plain) else OTHER
        name = _name(plain)
        return f"={name}" if name in known else OTHER

    return dict(sorted(Counter(map(bin_of, values)).items()))


def compare(before: Mapping[str, int], today: Mapping[str, int], limit: float, features: int = 1) -> Finding:
    """What counts of the same bins say. `features`: how many are compared, so that chance is that of all."""
    n, m = sum(before.values()), sum(today.values())
    if min(n, m) < LEAST:
        return Finding("unknown", None, None, n, m)
    names = sorted({*before, *today})
    psi = sum(_term(*(_share(counts.get(name, 0), counts, len(names)) for counts in (before, today))) for name in names)
    chance = _chi_square(max(1, len(names) - 1), 1 - _ALPHA / max(1, features)) * (1 / n + 1 / m)
    if psi > max(limit, chance):
        return Finding("drift", psi, chance, n, m)
    return Finding("stable" if chance <= limit and psi <= limit else "unknown", psi, chance, n, m)


def _share(count: int, counts: Mapping[str, int], bins: int) -> float:
    return (count + _HALF) / (sum(counts.values()) + _HALF * bins)


def _term(before: float, today: float) -> float:
    return (today - before) * math.log(today / before)


def _chi_square(freedom: int, share: float) -> float:
    """The quantile, after Wilson and Hilferty (1931): at most 3 % too large from one degree of freedom on at such shares."""
    part = 2 / (9 * freedom)
    return freedom * (1 - part + NormalDist().inv_cdf(share) * math.sqrt(part)) ** 3


def _are_words(values: Sequence[Any]) -> bool:
    texts = [value for value in values if isinstance(value, str)]
    return len(texts) > LEAST and 2 * len(set(texts)) > len(texts)


def _plain(value: Any, *, lengths: bool = False) -> Any:
    """None for what is missing."""
    if lengths and isinstance(value, str):
        return len(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(value: Any) -> str:
    """A category's: 1 and 1.0 are one, "1" is another."""
    if _is_number(value) and abs(value) < 1 << 53:
        value = int(value) if float(value).is_integer() else float(value)
    return json.dumps(value, sort_keys=True, default=str)[:200]


def _often(pair: tuple[str, int]) -> tuple[int, str]:
    return -pair[1], pair[0]
