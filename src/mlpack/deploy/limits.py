"""The inequalities that must hold between the parts of a deployment, each with its margin and the recipe's key that binds it. Pure.

Promises:
- A section whose limits all hold answers its peak without a throttled request; one that is refused names what binds it.
- Numbers are the graph's, as its files will have them: what overrides change is held to the same limits.

Will not: choose a number. `design` does, by the same records.

Sources: docs.aws.amazon.com, "Understanding Lambda function scaling", "Lambda quotas", "Using Lambda with Amazon SQS",
"Quotas for HTTP APIs", "Amazon API Gateway quotas", "Task definition parameters for Fargate".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlpack.deploy.graph.endpoints import HttpApi, LoadBalancer, RestApi
from mlpack.deploy.graph.functions import Alias, Function, Image, Provisioned
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.stores import Queue, Source
from mlpack.deploy.graph.tasks import Container, Scaling, Task
from mlpack.deploy.graph.values import Id
from mlpack.deploy.service import DOOR_HANDLER, HANDLER, Service

UNRESERVED = 100
"""Environments that Lambda keeps for functions without a reservation."""
RATE_PER_ENVIRONMENT = 10
"""Requests a second for each environment that a function may have: Lambda throttles what comes faster, however short it is."""
SCALE_UP = 1000
"""Environments that a function gets in ten seconds."""
OVERSELL = 2.0
"""How many times the gateway's rate all tenants may have together: they seldom all come at once."""
GATEWAY_S = {HttpApi: 30.0, RestApi: 29.0}
GATEWAY_MARGIN_S = 0.5
TIMEOUT_KEYS = "budgets.latency_p95, budgets.cold_start"
"""A function's time limit follows from what the build measured: these keep it short."""
SPOT_NOTICE_S = 120
BATCH_KEYS = 100
DRAIN_S, TICKET_S, DEADLINE_MS, KEEP_S = 25.0, 86_400.0, 25_000.0, 604_800.0
"""What the runtime takes where its environment says nothing (docs/worker.md, docs/front-door.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """`left` is at most `right` (`strict`: less than it). `where`: the recipe's key that changes it. Numbers are in `unit`."""

    name: str
    left: float
    right: float
    unit: str
    sentence: str
    where: str
    strict: bool = False

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.left < self.right if self.strict else self.left <= self.right

    @property
    def margin(self) -> float:
        """How much there is left; negative where it does not hold."""
        return self.right - self.left

    def __str__(self) -> str:
        sign = "<" if self.strict else "<="
        words = f"{self.name}: {self.left:g} {sign} {self.right:g} {self.unit}".rstrip()
        if self.holds:
            return f"{words} (margin {self.margin:g})"
        return f"{words} does not hold: {self.sentence}. Change {self.where}"


def limits(service: Service, graph: Graph) -> tuple[Limit, ...]:
    """Every inequality that the parts of this deployment have to keep, in reading order."""
    return (
        *_promises(service),
        *_concurrency(service, graph),
        *_gateways(service, graph),
        *_around(service, graph),
        *_queues(service, graph),
        *_pools(service, graph),
    )


def front(graph: Graph) -> Function | None:
    """The function that callers reach, where there is one."""
    reached = [endpoint.alias for endpoint in _apis(graph)] or [alias.id for alias in graph.of(Alias)]
    return next((one for one in (_function(graph, alias) for alias in reached) if runs_package(one)), None)


def runs_package(function: Function) -> bool:
    """Whether it is mlpack's package or front door, and no program of the deployment itself."""
    return isinstance(function.code, Image) or function.code.handler in (HANDLER, DOOR_HANDLER)


def _apis(graph: Graph) -> tuple[HttpApi | RestApi, ...]:
    return (*graph.of(HttpApi), *graph.of(RestApi))


def _function(graph: Graph, alias: Id) -> Function:
    node = graph[alias]
    assert isinstance(node, Alias)
    function = graph[node.function]
    assert isinstance(function, Function)
    return function


