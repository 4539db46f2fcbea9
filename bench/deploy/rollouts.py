"""Simulated rollouts with the controller that ships: the table of bad and healthy releases by traffic, and the figures held to it.

Each cell is so many rollouts of 24 hours at most with the policy that a section of defaults gets (5, 25, 50, 100 %, ten minutes a
step, errors at most 1 %, slow answers at most 5 %). Errors come by themselves, or in bursts of five in the mean. `alarm` is how
many releases a plain alarm (errors of a minute above 1 %) would have stopped by then. Needs no AWS and no build.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import Row, parser, report

from mlpack.deploy.simulate.rollouts import Episode, Gap, RolloutRun, Side, World, simulate_rollout
from mlpack.deploy.simulate.scenario import slow_share
from mlpack_control import Policy, Rule

RULES = (
    Rule(metric="errors", limit=0.01, margin=0.005),
    Rule(metric="slow", limit=0.05, margin=0.025),
    Rule(metric="throttled", limit=0.01, margin=0.005),
)
POLICY = Policy(rules=RULES)
SLOW = slow_share(20, 40, 40), slow_share(30, 60, 40)
"""Of a release whose p95 is the promise, and of one that takes half as long again."""
CELLS = (
    (0.2, 0.001, 0.001), (1, 0.001, 0.001), (5, 0.001, 0.001), (10, 0.001, 0.001), (50, 0.001, 0.001), (50, 0.005, 0.005),
    (0.2, 0.02, 0.001), (1, 0.02, 0.001), (5, 0.02, 0.001), (50, 0.02, 0.001), (1, 0.05, 0.001), (5, 0.05, 0.001),
)  # fmt: skip
"""Requests a second, errors of the new version, errors of the old one."""


def rollouts(world: World, runs: int, rps: float, first: int = 0) -> list[RolloutRun]:
    """Runs of one cell. At low traffic it is looked at every five minutes, so that the table does not take hours."""
    policy = POLICY if rps >= 1 else dataclasses.replace(POLICY, look_s=300)
    return [simulate_rollout(policy, world, first + number) for number in range(runs)]


def share(runs: list[RolloutRun], outcome: str) -> float:
    """Percent that ended so."""
    return 100 * sum(run.outcome == outcome for run in runs) / len(runs)


def cell(rps: float, new: float, old: float, runs: int, bursts: float) -> list[Row]:
    """A cell of the table, and what it is held to."""
    world = World(rps=lambda _: rps, new=Side(errors=new), old=Side(errors=old), bursts=bursts)
    made = rollouts(world, max(20, runs // 5) if rps < 1 else runs, rps)
    alone = bursts == 1
    name = f"{rps:g}/s, errors {new:.1%} ({old:.1%}){'' if alone else ', in bursts'}"
    median, bad = (statistics.median(getattr(run, what) for run in made) for what in ("minutes_taken", "bad_answers"))
    alarm = 100 * sum(run.alarm for run in made) / len(made)
    detail = (
        f"undecided {share(made, 'undecided'):.3g} %, asked {100 * sum(run.asked for run in made) / len(made):.3g} %, median "
        f"{median:.0f} min, {bad:.0f} bad answers, alarm {alarm:.0f} %, n={len(made)}"
    )
    back, done = share(made, "rolled back"), share(made, "promoted")
    healthy = new <= 0.005
    return [
        Row(
            name=f"{name}: rolled back",
            value=back,
            unit="%",
            detail=detail,
            at_most=0.5 if healthy and alone and rps >= 5 else None,
        ),
        Row(name=f"{name}: promoted", value=done, unit="%", at_most=0.1 if new >= 0.02 and alone else None),
    ]


def stopped(runs: int) -> list[Row]:
    """How soon 5 % of errors, and half as long again, are stopped at five requests a second."""
    rows = []
    for name, new, old, bad in (
        ("5 % errors", Side(errors=0.05), Side(errors=0.001), "bad_answers"),
        ("5 % crashes", Side(crashes=0.05), Side(errors=0.001), "bad_answers"),
        ("p95 +50 %", Side(slow=SLOW[1]), Side(slow=SLOW[0]), "slow_answers"),
    ):
        made = rollouts(World(rps=lambda _: 5.0, new=new, old=old), runs, 5.0)
        minutes = [run.minutes_taken for run in made]
        counts = [getattr(run, bad) for run in made]
        # Of slow answers a release has as many in this time as of errors, and then as many again that it always had.
        rows += [
            Row(name=f"{name} at 5/s: minutes to the roll-back", value=statistics.median(minutes), unit="min", at_most=5,
                detail=f"90 %: {sorted(minutes)[int(0.9 * runs)]:.0f}"),
            Row(name=f"{name} at 5/s: answers hit", value=statistics.median(counts), at_most=9 if bad == "bad_answers" else None),
            Row(name=f"{name} at 5/s: promoted", value=share(made, "promoted"), unit="%", at_most=0.1),
        ]  # fmt: skip
    return rows


def doubtful(runs: int) -> list[Row]:
    """Figure 8: what cannot be seen never advances, and what harms both versions is nobody's fault."""
    rows = []
    for kind in ("missing", "nan", "stale"):
        for sources in (("platform",), ("package",), ("platform", "package")):
            gap = Gap(begin_s=0, end_s=math.inf, sources=sources, kind=kind)
            made = rollouts(World(rps=lambda _: 10.0, gaps=(gap,), hours=4), runs, 10.0)
            beyond = 100 * sum(run.percent > 5 for run in made) / len(made)
            rows.append(Row(name=f"{kind} from {' and '.join(sources)}: advanced", value=beyond, unit="%", at_most=0))
    made = rollouts(World(rps=lambda _: 0.0, hours=4), runs, 10.0)
    rows.append(Row(name="no traffic: advanced", value=100 * sum(run.percent > 5 for run in made) / len(made), unit="%", at_most=0))
    sick = Episode(begin_s=300, end_s=math.inf, shares={"errors": 0.2})
    made = rollouts(World(rps=lambda _: 10.0, episodes=(sick,), hours=4), runs, 10.0)
    rows.append(Row(name="sick dependency: rolled back", value=share(made, "rolled back"), unit="%", at_most=0.5))
    rows.append(Row(name="sick dependency: promoted", value=share(made, "promoted"), unit="%", at_most=0))
    return rows


def main() -> int:
    options = parser(__doc__, runs=1000).parse_args()
    rows = [
        row
        for bursts in (1.0, 5.0)
        for each in CELLS
        for row in cell(*each, runs=options.runs if bursts == 1 else options.runs // 5, bursts=bursts)
    ]
    rows += stopped(options.runs) + doubtful(max(20, options.runs // 20))
    return report("deploy_rollouts", rows, "simulated rollouts with the controller that ships, by requests a second", options.out)


if __name__ == "__main__":
    raise SystemExit(main())
