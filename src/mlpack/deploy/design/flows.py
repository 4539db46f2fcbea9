"""Work that nobody waits for: batches by a schedule or by new objects, and rows that become features. Pure.

    schedule -> machine -> map over a manifest -> function -> results          a function's package
    schedule -> a message that names the manifest -> queue -> workers          a worker's package
    new object -> rule -> queue -> function (or the workers) -> results
    new rows   -> rule -> queue -> jobs -> the table of features

Promises: what fails for good is among dead letters; a function takes no more messages than it has environments for.
Buckets that objects come to are the team's: they have to send their events to EventBridge.
"""

from __future__ import annotations

import math

from mlpack.deploy import grants
from mlpack.deploy.design.control import machine, publishes
from mlpack.deploy.design.model import around, code, environment, ephemeral_mb
from mlpack.deploy.design.parts import Program, below, bucket_name, named, program, queues
from mlpack.deploy.graph.machines import Rule, Schedule
from mlpack.deploy.graph.roles import Grant, Role
from mlpack.deploy.graph.stores import Bucket, Queue, Source
from mlpack.deploy.graph.values import Id, Node, Ref, Value
from mlpack.deploy.machines import batch as machines
from mlpack.deploy.service import Service

BATCHER, BATCH, RESULTS, INBOX, RULE = "Batcher", Id("Batch"), Id("BatchResults"), Id("Inbox"), Id("NewObjects")
PREFIX = "batch"
_LONGEST_S = 900
_KEPT_DAYS, _RETENTION_S = 30, 345_600
_MESSAGES = 10


def seconds(service: Service) -> float:
    """That a part of a batch takes, by the measured time of a request."""
    assert service.deploy.batch is not None
    return round(service.deploy.batch.items * (service.measured.p50_ms or service.p95_ms) / 1000, 3)


def batch(service: Service, topic: Id) -> tuple[Node, ...]:
    """The batch of a function's package, by its schedule or by new objects; nothing where there is none, or workers take it."""
    asked = service.deploy.batch
    if asked is None or service.package.kind == "worker":
        return ()
    bucket, prefix = grants.split(asked.source)
    timeout_s = min(_LONGEST_S, max(60, math.ceil(3 * seconds(service))))
    of = Program(
        id=BATCHER,
        name="batch",
        code=code(service),
        timeout_s=timeout_s,
        reserved=asked.at_once + 1,
        memory_mb=service.package.memory_mb,
        architecture=service.package.architecture,
        grants=(*around(service), *_rights(service, bucket, prefix)),
        environment={**environment(service), "MLPACK_RESULTS": below(RESULTS, PREFIX)},
        ephemeral_mb=ephemeral_mb(service),
    )
    results = Bucket(id=RESULTS, name=bucket_name(service, "batch"), expire_days=_KEPT_DAYS)
    ways = _scheduled(service, topic, of) if asked.schedule is not None else _by_object(service, of)
    return (results, *program(service, of), *ways)


def _rights(service: Service, bucket: str, prefix: str) -> tuple[Grant, ...]:
    assert service.deploy.batch is not None
    if service.deploy.batch.schedule is None:
        return (
            *grants.source(Ref(INBOX)),
            *grants.reads(grants.bucket(bucket), prefix, "reads requests"),
            *grants.keeps(Ref(RESULTS), PREFIX, "writes answers"),
        )
    folder = prefix.rpartition("/")[0]
    return grants.batch(manifests=grants.bucket(bucket), prefix=folder, results=Ref(RESULTS), results_prefix=PREFIX)


def _scheduled(service: Service, topic: Id, of: Program) -> tuple[Node, ...]:
    asked = service.deploy.batch
    assert asked is not None
    bucket, key = grants.split(asked.source)
    cut = machines.Items(
        form="csv" if key.endswith(".csv") else "jsonl",
        batch=asked.items,
        at_once=asked.at_once,
        tolerate=math.floor(100 * asked.tolerate),
        seconds=seconds(service),
        bucket=Ref(RESULTS, "name"),
        prefix=PREFIX,
    )
    definition = machines.items(Ref(of.alias), Ref(topic), cut, name=service.stack, timeout_s=of.timeout_s)
    name, folder = named(service, "batch"), grants.below(grants.bucket(bucket), key.rpartition("/")[0])
    rights = (
        *grants.invokes(Ref(of.alias)),
        *publishes(topic),
        Grant(
            actions=("s3:GetObject",),
            resources=(folder,),
            why="reads the manifest",
        ),
        *grants.keeps(Ref(RESULTS), PREFIX, "writes what the map's children answered"),
        *own_children(name),
    )
    starts = Role(id=Id("BatchClockRole"), service="scheduler.amazonaws.com", grants=grants.starts(Ref(BATCH)))
    return (*machine(service, BATCH, "batch", definition, rights), starts, _clock(service, BATCH, starts.id))


