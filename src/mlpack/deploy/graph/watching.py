"""Metrics, alarms, dashboards and budgets. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlpack.deploy.graph.values import Id, Node, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric of CloudWatch. `statistic`: Sum, Average, Maximum, SampleCount, p95, ..."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, Value], ...]
    statistic: str
    period_s: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """Metric math over metrics by name: `IF(tasks<1, visible, visible/tasks)`."""

    formula: str
    metrics: tuple[tuple[str, Metric], ...]
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm(Node):
    """Red where the metric is beyond the threshold in `points` of `periods`."""

    name: str
    description: str
    metric: Metric | Expression
    comparison: Literal[">", ">=", "<", "<="]
    threshold: float
    periods: int
    points: int
    missing: Literal["notBreaching", "breaching", "ignore", "missing"]
    actions: tuple[Value, ...] = ()
    low_samples: Literal["evaluate", "ignore"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeAlarm(Node):
    """Red by a rule over others: `any` of them, or `all`."""

    name: str
    description: str
    mode: Literal["any", "all"]
    alarms: tuple[Id, ...]
    actions: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A plot: lines, limits as (label, value), text in place of both."""

    title: str
    lines: tuple[tuple[str, Metric | Expression], ...] = ()
    limits: tuple[tuple[str, float], ...] = ()
    text: str = ""
    width: int = 8
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard(Node):
    """Panels in reading order."""

    name: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget(Node):
    """Dollars a month for what carries the service's tag, with a mail or topic at shares of it."""

    name: str
    month_usd: float
    service: str
    topic: Id
    at: tuple[float, ...] = (0.8, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly(Node):
    """Word of costs that are not as usual, for what carries the service's tag."""

    name: str
    service: str
    topic: Id
    from_usd: float
