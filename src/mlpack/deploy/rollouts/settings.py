"""What the controller of a deployment goes by: `rollout.json`. Pure, but for `read`.

Promises:
- A policy follows from the recipe's section alone; what is written is read back as it was.
- Cold starts are judged only where environments are kept warm: elsewhere few requests have many of them, however good a release is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mlpack.core.files import bounded
from mlpack.deploy.design import control, whole
from mlpack.deploy.graph.functions import Function
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.machines import Machine
from mlpack.deploy.graph.watching import CompositeAlarm
from mlpack.deploy.machines.rollout import MOST_S
from mlpack.deploy.service import Service
from mlpack.deploy.watch.watched import is_brake
from mlpack.errors import RecipeError
from mlpack.recipe.deploy.section import Rollout
from mlpack_control import Policy, PolicyError, Rule
from mlpack_control.counting import LATE_S
from mlpack_control.records import PACKAGE

FILE = "rollout.json"
SLOW = 0.05
"""A promise of the 95th percentile: so many answers may be slower."""
THROTTLED = 0.01
LOOKS = 2200
"""A state machine ends with its 25,000th event, and a look takes nine of them."""
_MOST_BYTES = 1 << 20
_DOUBT: Mapping[str, Literal["hold", "roll_back", "advance"]] = {"hold": "hold", "roll-back": "roll_back", "advance": "advance"}
"""As the recipe writes it, and as the controller does."""


def policy(service: Service) -> Policy | None:
    """The policy of a service; None where CodeDeploy shifts the traffic."""
    rollout, slo = service.deploy.rollout, service.deploy.slo
    if rollout.codedeploy is not None:
        return None
    worker = service.package.kind == "worker"
    rules = [_rule("errors", slo.error_rate, PACKAGE if worker else ""), _rule("slow", SLOW)]
    if service.package.kind.startswith("lambda"):
        rules.append(_rule("throttled", THROTTLED))
        if service.deploy.warm.provisioned:
            rules.append(_rule("cold", slo.cold_starts))
    return Policy(
        steps=rollout.steps,
        bake_s=(math.ceil(rollout.bake_s),) * (len(rollout.steps) - 1),
        give_up_s=math.ceil(rollout.give_up_s),
        on_doubt=_DOUBT[rollout.on_doubt],
        expire_s=(expire_s := expiry_s(rollout)),
        look_s=max(60, math.ceil(expire_s / LOOKS)),
        rules=tuple(rules),
        provisioned=service.deploy.warm.provisioned,
    )


def expiry_s(rollout: Rollout) -> int:
    """After which time a rollout without an end is rolled back: what its steps may take twice, while its machine still runs."""
    return min(MOST_S, max(86_400, 2 * math.ceil(max(rollout.give_up_s, rollout.bake_s)) * len(rollout.steps)))


def of_graph(service: Service, graph: Graph) -> dict[str, Any] | None:
    """The settings of a deployment; None where no state machine leads rollouts, or CodeDeploy does."""
    machine = next((node for node in graph.of(Machine) if node.id == control.ROLLOUT), None)
    if machine is None:
        return None
    alarms = [node.name for node in graph.of(CompositeAlarm) if is_brake(node)]
    target = whole.target(service)
    known = all(isinstance(value, str) for value in target.values())
    brake = next(node.name for node in graph.of(Function) if node.id == control.BRAKE)
    found = settings(service, target if known else None, machine=machine.name, alarms=alarms)
    return None if found is None else found | {"brake": brake}


def settings(service: Service, target: Mapping[str, Any] | None, *, machine: str, alarms: Sequence[str]) -> dict[str, Any] | None:
    """What `rollout.json` says; None where there is nothing to lead. `target`: what is moved (docs/decisions/0060), None where only
    the account knows it: the brake's environment says it there;
    `machine`, `alarms`: names of the state machine and of the alarms that stop a rollout."""
    led = policy(service)
    if led is None:
        return None
    late_s = LATE_S + (service.package.timeout_s if service.package.kind.startswith("lambda") else 0)
    counting = {"service": service.stack, "late_s": late_s, "alarms": list(alarms)}
    return {"target": None if target is None else dict(target), "counting": counting, "policy": led.json(), "machine": machine}


def read(directory: Path) -> dict[str, Any]:
    """The settings of a deployment's directory. RecipeError where it has none, or they are not in their form."""
    path = directory / FILE
    try:
        value = json.loads(bounded.read(path, _MOST_BYTES))
    except FileNotFoundError:
        again = "`mlpack deploy write` makes it, unless the recipe says rollout.codedeploy: CodeDeploy leads those"
        raise RecipeError(f"{directory}: has no {FILE}: {again}") from None
    except ValueError as error:
        raise RecipeError(f"{path}: not JSON: {error}") from error
    return checked(value, str(path))


def checked(value: Any, where: str) -> dict[str, Any]:
    """The same settings. RecipeError unless they are in their form."""
    if not isinstance(value, dict) or not isinstance(value.get("machine"), str):
        raise RecipeError(f"{where}: no settings of a rollout: `mlpack deploy write` makes them")
    target, brake = value.get("target"), value.get("brake")
    if not (isinstance(target, dict) and target) and not isinstance(brake, str):
        raise RecipeError(f"{where}: no settings of a rollout: `mlpack deploy write` makes them")
    try:
        led = Policy.of(value.get("policy"))
    except PolicyError as error:
        raise RecipeError(f"{where}: {error}") from error
    counting = value.get("counting")
    return {**value, "policy": led.json(), "counting": counting if isinstance(counting, dict) else {}}


def _rule(metric: str, limit: float, counted_by: str = "") -> Rule:
    """Half of the limit beside the other version's share."""
    return Rule(metric=metric, limit=limit, margin=limit / 2, counted_by=(counted_by,) if counted_by else ())