def own_children(name: str) -> tuple[Grant, ...]:
    """A distributed map's children are executions of its own machine."""
    itself, runs = grants.arn("states", f"stateMachine:{name}"), grants.arn("states", f"execution:{name}/*")
    return (
        Grant(actions=("states:StartExecution",), resources=(itself,), why="starts the children of its map"),
        Grant(actions=("states:DescribeExecution", "states:StopExecution"), resources=(runs,), why="looks after them"),
    )


def _clock(service: Service, target: Id, role: Id) -> Schedule:
    asked = service.deploy.batch
    assert asked is not None
    assert asked.schedule is not None
    bucket, key = grants.split(asked.source)
    order = {"manifest": asked.source, "bucket": bucket, "key": key}
    return Schedule(
        id=Id("BatchClock"),
        name=named(service, "batch"),
        expression=asked.schedule.expression,
        timezone=asked.schedule.timezone,
        target=target,
        role=role,
        input=order if target == BATCH else {"batch": {"manifest": asked.source}},
    )


def _by_object(service: Service, of: Program) -> tuple[Node, ...]:
    asked = service.deploy.batch
    assert asked is not None
    senders: tuple[tuple[str, Value], ...] = (("events.amazonaws.com", Ref(RULE)),)
    inbox = queues(service, INBOX, "inbox", visibility_s=6 * of.timeout_s, retention_s=_RETENTION_S, senders=senders)
    source = Source(
        id=Id("InboxToBatcher"), queue=INBOX, alias=of.alias, batch=min(_MESSAGES, asked.items), most_at_once=max(2, asked.at_once)
    )
    return (rule(service, RULE, "new-objects", asked.source, INBOX), *inbox, source)


def rule(service: Service, node: Id, name: str, place: str, target: Id) -> Rule:
    """New objects below a place, as they are, to a target."""
    bucket, prefix = grants.split(place)
    detail: dict[str, object] = {"bucket": {"name": [bucket]}}
    if prefix:
        detail["object"] = {"key": [{"prefix": f"{prefix}/"}]}
    pattern = {"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": detail}
    return Rule(id=node, name=named(service, name), pattern=pattern, target=target)


def to_workers(service: Service, work: Id) -> tuple[Node, ...]:
    """The batch of a worker's package: a message into the queue that its tasks read."""
    asked = service.deploy.batch
    if asked is None:
        return ()
    if asked.schedule is None:
        return (rule(service, RULE, "new-objects", asked.source, work),)
    sends = Grant(actions=("sqs:SendMessage",), resources=(Ref(work),), why="sends the manifest's address to the workers")
    role = Role(id=Id("BatchClockRole"), service="scheduler.amazonaws.com", grants=(sends,))
    return (role, _clock(service, work, role.id))


def work_senders(service: Service) -> tuple[tuple[str, Value], ...]:
    """Who sends to the workers' queue without a role."""
    asked = service.deploy.batch
    return (("events.amazonaws.com", Ref(RULE)),) if asked is not None and asked.schedule is None else ()


def work_rights(service: Service) -> tuple[Grant, ...]:
    """What workers need for a batch: to read what its messages name."""
    asked = service.deploy.batch
    if asked is None:
        return ()
    bucket, prefix = grants.split(asked.source)
    folder = prefix if asked.schedule is None else prefix.rpartition("/")[0]
    return grants.reads(grants.bucket(bucket), folder, "reads requests of a batch")


ROWS = Id("Rows")


def rows(service: Service, jobs: Program) -> tuple[Node, ...]:
    """New rows to the program that makes features of them."""
    data = service.deploy.data
    if data is None:
        return ()
    fresh = Id("NewRows")
    senders: tuple[tuple[str, Value], ...] = (("events.amazonaws.com", Ref(fresh)),)
    made: tuple[Queue, Queue] = queues(
        service, ROWS, "rows", visibility_s=6 * jobs.timeout_s, retention_s=_RETENTION_S, senders=senders
    )
    source = Source(id=Id("RowsToJobs"), queue=ROWS, alias=jobs.alias, batch=1, most_at_once=max(2, jobs.reserved - 2))
    return (rule(service, fresh, "new-rows", data.source, ROWS), *made, source)
