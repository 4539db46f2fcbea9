"""What stands before a function or a container and is asked over HTTP. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlpack.deploy.graph.values import Id, Node, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """Requests a second that are let through, and how many at once."""

    rate: float
    burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Jwt:
    """Tokens of an issuer (an https URL) for one of these audiences."""

    issuer: str
    audience: tuple[str, ...]


Auth = Literal["iam", "key", "none"] | Jwt
"""Who may ask: signed requests, API keys, anybody, or the holders of a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A request's method and path (`POST /v2/models/{name}/infer`, `ANY /{proxy+}`). `OPTIONS` is open to anybody: a browser's
    preflight carries no credentials."""

    method: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpApi(Node):
    """API Gateway's HTTP API before an alias, with access logs."""

    name: str
    alias: Id
    auth: Auth
    routes: tuple[Route, ...]
    throttle: Throttle
    timeout_ms: int
    logs: Id
    cors: Mapping[str, Any] | None = None
    """`origins`, `methods`, `headers` (lists of texts) and `max_age_s`; also of a `FunctionUrl`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Who has a key, and how much it may ask."""

    name: str
    throttle: Throttle


@dataclass(frozen=True, slots=True, kw_only=True)
class RestApi(Node):
    """API Gateway's REST API before an alias: the one with keys and tenants."""

    name: str
    alias: Id
    auth: Auth
    throttle: Throttle
    timeout_ms: int
    logs: Id
    tenants: tuple[Tenant, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict)
    """The OpenAPI document without integrations."""
    preflights: bool = False
    """Whether browsers' preflights reach the package, without credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionUrl(Node):
    """A function's own address, of its alias."""

    alias: Id
    auth: Literal["iam", "none"]
    streaming: bool = False
    cors: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancer(Node):
    """An application load balancer, with its listener. Its network and certificate are the environment's parameters."""

    name: str
    subnets: Value
    vpc: Value
    certificate: Value
    internal: bool
    target: Id
    """The `TargetGroup` that gets everything; a rollout of a container changes weights between it and `other`."""
    other: Id | None = None
    security_group: Id | None = None
    idle_timeout_s: int = 60
    access_logs: Value | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetGroup(Node):
    """Where a load balancer sends requests: an alias, or the tasks of a service at a port."""

    alias: Id | None = None
    port: int | None = None
    vpc: Value | None = None
    health_path: str = "/v2/health/ready"
    drain_s: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityGroup(Node):
    """Who may reach a port: anybody (`0.0.0.0/0`), or members of another group."""

    description: str
    vpc: Value
    ingress: tuple[tuple[int, Value], ...] = ()
