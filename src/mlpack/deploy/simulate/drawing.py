"""Plots in text: a row of bars for each number, a bar for each moment. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlpack.deploy.simulate.pool import PoolRun
from mlpack.deploy.simulate.rollouts import RolloutRun

BARS = " ▁▂▃▄▅▆▇█"
WIDTH = 72


def bars(values: Sequence[float], most: float | None = None) -> str:
    """One bar for each value, or for the largest of each few where there are more than `WIDTH`."""
    size = max(1, -(-len(values) // WIDTH))
    largest = [max(values[at : at + size]) for at in range(0, len(values), size)]
    top = most or max(largest, default=0.0) or 1.0
    return "".join(BARS[min(8, round(8 * value / top)) or (1 if value > 0 else 0)] for value in largest)


def rollout(run: RolloutRun) -> str:
    """Weight, errors and slow answers of the new version by the minute, and what was decided when."""
    minutes = run.minutes
    errors = [_share(minute.counts["new"]["errors"].values()) for minute in minutes]
    slow = [_share(minute.counts["new"]["slow"].values()) for minute in minutes]
    old = [_share(minute.counts["old"]["errors"].values()) for minute in minutes]
    top = max([0.02, *errors, *old])
    lines = [
        f"  weight       {bars([minute.weight for minute in minutes], 1.0)} to {run.percent} %",
        f"  errors, new  {bars(errors, top)} to {max([0.0, *errors]):.1%} of a minute",
        f"  errors, old  {bars(old, top)} to {max([0.0, *old]):.1%}",
        f"  slow, new    {bars(slow, 1.0)} to {max([0.0, *slow]):.1%}",
        "",
        *(f"  {at / 60:6.1f} min  {kind:<9} {why}" for at, kind, why in run.decisions),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def pool(run: PoolRun) -> str:
    """Messages that wait, and tasks, by the minute."""
    waiting, running, wanted = zip(*run.minutes, strict=True) if run.minutes else ((), (), ())
    lines = [
        f"  waiting  {bars(waiting)} to {max(waiting, default=0)}",
        f"  tasks    {bars(running)} to {max(running, default=0)}",
        f"  wanted   {bars(wanted)} to {max(wanted, default=0)}",
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _share(counts: Iterable[tuple[float, float]]) -> float:
    """Bad ones of all sources, of the requests of the one that has most."""
    pairs = list(counts)
    total = max(total for _, total in pairs)
    return sum(bad for bad, _ in pairs) / total if total else 0.0
