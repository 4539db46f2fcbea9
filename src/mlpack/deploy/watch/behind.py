"""What is watched of what runs behind callers: queues, tasks, state machines, and money. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mlpack.deploy.graph.machines import Machine, Schedule
from mlpack.deploy.graph.stores import Queue
from mlpack.deploy.graph.tasks import Cluster, Scaling
from mlpack.deploy.graph.tasks import Service as TaskService
from mlpack.deploy.graph.values import Id, Node, Ref, Value
from mlpack.deploy.graph.watching import Alarm, Anomaly, Budget, Expression
from mlpack.deploy.limits import per_task
from mlpack.deploy.service import Service
from mlpack.deploy.watch.emitted import aws

_DAILY = re.compile(r"cron\(\S+ \S+ (?:\* \* \?|\? \* \*) \*\)|rate\(\d+ (?:minute|hour)s?\)")
"""Schedules that begin something each day or more often."""
ANOMALY_USD = 5.0


def queues(service: Service, nodes: Sequence[Node], topic: Value) -> Iterator[Alarm]:
    """The age and the number of messages that wait, and dead letters."""
    most = sum(node.most for node in nodes if isinstance(node, Scaling))
    dead = {node.dead for node in nodes if isinstance(node, Queue)}
    wait_s = service.deploy.worker.wait_s
    for queue in (node for node in nodes if isinstance(node, Queue)):
        dimensions: tuple[tuple[str, Value], ...] = (("QueueName", queue.name),)
        visible = aws("AWS/SQS", "ApproximateNumberOfMessagesVisible", dimensions, "Maximum")
        if queue.id in dead:
            yield Alarm(
                id=Id(f"{queue.id}Letters"), name=f"{queue.name}-letters", metric=visible, comparison=">=", threshold=1.0,
                periods=1,
                points=1, description="Requests failed for good: read them, and send them again", missing="notBreaching",
                actions=(topic,),
            )  # fmt: skip
        if queue.dead is not None:
            yield Alarm(
                id=Id(f"{queue.id}Age"), name=f"{queue.name}-age", comparison=">", threshold=wait_s, periods=5, points=3,
                metric=aws("AWS/SQS", "ApproximateAgeOfOldestMessage", dimensions, "Maximum"), missing="notBreaching",
                actions=(topic,),
                description=f"The oldest message waits for more than {wait_s:g} s: deploy.worker.wait",
            )  # fmt: skip
        if queue.dead is not None and most:
            backlog = max(1.0, float(round(wait_s * most * per_task(service))))
            yield Alarm(
                id=Id(f"{queue.id}Backlog"), name=f"{queue.name}-backlog", metric=visible, comparison=">",
                threshold=backlog, periods=5,
                points=3, description=f"More messages wait than {most} tasks answer in {wait_s:g} s",
                missing="notBreaching", actions=(topic,),
            )  # fmt: skip


def tasks(nodes: Sequence[Node], topic: Value) -> Iterator[Alarm]:
    """That there are as many tasks as there have to be: no data is no task."""
    clusters = {node.id: node for node in nodes if isinstance(node, Cluster)}
    scalings = {node.service: node for node in nodes if isinstance(node, Scaling)}
    for node in (one for one in nodes if isinstance(one, TaskService)):
        least = scalings[node.id].least if node.id in scalings else node.count
        if least and clusters[node.cluster].insights:
            yield Alarm(
                id=Id(f"{node.id}Tasks"), name=f"{node.name}-tasks", comparison="<",
                threshold=float(least),
                metric=aws("ECS/ContainerInsights", "RunningTaskCount", task_dimensions(nodes, node), "Minimum"), periods=5,
                points=5,
                description=f"Fewer than {least} tasks run", missing="breaching", actions=(topic,),
            )  # fmt: skip


def task_dimensions(nodes: Sequence[Node], service: TaskService) -> tuple[tuple[str, Value], ...]:
    """Of a service's metrics."""
    cluster = next(node for node in nodes if isinstance(node, Cluster) and node.id == service.cluster)
    return (("ClusterName", cluster.name), ("ServiceName", service.name))


def machines(nodes: Sequence[Node], topic: Value) -> Iterator[Alarm]:
    """Runs that failed, and runs that should have been there and were not."""
    daily = {node.target for node in nodes if isinstance(node, Schedule) and _DAILY.fullmatch(node.expression)}
    for node in (one for one in nodes if isinstance(one, Machine)):
        dimensions: tuple[tuple[str, Value], ...] = (("StateMachineArn", Ref(node.id, "arn")),)
        failed = Expression(
            formula="FILL(failed, 0) + FILL(late, 0)", label="failed",
            metrics=(
                ("failed", aws("AWS/States", "ExecutionsFailed", dimensions, "Sum", period_s=300)),
                ("late", aws("AWS/States", "ExecutionsTimedOut", dimensions, "Sum", period_s=300)),
            ),
        )  # fmt: skip
        yield Alarm(
            id=Id(f"{node.id}Failed"), name=f"{node.name}-failed", metric=failed, comparison=">=", threshold=1.0, periods=1,
            points=1,
            description="A run failed or took too long: its history says in which state", missing="notBreaching", actions=(topic,),
        )  # fmt: skip
        if node.id in daily:
            yield Alarm(
                id=Id(f"{node.id}Silence"), name=f"{node.name}-silence", comparison="<", threshold=1.0, periods=1, points=1,
                metric=aws("AWS/States", "ExecutionsSucceeded", dimensions, "Sum", period_s=86_400), missing="breaching",
                actions=(topic,),
                description="No run has ended well for a day",
            )  # fmt: skip


def money(service: Service, topic: Id) -> Iterator[Budget | Anomaly]:
    """The budget of a month, and costs that are not as usual, of what carries the tag `service`."""
    name = service.tags.get("service", service.name)
    month = service.deploy.budget.month_usd
    if month is not None:
        yield Budget(id=Id("MonthlyBudget"), name=f"{service.stack}-month", month_usd=month, service=name, topic=topic)
    from_usd = ANOMALY_USD if month is None else max(1.0, round(month / 10, 2))
    yield Anomaly(id=Id("CostAnomaly"), name=f"{service.stack}-costs", service=name, topic=topic, from_usd=from_usd)
