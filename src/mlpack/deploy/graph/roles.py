"""Who may do what, and where log lines go. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlpack.deploy.graph.values import Node, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The right to do `actions` (`sqs:SendMessage`) with `resources`. `condition` is IAM's; `why` is for readers."""

    actions: tuple[str, ...]
    resources: tuple[Value, ...]
    why: str
    condition: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role(Node):
    """Who may do what. `service`: who takes it, such as `lambda.amazonaws.com`."""

    service: str
    grants: tuple[Grant, ...]
    source: Value | None = None
    """The one resource on whose behalf it may be taken, where the service says so (`aws:SourceArn`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs(Node):
    """A group of log lines."""

    name: str
    retention_days: int
    key: Value | None = None
