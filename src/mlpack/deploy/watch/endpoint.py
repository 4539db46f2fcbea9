"""What is watched of a program that answers callers: errors and slow answers against the promises, cold starts, throttles, silence.

Promises: an alarm of requests looks at shares with a floor under their counts, so that one bad answer at night wakes nobody; where
there are no data, a brake stays green and a heartbeat turns red.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlpack.deploy.graph.functions import Function
from mlpack.deploy.graph.values import Id, Value
from mlpack.deploy.graph.watching import Alarm, CompositeAlarm, Expression
from mlpack.deploy.service import Service
from mlpack.deploy.watch.emitted import aws, own

BURNS = (("Fast", 14.4, 3600, 300), ("Slow", 6.0, 21_600, 1800))
"""Name, how many times faster than planned the budget of errors is used up, and the long and the short window in seconds. (Google,
"The Site Reliability Workbook", chapter 5: 2 % of a month's budget in an hour, 5 % in six.)"""
LATENCY_BUDGET = 0.05
"""Answers that may be slow: the promise is of the 95th percentile."""
FLOOR = 5
"""Bad answers in a window below which it is no alarm."""
QUIET = 100
"""Requests that a period of the heartbeat has in the mean: none of them at random is one in 10**43."""


@dataclass(frozen=True, slots=True)
class Program:
    """What answers callers: `name` is the service that its metrics have, `prefix` that of ids. `function`: None for tasks."""

    name: str
    prefix: str
    function: Function | None
    alias: str = "live"
    behind: bool = False
    """Whether a front door asks it: what callers see is watched there."""

    @property
    def dimensions(self) -> tuple[tuple[str, Value], ...]:
        """Of its alias, in AWS/Lambda."""
        assert self.function is not None
        return (("FunctionName", self.function.name), ("Resource", f"{self.function.name}:{self.alias}"))

    def errors(self, period_s: int) -> Expression:
        """The share of requests that failed: those that were answered with 500 and more, and those that ended the process."""
        answered = ("answered", own("errors", self.name, "Sum", period_s=period_s))
        if self.function is None:
            every = ("every", own("errors", self.name, "SampleCount", period_s=period_s))
            return _share("FILL(answered, 0)", "every", answered, every, label="errors")
        crashed = ("crashed", aws("AWS/Lambda", "Errors", self.dimensions, "Sum", period_s=period_s))
        every = ("every", aws("AWS/Lambda", "Invocations", self.dimensions, "Sum", period_s=period_s))
        return _share("(FILL(answered, 0) + FILL(crashed, 0))", "every", answered, crashed, every, label="errors")

    def share(self, name: str, period_s: int) -> Expression:
        """The share of requests that a count of the runtime is 1 for."""
        bad = ("bad", own(name, self.name, "Sum", period_s=period_s))
        return _share("bad", "every", bad, ("every", own(name, self.name, "SampleCount", period_s=period_s)), label=name)


def _share(bad: str, every: str, *metrics: tuple[str, object], label: str) -> Expression:
    return Expression(formula=f"IF({bad} >= {FLOOR}, {bad} / {every}, 0)", metrics=metrics, label=label)  # type: ignore[arg-type]


def alarms(service: Service, program: Program, topic: Value) -> Iterator[Alarm | CompositeAlarm]:
    """All alarms of a program that answers callers."""
    slo, prefix = service.deploy.slo, program.prefix
    if program.behind:
        yield from _behind(service, program, topic)
        return
    yield from burning("Errors", program, program.errors, slo.error_rate, topic)
    yield from burning("Latency", program, lambda period_s: program.share("slow", period_s), LATENCY_BUDGET, topic)
    brakes = [Id(f"{prefix}ErrorsFastShort"), Id(f"{prefix}LatencyFastShort")]
    if program.function is not None:
        yield Alarm(
            id=Id(f"{prefix}ColdStarts"), name=f"{program.name}-cold-starts", metric=program.share("cold_starts", 300),
            comparison=">",
            description=f"More than {100 * slo.cold_starts:g} % of requests meet a cold start: deploy.slo.cold_starts, deploy.warm",
            threshold=slo.cold_starts, periods=3, points=3, missing="notBreaching", actions=(topic,),
        )  # fmt: skip
        brakes.append(Id(f"{prefix}Throttles"))
        yield Alarm(
            id=brakes[-1], name=f"{program.name}-throttles", metric=aws("AWS/Lambda", "Throttles", program.dimensions, "Sum"),
            description="Lambda turns requests away: more come than deploy.traffic says", comparison=">=", threshold=1.0,
            periods=5, points=3, missing="notBreaching", actions=(topic,),
        )  # fmt: skip
        yield from _heartbeat(service, program, topic)
    yield CompositeAlarm(
        id=Id(f"{prefix}Brake"), name=f"{program.name}-brake", mode="any", alarms=tuple(brakes), actions=(topic,),
        description="Takes the weight from a release that is being rolled out, whoever is to blame",
    )  # fmt: skip


def burning(kind: str, program: Program, share: object, budget: float, topic: Value) -> Iterator[Alarm | CompositeAlarm]:
    """Four alarms and two over them: the budget is used up too fast, both lately and for some time."""
    for speed, times, long_s, short_s in BURNS:
        limit, ids = min(0.99, round(times * budget, 6)), []
        for window, period_s in (("Long", long_s), ("Short", short_s)):
            ids.append(Id(f"{program.prefix}{kind}{speed}{window}"))
            yield Alarm(
                id=ids[-1], name=f"{program.name}-{kind.lower()}-{speed.lower()}-{window.lower()}", comparison=">", threshold=limit,
                description=f"{kind} of {period_s // 60} minutes: more than {100 * limit:g} %, {times:g} times their budget",
                metric=share(period_s), periods=1, points=1, missing="notBreaching",  # type: ignore[operator]
            )  # fmt: skip
        yield CompositeAlarm(
            id=Id(f"{program.prefix}{kind}{speed}"), name=f"{program.name}-{kind.lower()}-{speed.lower()}", mode="all",
            alarms=tuple(ids),
            description=f"{kind} use up their budget {times:g} times too fast, lately and for {long_s // 3600} h", actions=(topic,),
        )  # fmt: skip


def _behind(service: Service, program: Program, topic: Value) -> Iterator[Alarm | CompositeAlarm]:
    """Of workers: their errors, which a rollout of them stops at."""
    errors, times = Id(f"{program.prefix}Errors"), BURNS[0][1]
    limit = min(0.99, round(times * service.deploy.slo.error_rate, 6))
    yield Alarm(
        id=errors, name=f"{program.name}-errors", metric=program.errors(300), comparison=">", threshold=limit, periods=1, points=1,
        description=f"More than {100 * limit:g} % of messages of 5 minutes fail", missing="notBreaching", actions=(topic,),
    )  # fmt: skip
    yield CompositeAlarm(
        id=Id(f"{program.prefix}Brake"), name=f"{program.name}-brake", mode="any", alarms=(errors,), actions=(topic,),
        description="Takes messages from workers of a release that is being rolled out",
    )  # fmt: skip


def slow_ms(service: Service, *, door: bool) -> float:
    """After how many milliseconds an answer is slow: the promise, and through a queue the wait as well where none is promised."""
    waits = door and service.deploy.slo.latency_p95_ms is None
    return service.slo_p95_ms + (1000 * service.deploy.worker.wait_s if waits else 0.0)


def _heartbeat(service: Service, program: Program, topic: Value) -> Iterator[Alarm]:
    rps = service.deploy.traffic.mean_rps
    period_s = next((one for one in (300, 900, 3600, 21_600) if one * rps >= QUIET), None)
    if period_s is None:
        return  # so few requests that silence says nothing
    yield Alarm(
        id=Id(f"{program.prefix}Silence"), name=f"{program.name}-silence", comparison="<", threshold=1.0, periods=2, points=2,
        description=f"Nobody has asked for {2 * period_s // 60} minutes; {period_s * rps:.0f} requests come in half of that",
        metric=aws("AWS/Lambda", "Invocations", program.dimensions, "Sum", period_s=period_s), missing="breaching",
        actions=(topic,),
    )  # fmt: skip
