"""A container that answers HTTP: tasks of Fargate behind a load balancer, with two groups of targets for a rollout. Pure."""

from __future__ import annotations

import math

from mlpack.deploy import grants
from mlpack.deploy.design import endpoints, tasks
from mlpack.deploy.graph.endpoints import TargetGroup
from mlpack.deploy.graph.roles import Grant
from mlpack.deploy.graph.tasks import Cluster, Scaling
from mlpack.deploy.graph.values import Id, Node, Ref, Value
from mlpack.deploy.graph.watching import Metric
from mlpack.deploy.limits import per_task
from mlpack.deploy.service import Service
from mlpack.deploy.watch.behind import task_dimensions

GROUPS = (Id("Targets"), Id("NextTargets"))
_BUSY = 60.0
"""Percent of its CPU that a task may use: what comes at once needs the rest."""
_LAME_DUCK_S = 20


def kind(service: Service) -> tasks.Kind:
    """What the tasks of a container are."""
    least = max(1, service.deploy.worker.least)
    port = (service.package.port, Ref(Id("Callers"), "id"))
    return tasks.Kind(
        on="fargate",
        strategy=tasks.on_fargate(service.deploy.worker.spot),
        count=least,
        stop_s=tasks.STOP_S,
        environment={"MLPACK_DRAIN_S": str(tasks.DRAIN_S), "MLPACK_LAME_DUCK_S": str(_LAME_DUCK_S)},
        ingress=(port,),
        target_groups=GROUPS,
    )


def hosts(service: Service) -> tuple[Node, ...]:
    """The balancer with its groups, the tasks, and how many of them there are."""
    port, what = service.package.port, kind(service)
    cluster = Cluster(id=tasks.CLUSTER, name=service.stack, providers=tuple(name for name, _, _ in what.strategy))
    run = tasks.running(service, what)
    return (
        *(TargetGroup(id=each, port=port, vpc=endpoints.VPC, drain_s=_LAME_DUCK_S) for each in GROUPS),
        *endpoints.balancer(service, *GROUPS),
        cluster,
        *run,
        _scaling(service, (cluster, *run)),
    )


def _scaling(service: Service, nodes: tuple[Node, ...]) -> Scaling:
    """By the CPU of its tasks; as many at the most as the peak needs."""
    least = max(1, service.deploy.worker.least)
    needed = math.ceil(round(service.deploy.traffic.peak_rps / (per_task(service) * _BUSY / 100), 6))
    of = tasks.service_of(nodes)
    busy = Metric(namespace="AWS/ECS", name="CPUUtilization", dimensions=task_dimensions(nodes, of), statistic="Average")
    return Scaling(
        id=Id("TaskScaling"),
        service=tasks.TASKS,
        least=least,
        most=max(service.deploy.worker.most, needed, least),
        metric=busy,
        target=_BUSY,
        in_cooldown_s=300,
        out_cooldown_s=60,
    )


def target() -> dict[str, Value]:
    """What a rollout of a container moves."""
    old, new = (Ref(each) for each in GROUPS)
    return {"kind": "container", "listener": Ref(endpoints.ENDPOINT, "listener_arn"), "old": old, "new": new}


def moves() -> tuple[Grant, ...]:
    """What a controller does to move requests between two groups of targets."""
    listener = (Ref(endpoints.ENDPOINT, "listener_arn"),)
    names = ("DescribeListeners", "DescribeTags", "DescribeTargetHealth")
    reads = Grant(
        actions=tuple(f"elasticloadbalancing:{name}" for name in names),
        resources=grants.EVERYTHING,
        why="reads weights, and whether the next tasks are healthy: the load balancer knows no resources for that",
    )
    return (
        reads,
        Grant(actions=("elasticloadbalancing:ModifyListener",), resources=listener, why="moves requests by weight"),
        Grant(
            actions=("elasticloadbalancing:AddTags",), resources=tuple(Ref(group) for group in GROUPS),
            why="marks whose rollout it is",
        ),
    )  # fmt: skip
