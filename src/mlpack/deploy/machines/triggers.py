"""What starts machines, and what ends one that died, as nodes of the graph. Pure.

    schedule      a time                                                EventBridge Scheduler
    fresh data    an object below a place, or one that ends a set       an S3 event by EventBridge (the bucket has to send them)
    drift         the drift job's word                                  an event of our own, `DRIFT`
    dead man      the rollout's machine failed, timed out, was stopped  the brake, which can only clear weights

Promises: each names one machine or alias as its target, with the least pattern that fits.
Will not: grant; the role is the caller's.
"""

from __future__ import annotations

from typing import Any

from mlpack.deploy.graph.machines import Rule, Schedule
from mlpack.deploy.graph.values import Id, Ref
from mlpack.errors import RecipeError

SOURCE = "mlpack"
DRIFT = "drift"
"""Of events, their detail-type."""
ENDS = ("FAILED", "TIMED_OUT", "ABORTED")


def schedule(node: str, name: str, expression: str, target: Id, role: Id, told: dict[str, Any] | None = None) -> Schedule:
    """Start `target` by a cron(...) or rate(...) expression in UTC. `told` is its input."""
    return Schedule(
        id=Id(node),
        name=name,
        expression=expression,
        timezone="UTC",
        target=target,
        role=role,
        input={"reason": "schedule"} if told is None else told,
    )


def fresh_data(node: str, name: str, place: str, target: Id, role: Id) -> Rule:
    """`place`: s3://bucket/prefix/ for any object below it, s3://bucket/prefix/_SUCCESS for the one that ends a set.
    Raises RecipeError."""
    scheme, _, rest = place.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise RecipeError(f"deploy.retrain.when: fresh_data is {place[:200]!r}: s3://bucket/prefix/ or s3://bucket/key is needed")
    asked: dict[str, Any] = {"bucket": {"name": [bucket]}}
    if key:
        asked["object"] = {"key": [{"prefix": key} if key.endswith("/") else key]}
    return Rule(
        id=Id(node),
        name=name,
        pattern={"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": asked},
        target=target,
        role=role,
        input={"reason": "fresh data"},
    )


def drift(node: str, name: str, service: str, target: Id, role: Id) -> Rule:
    """The drift job's event about this service."""
    return Rule(
        id=Id(node),
        name=name,
        pattern={"source": [SOURCE], "detail-type": [DRIFT], "detail": {"service": [service]}},
        target=target,
        role=role,
        input={"reason": "drift"},
    )


def dead_man(node: str, name: str, machine: Id, brake: Id) -> Rule:
    """`brake` (an alias) hears of each execution of `machine` that did not end well, with the event as its input."""
    return Rule(
        id=Id(node),
        name=name,
        pattern={
            "source": ["aws.states"],
            "detail-type": ["Step Functions Execution Status Change"],
            "detail": {"stateMachineArn": [Ref(machine)], "status": list(ENDS)},
        },
        target=brake,
    )
