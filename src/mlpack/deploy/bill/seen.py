"""The price of being seen: log lines, metrics, alarms, the dashboard, traces. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mlpack.deploy.bill.prices import PRICES
from mlpack.deploy.bill.records import Line
from mlpack.deploy.bill.use import ACCESS_BYTES, EVENT_BYTES, LINE_BYTES, PLATFORM_BYTES, Use
from mlpack.deploy.graph.endpoints import HttpApi, RestApi
from mlpack.deploy.graph.functions import Function
from mlpack.deploy.graph.roles import Logs
from mlpack.deploy.graph.watching import Alarm, CompositeAlarm, Dashboard, Expression
from mlpack.deploy.watch.emitted import count


def alarm(node: Alarm, _: Use) -> Iterator[Line]:
    """An alarm, by the metrics that it looks at."""
    metrics = len(node.metric.metrics) if isinstance(node.metric, Expression) else 1
    yield Line(
        component="observability", what=f"the alarm {node.name}", prices=("alarm",), how=f"{metrics} metrics",
        month_usd=metrics * PRICES["alarm"].usd,
    )  # fmt: skip


def composite(node: CompositeAlarm, _: Use) -> Iterator[Line]:
    """An alarm over alarms."""
    yield Line(
        component="observability", what=f"the alarm {node.name}", prices=("composite alarm",), how="one composite alarm",
        month_usd=PRICES["composite alarm"].usd,
    )  # fmt: skip


def dashboard(node: Dashboard, _: Use) -> Iterator[Line]:
    """A dashboard."""
    yield Line(
        component="observability", what=f"the dashboard {node.name}", prices=("dashboard",), how="one dashboard",
        month_usd=PRICES["dashboard"].usd,
    )  # fmt: skip


def lines(use: Use) -> Iterator[Line]:
    """What each request writes into logs, and the metrics in it."""
    retention = max([one.retention_days for one in use.graph.of(Logs)], default=30)
    for program in use.programs:
        platform = PLATFORM_BYTES + 3 * EVENT_BYTES if program in ("function", "door") else 0
        yield _logged(f"log lines of the {program}", LINE_BYTES[program] + EVENT_BYTES + platform, retention)
        around = use.around if program != "door" else ()
        metrics = count(program, around=around)
        yield Line(
            component="observability", what=f"metrics of the {program}", prices=("metric",), how=f"{metrics} metrics",
            month_usd=metrics * PRICES["metric"].usd,
        )  # fmt: skip
    if any(isinstance(node, HttpApi | RestApi) for node in use.graph.nodes):
        yield _logged("access log of the gateway", ACCESS_BYTES + EVENT_BYTES, retention)
    if (front := use.front) is not None and front.tracing:
        yield from _traced(front, use)


def _logged(what: str, size: int, retention_days: int) -> Line:
    gb = size * 1000 / 1e9
    return Line(
        component="logs", what=what, prices=("log ingestion", "log storage"),
        how=f"{size} bytes a request, kept for {retention_days} days",
        per_1k_usd=gb * (PRICES["log ingestion"].usd + retention_days / 30 * PRICES["log storage"].usd),
    )  # fmt: skip


def _traced(front: Function, use: Use) -> Iterator[Line]:
    if use.requests:
        yield Line(
            component="observability", what=f"traces of {front.name}", prices=("trace",),
            how=f"{100 * use.traces / use.requests:.3g} % of requests: the first of a second and a twentieth of the others",
            per_1k_usd=1000 * use.traces / use.requests * PRICES["trace"].usd,
        )  # fmt: skip
