"""Simulated worker pools: a backlog of a thousand, an hour of constant load, Spot that takes half of the tasks, and 0 to 1.

A task answers two messages a second, starts in a minute, and the wait that is promised is five minutes. Metrics are of whole
minutes and can be read half a minute later; alarms take three of them on the way out and fifteen on the way in.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import Row, parser, report

from mlpack.deploy.simulate.pool import MINUTE, Loss, Pool, simulate_pool

WAIT_S = 300.0
POOL = Pool(least=0, most=8, rate=2.0, in_cooldown_s=600.0)


def main() -> int:
    options = parser(__doc__, runs=50).parse_args()
    rows: list[Row] = []
    for least in (0, 1, 2):
        pool = dataclasses.replace(POOL, least=least)
        runs = [simulate_pool(pool, 0.0, 3600.0, backlog=1000, seed=seed) for seed in range(options.runs)]
        worst = max(run.wait(0.95) for run in runs)
        detail = f"unanswered {sum(run.left + run.dead for run in runs)}, promise {WAIT_S:.0f} s"
        name = f"backlog 0 to 1,000, {least} to 8 tasks: p95 wait, worst run"
        rows.append(Row(name=name, value=worst, unit="s", at_most=1.5 * WAIT_S, detail=detail))
    turns = []
    for number in range(options.runs):
        load = 0.3 + 12.0 * number / options.runs
        pool = dataclasses.replace(POOL, least=1)
        turns.append(simulate_pool(pool, load, 1800.0 + 3600.0, seed=number).reversals(1800.0))
    rows.append(Row(name="an hour of constant load, 0.3 to 12.3/s: turns, worst run", value=max(turns), at_most=2,
                    detail=f"none in {turns.count(0)} of {len(turns)} runs"))  # fmt: skip
    for notice in (True, False):
        loss = Loss(at_s=600.0, share=0.5, notice=notice)
        runs = [simulate_pool(POOL, 6.0, 1800.0, backlog=1000, losses=(loss,), seed=seed) for seed in range(options.runs)]
        missing = sum(run.sent - len(run.waits) - run.left for run in runs)
        detail = f"tasks lost {sum(run.lost_tasks for run in runs)}, dead letters {sum(run.dead for run in runs)}"
        name = f"Spot takes half of the tasks {'with' if notice else 'without'} notice: lost messages"
        rows.append(Row(name=name, value=missing, at_most=0, detail=detail))
    runs = [simulate_pool(POOL, 0.05, 1800.0, seed=seed) for seed in range(options.runs)]
    first = [next(at for at, count in run.counts if count) - (run.first_sent_s or 0) for run in runs if run.sent]
    rows.append(Row(name="0 to 1: metric periods from the first message to the task wanted", value=max(first) / MINUTE, at_most=2))
    return report("deploy_pool", rows, "simulated worker pools", options.out)


if __name__ == "__main__":
    raise SystemExit(main())
