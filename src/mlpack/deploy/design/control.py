"""Who moves a release's traffic: the controller behind its state machine, and the brake that can only clear. Pure.

Promises: the controller may do what its grants say, to one function; the brake may take weights away, and is called by the end of a
machine that did not end well and by the alarm of the endpoint.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from mlpack.deploy import grants
from mlpack.deploy.design.parts import Program, letters, logs, named, own_zip, program
from mlpack.deploy.graph.functions import Permission
from mlpack.deploy.graph.machines import Machine, Rule
from mlpack.deploy.graph.roles import Grant, Role
from mlpack.deploy.graph.values import Id, Node, Parameter, Ref, Value
from mlpack.deploy.graph.watching import CompositeAlarm
from mlpack.deploy.machines import rollout, triggers
from mlpack.deploy.service import Service

CONTROLLER, BRAKE, ROLLOUT = "Controller", "RolloutBrake", Id("Rollout")
HANDLER, BRAKE_HANDLER = "mlpack_control.handler.handler", "mlpack_control.brake.handler"
_TIMEOUT_S, _RESERVED = 60, 2
REGISTRY = Parameter("RegistryTable", "the name of the registry's table, where the trail of rollouts is kept", "mlpack")


def target(service: Service) -> dict[str, str]:
    """What a rollout moves, as the controller's document says it."""
    return {"kind": "function", "function": service.stack, "alias": "live"}


def control(service: Service, function: Id, alias: Id, topic: Id, sha256: str) -> tuple[Node, ...]:
    """The controller, its machine, the brake and the dead man's rule."""
    moved, zipped = Ref(function), own_zip("controller", sha256, HANDLER)
    controller = Program(
        id=CONTROLLER,
        name="controller",
        code=zipped,
        timeout_s=_TIMEOUT_S,
        reserved=_RESERVED,
        grants=grants.controller(function=moved, alias=Ref(alias), registry=grants.table(REGISTRY)),
    )
    brake = Program(
        id=BRAKE,
        name="brake",
        code=own_zip("controller", sha256, BRAKE_HANDLER),
        timeout_s=_TIMEOUT_S,
        reserved=_RESERVED,
        grants=grants.brake(function=moved, alias=Ref(alias)),
        environment={"MLPACK_ROLLOUT_TARGET": json.dumps(target(service), sort_keys=True)},
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
    everything: tuple[Value, ...] = ("*",)
    delivery = (
        "logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeLogGroups", "logs:DescribeResourcePolicies",
        "logs:GetLogDelivery", "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
    )  # fmt: skip
    writes = Grant(actions=delivery, resources=everything, why="has its log delivered")
    return (
        logs(service, node, f"/aws/vendedlogs/states/{named(service, name)}"),
        Role(id=Id(f"{node}Role"), service="states.amazonaws.com", grants=(*rights, *grants.traces(), writes)),
        Machine(id=node, name=named(service, name), role=Id(f"{node}Role"), definition=definition, logs=group),
    )
