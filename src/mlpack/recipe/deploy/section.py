"""What the recipe's section `deploy` says, as frozen records. `reading` makes them. Pure.

Promises:
- Every default of the section is a default here, and is written in the reference page.
- Shares are 0 to 1, times are in the unit of their name, money is in dollars.

Will not: know what a package can do. What does not fit it is refused by `mlpack.deploy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mlpack.recipe.deploy.times import Schedule, Window

EndpointKind = Literal["http-api", "rest", "alb", "url", "none"]
Doubt = Literal["hold", "roll-back", "advance"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Jwt:
    """Tokens of an issuer (an https URL) for one of these audiences."""

    issuer: str
    audience: tuple[str, ...]


Auth = Literal["iam", "key", "none"] | Jwt


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What is asked over HTTP. `auth`: None where the recipe says none. `public`: that anybody may ask was accepted."""

    kind: EndpointKind = "http-api"
    auth: Auth | None = None
    public: bool = False
    internal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests a second. `tenants`: by name. `burst`: requests at once; `account`: what the account may run at once."""

    peak_rps: float
    mean_rps: float
    burst: int | None = None
    tenants: Mapping[str, float] = field(default_factory=dict)
    account: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """What callers are promised. `latency_p95_ms`: None where the recipe says none. `hops_ms`: by the name of a hop."""

    latency_p95_ms: float | None = None
    error_rate: float = 0.01
    cold_starts: float = 0.05
    hops_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How a release gets its traffic: percents in `steps`, or a preset of CodeDeploy."""

    steps: tuple[int, ...] = (5, 25, 50, 100)
    bake_s: float = 600.0
    give_up_s: float = 7200.0
    on_doubt: Doubt = "hold"
    codedeploy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """Environments that are kept. `on`: what they belong to. `when`: only then."""

    provisioned: int = 0
    when: Window | None = None
    on: Literal["version", "alias"] = "version"
    snapstart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """The tasks behind a queue. `on`: None is as the package computes. `spot`: the share of tasks beyond the first."""

    least: int = 0
    most: int = 4
    wait_s: float = 10.0
    spot: float = 0.0
    on: Literal["fargate", "ec2"] | None = None
    instances: tuple[str, ...] = ("g6.xlarge", "g5.xlarge")
    receives: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Requests out of objects: a manifest by a schedule, or each new object. `tolerate`: the share that may fail."""

    source: str
    items: int = 500
    tolerate: float = 0.01
    at_once: int = 10
    schedule: Schedule | None = None
    """None: each new object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Rows that become features: each new object below `source` (s3://BUCKET/PREFIX), after `schema`."""

    source: str
    columns: Mapping[str, Literal["number", "string", "boolean"]]
    ttl_days: int = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrain:
    """When a model is made anew. `train`: the ARN of what trains. `fresh_data`: s3://BUCKET/PREFIX. `drift`: a PSI."""

    train: str
    fresh_data: str | None = None
    drift: float | None = None
    schedule: Schedule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that a month, and a thousand requests, may cost. None: no limit."""

    month_usd: float | None = None
    per_1k_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureTable:
    """The table of features. `key`: its key and the type of that. `create`: whether the stack makes it."""

    table: str
    key: str
    type: Literal["S", "N"] = "S"
    create: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What is kept of requests. `sample`: None is as the package says. `to`: where it goes."""

    sample: float | None = None
    to: str | None = None
    keep_days: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The section `deploy`."""

    traffic: Traffic
    endpoint: Endpoint = field(default_factory=Endpoint)
    slo: Slo = field(default_factory=Slo)
    rollout: Rollout = field(default_factory=Rollout)
    warm: Warm = field(default_factory=Warm)
    worker: Worker = field(default_factory=Worker)
    batch: Batch | None = None
    data: Data | None = None
    retrain: Retrain | None = None
    budget: Budget = field(default_factory=Budget)
    features: FeatureTable | None = None
    log: Log = field(default_factory=Log)
    notify: str | None = None
    """A mail address that hears of alarms and rollouts."""
