"""Tasks of ECS that run the package: their sizes, roles, networks and log, for workers and for containers behind a balancer. Pure.

Promises: a size that Fargate has; a second service without tasks, of the next image, which a rollout moves work to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mlpack.deploy import grants
from mlpack.deploy.design.endpoints import SUBNETS, VPC
from mlpack.deploy.design.model import around, environment, image, repository
from mlpack.deploy.design.parts import logs, named
from mlpack.deploy.graph.endpoints import SecurityGroup
from mlpack.deploy.graph.roles import Grant, Role
from mlpack.deploy.graph.tasks import Container, Service, Task
from mlpack.deploy.graph.values import Id, Node, Parameter, Ref, Value
from mlpack.deploy.service import Service as Deployed

CLUSTER, TASK, TASKS, NETWORK = Id("Cluster"), Id("Task"), Id("Tasks"), Id("TaskNetwork")
DRAIN_S, STOP_S = 90, 110
"""A worker gives its messages back in the first, and is killed after the second: Spot gives 120 s."""
_MB_A_THREAD = 1769
_SIZES = {256: (512, 2048), 512: (1024, 4096), 1024: (2048, 8192), 2048: (4096, 16_384), 4096: (8192, 30_720)}
_LARGE = {8192: (16_384, 61_440, 4096), 16_384: (32_768, 122_880, 8192)}
"""Fargate's CPU units, and the least and most memory in MB; the larger ones in steps. (AWS, "Task definition parameters")"""


def on_fargate(spot: float) -> tuple[tuple[str, int, int], ...]:
    """One task that stays, and of the others this share on Spot. ECS places no task by a weight of nothing, so 100 % are 99, and a
    share below 1 % is 1."""
    share = min(99, max(1, round(100 * spot)))
    if not spot:
        return (("FARGATE", 0, 1),)
    common = math.gcd(share, 100)
    return (("FARGATE", 1, (100 - share) // common), ("FARGATE_SPOT", 0, share // common))


def fargate_size(memory_mb: int) -> tuple[int, int]:
    """CPU units and memory: a thread of the engine for each 1,769 MB, and memory that goes with so much CPU."""
    threads = max(1, round(memory_mb / _MB_A_THREAD))
    for cpu, (least, most) in _SIZES.items():
        if cpu >= 1024 * threads and memory_mb <= most:
            return cpu, max(least, -(-memory_mb // 1024) * 1024)
    for cpu, (least, most, step) in _LARGE.items():
        if memory_mb <= most and cpu >= min(16_384, 1024 * threads):
            return cpu, max(least, -(-memory_mb // step) * step)
    return 16_384, 122_880


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What differs between workers and containers. `strategy`: as of `graph.tasks.Service`."""

    on: str
    strategy: tuple[tuple[str, int, int], ...]
    count: int
    stop_s: int
    environment: Mapping[str, Value] = field(default_factory=dict)
    rights: tuple[Grant, ...] = ()
    ingress: tuple[tuple[int, Value], ...] = ()
    target_groups: tuple[Id, Id] | None = None


def running(service: Deployed, kind: Kind) -> tuple[Node, ...]:
    """The tasks, with everything that they need but their cluster."""
    package, group = service.package, Id(f"{TASK}Logs")
    cpu, memory_mb = (3072, package.memory_mb) if kind.on == "ec2" else fargate_size(package.memory_mb)
    container = Container(
        name="model",
        image=image(service),
        environment=dict(sorted({**environment(service), **kind.environment}.items())),
        port=package.port,
        stop_s=kind.stop_s,
        gpus=1 if package.gpu else 0,
    )
    return (
        SecurityGroup(id=NETWORK, description=f"tasks of {service.stack}", vpc=VPC, ingress=kind.ingress),
        logs(service, TASK, f"/ecs/{service.stack}"),
        Role(id=Id("TaskRole"), service="ecs-tasks.amazonaws.com", grants=(*around(service), *kind.rights)),
        Role(id=Id("TaskStartRole"), service="ecs-tasks.amazonaws.com", grants=grants.image(repository(), group)),
        Task(
            id=TASK,
            family=service.stack,
            cpu=cpu,
            memory_mb=memory_mb,
            architecture=package.architecture,
            role=Id("TaskRole"),
            execution_role=Id("TaskStartRole"),
            container=container,
            logs=group,
            on="ec2" if kind.on == "ec2" else "fargate",
        ),
        _tasks(service, TASKS, TASK, kind, kind.count, kind.target_groups[0] if kind.target_groups else None),
    )


def _tasks(service: Deployed, node: Id, task: Id, kind: Kind, count: int, group: Id | None) -> Service:
    return Service(
        id=node,
        name=named(service, node.lower()),
        cluster=CLUSTER,
        task=task,
        count=count,
        strategy=kind.strategy,
        subnets=SUBNETS,
        security_group=NETWORK,
        target_group=group,
        grace_s=60 if group is not None else 0,
    )


def following(service: Deployed, kind: Kind, task: Task) -> tuple[Node, ...]:
    """The next image's tasks, of which there are none until a rollout moves work to them."""
    known = service.package.places.get("image_uri")
    after = Parameter("NextImage", "the image that a rollout moves to; the same one while there is none", known)
    next_task = replace(task, id=Id("NextTask"), family=f"{task.family}-next", container=replace(task.container, image=after))
    group = kind.target_groups[1] if kind.target_groups else None
    return (next_task, _tasks(service, Id("NextTasks"), Id("NextTask"), kind, 0, group))


def service_of(nodes: tuple[Node, ...]) -> Service:
    """The service of tasks among these nodes."""
    return next(node for node in nodes if isinstance(node, Service))


def moves() -> tuple[Grant, ...]:
    """What a controller does to move tasks from one service to the other."""
    both: tuple[Value, ...] = (Ref(TASKS), Ref(Id("NextTasks")))
    return (
        Grant(actions=("ecs:DescribeServices", "ecs:UpdateService"), resources=both, why="moves tasks between two services"),
        Grant(actions=("ecs:TagResource",), resources=both, why="marks whose rollout it is"),
    )
