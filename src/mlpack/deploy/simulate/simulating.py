"""Runs a scenario against a deployment as often as it says, and sums up what happened."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpack.core.text import words
from mlpack.deploy.simulate import drawing, facts, scenario
from mlpack.deploy.simulate.load import Counts, simulate_load
from mlpack.deploy.simulate.pool import PoolRun, simulate_pool
from mlpack.deploy.simulate.rollouts import simulate_rollout
from mlpack.deploy.simulate.scenario import Scenario
from mlpack.errors import RecipeError


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationResult:
    """What happened in all runs. `rows`: (name, value) of the table; `picture`: of the first run; `met`: whether nearly all runs
    ended as the scenario expects, None where it expects nothing."""

    service: str
    scenario: str
    about: str
    runs: int
    seed: int
    rows: tuple[tuple[str, float | str], ...]
    picture: str
    expect: str | None
    met: bool | None

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "service": self.service,
            "scenario": self.scenario,
            "about": self.about,
            "runs": self.runs,
            "seed": self.seed,
            "expect": self.expect,
            "met": self.met,
            "numbers": dict(self.rows),
        }

    def text(self) -> str:
        """The table, and the picture of the first run."""
        width = max(len(name) for name, _ in self.rows)
        rows = [
            f"  {name:<{width}}  {value:g}" if isinstance(value, float) else f"  {name:<{width}}  {value}"
            for name, value in self.rows
        ]
        end = [] if self.met is None else [f"Expected: {self.expect}. {'So it was.' if self.met else 'It was not so.'}"]
        head = f"{self.scenario} with {self.service}, {words.count(self.runs, 'run')} from seed {self.seed}: {self.about}"
        return "\n".join([head, *rows, "", self.picture, *end])


def simulate(directory: Path, told: str | Path, *, seed: int = 0, runs: int | None = None) -> SimulationResult:
    """`told`: a file of a scenario, or the name of one that comes with mlpack. RecipeError where they do not go together."""
    document, story = facts.read(directory), scenario.read(_path(told))
    number = runs or story.runs
    rows, picture, ends = {"rollout": _rollouts, "pool": _pools, "load": _loads}[story.kind](document, story, seed, number)
    # A run of a thousand may end otherwise by chance: one in twenty is taken for the scenario's fault.
    met = None if story.expect is None else ends.count(story.expect) >= 0.95 * number
    return SimulationResult(
        service=str(document.get("service", "")),
        scenario=story.name,
        about=story.about,
        runs=number,
        seed=seed,
        rows=tuple(rows),
        picture=picture,
        expect=story.expect,
        met=met,
    )


def _path(told: str | Path) -> Path:
    path, known = Path(told), scenario.shipped()
    if path.exists() or path.suffix:
        return path
    if str(told) not in known:
        raise RecipeError(f"--scenario {told}: there is no such file, and mlpack brings {', '.join(known)}")
    return known[str(told)]


Parts = tuple[list[tuple[str, float | str]], str, list[str]]


def _rollouts(document: dict[str, Any], story: Scenario, seed: int, number: int) -> Parts:
    policy = facts.policy_of(document)
    if policy is None:
        raise RecipeError(f"{story.name}: this deployment has no rollout of its own: CodeDeploy shifts its traffic, or nobody does")
    latency = document["latency_ms"]
    world = story.world(latency["p50"], latency["p95"], latency["slow"])
    runs = [simulate_rollout(policy, world, seed + each) for each in range(number)]
    ends: list[str] = [run.outcome for run in runs]
    rows: list[tuple[str, float | str]] = [
        (end, _percent(ends.count(end), number)) for end in ("promoted", "rolled back", "undecided")
    ]
    rows += [
        ("asked a person", _percent(sum(run.asked for run in runs), number)),
        ("minutes from the first shift, median", _median([run.minutes_taken for run in runs])),
        ("bad answers of the new version, median", _median([run.bad_answers for run in runs])),
        ("most of the traffic that it had, median", f"{_median([run.percent for run in runs]):g} %"),
        ("a plain alarm would have been red", _percent(sum(run.alarm for run in runs), number)),
        ("why the first run ended", runs[0].why),
    ]
    return rows, drawing.rollout(runs[0]), ends


def _pools(document: dict[str, Any], story: Scenario, seed: int, number: int) -> Parts:
    pool = facts.pool_of(document)
    if pool is None:
        raise RecipeError(f"{story.name}: this deployment has no worker pool")
    keys = story.keys
    runs: list[PoolRun] = [
        simulate_pool(pool, keys.per_second, keys.hours * 3600, backlog=keys.backlog, losses=story.losses(), seed=seed + each)
        for each in range(number)
    ]
    ends = [
        "all answered" if not run.dead and run.left <= max(2 * pool.batch * pool.most, 0.02 * run.sent) else "messages left"
        for run in runs
    ]
    rows: list[tuple[str, float | str]] = [
        ("messages, median", _median([run.sent for run in runs])),
        ("dead letters, most", float(max(run.dead for run in runs))),
        ("not answered at the end, most", float(max(run.left for run in runs))),
        ("seconds until answered, 50 %", _median([run.wait(0.5) for run in runs])),
        ("seconds until answered, 95 %", _median([run.wait(0.95) for run in runs])),
        ("seconds until the first task, most", float(max(run.first_task_s or 0.0 for run in runs))),
        ("tasks, most", float(max(count for run in runs for _, count in run.counts))),
        ("turns of the number of tasks, most", float(max(run.reversals(0.0) for run in runs))),
    ]
    return rows, drawing.pool(runs[0]), ends


def _loads(document: dict[str, Any], story: Scenario, seed: int, number: int) -> Parts:
    place = facts.place_of(document)
    if place is None:
        raise RecipeError(f"{story.name}: this deployment has no function that callers reach, only a queue or containers")
    keys, rps = story.keys, document["peak_rps"] * story.keys.peak
    runs: list[Counts] = [
        simulate_load(place, rps, keys.minutes * 60, ramp_s=keys.ramp or 60.0, seed=seed + each) for each in range(number)
    ]
    ends = ["no throttling" if not run.throttled else "throttled" for run in runs]
    rows: list[tuple[str, float | str]] = [("requests/s", float(rps)), ("requests, median", _median([run.sent for run in runs]))]
    rows += [
        (name, float(max(getattr(run, field) for run in runs)))
        for name, field in (
            ("refused by the gateway (429), most", "refused"),
            ("throttled by Lambda (5xx), most", "throttled"),
            ("beyond the time-out, most", "late"),
            ("cold starts, most", "cold"),
            ("environments at work at once, most", "at_once"),
        )
    ]
    return [*rows, ("environments that there may be", float(place.reserved))], "", ends


def _median(values: list[Any]) -> float:
    return float(statistics.median(values))


def _percent(number: int, of: int) -> str:
    return f"{number / of * 100:.3g} %"
