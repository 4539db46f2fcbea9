"""The decision of a rollout at one moment. Pure and total.

Promises: the same inputs give the same bytes; `observed` may be anything, and what is missing, stale, not finite or half there
never advances a rollout; every decision comes with the numbers, bounds and thresholds that it was made by.

Will not: read a clock, a metric or an alias, or act.

`observed` is what was counted since the step began, in whole minutes that have ended:

    {"since": 0, "until": 600, "new": {"errors": {"platform": [2, 310], "package": [0, 309]}, ...}, "old": {...},
     "alarms": {"fashion-prod-brake": "OK"}, "answer": "advance"}

`fresh` has `until`, `new` and `old` with the newest minutes, which may still grow: they condemn, and acquit nobody.
A pair is [bad, requests]. `answer` is a person's to the question that was asked: advance or roll_back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mlpack_control.counts import is_number
from mlpack_control.records import ENDED, Action, Policy, State
from mlpack_control.verdicts import BAD, GOOD, LEAST_BAD, SICK, judge

RED, GREEN = "ALARM", "OK"
Decision = tuple[State, Action, str]


def decide(policy: Policy, state: State, observed: Any, now: float) -> tuple[State, Action, dict[str, Any]]:
    """The state after the action, the action, and the evidence that it follows from: see `replaying.replay`."""
    seen = plain(observed)
    verdicts = _verdicts(policy, state, seen, now)
    after, action, why = _decision(policy, state, seen, now, verdicts)
    evidence = {
        "at": plain(now),
        "state": state.json(),
        "observed": seen,
        "verdicts": verdicts,
        "action": action.json(),
        "why": why,
    }
    return after, action, evidence


def _decision(policy: Policy, state: State, seen: Any, now: float, verdicts: list[dict[str, Any]]) -> Decision:
    if state.phase in ENDED:
        return state, Action(kind="end"), f"it is {state.phase} already"
    if not is_number(now):
        return state, Action(kind="hold", seconds=policy.look_s), "the time is not known"
    if now - state.begun >= policy.expire_s:
        return _back(state, f"it took {policy.expire_s} s without an end")
    if state.phase == "begun":
        return replace(state, phase="published"), Action(kind="publish"), "a rollout begins with a version"
    if state.phase == "published":
        return replace(state, phase="warm"), Action(kind="warm"), "the version starts before it gets traffic"
    if state.phase == "warm":
        return _forward(policy, state, now, "the version is warm")
    return _baked(policy, state, seen, now, verdicts)


def _baked(policy: Policy, state: State, seen: Any, now: float, verdicts: list[dict[str, Any]]) -> Decision:
    """The decision while a step has traffic."""
    by_verdict = {row["verdict"]: row for row in reversed(verdicts)}
    red, unclear = _alarms(state, seen)
    if bad := by_verdict.get(BAD):
        return _back(state, f"{bad['metric']} is bad: {bad['why']}")
    if red and SICK not in by_verdict:
        return _back(state, f"the alarm {red[0]} is red, which it was not at the start")
    answer = seen.get("answer") if isinstance(seen, Mapping) else None
    if state.asked and answer == "roll_back":
        return _back(state, "a person answered: roll_back")
    if state.asked and answer == "advance" and not red:
        return _forward(policy, state, now, "a person answered: advance")
    bake_s = policy.bake_s[min(state.step, len(policy.bake_s) - 1)] if policy.bake_s else 0
    elapsed = max(0.0, now - state.since)
    open_rows = [row for row in verdicts if row["verdict"] != GOOD]
    doubt = _doubt(open_rows, [*red, *unclear])
    if not doubt and elapsed >= bake_s:
        return _forward(policy, state, now, f"every metric is good and {bake_s} s are over")
    if doubt and elapsed >= max(bake_s, policy.give_up_s):
        counted = not red and not unclear and all(_counted(row) for row in open_rows)
        return _in_doubt(policy, state, now, doubt, counted=counted)
    left = bake_s - elapsed if elapsed < bake_s else policy.look_s
    seconds = max(1, min(policy.look_s, math.ceil(left)))
    return state, Action(kind="hold", seconds=seconds), doubt or f"every metric is good; {bake_s} s are not over"


def _in_doubt(policy: Policy, state: State, now: float, doubt: str, *, counted: bool) -> Decision:
    """What the policy says after `give_up_s`. Only counts that were too few advance, never counts that were not there."""
    if policy.on_doubt == "roll_back":
        return _back(state, f"undecided after {policy.give_up_s} s: {doubt}")
    if policy.on_doubt == "advance" and counted:
        return _forward(policy, state, now, f"undecided after {policy.give_up_s} s, and the policy advances: {doubt}")
    if state.asked:
        return state, Action(kind="hold", seconds=policy.look_s), f"a person was asked: {doubt}"
    return replace(state, asked=True), Action(kind="ask", seconds=policy.look_s), f"undecided after {policy.give_up_s} s: {doubt}"


def _counted(row: dict[str, Any]) -> bool:
    """Whether every source counted so many that a bad release would have been seen, and the old version is well."""
    return row["verdict"] != SICK and "upper" in row and all(total >= LEAST_BAD for _bad, total in row["new"].values())


def _forward(policy: Policy, state: State, now: float, why: str) -> Decision:
    step = state.step + 1
    after = replace(state, phase="baking", step=step, since=now, asked=False)
    if step >= len(policy.steps) - 1:
        return replace(after, phase="finalised", step=len(policy.steps) - 1), Action(kind="finalise"), why
    return after, Action(kind="shift", percent=policy.steps[step]), why


def _back(state: State, why: str) -> Decision:
    return replace(state, phase="rolled_back"), Action(kind="roll_back"), why


def _verdicts(policy: Policy, state: State, seen: Any, now: float) -> list[dict[str, Any]]:
    """One for each rule while a step has traffic. Counts that are too old, or of another time, are no counts."""
    if state.phase != "baking":
        return []
    given = seen if isinstance(seen, Mapping) else {}
    fresh = given.get("fresh")
    closed = _timely(policy, state, given, now)
    newest = _timely(policy, state, {**fresh, "since": given.get("since")}, now) if isinstance(fresh, Mapping) else (None, None)
    rows = []
    for rule in policy.rules:
        row, early = judge(rule, *closed), judge(rule, *newest)
        rows.append(early if early["verdict"] == BAD and row["verdict"] != BAD else row)
    return rows


def _timely(policy: Policy, state: State, given: Mapping[str, Any], now: float) -> tuple[Any, Any]:
    """The counts of the new and the old version, where they are of this step and new enough."""
    since: Any = given.get("since")
    until: Any = given.get("until")
    timely = is_number(now) and is_number(since) and is_number(until)
    timely = timely and state.since <= since < until <= now and now - until <= policy.stale_s
    return (given.get("new"), given.get("old")) if timely else (None, None)


def _alarms(state: State, seen: Any) -> tuple[list[str], list[str]]:
    """Alarms that became red since the start, and those whose state is not known."""
    given = seen.get("alarms") if isinstance(seen, Mapping) else None
    alarms = given if isinstance(given, Mapping) else {}
    others = {name: value for name, value in sorted(alarms.items()) if name not in state.red and value != GREEN}
    return [name for name, value in others.items() if value == RED], [name for name, value in others.items() if value != RED]


def _doubt(rows: list[dict[str, Any]], alarms: list[str]) -> str:
    metrics = [f"{row['metric']} is {row['verdict']}: {row['why']}" for row in rows]
    return "; ".join([*metrics, *(f"the alarm {name} is not green" for name in alarms)])


def plain(value: Any) -> Any:
    """The value as JSON can hold it: keys are texts, and what is no JSON, or cannot be counted with, becomes a word."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in sorted(value.items(), key=lambda item: str(item[0]))}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if value is None or isinstance(value, (bool, str)) or is_number(value):
        return value
    return "no number" if isinstance(value, (int, float)) else str(type(value))
