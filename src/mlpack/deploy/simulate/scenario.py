"""A scenario: what a deployment is to meet in a simulation, read from a file of YAML.

Promises: a key that is not known, a value of another form or a contradiction is told with its line, all of them at once.
Will not: know the deployment: a scenario can be tried with any.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field  # noqa: TID253

from mlpack.core import yaml_positions
from mlpack.core.text.quantities import quoted, share_of
from mlpack.core.yaml_positions import Problem
from mlpack.deploy.simulate.pool import Loss
from mlpack.deploy.simulate.rollouts import Episode, Gap, Side, World
from mlpack.errors import RecipeError
from mlpack.recipe.deploy.times import parse_span_s
from mlpack.recipe.schema import validated, wording
from mlpack.recipe.units import Keys

SCENARIOS = Path(__file__).with_name("scenarios")
"""The ones that come with mlpack."""
DAY_S = 86_400.0
ENDS = {"rollout": ("promoted", "rolled back", "undecided"), "pool": ("all answered",), "load": ("no throttling",)}
"""How each kind may be expected to end."""


def _share(value: Any) -> Any:
    text = share_of(value)
    number = float(text) if text is not None else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1:
        raise ValueError(f"must be a share, such as 2% or 0.02, not {quoted(value)}")
    return float(number)


Share = Annotated[float, BeforeValidator(_share)]
Span = Annotated[float, BeforeValidator(parse_span_s)]
Number = Annotated[float, Field(ge=0, le=1e5)]
Who = Literal["new", "old", "both"]


class ShareKeys(Keys):
    """What happens to requests of a version; what is left out is as usual."""

    errors: Share | None = None
    crashes: Share | None = None
    slow: Share | None = None
    cold: Share | None = None
    throttled: Share | None = None


class VersionKeys(ShareKeys):
    """A version. `latency`: how many times as long as usual its answers take."""

    latency: Annotated[float, Field(gt=0, le=100)] | None = None


class EpisodeKeys(ShareKeys):
    """A time in which something is otherwise. Since the rollout began."""

    after: Span
    lasts: Span
    who: Who = "both"
    rps: Number | None = None


class TrafficKeys(Keys):
    """Requests a second: the mean, and by how much a day swings around it; or minutes that were recorded."""

    rps: Number | None = None
    swing: Share = 0.0
    begins: Span | None = Field(default=None, description="how long after the day's fewest requests the rollout begins")
    recorded: str | None = Field(default=None, description="a CSV file with columns requests, errors, slow, cold: a minute a row")


class GapKeys(Keys):
    """A time whose metrics cannot be seen."""

    after: Span
    lasts: Span
    source: Literal["platform", "package", "both"] = "both"
    kind: Literal["missing", "nan", "stale"] = "missing"


class RolloutKeys(Keys):
    """A release gets traffic."""

    traffic: TrafficKeys
    old: VersionKeys = VersionKeys()
    new: VersionKeys = VersionKeys()
    bursts: Annotated[float, Field(ge=1, le=1000)] = 1.0
    late: Span | None = None
    episodes: tuple[EpisodeKeys, ...] = ()
    gaps: tuple[GapKeys, ...] = ()
    hours: Annotated[float, Field(gt=0, le=240)] = 24.0


class LossKeys(Keys):
    """Spot takes tasks."""

    after: Span
    share: Share
    notice: bool = True


class PoolKeys(Keys):
    """A worker pool gets messages."""

    backlog: Annotated[int, Field(ge=0, le=100_000)] = 0
    per_second: Number = 0.0
    losses: tuple[LossKeys, ...] = ()
    hours: Annotated[float, Field(gt=0, le=24)] = 1.0


class LoadKeys(Keys):
    """Callers at a multiple of the peak that the section says."""

    peak: Annotated[float, Field(gt=0, le=100)] = 1.0
    minutes: Annotated[float, Field(gt=0, le=120)] = 5.0
    ramp: Span | None = None


class ScenarioKeys(Keys):
    """A scenario: exactly one of rollout, pool and load."""

    about: Annotated[str, Field(min_length=1)]
    rollout: RolloutKeys | None = None
    pool: PoolKeys | None = None
    load: LoadKeys | None = None
    expect: Literal["promoted", "rolled back", "undecided", "all answered", "no throttling"] | None = None
    runs: Annotated[int, Field(ge=1, le=10_000)] = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A scenario that was read. `world`: of a rollout, for a service with this p50, p95 and limit, all in ms."""

    name: str
    about: str
    kind: Literal["rollout", "pool", "load"]
    keys: Any = field(repr=False)
    recorded: tuple[tuple[float, Side], ...] = ()
    expect: str | None = None
    runs: int = 100

    def world(self, p50_ms: float, p95_ms: float, slow_ms: float) -> World:
        """What a rollout meets."""
        keys: RolloutKeys = self.keys
        usual = slow_share(p50_ms, p95_ms, slow_ms)
        old = _side(keys.old, usual, lambda times: slow_share(p50_ms * times, p95_ms * times, slow_ms))
        new = _side(keys.new, usual, lambda times: slow_share(p50_ms * times, p95_ms * times, slow_ms))
        return World(
            rps=_rate(keys.traffic, self.recorded),
            old=old,
            new=new,
            bursts=keys.bursts,
            late_s=keys.late or 0.0,
            hours=keys.hours,
            episodes=(*_recorded(self.recorded, keys.hours, keys.new), *(_episode(each) for each in keys.episodes)),
            gaps=tuple(
                Gap(
                    begin_s=each.after,
                    end_s=each.after + each.lasts,
                    kind=each.kind,
                    sources=("platform", "package") if each.source == "both" else (each.source,),
                )
                for each in keys.gaps
            ),
        )

    def losses(self) -> tuple[Loss, ...]:
        """What Spot takes from a pool."""
        return tuple(Loss(at_s=each.after, share=each.share, notice=each.notice) for each in self.keys.losses)


