"""Who moves a release's traffic: the controller behind its state machine, and the brake that can only clear. Pure.

Promises: the controller may do what its grants say, to one function; the brake may take weights away, and is called by the end of a
machine that did not end well and by the alarm of the endpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlpack.deploy import grants
from mlpack.deploy.design.parts import Program, letters, logs, named, own_zip, program
from mlpack.deploy.graph.functions import Permission
from mlpack.deploy.graph.machines import Machine, Rule
from mlpack.deploy.graph.roles import Grant, Role
from mlpack.deploy.graph.values import Context, Id, Joined, Node, Parameter, Ref, Value
from mlpack.deploy.graph.watching import CompositeAlarm
from mlpack.deploy.machines import rollout, triggers
from mlpack.deploy.service import Service

CONTROLLER, BRAKE, ROLLOUT = "Controller", "RolloutBrake", Id("Rollout")
HANDLER, BRAKE_HANDLER = "mlpack_control.handler.handler", "mlpack_control.brake.handler"
_TIMEOUT_S, _RESERVED = 60, 2
REGISTRY = Parameter("RegistryTable", "the name of the registry's table, where the trail of rollouts is kept", "mlpack")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a rollout moves: as the controller's document says it, and the rights of who moves it and of who may only clear it."""

    target: Mapping[str, Value]
    moves: tuple[Grant, ...]
    clears: tuple[Grant, ...]


def of_function(service: Service, function: Id) -> Moved:
    """An alias between two versions."""
    return Moved(
        target={"kind": "function", "function": service.stack, "alias": "live"},
        moves=grants.controller(grants.moves_function(Ref(function)), registry=grants.table(REGISTRY)),
        clears=grants.clears_function(Ref(function)),
    )


def of_tasks(target: Mapping[str, Value], moves: tuple[Grant, ...]) -> Moved:
    """Tasks or weights: the brake makes the same calls as the controller, since nothing less than them takes work away."""
    return Moved(target=target, moves=grants.controller(moves, registry=grants.table(REGISTRY)), clears=moves)


def control(service: Service, moved: Moved, topic: Id, sha256: str) -> tuple[Node, ...]:
    """The controller, its machine, the brake and the dead man's rule."""
    controller = Program(
        id=CONTROLLER,
        name="controller",
        code=own_zip("controller", sha256, HANDLER),
        timeout_s=_TIMEOUT_S,
        reserved=_RESERVED,
        grants=moved.moves,
    )
    brake = Program(
        id=BRAKE,
        name="brake",
        code=own_zip("controller", sha256, BRAKE_HANDLER),
        timeout_s=_TIMEOUT_S,
        reserved=_RESERVED,
        grants=moved.clears,
        environment={"MLPACK_ROLLOUT_TARGET": as_text(moved.target)},
        dead=Id("BrakeDead"),
    )
    definition = rollout.definition(Ref(controller.alias), Ref(topic), name=service.stack)
    return (
        letters(service, "BrakeDead", "brake-dead"),
        *program(service, controller),
        *program(service, brake),
        *machine(service, ROLLOUT, "rollout", definition, (*grants.invokes(Ref(controller.alias)), *publishes(topic))),
        triggers.dead_man("DeadMan", named(service, "dead-man"), ROLLOUT, brake.alias),
        Permission(id=Id("DeadManMay"), alias=brake.alias, service="events.amazonaws.com", source=Ref(Id("DeadMan"))),
    )


def as_text(told: Mapping[str, Any]) -> Value:
    """A flat object as JSON, with values in it that only the account will know."""
    parts: list[Value] = []
    for name, value in sorted(told.items()):
        parts.append(f"{', ' if parts else '{'}{json.dumps(name)}: ")
        parts += ['"', value, '"'] if isinstance(value, Ref | Parameter | Joined | Context) else [json.dumps(value, sort_keys=True)]
    parts.append("}")
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(parts) else Joined(tuple(parts))


def alarmed(service: Service, alarms: Sequence[CompositeAlarm]) -> tuple[Node, ...]:
    """The brake hears of the alarms that mean that callers suffer."""
    brake, heard = Id(f"{BRAKE}Live"), Id("BrakeAlarms")
    if not alarms:
        return ()
    pattern = {
        "source": ["aws.cloudwatch"],
        "detail-type": ["CloudWatch Alarm State Change"],
        "detail": {"alarmName": [alarm.name for alarm in alarms], "state": {"value": ["ALARM"]}},
    }
    return (
        Rule(id=heard, name=named(service, "brake-alarms"), pattern=pattern, target=brake),
        Permission(id=Id("BrakeAlarmsMay"), alias=brake, service="events.amazonaws.com", source=Ref(heard)),
    )


def publishes(topic: Id) -> tuple[Grant, ...]:
    """To tell people."""
    return (Grant(actions=("sns:Publish",), resources=(Ref(topic),), why="tells people of ends and questions"),)


def machine(service: Service, node: Id, name: str, definition: dict[str, object], rights: tuple[Grant, ...]) -> tuple[Node, ...]:
    """A state machine with its log and its role."""
    group = Id(f"{node}Logs")
    writes = Grant(actions=grants.LOG_DELIVERY, resources=grants.EVERYTHING, why="has its log delivered")
    return (
        logs(service, node, f"/aws/vendedlogs/states/{named(service, name)}"),
        Role(id=Id(f"{node}Role"), service="states.amazonaws.com", grants=(*rights, *grants.traces(), writes)),
        Machine(id=node, name=named(service, name), role=Id(f"{node}Role"), definition=definition, logs=group),
    )
