"""The bill of a deployment: every node of its graph priced by its kind, and what the package itself uses. Pure.

Promises: a kind of node has a price, or a reason why it has none; what has neither raises KeyError.
Will not: count data transfer, network gateways, keys of KMS, or what environments give as parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mlpack.deploy.bill import compute, seen, ways
from mlpack.deploy.bill.prices import PRICES
from mlpack.deploy.bill.records import Bill, Line
from mlpack.deploy.bill.use import Use
from mlpack.deploy.graph import endpoints, functions, machines, roles, stores, tasks, watching
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.values import Node
from mlpack.deploy.service import Service

PRICED: dict[type[Node], Callable[[Any, Use], Iterator[Line]]] = {
    functions.Function: compute.function,
    functions.Provisioned: compute.provisioned,
    tasks.Service: compute.tasks,
    tasks.Cluster: compute.insights,
    endpoints.HttpApi: ways.gateway,
    endpoints.RestApi: ways.gateway,
    endpoints.LoadBalancer: ways.balancer,
    stores.Queue: ways.queue,
    machines.Machine: ways.machine,
    machines.Schedule: ways.schedule,
    machines.Build: ways.build,
    watching.Alarm: seen.alarm,
    watching.CompositeAlarm: seen.composite,
    watching.Dashboard: seen.dashboard,
}

FREE: dict[type[Node], str] = {
    functions.Version: "code of functions is free up to 75 GB",
    functions.Alias: "an alias is free",
    functions.Permission: "permissions are free",
    endpoints.FunctionUrl: "a function's URL is free: its requests are the function's",
    endpoints.TargetGroup: "target groups are free",
    endpoints.SecurityGroup: "security groups are free",
    tasks.CapacityProvider: "its machines are counted with the tasks on them",
    tasks.Task: "a definition is free: its tasks are counted with their service",
    tasks.Scaling: "scaling is free; its alarms are AWS's own",
    stores.Source: "its questions are counted with their queue",
    stores.Bucket: "what the package writes is counted with its requests",
    stores.Table: "what the package asks is counted with its requests",
    stores.Topic: "a message costs less than a hundredth of a cent, and mail is nearly free",
    machines.Rule: "events of AWS are free",
    roles.Role: "roles are free",
    roles.Logs: "lines are counted with the requests that write them",
    watching.Budget: "two budgets of an account are free, and those that only tell",
    watching.Anomaly: "detection of anomalies is free",
}

LEFT_OUT = (
    "data that goes out of AWS or between zones",
    "network gateways, endpoints and certificates that environments give",
    "calls to keys of KMS",
    "rows and objects that are kept beyond the log of predictions",
)


def bill(service: Service, graph: Graph) -> Bill:
    """What this deployment costs at the mean of its traffic."""
    use = Use(service, graph)
    lines: list[Line] = []
    for node in graph.nodes:
        if type(node) not in FREE:
            lines.extend(PRICED[type(node)](node, use))
    lines.extend(seen.lines(use))
    lines.extend(ways.kept(use))
    return Bill(requests=use.requests, lines=tuple(lines), left_out=(*LEFT_OUT, *_unchecked(lines)))


def _unchecked(lines: list[Line]) -> tuple[str, ...]:
    """What is said of prices that are remembered."""
    names = sorted({name for line in lines for name in line.prices if name in PRICES and not PRICES[name].checked})
    unknown = tuple(f"{line.what}: {line.how}" for line in lines if compute.UNKNOWN in line.prices)
    if not names:
        return unknown
    return (*unknown, f"whether these prices still hold, which nobody looked up: {', '.join(names)}")
