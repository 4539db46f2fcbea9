"""The metrics that alarms and dashboards may name: those of the runtime's table, and those of AWS that are used. Pure.

Promises: names, units and dimensions of mlpack's own metrics are the runtime's (`telemetry`): this is the one module that imports
them, so that a renamed metric fails here and not in an account. AWS's are one table, each with its dimensions.
Will not: choose thresholds.
"""

from __future__ import annotations

from typing import Literal

from mlpack.deploy.graph.values import Value
from mlpack.deploy.graph.watching import Expression, Metric
from mlpack_runtime import telemetry

SERVICE, RELEASE, SLOW_MS = telemetry.SERVICE, telemetry.RELEASE, telemetry.SLOW_MS
"""Variables by which a package is told what its metrics belong to, and after how many milliseconds an answer is slow."""

Program = Literal["function", "door", "worker", "container"]

_REQUEST = telemetry.METRICS | telemetry.SLOW_METRICS
OF_PROGRAM: dict[Program, dict[str, str]] = {
    "function": dict(_REQUEST),
    "door": dict(_REQUEST),
    "worker": {**_REQUEST, **{name: unit for name, unit in telemetry.WORKER_METRICS.items() if name != "hook_errors"}},
    "container": {**_REQUEST, "batch_fill": telemetry.WORKER_METRICS["batch_fill"]},
}
"""What every request's line of a program has, by its unit. Hooks, features, caches and logs add theirs."""

NAMESPACE = telemetry.NAMESPACE
OWN_DIMENSIONS = (tuple(telemetry.SERVICE_DIMENSIONS), tuple(telemetry.RELEASE_DIMENSIONS))
"""The sets of dimensions under which packages emit what is their own."""
OWN = frozenset((*_REQUEST, *telemetry.WORKER_METRICS, *telemetry.AROUND_METRICS))

AROUND = {
    "features": ("features_missing", "features_late", "features_failed"),
    "cache": ("cache_hits",),
    "log": ("log_dropped",),
}
"""What features, a cache and a log of predictions add, where something happened."""
assert {name for names in AROUND.values() for name in names} == set(telemetry.AROUND_METRICS)

_FUNCTION = ("FunctionName", "Resource")
_VERSION = ("FunctionName", "Resource", "ExecutedVersion")
_QUEUE = ("QueueName",)
_SERVICE = ("ClusterName", "ServiceName")
AWS: dict[tuple[str, str], tuple[tuple[str, ...], ...]] = {
    **{
        ("AWS/Lambda", name): (("FunctionName",), _FUNCTION, _VERSION)
        for name in ("Invocations", "Errors", "Throttles", "Duration", "ConcurrentExecutions")
    },
    ("AWS/Lambda", "ProvisionedConcurrencySpilloverInvocations"): (_FUNCTION,),
    ("AWS/Lambda", "ProvisionedConcurrencyUtilization"): (_FUNCTION,),
    **{("AWS/ApiGateway", name): (("ApiId",), ("ApiName",)) for name in ("Count", "Latency", "4xx", "5xx", "4XXError", "5XXError")},
    **{
        ("AWS/ApplicationELB", name): (("LoadBalancer",),)
        for name in ("RequestCount", "HTTPCode_ELB_5XX_Count", "HTTPCode_Target_5XX_Count", "TargetResponseTime")
    },
    **{
        ("AWS/SQS", name): (_QUEUE,)
        for name in (
            "ApproximateAgeOfOldestMessage",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesVisible",
            "NumberOfMessagesSent",
        )
    },
    ("ECS/ContainerInsights", "RunningTaskCount"): (_SERVICE,),
    ("AWS/ECS", "CPUUtilization"): (_SERVICE,),
    ("AWS/ECS", "MemoryUtilization"): (_SERVICE,),
    **{
        ("AWS/States", name): (("StateMachineArn",),)
        for name in ("ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut")
    },
}  # fmt: skip
"""AWS's own metrics by namespace and name, each with the sets of dimensions that it is published under.

Sources: docs.aws.amazon.com, "Types of metrics for Lambda functions", "API Gateway dimensions and metrics" (HTTP APIs have `4xx`
and `5xx` by `ApiId`, REST APIs `4XXError` and `5XXError` by `ApiName`), "CloudWatch metrics for your Application Load Balancer",
"Available CloudWatch metrics for Amazon SQS", "Container Insights metrics", "Step Functions metrics"."""


def own(name: str, service: str, statistic: str, *, period_s: int = 60, release: str | None = None) -> Metric:
    """A metric of the runtime for a deployment, of one release of it where that is given. ValueError where no package emits it."""
    if name not in OWN or (release is not None and name not in telemetry.RELEASE_METRICS):
        raise ValueError(f"no package emits {name}{'' if release is None else ' by release'}")
    values: tuple[Value, ...] = (service,) if release is None else (service, release)
    dimensions = telemetry.SERVICE_DIMENSIONS if release is None else telemetry.RELEASE_DIMENSIONS
    return Metric(
        namespace=telemetry.NAMESPACE, name=name, dimensions=tuple(zip(dimensions, values, strict=True)), statistic=statistic,
        period_s=period_s,
    )  # fmt: skip


def by_release(name: str, service: str) -> Expression:
    """A count of the runtime, a line for each release of a deployment that CloudWatch knows. ValueError as `own`."""
    own(name, service, "Sum", release="any")
    schema = ",".join((telemetry.NAMESPACE, *telemetry.RELEASE_DIMENSIONS))
    search = f"SEARCH('{{{schema}}} MetricName=\"{name}\" {telemetry.RELEASE_DIMENSIONS[0]}=\"{service}\"', 'Sum', 60)"
    return Expression(formula=search, metrics=(), label=name)


def aws(namespace: str, name: str, dimensions: tuple[tuple[str, Value], ...], statistic: str, *, period_s: int = 60) -> Metric:
    """A metric of AWS. ValueError for one that is not in the table, or not under these dimensions."""
    if tuple(key for key, _ in dimensions) not in AWS.get((namespace, name), ()):
        raise ValueError(f"{namespace} has no {name} by {', '.join(key for key, _ in dimensions)}")
    return Metric(namespace=namespace, name=name, dimensions=dimensions, statistic=statistic, period_s=period_s)


def is_emitted(metric: Metric) -> bool:
    """Whether the runtime or AWS publishes this metric under these dimensions."""
    keys = [key for key, _ in metric.dimensions]
    if metric.namespace != telemetry.NAMESPACE:
        return tuple(keys) in AWS.get((metric.namespace, metric.name), ())
    if keys == telemetry.RELEASE_DIMENSIONS:
        return metric.name in telemetry.RELEASE_METRICS
    return keys == telemetry.SERVICE_DIMENSIONS and metric.name in OWN


def count(program: Program, *, around: tuple[str, ...] = (), releases: int = 1) -> int:
    """How many metrics CloudWatch charges for: a program's, those of what is around its model, and the counts of its releases."""
    return len(OF_PROGRAM[program]) + sum(len(AROUND[name]) for name in around) + releases * len(telemetry.RELEASE_METRICS)
