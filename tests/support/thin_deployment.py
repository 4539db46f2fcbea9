"""The smallest deployments by hand, for tests of numbers: a function behind an HTTP API, and a front door before workers."""

from __future__ import annotations

from typing import Any

from mlpack.deploy.graph.endpoints import HttpApi, Route, Throttle
from mlpack.deploy.graph.functions import Alias, Function, Version, Zip
from mlpack.deploy.graph.graph import Graph
from mlpack.deploy.graph.roles import Logs, Role
from mlpack.deploy.graph.stores import Queue
from mlpack.deploy.graph.tasks import Cluster, Container, Scaling, Task
from mlpack.deploy.graph.tasks import Service as TaskService
from mlpack.deploy.graph.values import Id, Joined, Node, Parameter, Ref
from mlpack.deploy.graph.watching import Metric
from mlpack.deploy.service import Service
from mlpack.deploy.watch.watched import watched


def nodes(service: Service, **changes: Any) -> tuple[Node, ...]:
    """A function behind an HTTP API. `changes`: fields of the function."""
    package = service.package
    code = Zip(bucket=Parameter("Bucket", "of packages"), key="fashion.zip", runtime=package.runtime, handler=package.handler)
    values: dict[str, Any] = {
        "memory_mb": package.memory_mb,
        "timeout_s": package.timeout_s,
        "reserved": max(service.burst, 30),
        "architecture": package.architecture,
    }
    throttle = Throttle(rate=service.deploy.traffic.peak_rps, burst=service.burst)
    ids = {"id": Id("Function"), "role": Id("FunctionRole"), "logs": Id("FunctionLogs")}
    made = Function(name=service.stack, code=code, **(ids | values | changes))
    return (
        Logs(id=Id("FunctionLogs"), name=f"/aws/lambda/{service.stack}", retention_days=30),
        Role(id=Id("FunctionRole"), service="lambda.amazonaws.com", grants=()),
        made,
        Version(id=Id("First"), function=Id("Function")),
        Alias(id=Id("Live"), function=Id("Function"), version=Id("First")),
        Logs(id=Id("ApiLogs"), name=f"/aws/apigateway/{service.stack}", retention_days=30),
        HttpApi(
            id=Id("Api"), name=service.stack, alias=Id("Live"), auth="iam", routes=(Route(method="ANY", path="/{proxy+}"),),
            throttle=throttle, timeout_ms=30_000, logs=Id("ApiLogs"),
        ),
    )  # fmt: skip


def pool(service: Service, **environment: str) -> tuple[Node, ...]:
    """Workers of a queue. `environment`: of the tasks."""
    worker = service.deploy.worker
    visible = Metric(
        namespace="AWS/SQS", name="ApproximateNumberOfMessagesVisible", dimensions=(("QueueName", f"{service.stack}-work"),),
        statistic="Maximum",
    )  # fmt: skip
    container = Container(name="worker", image=Parameter("Image", "of the worker"), environment=environment, stop_s=60)
    return (
        Queue(id=Id("Dead"), name=f"{service.stack}-dead", visibility_s=60, retention_s=1_209_600),
        Queue(id=Id("Work"), name=f"{service.stack}-work", visibility_s=120, retention_s=43_200, dead=Id("Dead")),
        Role(id=Id("TaskRole"), service="ecs-tasks.amazonaws.com", grants=()),
        Logs(id=Id("TaskLogs"), name=f"/ecs/{service.stack}", retention_days=30),
        Cluster(id=Id("Cluster"), name=service.stack, providers=("FARGATE", "FARGATE_SPOT")),
        Task(
            id=Id("Task"), family=f"{service.stack}-worker", cpu=1024, memory_mb=2048, architecture="x86_64", role=Id("TaskRole"),
            execution_role=Id("TaskRole"), container=container, logs=Id("TaskLogs"),
        ),
        TaskService(
            id=Id("Workers"), name=f"{service.stack}-workers", cluster=Id("Cluster"), task=Id("Task"), count=worker.least,
            subnets=Parameter("Subnets", "private"),
            strategy=(("FARGATE", 1, 0), ("FARGATE_SPOT", 0, 1)), security_group=Id("Group"),
        ),
        Scaling(
            id=Id("Scaling"), service=Id("Workers"), least=worker.least, most=worker.most, metric=visible, target=10.0,
            in_cooldown_s=300, out_cooldown_s=60,
        ),
    )  # fmt: skip


def group() -> Node:
    """The network of tasks."""
    from mlpack.deploy.graph.endpoints import SecurityGroup

    return SecurityGroup(id=Id("Group"), description="tasks", vpc=Parameter("Vpc", "the network"))


def door_graph(service: Service, **environment: str) -> Graph:
    """A front door before workers, watched."""
    told = {"MLPACK_QUEUE_URL": Ref(Id("Work"), "url"), "MLPACK_RESULTS": Joined(("s3://", "results", "/answers")), **environment}
    before = nodes(service, timeout_s=29, memory_mb=512, environment=told, reserved=400)
    return graph(service, (*before, *pool(service), group()))


def graph(service: Service, given: tuple[Node, ...] | None = None, **changes: Any) -> Graph:
    """The function behind an HTTP API, watched."""
    return Graph(
        name=service.stack,
        environment=service.environment,
        nodes=watched(service, nodes(service, **changes) if given is None else given),
        tags=service.tags,
    )
