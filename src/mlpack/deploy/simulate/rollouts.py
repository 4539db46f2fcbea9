"""A rollout on a virtual clock: the controller that ships decides, from counts that are drawn by chance.

Promises: every decision is `mlpack_control.decide`'s own; it sees whole minutes, as late as CloudWatch shows them.
The same policy, world and seed give the same run. Nothing sleeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mlpack_control.counting import LATE_S
from mlpack_control.deciding import decide
from mlpack_control.records import PACKAGE, PLATFORM, Policy, State

MINUTE = 60.0
SHOWN_AFTER_S = 60.0
"""How long after its end CloudWatch shows most of a minute; all of it is there `LATE_S` after."""
ACTS_S = {"publish": 30.0, "warm": 30.0}
Outcome = Literal["promoted", "rolled back", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What happens to the requests of a version, as shares. `crashes` kill the process: only the platform counts them."""

    errors: float = 0.001
    crashes: float = 0.0
    slow: float = 0.01
    cold: float = 0.005
    throttled: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A time in which versions do otherwise, or other numbers of requests come. Seconds since the rollout began."""

    begin_s: float
    end_s: float
    who: Literal["new", "old", "both"] = "both"
    shares: Mapping[str, float] = field(default_factory=dict)
    rps: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time whose minutes a source does not show. `kind`: nothing there, NaN in its place, or the last value before it."""

    begin_s: float
    end_s: float
    sources: tuple[str, ...] = (PLATFORM, PACKAGE)
    kind: Literal["missing", "nan", "stale"] = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a rollout meets. `rps`: by the second since it began. `bursts`: how many bad answers come
    together, in the mean; 1: each by itself."""

    rps: Callable[[float], float]
    old: Side = Side()
    new: Side = Side()
    bursts: float = 1.0
    episodes: tuple[Episode, ...] = ()
    gaps: tuple[Gap, ...] = ()
    late_s: float = 0.0
    hours: float = 24.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """Requests and bad answers of a version in a minute; what was counted by whom. `weight`: its share of the traffic."""

    at: float
    weight: float
    counts: Mapping[str, Mapping[str, Mapping[str, tuple[float, float]]]]


@dataclass(slots=True, kw_only=True)
class RolloutRun:
    """What happened. `shifts`: (second, percent). `bad_answers`: errors of the new version, seen or not, until the end."""

    outcome: Outcome = "undecided"
    seconds: float = 0.0
    asked: bool = False
    shifts: list[tuple[float, int]] = field(default_factory=list)
    bad_answers: int = 0
    slow_answers: int = 0
    requests: int = 0
    alarm: bool = False
    """Whether an alarm of a plain threshold, errors of a minute above the limit, would have rolled it back by then."""
    why: str = ""
    minutes: list[Minute] = field(default_factory=list)
    decisions: list[tuple[float, str, str]] = field(default_factory=list)

    @property
    def minutes_taken(self) -> float:
        """From the first shift to the end; there is none without a shift."""
        return (self.seconds - self.shifts[0][0]) / MINUTE if self.shifts else self.seconds / MINUTE

    @property
    def percent(self) -> int:
        """The most that the new version got."""
        return max((percent for _, percent in self.shifts), default=0)


class _Traffic:
    """Minutes of both versions, drawn as the clock goes."""

    def __init__(self, world: World, seed: int) -> None:
        import numpy

        self.world, self.chance = world, numpy.random.default_rng(seed)
        self.minutes: list[Minute] = []
        self._first = -1
        self._closed = self._fresh = _Window(0)

    def to(self, now: float, weight: float) -> None:
        """Draws the minutes that have ended by now, at this weight."""
        while (at := len(self.minutes) * MINUTE) + MINUTE <= now:
            self.minutes.append(self._minute(at, weight))

    def _minute(self, at: float, weight: float) -> Minute:
        world = self.world
        episodes = [each for each in world.episodes if each.begin_s <= at < each.end_s]
        rps = next((each.rps for each in episodes if each.rps is not None), world.rps(at))
        counts = {}
        for who, side, share in (("new", world.new, weight), ("old", world.old, 1 - weight)):
            for each in episodes:
                side = replace(side, **each.shares) if each.who in (who, "both") else side
            counts[who] = self._counts(int(self.chance.poisson(rps * MINUTE * share)), side)
        return Minute(at=at, weight=weight, counts=counts)

    def _counts(self, number: int, side: Side) -> dict[str, dict[str, tuple[float, float]]]:
        crashes = self._bad(number, side.crashes)
        answered = number - crashes
        errors, slow, cold = (self._bad(answered, share) for share in (side.errors, side.slow, side.cold))
        throttled = self._bad(number, side.throttled)
        return {
            "errors": {PLATFORM: (crashes, number), PACKAGE: (errors, answered)},
            "slow": {PACKAGE: (slow, answered)},
            "cold": {PACKAGE: (cold, answered)},
            "throttled": {PLATFORM: (throttled, number)},
        }

    def _bad(self, number: int, share: float) -> int:
        if not number or not share:
            return 0
        if (bursts := self.world.bursts) > 1 and share < 1:
            times = int(self.chance.poisson(number * share / bursts))
            return min(number, int(self.chance.geometric(1 / bursts, times).sum()))
        return int(self.chance.binomial(number, share))

    def observed(self, since: float, now: float) -> dict[str, Any]:
        """What the controller is shown of the minutes since a step began."""
        first = math.ceil(since / MINUTE)
        ended = min(math.floor((now - SHOWN_AFTER_S - self.world.late_s) / MINUTE), len(self.minutes))
        closed = min(math.floor((now - LATE_S - self.world.late_s) / MINUTE), ended)
        if first != self._first:
            self._first, self._closed, self._fresh = first, _Window(first), _Window(first)
        told = {"since": first * MINUTE, "until": first * MINUTE, "new": {}, "old": {}, "alarms": {}}
        stale = [gap.begin_s for gap in self.world.gaps if gap.kind == "stale" and gap.begin_s <= now < gap.end_s]
        for window, end in ((self._closed, closed), (self._fresh, ended)):
            while window.end < end:
                window.add(self.minutes[window.end], self.world.gaps)
        if closed > first:
            told |= {"until": min([closed * MINUTE, *stale]), **self._closed.sums}
        if ended > max(closed, first):
            told["fresh"] = {"until": min([ended * MINUTE, *stale]), **self._fresh.sums}
        return told


class _Window:
    """The sums of minutes since a step began, by version, metric and source."""

    def __init__(self, first: int) -> None:
        self.end = first
        self.sums: dict[str, dict[str, dict[str, list[float]]]] = {"new": {}, "old": {}}

    def add(self, minute: Minute, gaps: tuple[Gap, ...]) -> None:
        """A minute, without what no source shows of it."""
        self.end += 1
        hidden = {source: gap.kind for gap in gaps if gap.begin_s <= minute.at < gap.end_s for source in gap.sources}
        for who, by_metric in minute.counts.items():
            for metric, by_source in by_metric.items():
                for source, (bad, total) in by_source.items():
                    if (kind := hidden.get(source)) in ("missing", "stale"):
                        continue
                    row = self.sums[who].setdefault(metric, {}).setdefault(source, [0.0, 0.0])
                    row[0] += math.nan if kind == "nan" else bad
                    row[1] += total


def simulate_rollout(policy: Policy, world: World, seed: int = 0) -> RolloutRun:
    """One rollout, until it ends or the world's hours are over."""
    traffic, run = _Traffic(world, seed), RolloutRun()
    limit = next((rule.limit for rule in policy.rules if rule.metric == "errors"), 1.0)
    state, now, weight = State(old="1", begun=0.0, since=0.0), 0.0, 0.0
    while now < world.hours * 3600:
        traffic.to(now, weight)
        observed = traffic.observed(state.since, now) if state.phase == "baking" else {}
        state, action, evidence = decide(policy, state, observed, now)
        run.why = evidence["why"]
        if action.kind != "hold":
            run.decisions.append((now, action.kind, run.why))
        if action.kind == "publish":
            state = replace(state, new="2")
        if action.kind == "shift":
            weight = (action.percent or 0) / 100
            run.shifts.append((now, action.percent or 0))
        run.asked = run.asked or action.kind == "ask"
        if action.kind in ("finalise", "roll_back"):
            run.outcome = "promoted" if action.kind == "finalise" else "rolled back"
            break
        now += action.seconds or ACTS_S.get(action.kind, policy.look_s)
    run.seconds, run.minutes = now, traffic.minutes
    for minute in run.minutes:
        errors, slow = minute.counts["new"]["errors"], minute.counts["new"]["slow"][PACKAGE]
        bad = int(errors[PLATFORM][0] + errors[PACKAGE][0])
        run.bad_answers, run.slow_answers = run.bad_answers + bad, run.slow_answers + int(slow[0])
        run.requests += int(errors[PLATFORM][1])
        run.alarm = run.alarm or bad > limit * errors[PLATFORM][1]
    return run
