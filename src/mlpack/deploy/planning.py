"""What a deployment would be, before anything is written: resources, limits, the bill, and the hours of a rollout. Pure.

Promises: everything follows from the service; a plan that does not fit says which key binds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mlpack.core.text import words
from mlpack.deploy.bill.records import Bill
from mlpack.deploy.bill.total import bill
from mlpack.deploy.design import design
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.limits import Limit, limits
from mlpack.deploy.rollouts import settings
from mlpack.deploy.service import Service
from mlpack.deploy.simulate.waiting import decision_times

COUNTED = ("Alarm", "CompositeAlarm", "Permission", "Role", "Logs", "Version", "Alias")
"""Kinds of which a count says enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStep:
    """A step of a rollout.

    Attributes:
        percent: Of the requests.
        rps: Requests a second that the new release gets, in the mean of the traffic.
        hours: Until the step can be decided, in the median of healthy releases; None: not in ten days.
        asks: Whether that is later than `rollout.give_up`, so that `rollout.on_doubt` says what happens.
    """

    percent: int
    rps: float
    hours: float | None
    asks: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentPlan:
    """What a deployment would be.

    Attributes:
        stack: The name of it and of what is in it.
        reference: The release or build.
        candidate: Whose package it is.
        environment: The tag `env`.
        resources: Names (or logical ids) of what will exist, by kind.
        limits: Every inequality that has to hold, with its margin and its key.
        bill: What it costs.
        steps: The rollout of a release; empty where CodeDeploy does it.
        over: What does not fit, in sentences that name the key to change; empty where all fits.
    """

    stack: str
    reference: str
    candidate: str
    environment: str
    resources: Mapping[str, tuple[str, ...]]
    limits: tuple[Limit, ...]
    bill: Bill
    steps: tuple[RolloutStep, ...]
    over: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether all limits hold, and the bill is within the budget."""
        return not self.over

    def text(self) -> str:
        """The plan in lines for people."""
        return text(self)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            "stack": self.stack,
            "reference": self.reference,
            "candidate": self.candidate,
            "environment": self.environment,
            "fits": self.fits,
            "over": list(self.over),
            "resources": {kind: list(names) for kind, names in self.resources.items()},
            "cost": {
                "requests_a_month": self.bill.requests,
                "month_usd": self.bill.month_usd,
                "fixed_usd": self.bill.fixed_usd,
                "per_1k_usd": self.bill.per_1k_usd,
                "components": {
                    name: {"month_usd": fixed, "per_1k_usd": each} for name, (fixed, each) in self.bill.components.items()
                },
                "lines": [asdict(line) for line in self.bill.lines],
                "left_out": list(self.bill.left_out),
            },
            "limits": [{**asdict(each), "holds": each.holds, "margin": each.margin} for each in self.limits],
            "rollout": [asdict(step) for step in self.steps],
        }


def plan(service: Service, graph: Graph | None = None) -> DeploymentPlan:
    """The plan of a service. PlacedError for what its package cannot do."""
    drawn = graph or design(service)
    held, cost = limits(service, drawn), bill(service, drawn)
    kinds: dict[str, list[str]] = {}
    for node in drawn.nodes:
        name = getattr(node, "name", None) or getattr(node, "family", None)
        kinds.setdefault(type(node).__name__, []).append(name if isinstance(name, str) else str(node.id))
    return DeploymentPlan(
        stack=service.stack,
        reference=service.release.reference,
        candidate=service.package.candidate,
        environment=service.environment,
        resources={kind: tuple(names) for kind, names in sorted(kinds.items())},
        limits=held,
        bill=cost,
        steps=steps(service),
        over=(*(str(each) for each in held if not each.holds), *cost.over(service.deploy.budget)),
    )


def steps(service: Service) -> tuple[RolloutStep, ...]:
    """The steps of a rollout before the last, each with the time until a healthy release can be told from a bad one."""
    policy = settings.policy(service)
    if policy is None:
        return ()
    rps = service.deploy.traffic.mean_rps
    return tuple(
        RolloutStep(
            percent=percent,
            rps=rps * percent / 100,
            hours=None if seconds is None else round(seconds / 3600, 4),
            asks=seconds is None or seconds > policy.give_up_s,
        )
        for percent, seconds in zip(policy.steps, decision_times(policy, rps), strict=False)
    )


def text(plan: DeploymentPlan) -> str:
    """All of it in lines."""
    return "\n".join(
        (
            f"{plan.reference} ({plan.candidate}) as {plan.stack}",
            *_resources(plan),
            *_cost(plan),
            *_limits(plan),
            *_rollout(plan),
            *_over(plan),
        )
    )


def _resources(plan: DeploymentPlan) -> Iterator[str]:
    yield "\nwhat will exist"
    width = max(len(kind) for kind in plan.resources)
    for kind, names in plan.resources.items():
        said = f"{len(names)}" if kind in COUNTED else ", ".join(names)
        yield f"  {kind.ljust(width)}  {said}"


def _cost(plan: DeploymentPlan) -> Iterator[str]:
    yield "\ncost                $ a month   $ per 1,000 requests"
    for name, (fixed, thousand) in plan.bill.components.items():
        yield f"  {name.ljust(16)}{fixed:11.2f}   {thousand:20.6f}"
    yield f"  {'together'.ljust(16)}{plan.bill.fixed_usd:11.2f}   {plan.bill.per_1k_usd:20.6f}"
    yield f"  {month(plan)}"


def month(plan: DeploymentPlan) -> str:
    """What a month comes to."""
    millions = plan.bill.requests / 1e6
    return f"{words.usd(plan.bill.month_usd)} a month at {millions:.3g} million requests"


def _limits(plan: DeploymentPlan) -> Iterator[str]:
    yield "\nlimits"
    for each in plan.limits:
        yield f"  {'ok ' if each.holds else 'NO '} {each}"


def _rollout(plan: DeploymentPlan) -> Iterator[str]:
    yield "\nrollout" if plan.steps else "\nrollout: all at once, or by CodeDeploy"
    for step in plan.steps:
        yield f"  {step.percent:3} %  {decided(step)}"


def decided(step: RolloutStep) -> str:
    """When a step can be decided."""
    at = f"{words.number(step.rps)} requests a second"
    if step.hours is None:
        return f"{at}: too few to decide within ten days; rollout.on_doubt says what happens"
    took = words.seconds(step.hours * 3600) if step.hours < 2 else f"{step.hours:.1f} h"
    return f"{at}: decided after {took}" + (", later than rollout.give_up: rollout.on_doubt says what happens" if step.asks else "")


def _over(plan: DeploymentPlan) -> Iterator[str]:
    if plan.over:
        yield "\ndoes not fit"
        yield from (f"  {sentence}" for sentence in plan.over)