def in_work(service: Service, graph: Graph) -> float:
    """Seconds that a request holds an environment of the function that callers reach, 95th percentile: a front door that waits for
    its answer holds one as long as the queue and a batch take."""
    function = front(graph)
    if service.package.kind != "worker" or function is None:
        return service.p95_ms / 1000
    if function.environment.get("MLPACK_MODE") == "ticket":
        return 0.1
    return min(
        _number(function.environment, "MLPACK_DEADLINE_MS", DEADLINE_MS) / 1000,
        service.deploy.worker.wait_s + service.p95_ms / 1000,
    )


def _promises(service: Service) -> Iterator[Limit]:
    slo = service.deploy.slo
    if service.measured.p95_ms is not None:
        yield Limit(
            name="latency", left=service.measured.p95_ms, right=service.slo_p95_ms, unit="ms",
            sentence="the package alone takes longer than the promise, as the build measured it", where="deploy.slo.latency_p95",
        )  # fmt: skip
    if slo.hops_ms:
        yield Limit(
            name="hops", left=round(sum(slo.hops_ms.values()), 6), right=service.slo_p95_ms, unit="ms",
            sentence="the budgets of the hops come to more than the promise", where="deploy.slo.hops",
        )  # fmt: skip


def _concurrency(service: Service, graph: Graph) -> Iterator[Limit]:
    traffic = service.deploy.traffic
    function, seconds = front(graph), in_work(service, graph)
    need = _ceil(traffic.peak_rps * seconds * 1.3)
    if function is not None and service.package.kind != "container":
        reserved = function.reserved if function.reserved is not None else traffic.account - UNRESERVED
        yield Limit(
            name="concurrency", left=need, right=reserved, unit="environments", where="deploy.traffic.peak_rps",
            sentence=f"{traffic.peak_rps:g} requests/s of {seconds:g} s, and three tenths, are at work at once",
        )  # fmt: skip
        yield Limit(
            name="request rate", left=traffic.peak_rps, right=RATE_PER_ENVIRONMENT * reserved, unit="requests/s",
            sentence=f"Lambda lets {RATE_PER_ENVIRONMENT} requests/s through for each environment, however short they are",
            where="deploy.traffic.peak_rps",
        )  # fmt: skip
        warm = sum(one.count for one in graph.of(Provisioned))
        yield Limit(
            name="scale-up", left=need, right=SCALE_UP + warm, unit="environments", where="deploy.warm.provisioned",
            sentence=f"a function gets {SCALE_UP} environments in ten seconds: more have to be warm, or to wait in a queue",
        )  # fmt: skip
    reservations = [one.reserved for one in graph.of(Function) if one.reserved is not None]
    if reservations:
        yield Limit(
            name="account", left=sum(reservations), right=traffic.account - UNRESERVED, unit="environments",
            sentence=f"Lambda keeps {UNRESERVED} of the account's environments unreserved",
            where="deploy.traffic.account_concurrency",
        )  # fmt: skip
    for kept in graph.of(Provisioned):
        of = _function(graph, kept.alias)
        if of.reserved is not None:
            most = max([kept.count, *(count for _, count in kept.schedule)])
            yield Limit(
                name="provisioned", left=2 * most, right=of.reserved, unit="environments", where="deploy.warm.provisioned",
                sentence="while a release is rolled out, both versions have their environments",
            )  # fmt: skip


