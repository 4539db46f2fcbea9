"""The price of the ways to a package and of what it keeps: gateways, queues, tables, buckets, machines. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mlpack.deploy.bill.prices import HOURS, PRICES, SECONDS
from mlpack.deploy.bill.records import Line
from mlpack.deploy.bill.use import (
    BUILD_MINUTES,
    CONNECTION_REQUESTS,
    LOOKS,
    POLLS_PER_S,
    RESULT_READS,
    RETRAININGS,
    ROLLOUTS,
    TRANSITIONS_PER_LOOK,
    Use,
)
from mlpack.deploy.graph.endpoints import HttpApi, LoadBalancer, RestApi
from mlpack.deploy.graph.machines import Build, Machine, Schedule
from mlpack.deploy.graph.stores import Queue, Source
from mlpack.deploy.graph.tasks import Scaling, Service, Task


def gateway(node: HttpApi | RestApi, _: Use) -> Iterator[Line]:
    """A gateway, by the request."""
    name = "HTTP API" if isinstance(node, HttpApi) else "REST API"
    yield Line(
        component="gateway", what=f"requests to the {name}", prices=(name,), how="one for each of up to 512 KB",
        per_1k_usd=1000 * PRICES[name].usd,
    )  # fmt: skip


def balancer(node: LoadBalancer, _: Use) -> Iterator[Line]:
    """A load balancer: by the hour, and by new connections, which is what small requests have most of."""
    addresses = 0 if node.internal else 2
    yield Line(
        component="gateway", what=f"the load balancer {node.name}", how=f"{HOURS:g} hours, {addresses} public addresses",
        prices=("load balancer", "address"),
        month_usd=HOURS * (PRICES["load balancer"].usd + addresses * PRICES["address"].usd),
    )  # fmt: skip
    connections = 1000 / CONNECTION_REQUESTS
    yield Line(
        component="gateway", what=f"connections to {node.name}", prices=("LCU",),
        how="25 new ones a second are an LCU; a connection for each request",
        per_1k_usd=connections / (25 * 3600) * PRICES["LCU"].usd,
    )  # fmt: skip


def queue(node: Queue, use: Use) -> Iterator[Line]:
    """A queue that requests go through; dead letters are free as long as there are none."""
    if node.dead is None:
        return
    name = "SQS FIFO" if node.fifo else "SQS"
    yield Line(
        component="coordination", what=f"messages of {node.name}", prices=(name,), how="sent, received and deleted one by one",
        per_1k_usd=3000 * PRICES[name].usd,
    )  # fmt: skip
    least = sum(one.least for one in use.graph.of(Scaling)) or sum(one.count for one in use.graph.of(Service))
    if any(one.queue == node.id for one in use.graph.of(Source)):
        polls, who = POLLS_PER_S["source"], "Lambda asks"
    else:
        polls, who = POLLS_PER_S["worker"] * least, f"{least} tasks ask"
    if polls:
        yield Line(
            component="coordination", what=f"questions to {node.name}", prices=(name,), how=f"{who} {polls:g} times a second",
            month_usd=polls * SECONDS * PRICES[name].usd,
        )  # fmt: skip


def machine(node: Machine, use: Use) -> Iterator[Line]:
    """A state machine by its transitions; an express one by its runs."""
    states = len(node.definition.get("States") or {})
    if node.express:
        yield Line(
            component="coordination", what=f"runs of {node.name}", prices=("express request",), how="one for each request",
            per_1k_usd=1000 * PRICES["express request"].usd,
        )  # fmt: skip
    elif batch_of(node):
        items = use.service.deploy.batch.items if use.service.deploy.batch is not None else 1
        yield Line(
            component="coordination", what=f"parts of {node.name}", prices=("transition",),
            how=f"3 transitions for {items} requests",
            per_1k_usd=3 * 1000 / items * PRICES["transition"].usd,
        )  # fmt: skip
    else:
        looks = node.name.endswith("rollout")
        runs = ROLLOUTS if looks else RETRAININGS
        each = LOOKS * TRANSITIONS_PER_LOOK if looks else 2 * states
        yield Line(
            component="coordination", what=f"runs of {node.name}", prices=("transition",),
            how=f"{runs} a month of {each} transitions",
            month_usd=runs * each * PRICES["transition"].usd,
        )  # fmt: skip


def batch_of(node: Machine) -> bool:
    """Whether a machine maps over items."""
    return any(isinstance(state, dict) and state.get("Type") == "Map" for state in (node.definition.get("States") or {}).values())


def schedule(node: Schedule, _: Use) -> Iterator[Line]:
    """Starts by the clock: one an hour at the most is less than a cent."""
    yield Line(
        component="coordination", what=f"starts of {node.name}", prices=("scheduler",), how="one an hour at the most",
        month_usd=HOURS * PRICES["scheduler"].usd,
    )  # fmt: skip


def build(node: Build, _: Use) -> Iterator[Line]:
    """Builds of new models."""
    yield Line(
        component="coordination", what=f"builds by {node.name}", prices=("build",),
        how=f"{RETRAININGS} a month of {BUILD_MINUTES} minutes",
        month_usd=RETRAININGS * BUILD_MINUTES * PRICES["build"].usd,
    )  # fmt: skip


def kept(use: Use) -> Iterator[Line]:
    """What the package asks of tables and buckets for each request, and what it lies in itself."""
    package = use.service.package
    if package.kind != "lambda-zip":
        gb = package.compressed_bytes / 1e9
        yield Line(
            component="storage", what="the image", prices=("ECR",), how=f"{gb:.3g} GB, this release and the one before",
            month_usd=2 * gb * PRICES["ECR"].usd,
        )  # fmt: skip
    if package.weight_bytes:
        yield Line(
            component="storage", what="weights outside the package", prices=("S3 storage",),
            how=f"{package.weight_bytes / 1e9:.3g} GB",
            month_usd=2 * package.weight_bytes / 1e9 * PRICES["S3 storage"].usd,
        )  # fmt: skip
    read, write = PRICES["DynamoDB read"].usd, PRICES["DynamoDB write"].usd
    if package.features is not None:
        yield Line(
            component="storage", what="features", prices=("DynamoDB read",),
            how="an item of up to 4 KB for each request, eventually consistent",
            per_1k_usd=500 * read,
        )  # fmt: skip
    if package.cache is not None and package.cache.get("table"):
        yield Line(
            component="storage", what="the cache of predictions", prices=("DynamoDB read", "DynamoDB write"),
            how="a read of each request and a write of 1 KB: nothing is found in it", per_1k_usd=500 * read + 1000 * write,
        )  # fmt: skip
    if use.sample:
        yield from _sampled(use)
    if package.kind == "worker":
        yield from _results(use)


def _sampled(use: Use) -> Iterator[Line]:
    package = use.service.package
    to = use.service.deploy.log.to or str((package.log or {}).get("to", "s3://"))
    if to.startswith("firehose://"):
        yield Line(
            component="storage", what="the log of predictions", prices=("Firehose",),
            how=f"{100 * use.sample:g} % of requests, 5 KB each",
            per_1k_usd=1000 * use.sample * 5000 / 1e9 * PRICES["Firehose"].usd,
        )  # fmt: skip
        return
    yield Line(
        component="storage", what="the log of predictions", prices=("S3 write", "S3 storage"),
        how=f"{100 * use.sample:g} % of requests, an object of 1 KB each, kept for {use.service.deploy.log.keep_days} days",
        per_1k_usd=1000 * use.sample
        * (PRICES["S3 write"].usd + 1000 / 1e9 * use.service.deploy.log.keep_days / 30 * PRICES["S3 storage"].usd),
    )  # fmt: skip


def _results(use: Use) -> Iterator[Line]:
    told = [task.container.environment for task in use.graph.of(Task)]
    in_table = any("dynamodb://" in repr(environment.get("MLPACK_RESULTS")) for environment in told)
    ticket = use.front is not None and use.front.environment.get("MLPACK_MODE") == "ticket"
    names = ("DynamoDB read", "DynamoDB write") if in_table else ("S3 read", "S3 write")
    yield Line(
        component="storage", what="results of the workers", prices=names,
        how=f"a result{' and a ticket' if ticket else ''} is written once and asked for {RESULT_READS} times",
        per_1k_usd=1000 * (RESULT_READS * PRICES[names[0]].usd + (2 if ticket else 1) * PRICES[names[1]].usd),
    )  # fmt: skip
