"""What `mlpack deploy plan` says until a step can be decided, beside the median of simulated rollouts: within 20 %."""

from __future__ import annotations

import dataclasses
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import Row, parser, report

from mlpack.deploy.simulate.rollouts import Side, World, simulate_rollout
from mlpack.deploy.simulate.waiting import decision_times
from mlpack_control import Policy, Rule

POLICY = Policy(rules=(Rule(metric="errors", limit=0.01, margin=0.005), Rule(metric="slow", limit=0.05, margin=0.025)))
NEVER = 1e9


def main() -> int:
    options = parser(__doc__, runs=150).parse_args()
    rows = []
    for rps in (0.5, 1, 2, 5, 10, 50):
        for errors in (0.001, 0.003):
            computed = decision_times(POLICY, rps, {"errors": errors, "slow": 0.01})
            side = Side(errors=errors, slow=0.01)
            # Nobody gives up: what is asked is how long it takes.
            patient = dataclasses.replace(POLICY, give_up_s=10**6, expire_s=10**7)
            runs = [
                simulate_rollout(patient, World(rps=lambda _, rps=rps: rps, new=side, old=side, hours=48), each)
                for each in range(options.runs)
            ]
            for step, (percent, said) in enumerate(zip(POLICY.steps, computed, strict=False)):
                ends = [[at for at, _ in run.shifts] + ([run.seconds] if run.outcome == "promoted" else []) for run in runs]
                taken = [each[step + 1] - each[step] if len(each) > step + 1 else NEVER for each in ends]
                median = statistics.median(taken)
                off = 100 * abs((said or NEVER) - median) / median
                detail = f"computed {(said or NEVER) / 60:.0f} min, simulated {median / 60:.0f} min"
                rows.append(
                    Row(
                        name=f"{rps:g}/s, errors {errors:.1%}, step {percent} %: off by",
                        value=off,
                        unit="%",
                        at_most=20,
                        detail=detail,
                    )
                )
    return report("deploy_decision_time", rows, "the time of a step as plan computes it, beside simulated rollouts", options.out)


if __name__ == "__main__":
    raise SystemExit(main())
