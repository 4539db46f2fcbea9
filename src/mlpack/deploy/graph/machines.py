"""State machines, and what starts them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlpack.deploy.graph.values import Id, Node, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine(Node):
    """A state machine in JSONPath ASL. `definition` holds `Value`s where it names what else will exist."""

    name: str
    role: Id
    definition: Mapping[str, Any]
    logs: Id
    express: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Node):
    """Events that match `pattern` to a target: an alias, machine, queue or topic, by id; `role` where the target needs one."""

    name: str
    pattern: Mapping[str, Any]
    target: Id
    role: Id | None = None
    input: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule(Node):
    """A time to start a target: `expression` as EventBridge Scheduler has it, in `timezone`."""

    name: str
    expression: str
    timezone: str
    target: Id
    role: Id
    input: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Build(Node):
    """A CodeBuild project that runs `mlpack build`. `commands` in order."""

    name: str
    role: Id
    image: Value
    commands: tuple[str, ...]
    logs: Id
    compute: str = "BUILD_GENERAL1_MEDIUM"
    timeout_min: int = 120
