"""From a service to the graph of everything that will exist: which topology it is, and what belongs to all of them. Pure.

    zip, image          function behind an HTTP API, a REST API, a load balancer, its own address, or nothing
    container           tasks of Fargate behind a load balancer
    worker              front door -> queue -> tasks on Fargate, or on machines with GPUs
    + batch             a schedule and a map over manifests, or a queue that hears of new objects
    + data              new rows -> features
    + retrain           fresh data, drift, a schedule -> training -> build -> rollout

Promises: the same service gives the same graph, node for node; what the package cannot do is refused first, with reason and key.
Will not: decide whether limits hold (`limits`) or what it costs (`bill`).
"""

from __future__ import annotations

from collections.abc import Mapping

from mlpack.deploy import programs
from mlpack.deploy.design import control, endpoints, model, refusals
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.stores import Topic
from mlpack.deploy.graph.values import Id, Node, Ref, Value
from mlpack.deploy.graph.watching import CompositeAlarm
from mlpack.deploy.service import Service
from mlpack.deploy.watch.watched import PUBLISHERS, watched

TOPIC = Id("AlarmTopic")


def design(service: Service, digests: Mapping[str, str] | None = None) -> Graph:
    """The graph of a service. `digests`: of mlpack's own programs by name, those of this installation where it is left out.
    PlacedError for what its package cannot do."""
    refusals.check(service)
    known = digests or {}
    nodes: list[Node] = [_topic(service)]
    outputs: dict[str, tuple[str, Value]] = {}
    nodes += _function(service, outputs, known.get("controller") or programs.sha256("controller"))
    if (where := endpoints.address(service)) is not None:
        outputs["Address"] = ("where requests go", where)
    seen = watched(service, nodes)
    if any(node.id == control.ROLLOUT for node in nodes):
        seen = (*seen, *control.alarmed(service, [node for node in seen if isinstance(node, CompositeAlarm)]))
    return Graph(
        name=service.name,
        environment=service.environment,
        nodes=seen,
        tags=dict(service.tags),
        outputs=outputs,
    )


def _topic(service: Service) -> Topic:
    return Topic(id=TOPIC, name=f"{service.stack}-alarms", services=PUBLISHERS)


def _function(service: Service, outputs: dict[str, tuple[str, Value]], controller: str) -> tuple[Node, ...]:
    outputs["Alias"] = ("what callers go by, and the rollout moves", Ref(model.LIVE))
    outputs["Rollout"] = ("the state machine of rollouts", Ref(control.ROLLOUT))
    return (
        *model.model(service),
        *endpoints.endpoint(service, model.LIVE),
        *control.control(service, Id(model.MODEL), model.LIVE, TOPIC, controller),
    )
