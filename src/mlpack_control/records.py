"""What a rollout goes by and where it is: policy, state, action. Plain JSON in, plain JSON out. Pure.

Promises: a policy or state that is not in its form is a PolicyError that names the key; a record is never half-read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mlpack_control.counts import is_number

PLATFORM, PACKAGE = "platform", "package"
"""Who counts: AWS (its errors include what kills a process) and the package's own log lines (theirs include answers of 500)."""
SOURCES = {"errors": (PLATFORM, PACKAGE), "slow": (PACKAGE,), "cold": (PACKAGE,), "throttled": (PLATFORM,)}
"""Who must have counted a metric before it may be called good. A metric that is not here is a guard of the user's."""
GUARD_SOURCES = ("guard",)
Phase = Literal["begun", "published", "warm", "baking", "finalised", "rolled_back"]
ENDED = ("finalised", "rolled_back")
_PHASES = ("begun", "published", "warm", "baking", *ENDED)
_DOUBTS = ("hold", "roll_back", "advance")


class PolicyError(ValueError):
    """A policy or state is not in its form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How large the share of a metric may be: `limit`, or the other version's share in the same minutes and `margin`.

    `counted_by`: who must have counted it; nobody is as `SOURCES` says. Workers have no platform that counts a version's errors.
    """

    metric: str
    limit: float
    margin: float
    counted_by: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Who must have counted it."""
        return self.counted_by or SOURCES.get(self.metric, GUARD_SOURCES)

    def json(self) -> dict[str, Any]:
        """As JSON, without the metric."""
        sources = {"sources": list(self.counted_by)} if self.counted_by else {}
        return {"limit": self.limit, "margin": self.margin, **sources}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a rollout goes by. Times in seconds.

    Attributes:
        steps: Percent of the traffic, rising, with 100 as the last: at 100 the rollout is finalised.
        bake_s: How long each step is watched at least. One for each step but the last.
        give_up_s: How long a step may stay undecided; then comes `on_doubt`.
        on_doubt: hold (ask once, and hold), roll_back, or advance.
        expire_s: How long the whole rollout may take; then it is rolled back.
        look_s: Between two looks.
        stale_s: How old the newest count may be.
        rules: One for each metric.
        provisioned: Environments that the new version keeps warm before it gets traffic.
    """

    steps: tuple[int, ...] = (5, 25, 50, 100)
    bake_s: tuple[int, ...] = (600, 600, 600)
    give_up_s: int = 7200
    on_doubt: Literal["hold", "roll_back", "advance"] = "hold"
    expire_s: int = 86400
    look_s: int = 60
    stale_s: int = 900
    rules: tuple[Rule, ...] = (Rule(metric="errors", limit=0.01, margin=0.005),)
    provisioned: int = 0

    def json(self) -> dict[str, Any]:
        """As JSON."""
        rules = {rule.metric: rule.json() for rule in self.rules}
        return asdict(self) | {"steps": list(self.steps), "bake_s": list(self.bake_s), "rules": rules}

    @classmethod
    def of(cls, value: Any) -> Policy:
        """The policy that this JSON says; what it leaves out is as above. PolicyError where it is not in its form."""
        given = dict(_object(value, "policy"))
        if unknown := sorted(given.keys() - cls.__dataclass_fields__.keys(), key=str):
            raise PolicyError(f"policy: {unknown[0]!r} is none of its keys: {', '.join(cls.__dataclass_fields__)}")
        steps = _wholes(given.pop("steps", cls().steps), "steps", 1)
        if list(steps) != sorted(set(steps)) or not steps or steps[-1] != 100:
            raise PolicyError(f"policy: steps {list(steps)} do not rise to 100")
        bakes = given.pop("bake_s", 600)
        bake_s = _wholes(bakes if isinstance(bakes, (list, tuple)) else [bakes] * (len(steps) - 1), "bake_s", 0)
        if len(bake_s) != len(steps) - 1:
            raise PolicyError(f"policy: bake_s has {len(bake_s)} times for {len(steps) - 1} steps before 100")
        doubt = given.pop("on_doubt", "hold")
        if doubt not in _DOUBTS:
            raise PolicyError(f"policy: on_doubt {doubt!r} is none of {', '.join(_DOUBTS)}")
        rules = tuple(_rule(*item) for item in _object(given.pop("rules"), "rules").items()) if "rules" in given else cls().rules
        if not rules:
            raise PolicyError("policy: rules are empty: nothing would be judged")
        least = {"provisioned": 0, "look_s": 1}
        times = {key: _whole(each, key, least.get(key, 1)) for key, each in given.items()}
        return cls(steps=steps, bake_s=bake_s, on_doubt=doubt, rules=rules, **times)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a rollout is. Times in seconds since the epoch; versions as the platform names them, `new` once it is published.

    Attributes:
        step: Which of the policy's steps has the traffic; -1 before the first.
        since: When that step began.
        red: Alarms that were red at the start: the release may be what mends them.
        asked: Whether somebody was asked about this step.
    """

    phase: Phase = "begun"
    old: str
    new: str | None = None
    step: int = -1
    begun: float
    since: float
    red: tuple[str, ...] = ()
    asked: bool = False

    def json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"red": list(self.red)}

    @classmethod
    def of(cls, value: Any) -> State:
        """The state that this JSON says. PolicyError where it is not in its form."""
        given = _object(value, "state")
        if given.keys() != cls.__dataclass_fields__.keys():
            raise PolicyError(f"state: its keys are not {', '.join(cls.__dataclass_fields__)}")
        phase, old, new, red, step = (given[key] for key in ("phase", "old", "new", "red", "step"))
        in_form = (
            phase in _PHASES
            and isinstance(old, str)
            and isinstance(new, (str, type(None)))
            and isinstance(red, (list, tuple))
            and all(isinstance(name, str) for name in red)
            and isinstance(given["asked"], bool)
            and is_number(given["begun"])
            and is_number(given["since"])
        )
        if not in_form:
            raise PolicyError("state: a value is not in its form")
        return cls(**{**given, "red": tuple(red), "step": _whole(step, "step", -1)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What to do now: publish, warm, shift (to `percent`), hold (for `seconds`), finalise, roll_back, ask (and hold), or end."""

    kind: Literal["publish", "warm", "shift", "hold", "finalise", "roll_back", "ask", "end"]
    percent: int | None = None
    seconds: int | None = None

    def json(self) -> dict[str, Any]:
        """As JSON, without what this kind has not."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise PolicyError(f"{what}: not an object")
    return value


def _whole(value: Any, key: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise PolicyError(f"{key}: {value!r} is no whole number from {least}")
    return value


def _wholes(value: Any, key: str, least: int) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)):
        raise PolicyError(f"{key}: not a list")
    return tuple(_whole(each, key, least) for each in value)


def _rule(metric: str, value: Any) -> Rule:
    given = _object(value, f"rules.{metric}")
    limit, margin, sources = given.get("limit"), given.get("margin", 0.0), given.get("sources", ())
    if unknown := sorted(given.keys() - {"limit", "margin", "sources"}, key=str):
        raise PolicyError(f"rules.{metric}: {unknown[0]!r} is none of its keys: limit, margin, sources")
    if not (is_number(limit) and is_number(margin)) or not (0 < limit < 1 and 0 <= margin < 1):
        raise PolicyError(f"rules.{metric}: limit and margin are shares between 0 and 1")
    if not isinstance(sources, (list, tuple)) or not all(isinstance(source, str) for source in sources):
        raise PolicyError(f"rules.{metric}: sources are a list of names")
    return Rule(metric=metric, limit=limit, margin=margin, counted_by=tuple(sources))
