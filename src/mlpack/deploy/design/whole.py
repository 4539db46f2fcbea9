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
from mlpack.deploy.design import control, endpoints, flows, hosts, model, pool, refusals, tasks, training
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.stores import Topic
from mlpack.deploy.graph.tasks import Task
from mlpack.deploy.graph.values import Id, Node, Ref, Value
from mlpack.deploy.graph.watching import CompositeAlarm
from mlpack.deploy.service import Service
from mlpack.deploy.watch.watched import PUBLISHERS, is_brake, watched

TOPIC = Id("AlarmTopic")


def design(service: Service, digests: Mapping[str, str] | None = None) -> Graph:
    """The graph of a service. `digests`: of mlpack's own programs by name, those of this installation where it is left out.
    PlacedError for what its package cannot do."""
    refusals.check(service)
    known = digests or {name: programs.sha256(name) for name in programs.PACKAGES}
    topic = Topic(id=TOPIC, name=f"{service.stack}-alarms", services=PUBLISHERS)
    nodes, moved = _topology(service), _moved(service)
    led = control.control(service, moved, TOPIC, known["controller"]) if service.deploy.rollout.codedeploy is None else ()
    of = training.jobs(service, known["jobs"])
    beside = flows.batch(service, TOPIC)
    if of is not None:
        beside = (*beside, *flows.rows(service, of), *training.training(service, TOPIC, of))
    seen = watched(service, (topic, *nodes, *beside, *led))
    alarms = [node for node in seen if isinstance(node, CompositeAlarm) and is_brake(node)] if led else []
    return Graph(
        name=service.name,
        environment=service.environment,
        nodes=(*seen, *_following(service, seen), *control.alarmed(service, alarms)),
        tags=dict(service.tags),
        outputs=_outputs(service, nodes, led=bool(led)),
    )


def target(service: Service) -> Mapping[str, Value]:
    """What a rollout of this service moves, as the controller's document says it."""
    return _moved(service).target


def _topology(service: Service) -> tuple[Node, ...]:
    kind = service.package.kind
    if kind == "container":
        return (*model.tables(service), *hosts.hosts(service))
    if kind == "worker":
        return (*model.tables(service), *pool.pool(service))
    return (*model.model(service), *endpoints.endpoint(service, model.LIVE))


def _moved(service: Service) -> control.Moved:
    if service.package.kind == "container":
        return control.of_tasks(hosts.target(), hosts.moves())
    if service.package.kind == "worker":
        return control.of_tasks(pool.target(service), tasks.moves())
    return control.of_function(service, Id(model.MODEL))


def _following(service: Service, seen: tuple[Node, ...]) -> tuple[Node, ...]:
    """The tasks of the next image. They have the metrics of the present ones, so they are not watched apart."""
    task = next((node for node in seen if isinstance(node, Task)), None)
    if task is None:
        return ()
    return tasks.following(service, hosts.kind(service) if service.package.kind == "container" else pool.kind(service), task)


def _outputs(service: Service, nodes: tuple[Node, ...], *, led: bool) -> dict[str, tuple[str, Value]]:
    outputs: dict[str, tuple[str, Value]] = {}
    if led:
        outputs["Rollout"] = ("the state machine of rollouts", Ref(control.ROLLOUT))
    if any(node.id == model.LIVE for node in nodes):
        outputs["Alias"] = ("what callers go by, and the rollout moves", Ref(model.LIVE))
    if (where := endpoints.address(service)) is not None:
        outputs["Address"] = ("where requests go", where)
    for name, value in target(service).items():
        if isinstance(value, Ref):
            outputs[f"Target{name.title()}"] = (f"`{name}` of the target of rollouts", value)
    return outputs