def _gateways(service: Service, graph: Graph) -> Iterator[Limit]:
    traffic, seconds = service.deploy.traffic, in_work(service, graph)
    for api in _apis(graph):
        function = _function(graph, api.alias)
        reserved = function.reserved if function.reserved is not None else traffic.account - UNRESERVED
        yield Limit(
            name="gateway rate", left=traffic.peak_rps, right=api.throttle.rate, unit="requests/s", where="deploy.traffic.peak_rps",
            sentence="the gateway answers 429 to what comes faster than its rate",
        )  # fmt: skip
        yield Limit(
            name="gateway concurrency", left=round(api.throttle.rate * seconds, 6), right=reserved, unit="environments",
            sentence="callers see Lambda's 429 and 5xx in the place of the gateway's 429", where="deploy.traffic.peak_rps",
        )  # fmt: skip
        yield Limit(
            name="gateway burst", left=api.throttle.burst, right=reserved, unit="requests", where="deploy.traffic.burst",
            sentence="as many requests as the gateway lets through at once need an environment each",
        )  # fmt: skip
        if traffic.tenants:
            yield Limit(
                name="tenants", left=round(sum(traffic.tenants.values()), 6), right=OVERSELL * api.throttle.rate, unit="requests/s",
                sentence=f"all tenants together have more than {OVERSELL:g} times the gateway's rate",
                where="deploy.traffic.tenants",
            )  # fmt: skip
        most = GATEWAY_S[type(api)]
        yield Limit(
            name="gateway timeout", left=function.timeout_s, right=min(most, api.timeout_ms / 1000) - GATEWAY_MARGIN_S, unit="s",
            sentence=f"the gateway gives up after {most:g} s at the most, and its caller would hear of nothing", where=TIMEOUT_KEYS,
        )  # fmt: skip
    for balancer in graph.of(LoadBalancer):
        function_or_none = front(graph)
        if function_or_none is not None and service.package.kind != "container":
            yield Limit(
                name="gateway timeout", left=function_or_none.timeout_s, right=balancer.idle_timeout_s, unit="s", strict=True,
                sentence="the load balancer closes the connection before the function may answer", where=TIMEOUT_KEYS,
            )  # fmt: skip


def _around(service: Service, graph: Graph) -> Iterator[Limit]:
    package, function = service.package, front(graph)
    deadlines = {name: (getattr(package, name) or {}).get("deadline_ms") for name in ("features", "cache")}
    for name, deadline in deadlines.items():
        if deadline is None:
            continue
        hop = service.deploy.slo.hops_ms.get(name)
        if hop is not None:
            yield Limit(
                name=f"{name} hop", left=deadline, right=hop, unit="ms", where=f"deploy.slo.hops.{name}",
                sentence=f"serve.{name}.deadline lets the hop take longer than its budget",
            )  # fmt: skip
        if function is not None:
            yield Limit(
                name=f"{name} deadline", left=deadline / 1000, right=function.timeout_s, unit="s", strict=True,
                where=f"serve.{name}.deadline",
                sentence="the function ends before its own client gives up",
            )  # fmt: skip
    if package.features is not None:
        yield Limit(
            name="feature keys", left=package.max_batch, right=8 * BATCH_KEYS, unit="keys", where="serve.max_batch",
            sentence=f"a request's keys go out {BATCH_KEYS} in a BatchGetItem, eight of them at once",
        )  # fmt: skip


def _queues(service: Service, graph: Graph) -> Iterator[Limit]:
    for source in graph.of(Source):
        queue, function = graph[source.queue], _function(graph, source.alias)
        assert isinstance(queue, Queue)
        reserved = function.reserved if function.reserved is not None else service.deploy.traffic.account - UNRESERVED
        yield Limit(
            name=f"pollers of {queue.name}", left=source.most_at_once, right=min(1000, reserved), unit="environments",
            sentence="pollers that take more messages than there are environments wear out receives, and dead letters get them",
            where="deploy.traffic.account_concurrency",
        )  # fmt: skip
        yield Limit(
            name=f"visibility of {queue.name}", left=6 * function.timeout_s, right=queue.visibility_s, unit="s", where=TIMEOUT_KEYS,
            sentence="a message comes back while it is still worked on: six times the function's timeout is what AWS asks for",
        )  # fmt: skip
    for queue in graph.of(Queue):
        if queue.dead is not None:
            dead = graph[queue.dead]
            assert isinstance(dead, Queue)
            yield Limit(
                name=f"dead letters of {queue.name}", left=queue.retention_s, right=dead.retention_s, unit="s",
                where="deploy.worker",
                sentence="a dead letter keeps the age that it had, and would be gone before anybody has seen it",
            )  # fmt: skip
    door = front(graph)
    if service.package.kind == "worker" and door is not None and "MLPACK_QUEUE_URL" in door.environment:
        yield from _tickets(door, graph)


