"""A deployment with what watches it. Pure.

Promises: whatever runs a package is told the name that its metrics have and when an answer is slow, by the same values that alarms
and the dashboard name; there is one topic, one dashboard and, for each program that answers callers, one brake.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mlpack.deploy.graph.endpoints import FunctionUrl, HttpApi, LoadBalancer, RestApi, TargetGroup
from mlpack.deploy.graph.functions import Alias, Function, Zip
from mlpack.deploy.graph.stores import Topic
from mlpack.deploy.graph.tasks import Service as TaskService
from mlpack.deploy.graph.tasks import Task
from mlpack.deploy.graph.values import Id, Node, Ref, Value
from mlpack.deploy.graph.watching import CompositeAlarm
from mlpack.deploy.limits import runs_package
from mlpack.deploy.service import DOOR_HANDLER, Service
from mlpack.deploy.watch import behind, endpoint, panels
from mlpack.deploy.watch.emitted import RELEASE, SERVICE, SLOW_MS
from mlpack.deploy.watch.endpoint import Program

PUBLISHERS = ("budgets.amazonaws.com", "cloudwatch.amazonaws.com", "costalerts.amazonaws.com")


def watched(service: Service, nodes: Sequence[Node]) -> tuple[Node, ...]:
    """These nodes, told who they are, with their alarms, dashboard, budget and topic behind them."""
    told = tuple(_told(service, node) for node in nodes)
    topic = next((node for node in told if isinstance(node, Topic)), None)
    more: list[Node] = []
    if topic is None:
        topic = Topic(id=Id("AlarmTopic"), name=f"{service.stack}-alarms", services=PUBLISHERS)
        more.append(topic)
    programs = tuple(_programs(told))
    heard: Value = Ref(topic.id, "arn")
    for program in programs:
        more += endpoint.alarms(service, program, heard)
    more += [*behind.queues(service, told, heard), *behind.tasks(told, heard), *behind.machines(told, heard)]
    more += behind.money(service, topic.id)
    more.append(panels.dashboard(service, programs, told))
    return (*told, *more)


def _runs(node: Node) -> bool:
    return isinstance(node, Function) and runs_package(node)


def is_door(function: Function) -> bool:
    """Whether it is a front door."""
    return isinstance(function.code, Zip) and function.code.handler == DOOR_HANDLER


def is_brake(alarm: CompositeAlarm) -> bool:
    """Whether it takes the weight from a release that is being rolled out: a budget that is used up in days does not."""
    return alarm.id.endswith("Brake")


def _told(service: Service, node: Node) -> Node:
    if isinstance(node, Function) and runs_package(node):
        slow = f"{endpoint.slow_ms(service, door=is_door(node)):g}"
        return replace(node, environment={**node.environment, SERVICE: node.name, SLOW_MS: slow})
    if isinstance(node, Task):
        release = str(service.release.version or service.release.digest.removeprefix("sha256:")[:12])
        environment = {RELEASE: release, **node.container.environment, SERVICE: node.family, SLOW_MS: f"{service.slo_p95_ms:g}"}
        return replace(node, container=replace(node.container, environment=environment))
    return node


def _programs(nodes: Sequence[Node]) -> Iterator[Program]:
    """What callers reach; where nobody calls, what runs the package."""
    by_id = {node.id: node for node in nodes}
    asked = [node.alias for node in nodes if isinstance(node, HttpApi | RestApi | FunctionUrl)]
    balanced = [by_id[node.target] for node in nodes if isinstance(node, LoadBalancer)]
    asked += [group.alias for group in balanced if isinstance(group, TargetGroup) and group.alias is not None]
    if not asked and not balanced:
        asked = [node.id for node in nodes if isinstance(node, Alias) and _runs(by_id[node.function])]
    for name in dict.fromkeys(asked):
        alias = by_id[name]
        assert isinstance(alias, Alias)
        function = by_id[alias.function]
        assert isinstance(function, Function)
        yield Program(function.name, "" if name == asked[0] else str(function.id), function, alias.name)
    for node in nodes:
        if isinstance(node, TaskService):
            task = by_id[node.task]
            assert isinstance(task, Task)
            yield Program(task.family, str(node.id), None, behind=node.target_group is None and bool(asked))
