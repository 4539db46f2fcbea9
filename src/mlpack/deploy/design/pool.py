"""Front door -> queue -> workers: on Fargate, or on machines with GPUs that come and go. Pure.

Promises: a message outlives no ticket and a ticket no result; workers come from none by a rule of their own, and are kept by how
much waits for each of them and for how long; a task on Spot has time to give its messages back.
"""

from __future__ import annotations

import math

from mlpack.deploy import grants
from mlpack.deploy.design import endpoints, flows, tasks
from mlpack.deploy.design.model import environment, rate
from mlpack.deploy.design.parts import Program, below, bucket_name, named, program, queues
from mlpack.deploy.graph.functions import Zip
from mlpack.deploy.graph.roles import Grant, Role
from mlpack.deploy.graph.stores import Bucket, Queue
from mlpack.deploy.graph.tasks import CapacityProvider, Cluster, Scaling
from mlpack.deploy.graph.values import Id, Node, Parameter, Ref, Value
from mlpack.deploy.graph.watching import Expression, Metric
from mlpack.deploy.limits import per_task
from mlpack.deploy.service import DOOR_HANDLER, Service
from mlpack.deploy.simulate.pool import BUSY, LEAST_CATCH_UP_S
from mlpack.deploy.watch.behind import task_dimensions

DOOR, WORK, RESULTS, MACHINES = "Door", Id("Work"), Id("Results"), Id("Machines")
RETENTION_S, TICKET_S, RESULT_DAYS = 43_200, 86_400, 7
_SYNC_S = 2.0
"""A longer wait than this is not waited for by the caller: he gets a ticket, and may say `Prefer: wait=10`."""
_TIMEOUT_S, _DEADLINE_MS = 28, 25_000
_SLOTS = 10


def is_waited_for(service: Service) -> bool:
    """Whether the front door waits for the answer."""
    return service.deploy.worker.wait_s <= _SYNC_S


def door_burst(service: Service) -> int:
    """Requests that the front door works on at once, and twenty; the recipe's where it says so."""
    seconds = service.deploy.worker.wait_s + service.p95_ms / 1000 if is_waited_for(service) else 0.1
    return service.deploy.traffic.burst or math.ceil(round(rate(service) * seconds, 6)) + 20


def pool(service: Service) -> tuple[Node, ...]:
    """All of it but who moves a release's traffic."""
    dead, work = queues(
        service, WORK, "work", visibility_s=_visibility_s(service), retention_s=RETENTION_S, senders=flows.work_senders(service)
    )
    return (
        dead,
        work,
        Bucket(id=RESULTS, name=bucket_name(service, "results"), expire_days=RESULT_DAYS),
        *program(service, _door(service)),
        *endpoints.endpoint(service, Id(f"{DOOR}Live"), burst=door_burst(service)),
        *_workers(service, work),
        *flows.to_workers(service, WORK),
    )


def _visibility_s(service: Service) -> int:
    return max(120, math.ceil(6 * (service.measured.batch_ms or service.p95_ms) / 1000))


def _door(service: Service) -> Program:
    package, worker = service.package, service.deploy.worker
    assert package.door is not None
    place, digest = package.places.get("door", ""), package.door.sha256
    bucket, _, key = place.removeprefix("s3://").partition("/") if place.startswith("s3://") else ("", "", "")
    code = Zip(
        bucket=Parameter("DoorBucket", "the bucket that frontdoor.zip lies in, of this region", bucket or None),
        key=Parameter("DoorKey", "the key of frontdoor.zip there", key or f"{service.name}/{digest}.zip"),
        runtime=package.door.runtime,
        handler=DOOR_HANDLER,
        sha256=digest,
    )
    waited = is_waited_for(service)
    deadline_ms = min(_DEADLINE_MS, math.ceil(1.5 * (1000 * worker.wait_s + service.p95_ms))) if waited else _DEADLINE_MS
    backlog = max(1, math.floor(worker.wait_s * worker.most * per_task(service)))
    return Program(
        id=DOOR,
        name="door",
        code=code,
        timeout_s=_TIMEOUT_S,
        reserved=max(door_burst(service), math.ceil(rate(service) / _SLOTS)),
        memory_mb=package.door.memory_mb,
        architecture=package.architecture,
        grants=grants.front_door(queue=Ref(WORK), results=Ref(RESULTS), prefix="answers"),
        environment={
            **environment(service),
            "MLPACK_QUEUE_URL": Ref(WORK, "url"),
            "MLPACK_RESULTS": below(RESULTS, "answers"),
            "MLPACK_MODE": "sync" if waited else "ticket",
            "MLPACK_DEADLINE_MS": str(deadline_ms),
            "MLPACK_TICKET_S": str(TICKET_S),
            "MLPACK_BACKLOG_LIMIT": str(backlog),
        },
    )


