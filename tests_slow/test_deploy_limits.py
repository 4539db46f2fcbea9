"""Sections at random: who is accepted answers the peak without a throttled request, who is refused hears which limit binds."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from tests.support.deployments import section, service
from tests.support.topologies import PROGRAMS

from mlpack.deploy.design import design
from mlpack.deploy.graph.functions import Function
from mlpack.deploy.graph.values import Id
from mlpack.deploy.limits import limits
from mlpack.deploy.service import Service
from mlpack.deploy.simulate.facts import facts, place_of
from mlpack.deploy.simulate.load import simulate_load
from mlpack.recipe.deploy.section import Slo, Traffic, Warm

SECTIONS = 1000
REQUESTS = 4000
"""Of each: a second at a peak of thousands, minutes at one of a few."""


def drawn(chance: random.Random) -> Service:
    """A service with any traffic, latency, warmth and account."""
    peak = 10 ** chance.uniform(-0.5, 4.2)
    p95_ms = 10 ** chance.uniform(0, 3.9)
    burst = chance.choice([None, None, chance.randint(1, 400)])
    traffic = Traffic(peak_rps=peak, mean_rps=peak / 10, burst=burst, account=chance.choice([200, 1000, 3000]))
    warm = Warm(provisioned=chance.choice([0, 0, 5, 200]))
    made = service(deploy=section(traffic=traffic, slo=Slo(latency_p95_ms=3 * p95_ms), warm=warm))
    measured = replace(
        made.measured, p50_ms=p95_ms / chance.uniform(1.1, 3), p95_ms=p95_ms, p99_ms=1.3 * p95_ms, cold_start_ms=68.0
    )
    return replace(made, measured=measured)


def test_accepted_sections_survive_their_peak() -> None:
    chance, seen, bound = random.Random(13), Counter[str](), Counter[str]()
    for number in range(SECTIONS):
        made = drawn(chance)
        graph = design(made, PROGRAMS)
        if chance.random() < 0.2:  # by hand, as overrides.yaml does
            reserved = chance.randint(1, 60)
            given = {node.id: node for node in graph.nodes}
            model = given[Id("Model")]
            assert isinstance(model, Function)
            given[model.id] = replace(model, reserved=reserved)
            graph = replace(graph, nodes=tuple(given.values()))
        broken = [limit for limit in limits(made, graph) if not limit.holds]
        if broken:
            seen["refused"] += 1
            bound[broken[0].name] += 1
            assert all(limit.where and limit.sentence and "does not hold" in str(limit) for limit in broken)
            continue
        seen["accepted"] += 1
        place = place_of(facts(made, graph, None))
        assert place is not None
        peak = made.deploy.traffic.peak_rps
        counts = simulate_load(place, peak, REQUESTS / peak, ramp_s=min(60.0, REQUESTS / peak / 2), seed=number)
        assert counts.throttled == 0, (number, made.deploy.traffic, place, counts)
    assert min(seen.values()) > 150, seen
    assert len(bound) >= 4, bound