def read(path: Path) -> Scenario:
    """Reads a scenario. Raises RecipeError with every problem and its line."""
    document = yaml_positions.read(path)
    told: Any = validated(ScenarioKeys, document.value if isinstance(document.value, dict) else {"": document.value})
    if isinstance(told, list):
        found = [Problem(place=error["loc"], message=wording(error, ScenarioKeys)) for error in told]
        raise document.positions.listed([*document.problems, *found])
    parts = [name for name in ENDS if getattr(told, name) is not None]
    problems = list(document.problems)
    if len(parts) != 1:
        which = " and ".join(parts) or "none"
        problems.append(Problem(place=(), message=f"needs exactly one of rollout, pool and load; it has {which}"))
    elif told.expect not in (None, *ENDS[parts[0]]):
        ends = " or ".join(ENDS[parts[0]])
        problems.append(Problem(place=("expect",), message=f"a {parts[0]} ends as {ends}, never as {told.expect}"))
    elif told.rollout and (told.rollout.traffic.rps is None) == (told.rollout.traffic.recorded is None):
        problems.append(Problem(place=("rollout", "traffic"), message="says either rps or recorded"))
    if problems:
        raise document.positions.listed(problems)
    table = told.rollout.traffic.recorded if told.rollout else None
    return Scenario(
        name=path.stem,
        about=told.about,
        kind=parts[0],  # type: ignore[arg-type]
        keys=getattr(told, parts[0]),
        recorded=_minutes(path.parent / table) if table else (),
        expect=told.expect,
        runs=told.runs,
    )


def shipped() -> Mapping[str, Path]:
    """The scenarios that come with mlpack, by name."""
    return {path.stem: path for path in sorted(SCENARIOS.glob("*.yaml"))}


def slow_share(p50_ms: float, p95_ms: float, slow_ms: float) -> float:
    """The share of answers above `slow_ms`, where the logarithms of times are as a bell (p50 and p95 give it)."""
    spread = max(math.log(p95_ms / p50_ms) / 1.6449, 0.05) if p50_ms < p95_ms else 0.05
    return 0.5 * math.erfc(math.log(slow_ms / p50_ms) / spread / math.sqrt(2))


def _side(keys: VersionKeys, usual: float, slower: Callable[[float], float]) -> Side:
    told = {name: value for name in ("errors", "crashes", "cold", "throttled") if (value := getattr(keys, name)) is not None}
    slow = keys.slow if keys.slow is not None else slower(keys.latency) if keys.latency is not None else usual
    return Side(slow=slow, **told)


def _episode(keys: EpisodeKeys) -> Episode:
    names = ("errors", "crashes", "slow", "cold", "throttled")
    shares = {name: value for name in names if (value := getattr(keys, name)) is not None}
    return Episode(begin_s=keys.after, end_s=keys.after + keys.lasts, who=keys.who, shares=shares, rps=keys.rps)


def _rate(keys: TrafficKeys, recorded: tuple[tuple[float, Side], ...]) -> Callable[[float], float]:
    if recorded:
        return lambda second: recorded[int(second // 60) % len(recorded)][0] / 60
    mean, swing, begins = keys.rps or 0.0, keys.swing, keys.begins or 0.0
    return lambda second: mean * (1 - swing * math.cos(2 * math.pi * (second + begins) / DAY_S))


def _recorded(minutes: tuple[tuple[float, Side], ...], hours: float, new: VersionKeys) -> tuple[Episode, ...]:
    """The shares of each recorded minute, of both versions; the new one's own where the scenario says them."""
    told = new.model_dump(exclude_none=True).keys() | ({"slow"} if new.latency is not None else set())
    episodes = []
    for number in range(int(hours * 60) if minutes else 0):
        _, side = minutes[number % len(minutes)]
        shares = {"errors": side.errors, "slow": side.slow, "cold": side.cold}
        own = {name: share for name, share in shares.items() if name not in told}
        for who, of in (("old", shares), ("new", own)):
            episodes.append(Episode(begin_s=number * 60.0, end_s=number * 60.0 + 60, who=who, shares=of))  # type: ignore[arg-type]
    return tuple(episodes)


def _minutes(path: Path) -> tuple[tuple[float, Side], ...]:
    """The minutes of a CSV file."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        minutes = []
        for number, row in enumerate(rows, 2):
            requests, *bad = (float(row.get(name) or 0) for name in ("requests", "errors", "slow", "cold"))
            if not all(0 <= each <= requests < 1e9 for each in bad):
                raise RecipeError(f"{path}:{number}: errors, slow and cold are between 0 and the requests of their minute")
            errors, slow, cold = (each / requests if requests else 0.0 for each in bad)
            minutes.append((requests, Side(errors=errors, slow=slow, cold=cold)))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise RecipeError(f"{path}: no table of minutes can be read from it: {error}") from None
    if not minutes or not any(requests for requests, _ in minutes):
        raise RecipeError(f"{path}: holds no minute with requests; its first line names the columns requests, errors, slow, cold")
    return tuple(minutes)
