"""How much of everything a deployment uses at the section's traffic: what prices are multiplied with. Pure.

Promises: every assumption is a constant here with its reason, and a line of the bill says it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlpack.deploy.bill.prices import SECONDS
from mlpack.deploy.graph.functions import Alias, Function
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.tasks import Task
from mlpack.deploy.graph.values import Id
from mlpack.deploy.limits import front, per_task
from mlpack.deploy.service import Service
from mlpack.deploy.watch.emitted import Program
from mlpack.targets.prices import UTILISATION

LINE_BYTES: dict[Program, int] = {"function": 900, "door": 870, "worker": 1060, "container": 940}
"""A request's line of the log, in UTF-8 with its end, as `tests_slow/test_deploy_metrics.py` measures it of booted packages."""
PLATFORM_BYTES = 440
"""Lambda's own START, END and REPORT of an invocation."""
ACCESS_BYTES = 330
"""A gateway's line of its access log."""
EVENT_BYTES = 26
"""What CloudWatch Logs counts for each line beside its text."""
ROLLOUTS = 4
"""Releases a month."""
LOOKS = 40
"""How often a rollout looks at its release."""
TRANSITIONS_PER_LOOK = 4
RESULT_READS = 3
"""How often a front door asks for a result until it is there."""
RETRAININGS = 4
"""Trainings a month that are begun by drift or fresh data."""
BUILD_MINUTES = 30
IDLE_S, LIFE_S = 600.0, 7200.0
"""For how long Lambda keeps an environment that nobody asks, and how old one becomes: what is seen, not what is promised."""
DOOR_MS = 200.0
"""What a front door needs beside its worker: to check, to send, and to look for the answer."""
TRACE_EACH_S, TRACE_SHARE = 1.0, 0.05
"""X-Ray's default rule: the first request of a second, and a twentieth of the others."""
POLLS_PER_S = {"worker": 0.4, "source": 0.25}
"""Requests a second to a queue that nothing is in: two pollers of 5 s in a worker, five of 20 s of Lambda's."""
CONNECTION_REQUESTS = 1.0
"""Requests for each connection to a load balancer: none is used twice, which is the dear case."""


@dataclass(frozen=True, slots=True)
class Use:
    """A service and its graph, at the mean of the traffic."""

    service: Service
    graph: Graph

    @property
    def rps(self) -> float:
        """Requests a second, in the mean of a month."""
        return self.service.deploy.traffic.mean_rps

    @property
    def requests(self) -> float:
        """Requests of a month."""
        return self.rps * SECONDS

    @property
    def front(self) -> Function | None:
        """The function that callers reach."""
        return front(self.graph)

    @property
    def program(self) -> Program:
        """What answers callers."""
        if self.front is not None:
            return "door" if self.service.package.kind == "worker" else "function"
        return "worker" if self.service.package.kind == "worker" else "container"

    @property
    def programs(self) -> tuple[Program, ...]:
        """All that write a line for each request."""
        return ("door", "worker") if self.program == "door" else (self.program,)

    @property
    def around(self) -> tuple[str, ...]:
        """What the package has around its model."""
        package = self.service.package
        return tuple(name for name in ("features", "cache", "log") if getattr(package, name) is not None)

    @property
    def answer_ms(self) -> float:
        """The median of a warm request, whole milliseconds as they are billed."""
        measured = self.service.measured
        own = measured.p50_ms or self.service.p95_ms
        return max(1, math.ceil(round(own + (DOOR_MS if self.program == "door" else 0.0), 6)))

    @property
    def cold_share(self) -> float:
        """Requests that meet a cold start, of a function whose environments come and go as above, with requests at random."""
        if not self.rps:
            return 1.0
        return min(1.0, math.exp(-IDLE_S * self.rps) + 1 / (LIFE_S * self.rps))

    @property
    def sample(self) -> float:
        """The share of requests in the log of predictions."""
        log = self.service.package.log
        if log is None:
            return 0.0
        given = self.service.deploy.log.sample
        return given if given is not None else float(log.get("sample", 1.0))

    @property
    def traces(self) -> float:
        """Of a month."""
        return SECONDS * (min(self.rps, 1 / TRACE_EACH_S) + TRACE_SHARE * max(0.0, self.rps - 1 / TRACE_EACH_S))

    def tasks(self, least: int, most: int) -> float:
        """Tasks that run in the mean: each is in use half of its time."""
        return min(float(most), max(float(least), self.rps / (per_task(self.service) * UTILISATION)))

    def of_alias(self, alias: Id) -> Function:
        """Its function."""
        node = self.graph[alias]
        assert isinstance(node, Alias)
        function = self.graph[node.function]
        assert isinstance(function, Function)
        return function

    def task(self, name: Id) -> Task:
        """A task's definition."""
        node = self.graph[name]
        assert isinstance(node, Task)
        return node
