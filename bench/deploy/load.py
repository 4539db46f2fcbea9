"""A thousand random sections `deploy` and packages: those whose limits hold meet their peak, request by request, and must not be
throttled; those that do not hold must name what binds them.

Requests come by chance, from none to the peak within a minute and then for a minute. Times of answers lie around the measured p50
and p95 as a logarithmic bell, and the first request of an environment waits for its start.
"""

from __future__ import annotations

import dataclasses
import random
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import ROOT, Row, parser, report

sys.path.insert(0, str(ROOT))

from tests.support.deployments import section, service

from mlpack.deploy.design import design
from mlpack.deploy.limits import limits
from mlpack.deploy.rollouts.settings import policy
from mlpack.deploy.service import Measured, Service
from mlpack.deploy.simulate import facts
from mlpack.deploy.simulate.load import simulate_load
from mlpack.recipe.deploy.section import Endpoint, Slo, Traffic, Warm


def drawn(chance: random.Random) -> Service:
    """A service as nobody would think of it."""
    peak = 10 ** chance.uniform(-1, 3.2)
    p50 = 10 ** chance.uniform(0, 3)
    p95 = p50 * chance.uniform(1.05, 4)
    measured = Measured(p50_ms=p50, p95_ms=p95, p99_ms=2 * p95, cold_start_ms=10 ** chance.uniform(1.5, 3.5), peak_mb=300)
    told = section(
        traffic=Traffic(
            peak_rps=peak,
            mean_rps=peak * chance.uniform(0.01, 1),
            burst=chance.choice([None, None, None, chance.randint(1, 200)]),
            account=chance.choice([200, 1000, 1000, 5000]),
        ),
        endpoint=Endpoint(kind=chance.choice(["http-api", "rest", "url"]), auth="iam"),
        slo=Slo(latency_p95_ms=chance.choice([None, None, p95 * chance.uniform(0.8, 5)])),
        warm=Warm(provisioned=chance.choice([0, 0, 0, chance.randint(1, 20)])),
    )
    return dataclasses.replace(service(deploy=told), measured=measured)


def main() -> int:
    options = parser(__doc__, runs=1000).parse_args()
    refused, accepted, throttled, silent, worst = Counter[str](), 0, [], 0, 0.0
    for number in range(options.runs):
        one = drawn(random.Random(number))
        graph = design(one)
        broken = [each for each in limits(one, graph) if not each.holds]
        silent += any(not (each.name and each.where and each.sentence) for each in broken)
        if broken:
            refused[broken[0].name] += 1
            continue
        accepted += 1
        place = facts.place_of(facts.facts(one, graph, policy(one)))
        assert place is not None
        counts = simulate_load(place, one.deploy.traffic.peak_rps, 60.0, seed=number)
        worst = max(worst, counts.at_once / place.reserved)
        if counts.throttled:
            throttled.append(f"{number}: {counts.throttled} of {counts.sent}, peak {one.deploy.traffic.peak_rps:.0f}/s, {place}")
    for line in throttled[:10]:
        print(line)
    by = ", ".join(f"{name} {count}" for name, count in refused.most_common())
    rows = [
        Row(name="sections accepted", value=accepted, detail=f"refused by {by}"),
        Row(name="accepted sections with a throttled request at their peak", value=len(throttled), at_most=0),
        Row(name="refused sections that name no limit", value=silent, at_most=0),
        Row(name="environments at work at once, of those that there may be: most", value=100 * worst, unit="%"),
    ]
    return report("deploy_load", rows, "random sections and their peak, request by request", options.out)


if __name__ == "__main__":
    raise SystemExit(main())
