"""Decisions of a rollout: the path of a healthy release, verdicts, doubt, and what must never advance."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack_control import Action, Policy, State, canonical, decide, replay
from mlpack_control.counts import Count, count_of, lower, upper

POLICY = Policy.of({"rules": {"errors": {"limit": 0.01, "margin": 0.005}}})
BAKING = State(phase="baking", old="7", new="8", step=0, begun=0, since=1000)
HEALTHY, SICK = [0, 1000], [100, 1000]


def both(pair: Any) -> dict[str, Any]:
    """The counts of errors of a version whose two sources agree."""
    return {"errors": {"platform": pair, "package": pair}}


def seen(new: Any = HEALTHY, old: Any = HEALTHY, **more: Any) -> dict[str, Any]:
    """What was counted of both versions until a minute ago."""
    return {"since": 1020, "until": 1740, "new": both(new), "old": both(old), "alarms": {}, **more}


def action(observed: Any, now: float = 1800, state: State = BAKING, policy: Policy = POLICY) -> Action:
    """What is decided."""
    return decide(policy, state, observed, now)[1]


def test_a_healthy_release_goes_all_the_way() -> None:
    state, now, kinds = State(old="7", begun=0, since=0), 0.0, []
    while state.phase != "finalised":
        observed = {**seen(), "since": state.since, "until": now}
        state, done, _ = decide(POLICY, state, observed, now)
        kinds.append((done.kind, done.percent))
        now += done.seconds or 0
    holds = [("hold", None)] * 10
    shifts = [("shift", 5), *holds, ("shift", 25), *holds, ("shift", 50), *holds]
    assert kinds == [("publish", None), ("warm", None), *shifts, ("finalise", None)]
    assert decide(POLICY, state, seen(), now)[1].kind == "end"


@pytest.mark.parametrize(
    ("observed", "kind"),
    [
        (seen(), "shift"),
        (seen(new=[100, 1000]), "roll_back"),
        (seen(new=[5, 29]), "hold"),
        (seen(new=[5, 30]), "roll_back"),
        (seen(new=[0, 299]), "hold"),
        (seen(new=[0, 300]), "shift"),
        (seen(new=[12, 1000]), "hold"),
        (seen(new=SICK, old=SICK), "hold"),
        (seen(new=[200, 1000], old=SICK), "roll_back"),
        (seen(new=HEALTHY, old=SICK), "shift"),
        (seen(old=[0, 0]), "shift"),
        (seen(new=[13, 10000], old=[90, 10000]), "shift"),
        (seen(alarms={"brake": "ALARM"}), "roll_back"),
        (seen(new=SICK, old=SICK, alarms={"brake": "ALARM"}), "hold"),
        (seen(alarms={"brake": "INSUFFICIENT_DATA"}), "hold"),
        (seen(alarms={"brake": "OK"}), "shift"),
        ({**seen(), "new": {"errors": {"platform": SICK}}}, "roll_back"),
    ],
)
def test_counts_decide(observed: Any, kind: str) -> None:
    assert action(observed).kind == kind


def test_newest_minutes_condemn_and_acquit_nobody() -> None:
    bad, good = (
        {"until": 1780, "new": both([40, 400]), "old": both(HEALTHY)},
        {"until": 1780, "new": both(HEALTHY), "old": both(HEALTHY)},
    )
    assert action(seen(fresh=bad)).kind == "roll_back"
    assert action(seen(new=[0, 5], fresh=good)).kind == "hold"
    assert action({"since": 1020, "until": 1020, "fresh": bad}).kind == "roll_back"
    assert action({"since": 1020, "until": 1020, "fresh": {**bad, "until": 9999}}).kind == "hold"


def test_an_alarm_that_was_red_at_the_start_stops_no_fix() -> None:
    state = State(phase="baking", old="7", new="8", step=0, begun=0, since=1000, red=("brake",))
    assert action(seen(alarms={"brake": "ALARM"}), state=state).kind == "shift"


def test_one_error_in_both_sources_is_not_bad_twice() -> None:
    one, two = both([20, 1000]), {"errors": {"platform": [10, 1000], "package": [10, 1000]}}
    assert action({**seen(), "new": one}).kind == "roll_back"
    assert action({**seen(), "new": two}).kind == "hold"


@pytest.mark.parametrize(("doubt", "kind"), [("hold", "ask"), ("roll_back", "roll_back"), ("advance", "shift")])
def test_doubt_ends_as_the_policy_says(doubt: str, kind: str) -> None:
    policy = Policy.of({"on_doubt": doubt, "give_up_s": 800, "stale_s": 100000})
    assert action(seen(new=[0, 100]), now=1799, policy=policy).kind == "hold"
    assert action(seen(new=[0, 100]), now=1800, policy=policy).kind == kind


def test_a_person_is_asked_once_and_answers() -> None:
    policy = Policy.of({"give_up_s": 800})
    state, first, _ = decide(policy, BAKING, seen(new=[0, 100]), 1800)
    assert (first.kind, action(seen(new=[0, 100]), state=state, policy=policy).kind) == ("ask", "hold")
    for answer, kind in (("advance", "shift"), ("roll_back", "roll_back"), ("perhaps", "hold")):
        assert action(seen(new=[0, 100], answer=answer), state=state, policy=policy).kind == kind
    assert action(seen(new=[0, 100], answer="advance"), policy=policy).kind == "ask"


def test_a_rollout_expires() -> None:
    assert action(seen(), now=POLICY.expire_s).kind == "roll_back"
    assert action(None, now=POLICY.expire_s, state=State(old="7", begun=0, since=0)).kind == "roll_back"


@pytest.mark.parametrize(
    "change",
    [
        {"until": 800},
        {"since": 999},
        {"until": 1801},
        {"until": None},
        {"since": math.nan},
        {"new": None},
        {"new": both(None)},
        {"new": {"errors": {"platform": HEALTHY}}},
        {"new": {"errors": {"package": HEALTHY}}},
        {"new": both([math.nan, 1000])},
        {"new": both([-1, 1000])},
        {"new": both([0, math.inf])},
        {"new": both([0, True])},
        {"new": both(["0", "1000"])},
        {"new": both([0, 0])},
    ],
)
@pytest.mark.parametrize("doubt", ["hold", "advance", "roll_back"])
@pytest.mark.parametrize("now", [1800, 1700 + POLICY.give_up_s * 2])
def test_what_is_no_data_never_advances(change: dict[str, Any], doubt: str, now: float) -> None:
    policy = Policy.of({"on_doubt": doubt, "stale_s": 900})
    assert action({**seen(), **change}, now=now, policy=policy).kind not in ("shift", "finalise")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
PAIRS = st.lists(st.integers(-2, 500) | st.floats() | st.none(), min_size=1, max_size=3)
SIDES = st.dictionaries(st.sampled_from(["errors", "slow"]), st.dictionaries(st.sampled_from(["platform", "package"]), PAIRS))
OBSERVED = JSON | st.fixed_dictionaries(
    {"since": st.just(1020) | JSON, "until": st.just(1740) | JSON, "new": SIDES | JSON, "old": SIDES | JSON, "alarms": JSON}
)


@given(OBSERVED, st.floats() | st.integers(0, 4000), st.sampled_from(["hold", "advance"]))
def test_any_observation_is_answered_and_replays(observed: Any, now: float, doubt: str) -> None:
    policy = Policy.of({"on_doubt": doubt, "give_up_s": 700})
    state, done, evidence = decide(policy, BAKING, observed, now)
    assert State.of(json.loads(canonical(state.json()))) == state
    [replayed] = replay(policy, [json.loads(canonical(evidence))])
    assert replayed.same
    if done.kind in ("shift", "finalise"):
        for source in ("platform", "package"):
            bad, total = observed["new"]["errors"][source]
            assert 0 <= bad <= total < math.inf
            assert total >= 30


@given(st.integers(0, 400), st.integers(0, 400), st.floats(0.1, 5))
def test_bounds_enclose_the_share(bad: int, more: int, z: float) -> None:
    count = Count(bad, bad + more)
    assert 0 <= lower(count, z) <= upper(count, z) <= 1
    if count.total:
        assert lower(count, z) <= bad / count.total + 1e-12
        assert upper(count, z) >= bad / count.total - 1e-12


def test_bounds_are_wilsons() -> None:
    assert (round(lower(Count(5, 30), 1.96), 4), round(upper(Count(5, 30), 1.96), 4)) == (0.0734, 0.3356)
    assert (lower(Count(0, 0), 3), upper(Count(0, 0), 3)) == (0, 1)
    assert count_of([3, 2]) is None


def test_changed_evidence_does_not_replay() -> None:
    _, _, evidence = decide(POLICY, BAKING, seen(), 1800)
    changed = json.loads(canonical(evidence))
    changed["observed"]["new"]["errors"]["platform"] = [1, 1000]
    assert [each.same for each in replay(POLICY, [evidence, changed, {}, {**evidence, "state": {}}])] == [True, False, False, False]


@pytest.mark.parametrize(
    ("observed", "now", "kind", "seconds", "why"),
    [
        (seen(), 1570, "hold", 30, "every metric is good; 600 s are not over"),
        (seen(), 1599.5, "hold", 1, "every metric is good; 600 s are not over"),
        (seen(), 1800, "shift", None, "every metric is good and 600 s are over"),
        (seen(new=[0, 100]), 1300, "hold", 60, "errors is unknown: 100 requests of 300 that a verdict needs"),
        (seen(alarms={"a": "OK", "b": "MISSING"}), 1800, "hold", 60, "the alarm b is not green"),
        (seen(alarms={"a": "ALARM"}), 1800, "roll_back", None, "the alarm a is red, which it was not at the start"),
        (None, 86400, "roll_back", None, "it took 86400 s without an end"),
        (None, math.nan, "hold", 60, "the time is not known"),
    ],
)
def test_a_decision_says_why(observed: Any, now: float, kind: str, seconds: int | None, why: str) -> None:
    fresh = {**observed, "until": min(observed["until"], int(now))} if isinstance(observed, dict) else observed
    _, done, evidence = decide(POLICY, BAKING, fresh, now)
    assert (done.kind, done.seconds, evidence["why"]) == (kind, seconds, why)
