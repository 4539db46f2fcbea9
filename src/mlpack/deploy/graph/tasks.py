"""Containers that run as tasks, and how many of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mlpack.deploy.graph.values import Id, Node, Value
from mlpack.deploy.graph.watching import Expression, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster(Node):
    """Where tasks run. `providers`: FARGATE, FARGATE_SPOT, or ids of `CapacityProvider` nodes."""

    name: str
    providers: tuple[str, ...]
    insights: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityProvider(Node):
    """EC2 machines with GPUs for tasks: their launch template, group and managed draining."""

    name: str
    instance_types: tuple[str, ...]
    image: Value
    subnets: Value
    security_group: Id
    role: Id
    least: int
    most: int
    spot_share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What runs in a task."""

    name: str
    image: Value
    environment: Mapping[str, Value] = field(default_factory=dict)
    port: int | None = None
    health: tuple[str, ...] = ()
    stop_s: int = 30
    gpus: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Node):
    """A task's definition. `cpu` in 1,024ths of a vCPU."""

    family: str
    cpu: int
    memory_mb: int
    architecture: Literal["x86_64", "arm64"]
    role: Id
    execution_role: Id
    container: Container
    logs: Id
    on: Literal["fargate", "ec2"] = "fargate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service(Node):
    """So many tasks. `strategy`: (provider, base, weight); at most one has a base."""

    name: str
    cluster: Id
    task: Id
    count: int
    strategy: tuple[tuple[str, int, int], ...]
    subnets: Value
    security_group: Id
    target_group: Id | None = None
    grace_s: int = 0
    public_ip: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling(Node):
    """How many tasks a service has. `target`: of `metric`, kept by target tracking; `wake`: the metric that takes 0 to 1."""

    service: Id
    least: int
    most: int
    metric: Expression | Metric
    target: float
    in_cooldown_s: int
    out_cooldown_s: int
    wake: Metric | None = None