def kind(service: Service) -> tasks.Kind:
    """What the tasks of a worker are."""
    worker, on = service.deploy.worker, where(service)
    environment_: dict[str, Value] = {
        "MLPACK_QUEUE_URL": Ref(WORK, "url"),
        "MLPACK_DLQ_URL": Ref(Id(f"{WORK}Dead"), "url"),
        "MLPACK_RESULTS": below(RESULTS, "answers"),
        "MLPACK_VISIBILITY_S": str(_visibility_s(service)),
        "MLPACK_DRAIN_S": str(tasks.DRAIN_S),
        **({"MLPACK_SPOT": "1"} if on == "ec2" and worker.spot else {}),
    }
    rights = grants.worker(queue=Ref(WORK), dead=Ref(Id(f"{WORK}Dead")), results=Ref(RESULTS), prefix="answers")
    rights = (*rights, *flows.work_rights(service))
    return tasks.Kind(
        on=on, strategy=_strategy(service), count=worker.least, stop_s=tasks.STOP_S, environment=environment_, rights=rights
    )


def where(service: Service) -> str:
    """On what the tasks run."""
    return service.deploy.worker.on or ("ec2" if service.package.gpu else "fargate")


def _strategy(service: Service) -> tuple[tuple[str, int, int], ...]:
    if where(service) == "ec2":
        return ((MACHINES, 0, 1),)
    return tasks.on_fargate(service.deploy.worker.spot)


def _workers(service: Service, work: Queue) -> tuple[Node, ...]:
    on_machines = where(service) == "ec2"
    providers = (MACHINES,) if on_machines else tuple(name for name, _, _ in _strategy(service))
    cluster = Cluster(id=tasks.CLUSTER, name=service.stack, providers=providers)
    run = tasks.running(service, kind(service))
    return (
        cluster,
        *(_machines(service) if on_machines else ()),
        *run,
        _scaling(service, work, (cluster, *run)),
    )


def _machines(service: Service) -> tuple[Node, ...]:
    worker = service.deploy.worker
    instances = grants.arn("ecs", f"container-instance/{service.stack}/*")
    joins = (
        Grant(
            actions=("ecs:DeregisterContainerInstance", "ecs:RegisterContainerInstance", "ecs:SubmitAttachmentStateChanges",
                     "ecs:SubmitContainerStateChange", "ecs:SubmitTaskStateChange"),
            resources=(Ref(tasks.CLUSTER),), why="joins the cluster, and says how its tasks are",
        ),
        Grant(
            actions=("ecs:Poll", "ecs:StartTelemetrySession", "ecs:UpdateContainerInstancesState"), resources=(instances,),
            why="takes the cluster's tasks",
        ),
        Grant(actions=("ecs:DiscoverPollEndpoint",), resources=grants.EVERYTHING, why="finds where to ask for tasks"),
    )  # fmt: skip
    return (
        Role(id=Id("MachineRole"), service="ec2.amazonaws.com", grants=joins),
        CapacityProvider(
            id=MACHINES,
            name=named(service, "machines"),
            instance_types=worker.instances,
            image=Parameter("GpuImage", "an image of EC2 with ECS and NVIDIA's drivers: AWS names the newest by its parameter "
                            "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id", kind="ami"),
            subnets=endpoints.SUBNETS,
            security_group=tasks.NETWORK,
            role=Id("MachineRole"),
            least=worker.least,
            most=worker.most,
            spot_share=worker.spot,
        ),
    )  # fmt: skip


def _scaling(service: Service, queue_: Queue, nodes: tuple[Node, ...]) -> Scaling:
    """By the work for each task, what comes and what waits, and by how long the oldest has waited: the larger, and 1 is enough.

    Not by what waits alone: that is nothing wherever there are enough tasks, and a pool that follows it turns for ever.
    """
    worker, of = service.deploy.worker, tasks.service_of(nodes)
    each, catch_up_s = per_task(service), max(worker.wait_s / 2, LEAST_CATCH_UP_S)
    queue: tuple[tuple[str, Value], ...] = (("QueueName", queue_.name),)
    visible = Metric(namespace="AWS/SQS", name="ApproximateNumberOfMessagesVisible", dimensions=queue, statistic="Maximum")
    sent = Metric(namespace="AWS/SQS", name="NumberOfMessagesSent", dimensions=queue, statistic="Sum")
    age = Metric(namespace="AWS/SQS", name="ApproximateAgeOfOldestMessage", dimensions=queue, statistic="Maximum")
    running = Metric(
        namespace="ECS/ContainerInsights", name="RunningTaskCount", dimensions=task_dimensions(nodes, of), statistic="Average"
    )
    work = f"FILL(sent, 0) / {60 * each * BUSY:g} + visible / {each * catch_up_s:g}"
    formula = f"MAX([({work}) / IF(FILL(tasks, 0) < 1, 1, tasks), FILL(age, 0) / {worker.wait_s:g}])"
    metrics = (("sent", sent), ("visible", visible), ("tasks", running), ("age", age))
    return Scaling(
        id=Id("TaskScaling"),
        service=tasks.TASKS,
        least=worker.least,
        most=worker.most,
        metric=Expression(formula=formula, metrics=metrics, label="work for each task"),
        target=1.0,
        in_cooldown_s=max(600, math.ceil(2 * (service.measured.batch_ms or 0) / 1000)),
        out_cooldown_s=60,
        wake=visible if worker.least == 0 else None,
    )


def target(service: Service) -> dict[str, Value]:
    """What a rollout of workers moves."""
    return {"kind": "workers", "cluster": service.stack, "old": named(service, "tasks"), "new": named(service, "nexttasks")}
