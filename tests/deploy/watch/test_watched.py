from __future__ import annotations

import re
from typing import Any

import pytest
from tests.support.deployments import section, service
from tests.support.thin_deployment import door_graph, graph, nodes
from tests.support.topologies import PROGRAMS, topologies

from mlpack.deploy.design import design
from mlpack.deploy.graph.functions import Function
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.machines import Machine, Schedule
from mlpack.deploy.graph.tasks import Scaling, Task
from mlpack.deploy.graph.values import Id
from mlpack.deploy.graph.watching import Alarm, Anomaly, Budget, CompositeAlarm, Dashboard, Expression, Metric
from mlpack.deploy.watch.emitted import RELEASE, SERVICE, SLOW_MS, is_emitted
from mlpack.deploy.watch.watched import is_brake
from mlpack.recipe.deploy.section import Budget as Limit
from mlpack.recipe.deploy.section import Slo, Traffic, Worker


def metrics(thing: Any) -> list[Metric]:
    """Every metric below a node."""
    if isinstance(thing, Metric):
        return [thing]
    if isinstance(thing, tuple):
        return [metric for one in thing for metric in metrics(one)]
    if hasattr(thing, "__dataclass_fields__"):
        return [metric for name in thing.__dataclass_fields__ for metric in metrics(getattr(thing, name))]
    return []


TOPOLOGIES = topologies()


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_topology_watches_what_is_emitted(name: str) -> None:
    picture = design(TOPOLOGIES[name], PROGRAMS)
    used = [metric for node in (*picture.of(Alarm), *picture.of(Dashboard), *picture.of(Scaling)) for metric in metrics(node)]
    assert len(used) > 20
    assert [metric for metric in used if not is_emitted(metric)] == []
    told = {str(one.environment[SERVICE]) for one in picture.of(Function) if SERVICE in one.environment}
    told |= {str(one.container.environment[SERVICE]) for one in picture.of(Task)}
    assert {str(value) for metric in used for key, value in metric.dimensions if key == "service"} <= told
    assert len([one for one in picture.of(CompositeAlarm) if is_brake(one)]) == (2 if "workers" in name else 1)


@pytest.fixture(params=["lambda-zip", "worker"])
def watched(request: pytest.FixtureRequest) -> Graph:
    made = service(request.param, deploy=section(worker=Worker(least=1), budget=Limit(month_usd=50.0)))
    return door_graph(made) if request.param == "worker" else graph(made)


def test_every_metric_is_emitted_and_formulas_name_theirs(watched: Graph) -> None:
    used = [metric for node in (*watched.of(Alarm), *watched.of(Dashboard)) for metric in metrics(node)]
    assert len(used) > 20
    assert [metric for metric in used if not is_emitted(metric)] == []
    lines = [line for panel in watched.of(Dashboard)[0].panels for _, line in panel.lines]
    formulas = [one for one in (*lines, *(alarm.metric for alarm in watched.of(Alarm))) if isinstance(one, Expression)]
    for one in formulas:
        names = [name for name, _ in one.metrics]
        known = {*names, "IF", "FILL", "SEARCH"}
        words = set(re.findall(r"[A-Za-z_]+", re.sub(r"'[^']*'", "", one.formula)))
        assert words <= known, one.formula
        assert set(names) <= words, one.formula
        assert one.formula.count("(") == one.formula.count(")")


def test_alarms_name_what_packages_are_told(watched: Graph) -> None:
    told = {str(one.environment[SERVICE]) for one in watched.of(Function)}
    told |= {str(one.container.environment[SERVICE]) for one in watched.of(Task)}
    used = {
        str(value)
        for alarm in watched.of(Alarm)
        for metric in metrics(alarm)
        for key, value in metric.dimensions
        if key == "service"
    }
    assert used == told
    assert all(float(str(one.environment[SLOW_MS])) >= 100 for one in watched.of(Function))
    assert all(one.container.environment[RELEASE] == "8" for one in watched.of(Task))


def test_brakes_stay_green_without_data_and_heartbeats_do_not(watched: Graph) -> None:
    alarms = {one.id: one for one in watched.of(Alarm)}
    brakes = [one for one in watched.of(CompositeAlarm) if one.id.endswith("Brake")]
    assert brakes
    assert {alarms[name].missing for brake in brakes for name in brake.alarms} == {"notBreaching"}
    for name in ("Silence", *(["WorkersTasks"] if "Workers" in {node.id for node in watched.nodes} else [])):
        assert alarms[Id(name)].missing == "breaching"
    assert all(one.points <= one.periods and one.periods * 60 <= 86_400 for one in alarms.values())
    assert all(one.actions or any(one.id in above.alarms for above in watched.of(CompositeAlarm)) for one in alarms.values())


def test_burn_rates_follow_from_the_promise() -> None:
    made = service(deploy=section(slo=Slo(error_rate=0.005, latency_p95_ms=200.0)))
    alarms = {one.id: one for one in graph(made).of(Alarm)}
    assert [alarms[Id(f"Errors{name}")].threshold for name in ("FastLong", "FastShort", "SlowLong", "SlowShort")] == [
        0.072,
        0.072,
        0.03,
        0.03,
    ]
    periods = [metrics(alarms[Id(f"Errors{name}")])[0].period_s for name in ("FastLong", "FastShort", "SlowLong", "SlowShort")]
    assert periods == [3600, 300, 21_600, 1800]
    assert alarms[Id("LatencyFastLong")].threshold == pytest.approx(0.72)
    (function,) = graph(made).of(Function)
    assert function.environment[SLOW_MS] == "200"


@pytest.mark.parametrize(("rps", "period_s"), [(50.0, 300), (0.5, 300), (0.12, 900), (0.03, 3600), (0.005, 21_600), (0.001, None)])
def test_a_heartbeat_is_as_slow_as_the_traffic_asks(rps: float, period_s: int | None) -> None:
    made = service(deploy=section(traffic=Traffic(peak_rps=50.0, mean_rps=rps)))
    silence = [one for one in graph(made).of(Alarm) if one.id == "Silence"]
    assert [metrics(one)[0].period_s for one in silence] == ([period_s] if period_s else [])


@pytest.mark.parametrize(
    ("expression", "heard"),
    [
        ("cron(0 2 * * ? *)", True),
        ("cron(0 2 ? * * *)", True),
        ("rate(12 hours)", True),
        ("cron(0 3 ? * MON *)", False),
        ("rate(2 days)", False),
    ],
)
def test_a_daily_machine_that_does_not_run_is_heard_of(expression: str, heard: bool) -> None:
    made = service()
    machine = Machine(
        id=Id("Nightly"), name="fashion-prod-nightly", role=Id("FunctionRole"), definition={}, logs=Id("FunctionLogs")
    )
    schedule = Schedule(
        id=Id("Night"),
        name="fashion-prod-night",
        expression=expression,
        timezone="UTC",
        target=Id("Nightly"),
        role=Id("FunctionRole"),
    )
    alarms = {one.id for one in graph(made, (*nodes(made), machine, schedule)).of(Alarm)}
    assert "NightlyFailed" in alarms
    assert ("NightlySilence" in alarms) == heard


def test_money_is_watched_by_the_tag_of_the_service(watched: Graph) -> None:
    (budget,) = watched.of(Budget)
    (anomaly,) = watched.of(Anomaly)
    assert (budget.month_usd, budget.service, anomaly.service, anomaly.from_usd) == (50.0, "catalogue", "catalogue", 5.0)
    assert graph(service()).of(Budget) == ()
