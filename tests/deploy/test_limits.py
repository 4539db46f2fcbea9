from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.deployments import CACHE, FEATURES, section, service
from tests.support.thin_deployment import door_graph, graph, nodes

from mlpack.deploy.graph.functions import Function, Provisioned
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.stores import Queue, Source
from mlpack.deploy.graph.tasks import Scaling, Task
from mlpack.deploy.graph.values import Id
from mlpack.deploy.limits import Limit, limits
from mlpack.deploy.service import Service
from mlpack.recipe.deploy.section import Slo, Traffic, Worker


def broken(made: Service, picture: Graph) -> dict[str, Limit]:
    """Those that do not hold, by name."""
    return {limit.name: limit for limit in limits(made, picture) if not limit.holds}


def changed(picture: Graph, kind: type, **fields: Any) -> Graph:
    """The graph with other fields in all nodes of a kind."""
    return replace(picture, nodes=tuple(replace(node, **fields) if isinstance(node, kind) else node for node in picture.nodes))


def test_a_plain_deployment_keeps_all_limits() -> None:
    made = service(features=FEATURES, cache=CACHE, deploy=section(slo=Slo(hops_ms={"features": 50.0, "model": 40.0})))
    assert broken(made, graph(made)) == {}
    waits = service("worker", deploy=section(worker=Worker(wait_s=2.0, least=1)))
    assert broken(waits, door_graph(waits, MLPACK_DEADLINE_MS="20000")) == {}


@pytest.mark.parametrize(
    ("name", "deploy", "changes", "where"),
    [
        ("concurrency", section(traffic=Traffic(peak_rps=6000.0, mean_rps=5.0)), {"reserved": 43}, "deploy.traffic.peak_rps"),
        ("request rate", section(traffic=Traffic(peak_rps=500.0, mean_rps=5.0)), {"reserved": 49}, "deploy.traffic.peak_rps"),
        (
            "account",
            section(traffic=Traffic(peak_rps=50.0, mean_rps=5.0, account=120)),
            {"reserved": 21},
            "deploy.traffic.account_concurrency",
        ),
        ("gateway burst", section(), {"reserved": 20}, "deploy.traffic.burst"),
        ("gateway timeout", section(), {"timeout_s": 30}, "budgets.latency_p95, budgets.cold_start"),
        ("hops", section(slo=Slo(latency_p95_ms=100.0, hops_ms={"model": 60.0, "rest": 50.0})), {}, "deploy.slo.hops"),
        ("latency", section(slo=Slo(latency_p95_ms=5.0)), {}, "deploy.slo.latency_p95"),
        (
            "tenants",
            section(traffic=Traffic(peak_rps=50.0, mean_rps=5.0, tenants={"a": 60.0, "b": 41.0})),
            {},
            "deploy.traffic.tenants",
        ),
    ],
)
def test_what_binds_is_named(name: str, deploy: Any, changes: dict[str, Any], where: str) -> None:
    made = service(deploy=deploy)
    limit = broken(made, graph(made, **changes))[name]
    assert limit.where == where
    assert limit.margin < 0 or limit.strict
    assert f"{name}: " in str(limit)
    assert f"Change {where}" in str(limit)


def test_both_versions_have_kept_environments() -> None:
    made = service()
    kept = Provisioned(id=Id("Warm"), alias=Id("Live"), count=16)
    assert broken(made, graph(made, (*nodes(made), kept)))["provisioned"].left == 32
    assert broken(made, graph(made, (*nodes(made), replace(kept, count=15)))) == {}


def test_features_end_before_their_hop_and_the_function() -> None:
    made = service(features=FEATURES | {"deadline_ms": 11_000.0}, deploy=section(slo=Slo(hops_ms={"features": 40.0})))
    assert {"features hop", "features deadline"} <= broken(made, graph(made)).keys()


def test_messages_stay_away_while_a_function_works_on_them() -> None:
    made = service()
    queue = Queue(id=Id("Events"), name="fashion-prod-events", visibility_s=59, retention_s=86_400)
    source = Source(id=Id("Feed"), queue=Id("Events"), alias=Id("Live"), batch=10, most_at_once=40)
    found = broken(made, graph(made, (*nodes(made), queue, source)))
    assert found.keys() == {"visibility of fashion-prod-events", "pollers of fashion-prod-events"}
    well = (replace(queue, visibility_s=60), replace(source, most_at_once=30))
    assert broken(made, graph(made, (*nodes(made), *well))) == {}


@pytest.mark.parametrize(
    ("kind", "fields", "name"),
    [
        (Scaling, {"most": 0}, "tasks"),
        (Queue, {"retention_s": 90_000}, "tickets of fashion-prod-work"),
        (Function, {"timeout_s": 20}, "front door's deadline"),
        (Scaling, {"in_cooldown_s": 0}, "scale-in"),
    ],
)
def test_a_pool_keeps_up_and_ends_in_order(kind: type, fields: dict[str, Any], name: str) -> None:
    made = service("worker", deploy=section(worker=Worker(wait_s=2.0)))
    assert name in broken(made, changed(door_graph(made, MLPACK_DEADLINE_MS="20000"), kind, **fields))


def test_a_task_that_is_stopped_has_time_to_drain() -> None:
    made = service("worker", deploy=section(worker=Worker(wait_s=2.0)))
    picture = door_graph(made)
    (task,) = picture.of(Task)
    for stop_s, name in ((25, "drain of fashion-prod-worker"), (121, "stop of fashion-prod-worker")):
        assert name in broken(made, changed(picture, Task, container=replace(task.container, stop_s=stop_s)))


@given(
    peak=st.floats(0.01, 20_000),
    p95_ms=st.floats(0.5, 20_000),
    reserved=st.integers(1, 900),
    burst=st.integers(1, 2000),
)
def test_accepted_peaks_never_run_out_of_environments(peak: float, p95_ms: float, reserved: int, burst: int) -> None:
    """By Lambda's two rules, of a stream at the peak: environments at work, and ten requests a second for each."""
    made = service(deploy=section(traffic=Traffic(peak_rps=peak, mean_rps=peak / 10, burst=burst)))
    made = replace(made, measured=replace(made.measured, p95_ms=p95_ms))
    names = broken(made, graph(made, reserved=reserved)).keys()
    throttled = peak * p95_ms / 1000 > reserved or peak > 10 * reserved or burst > reserved
    if throttled:
        assert names & {"concurrency", "request rate", "gateway burst", "gateway concurrency"}
    assert all(limit.where and limit.sentence for limit in limits(made, graph(made, reserved=reserved)))
