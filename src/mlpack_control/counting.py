"""What CloudWatch counted of both versions since a step began, in whole minutes that have ended: `observed` for `decide`.

Promises: both versions are counted in the same minutes, up to the last one that every source of the new version has; what has no
numbers is left out, never zero. Zero is said only of throttles and of a balancer's errors, which AWS leaves out where there are
none, and only where their requests are there. Minutes that AWS may still be writing are apart, as `fresh`: they condemn at once,
and acquit nobody.

Source: Lambda developer guide, "Types of metrics": per version `FunctionName`, `Resource` and `ExecutedVersion`, all three. The
package's own lines are those of `mlpack_runtime.telemetry`, by service and release.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from mlpack_control.records import PACKAGE, PLATFORM, State

Clients = Callable[[str], Any]
LATE_S = 150
"""AWS publishes a minute up to two minutes later, at the time of the invocation: functions add their time-out (`late_s`)."""
_PAGE = 500
"""Queries of one request. CloudWatch API reference, GetMetricData."""


class Query(NamedTuple):
    """A series of one version: `part` is bad or total of a metric by a source."""

    side: str
    metric: str
    source: str
    part: str
    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    statistic: str = "Sum"
    sparse: bool = False
    """Whether AWS leaves it out where it is zero."""


def observe(clients: Clients, rollout: Mapping[str, Any], state: State, now: float) -> dict[str, Any]:
    """The counts and alarms at this moment. `rollout`: its `target` and `counting` (see the decision record 0060)."""
    counting = rollout.get("counting", {})
    since = math.ceil(state.since / 60) * 60
    closed = math.floor((now - counting.get("late_s", LATE_S)) / 60) * 60
    alarms = alarm_states(clients, counting.get("alarms", ()))
    observed: dict[str, Any] = {"since": since, "until": closed, "alarms": alarms}
    ended = math.floor(now / 60) * 60
    if ended <= since or state.new is None:
        return observed
    queries = [query for side, version in (("old", state.old), ("new", state.new)) for query in _queries(rollout, side, version)]
    series = _series(clients("cloudwatch"), queries, since, ended)
    if closed > since:
        observed |= _window(queries, series, closed)
    fresh = _window(queries, series, ended)
    return {**observed, "fresh": fresh} if fresh["until"] > observed["until"] else observed


def _window(queries: list[Query], series: list[dict[float, float]], end: float) -> dict[str, Any]:
    """Both versions' counts up to the last minute before `end` that every source of the new version has."""
    ends = [
        max(values) + 60 for query, values in zip(queries, series, strict=True) if query.side == "new" and _leads(query) and values
    ]
    until = min([end, *ends])
    sums = {
        (query.side, query.metric, query.source, query.part): sum(value for at, value in values.items() if at < until)
        for query, values in zip(queries, series, strict=True)
        if any(at < until for at in values)
    }
    for query in queries:
        key = (query.side, query.metric, query.source)
        if query.sparse and (*key, "total") in sums:
            sums.setdefault((*key, "bad"), 0.0)
    return {"until": until, "new": _counts(sums, "new"), "old": _counts(sums, "old")}


def alarm_states(clients: Clients, names: Any) -> dict[str, str]:
    """Each alarm's state; MISSING of one that is not there."""
    if not names:
        return {}
    answer = clients("cloudwatch").describe_alarms(AlarmNames=list(names), AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    found = [*answer.get("MetricAlarms", ()), *answer.get("CompositeAlarms", ())]
    states = {alarm["AlarmName"]: alarm["StateValue"] for alarm in found}
    return {name: states.get(name, "MISSING") for name in names}


def _leads(query: Query) -> bool:
    """Whether a version that has requests has this series each minute: totals are."""
    return query.part == "total"


def _queries(rollout: Mapping[str, Any], side: str, version: str) -> Iterator[Query]:
    target, counting = rollout["target"], rollout.get("counting", {})
    if target["kind"] == "function":
        yield from _function(target, side, version)
    elif target["kind"] == "container":
        yield from _balancer(target, side, version)
    release = counting.get("releases", {}).get(side, version)
    own = counting.get("namespace", "mlpack"), (("service", counting.get("service", "")), ("release", release))
    for metric, name in (("errors", "errors"), ("slow", "slow"), ("cold", "cold_starts")):
        yield Query(side, metric, PACKAGE, "bad", own[0], name, own[1])
        yield Query(side, metric, PACKAGE, "total", own[0], name, own[1], "SampleCount")
    for metric, names in sorted(counting.get("guards", {}).items()):
        yield Query(side, metric, "guard", "bad", own[0], names["bad"], own[1])
        yield Query(side, metric, "guard", "total", own[0], names["total"], own[1])


def _function(target: Mapping[str, Any], side: str, version: str) -> Iterator[Query]:
    function, alias = target["function"], target["alias"]
    dimensions = (("FunctionName", function), ("Resource", f"{function}:{alias}"), ("ExecutedVersion", version))
    for metric, part, name in (
        ("errors", "total", "Invocations"),
        ("errors", "bad", "Errors"),
        ("throttled", "total", "Invocations"),
        ("throttled", "bad", "Throttles"),
    ):
        yield Query(side, metric, PLATFORM, part, "AWS/Lambda", name, dimensions, sparse=name == "Throttles")


def _balancer(target: Mapping[str, Any], side: str, version: str) -> Iterator[Query]:
    group = version.rpartition(":")[2]
    dimensions = (("TargetGroup", group), ("LoadBalancer", target.get("balancer", "")))
    for part, name in (("total", "RequestCount"), ("bad", "HTTPCode_Target_5XX_Count")):
        yield Query(side, "errors", PLATFORM, part, "AWS/ApplicationELB", name, dimensions, sparse=part == "bad")


def _series(client: Any, queries: list[Query], since: float, until: float) -> list[dict[float, float]]:
    """The values of each query by the second at which their minute began."""
    series: list[dict[float, float]] = [{} for _ in queries]
    for start in range(0, len(queries), _PAGE):
        page = queries[start : start + _PAGE]
        request: dict[str, Any] = {
            "MetricDataQueries": [_asked(f"q{start + number}", query) for number, query in enumerate(page)],
            "StartTime": since,
            "EndTime": until,
            "ScanBy": "TimestampAscending",
        }
        while True:
            answer = client.get_metric_data(**request)
            for result in answer["MetricDataResults"]:
                values = series[int(result["Id"][1:])]
                values.update(zip((at.timestamp() for at in result["Timestamps"]), result["Values"], strict=True))
            if not answer.get("NextToken"):
                break
            request["NextToken"] = answer["NextToken"]
    return series


def _asked(name: str, query: Query) -> dict[str, Any]:
    dimensions = [{"Name": key, "Value": value} for key, value in query.dimensions]
    metric = {"Namespace": query.namespace, "MetricName": query.name, "Dimensions": dimensions}
    return {"Id": name, "MetricStat": {"Metric": metric, "Period": 60, "Stat": query.statistic}, "ReturnData": True}


def _counts(sums: Mapping[tuple[str, str, str, str], float], side: str) -> dict[str, dict[str, list[float]]]:
    """[bad, total] by metric and source."""
    counts: dict[str, dict[str, list[float]]] = {}
    for (whose, metric, source, part), total in sums.items():
        if whose != side or part != "total":
            continue
        bad = sums.get((side, metric, source, "bad"))
        if metric == "throttled" and bad is not None:
            total += bad  # an invocation that was throttled is no invocation
        if bad is not None:
            counts.setdefault(metric, {})[source] = [bad, total]
    return counts
