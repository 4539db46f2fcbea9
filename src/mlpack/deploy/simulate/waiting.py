"""How long a step of a rollout takes until it can be decided, computed and not simulated: what `plan` says before a rollout. Pure.

Promises: the rules are `mlpack_control`'s own: what it would call good is good here. A step that would take more than `LONGEST_S`
has no time; one that takes longer than the policy's `give_up_s` is asked about then, and has its time all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from mlpack_control.counting import LATE_S
from mlpack_control.records import Policy, Rule
from mlpack_control.verdicts import GOOD, judge

USUAL = 0.1
"""Of a metric's limit: how many bad answers a healthy version is taken to have, where nothing is known."""
LONGEST_S = 10 * 86_400.0
_ENDLESS = 1e7
"""Requests after which chance plays no part any more."""
_PORTIONS = 100
"""Looks until the least number of requests that a verdict needs have come: at low traffic a look is longer than a minute."""


def decision_times(policy: Policy, rps: float, shares: Mapping[str, float] | None = None) -> tuple[float | None, ...]:
    """Seconds of each step before the last, from its shift to the next one, at the median of healthy releases; None: ten days.

    `rps`: requests a second of both versions together. `shares`: of bad answers by metric; others have `USUAL` of their limit.
    """
    known = shares or {}
    times: list[float | None] = []
    for percent, bake_s in zip(policy.steps, policy.bake_s, strict=False):
        new, old = rps * percent / 100, rps * (1 - percent / 100)
        waits = [_median_s(rule, known.get(rule.metric, rule.limit * USUAL), (new, old)) for rule in policy.rules]
        longest = max((wait for wait in waits if wait is not None), default=0.0)
        late = math.ceil((longest + LATE_S) / policy.look_s) * policy.look_s
        times.append(max(float(bake_s), late) if None not in waits else None)
    return tuple(times)


def _median_s(rule: Rule, share: float, rates: tuple[float, float]) -> float | None:
    """Seconds of traffic until the rule calls half of all releases good: the bad answers are followed as a distribution, minute by
    minute, and whoever has few enough of them for the controller leaves it."""
    new, old = rates
    if new <= 0 or not _good(rule, round(share * _ENDLESS), _ENDLESS, share * _ENDLESS, _ENDLESS):
        return None
    step_s = 60.0 * max(1, math.ceil(3 / rule.limit / new / 60 / _PORTIONS))
    open_, undecided, allowed = {0: 1.0}, 1.0, -1
    portion = _poisson(new * step_s * share)
    for number in range(1, int(LONGEST_S // step_s) + 1):
        total = new * step_s * number
        while _good(rule, allowed + 1, total, share * old * step_s * number, old * step_s * number):
            allowed += 1
        after: dict[int, float] = {}
        for bad, chance in open_.items():
            for more, part in enumerate(portion):
                after[bad + more] = after.get(bad + more, 0.0) + chance * part
        open_ = {bad: chance for bad, chance in after.items() if bad > allowed and chance > 1e-9}
        undecided = sum(open_.values())
        if undecided <= 0.5:
            return number * step_s
    return None


def _good(rule: Rule, bad: int, total: float, old_bad: float, old_total: float) -> bool:
    new_counts = dict.fromkeys(rule.sources, (0.0, total)) | {rule.sources[-1]: (float(bad), total)}
    old_counts = dict.fromkeys(rule.sources, (0.0, old_total)) | {rule.sources[-1]: (old_bad, old_total)}
    return bad <= total and judge(rule, {rule.metric: new_counts}, {rule.metric: old_counts})["verdict"] == GOOD


def _poisson(expected: float) -> list[float]:
    """Chances of 0, 1, 2, ... events, until the rest does not matter."""
    chances: list[float] = []
    number = 0
    while number <= expected or chances[-1] > 1e-6:
        chances.append(
            math.exp(number * math.log(expected) - expected - math.lgamma(number + 1)) if expected > 0 else float(number == 0)
        )
        number += 1
    return chances