def _tickets(door: Function, graph: Graph) -> Iterator[Limit]:
    deadline_s = _number(door.environment, "MLPACK_DEADLINE_MS", DEADLINE_MS) / 1000
    yield Limit(
        name="front door's deadline", left=deadline_s, right=door.timeout_s, unit="s", strict=True, where="deploy.worker.wait",
        sentence="the front door ends before it has told its caller that the answer is late",
    )  # fmt: skip
    ticket_s = _number(door.environment, "MLPACK_TICKET_S", TICKET_S)
    for queue in graph.of(Queue):
        if queue.dead is not None:
            yield Limit(
                name=f"tickets of {queue.name}", left=queue.retention_s, right=ticket_s, unit="s", strict=True,
                where="deploy.worker",
                sentence="the late result of an old request may answer a new one under its id",
            )  # fmt: skip
    for task in graph.of(Task):
        keep_s = _number(task.container.environment, "MLPACK_RESULTS_KEEP_S", KEEP_S)
        yield Limit(
            name="results", left=ticket_s, right=keep_s, unit="s", strict=True, where="deploy.worker",
            sentence="a ticket outlives its result",
        )  # fmt: skip


def per_task(service: Service) -> float:
    """Requests a second that a task answers, by what was measured."""
    measured = service.measured
    if measured.throughput_per_s:
        return measured.throughput_per_s
    if measured.batch_ms:
        return measured.batch / measured.batch_ms * 1000
    return 1000 / service.p95_ms


def _pools(service: Service, graph: Graph) -> Iterator[Limit]:
    for scaling in graph.of(Scaling):
        rate = per_task(service)
        yield Limit(
            name="tasks", left=service.deploy.traffic.peak_rps, right=round(scaling.most * rate, 6), unit="requests/s",
            sentence=f"{scaling.most} tasks of {rate:.3g} requests/s each fall behind at the peak", where="deploy.worker.tasks",
        )  # fmt: skip
        batch_s = _batch_s(service)
        yield Limit(
            name="scale-in", left=batch_s, right=scaling.in_cooldown_s, unit="s", where="deploy.worker",
            sentence="tasks would be taken away while their longest batch runs",
        )  # fmt: skip
        door = front(graph)
        backlog = _number(door.environment, "MLPACK_BACKLOG_LIMIT", 0) if door is not None else 0
        if backlog:
            yield Limit(
                name="backlog", left=backlog, right=round(service.deploy.worker.wait_s * scaling.most * rate, 6), unit="messages",
                sentence="more messages may wait than all tasks answer within the wait", where="deploy.worker.wait",
            )  # fmt: skip
    for task in graph.of(Task):
        yield from _ends(task, task.container)
    if service.package.kind == "worker":
        for queue in graph.of(Queue):
            if queue.dead is not None:
                yield Limit(
                    name=f"visibility of {queue.name}", left=round(3 * _batch_s(service), 6), right=queue.visibility_s, unit="s",
                    sentence="a worker extends the time of a message every third of it, and a batch may take longer",
                    where="deploy.worker",
                )  # fmt: skip


def _ends(task: Task, container: Container) -> Iterator[Limit]:
    yield Limit(
        name=f"drain of {task.family}", left=_number(container.environment, "MLPACK_DRAIN_S", DRAIN_S),
        right=container.stop_s, unit="s",
        strict=True, sentence="the task is killed before it has given its messages back", where="deploy.worker",
    )  # fmt: skip
    if task.on == "fargate":
        yield Limit(
            name=f"stop of {task.family}", left=container.stop_s, right=SPOT_NOTICE_S, unit="s", where="deploy.worker",
            sentence=f"Fargate waits {SPOT_NOTICE_S} s at the most",
        )  # fmt: skip


def _batch_s(service: Service) -> float:
    measured = service.measured
    return round((measured.batch_ms or max(service.p95_ms, measured.p99_ms or 0.0)) / 1000, 6)


def _number(environment: Mapping[str, object], name: str, default: float) -> float:
    """What a variable says, where the file says it: a value of the account is not known here."""
    value = environment.get(name)
    try:
        return float(value) if isinstance(value, str) and value else default
    except ValueError:
        return default


def _ceil(value: float) -> int:
    return -int(-round(value, 6) // 1)
