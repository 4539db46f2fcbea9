"""What each program of mlpack's may do: its rights, derived from what it is given to work with. Pure.

Promises:
- A right names its resources. `WILDCARDS` lists the actions that AWS grants for everything or not at all, each with its reason.
- Rights are the calls that the programs make, no more and no fewer: `tests_slow/deploy/test_grants.py` records them.

Will not: know a topology. `design` says which program has which queue, table or bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlpack.deploy.graph.roles import Grant
from mlpack.deploy.graph.values import Context, Id, Joined, Ref, Value

LOG_DELIVERY = (
    "logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeLogGroups", "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery", "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
)  # fmt: skip
"""What a state machine does to have its log written."""

WILDCARDS: Mapping[str, str] = {
    "xray:PutTraceSegments": "X-Ray knows no resources for segments",
    "xray:PutTelemetryRecords": "X-Ray knows no resources for its own records",
    "ecr:GetAuthorizationToken": "a token is of a registry, which has no ARN",
    "cloudwatch:DescribeAlarms": "CloudWatch lists composite alarms only for the whole account",
    "cloudwatch:GetMetricData": "CloudWatch knows no resources for reading metrics",
    "ecs:DiscoverPollEndpoint": "ECS knows no resources for the question where it is",
    "elasticloadbalancing:DescribeListeners": "load balancers know no resources for reading",
    "elasticloadbalancing:DescribeTags": "load balancers know no resources for reading",
    "elasticloadbalancing:DescribeTargetHealth": "load balancers know no resources for reading",
    **dict.fromkeys(LOG_DELIVERY, "Step Functions asks for it, and CloudWatch Logs knows no resources for deliveries"),
}
"""Actions that are granted for `*`, and why."""

EVERYTHING: tuple[Value, ...] = ("*",)


def arn(service: str, *parts: Value) -> Value:
    """An ARN of this account and region."""
    return Joined(("arn:", Context("partition"), f":{service}:", Context("region"), ":", Context("account"), ":", *parts))


def table(name: Value) -> Value:
    """A table that is named, not made."""
    return arn("dynamodb", "table/", name)


def bucket(name: Value) -> Value:
    """A bucket that is named, not made."""
    return Joined(("arn:", Context("partition"), ":s3:::", name))


def below(bucket_arn: Value, prefix: str) -> Value:
    """All objects of a bucket below a prefix ("": all of them)."""
    return Joined((bucket_arn, f"/{prefix.strip('/')}/*" if prefix.strip("/") else "/*"))


def split(uri: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://BUCKET/PREFIX`."""
    name, _, prefix = uri.removeprefix("s3://").partition("/")
    return name, prefix.strip("/")


def _listing(bucket_arn: Value, prefix: str, why: str) -> Grant:
    pattern = f"{prefix.strip('/')}/*" if prefix.strip("/") else "*"
    return Grant(actions=("s3:ListBucket",), resources=(bucket_arn,), why=why, condition={"StringLike": {"s3:prefix": [pattern]}})


def logs(group: Id) -> tuple[Grant, ...]:
    """To write its own lines."""
    lines = Joined((Ref(group, "arn"), ":*"))
    return (Grant(actions=("logs:CreateLogStream", "logs:PutLogEvents"), resources=(lines,), why="writes its log lines"),)


def traces() -> tuple[Grant, ...]:
    """To send its part of a trace."""
    actions = ("xray:PutTelemetryRecords", "xray:PutTraceSegments")
    return (Grant(actions=actions, resources=EVERYTHING, why="sends traces to X-Ray"),)


def dead_letters(queue: Value) -> tuple[Grant, ...]:
    """To put away what a function failed at, as Lambda does in its name."""
    return (Grant(actions=("sqs:SendMessage",), resources=(queue,), why="puts failed events among the dead letters"),)


def source(queue: Value) -> tuple[Grant, ...]:
    """To be given the messages of a queue: Lambda asks for them in the function's name."""
    actions = ("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage")
    return (Grant(actions=actions, resources=(queue,), why="is given the queue's messages"),)


def around(
    *, features: Value | None = None, cache: Value | None = None, log: Value | None = None, weights: Value | None = None
) -> tuple[Grant, ...]:
    """What is around a model. `features`, `cache`: ARNs of tables. `log`: of objects below a prefix, or of a stream of Firehose.
    `weights`: of objects below a prefix."""
    grants = []
    if features is not None:
        grants.append(Grant(actions=("dynamodb:BatchGetItem",), resources=(features,), why="reads features of entities"))
    if cache is not None:
        actions = ("dynamodb:GetItem", "dynamodb:PutItem")
        grants.append(Grant(actions=actions, resources=(cache,), why="reads and keeps predictions"))
    if log is not None:
        stream = isinstance(log, Joined) and any(isinstance(part, str) and ":firehose:" in part for part in log.parts)
        action = "firehose:PutRecordBatch" if stream else "s3:PutObject"
        grants.append(Grant(actions=(action,), resources=(log,), why="logs a sample of predictions"))
    if weights is not None:
        grants.append(Grant(actions=("s3:GetObject",), resources=(weights,), why="fetches its weights"))
    return tuple(grants)


def worker(*, queue: Value, dead: Value, results: Value, prefix: str = "", payloads: Value | None = None) -> tuple[Grant, ...]:
    """What a worker does with its queue, told where its dead letters go (MLPACK_DLQ_URL). `results`: the bucket, with `prefix`, or
    the table. `payloads`: objects that messages may name; those of the results are among them anyway."""
    actions = ("sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage")
    return (
        Grant(actions=actions, resources=(queue,), why="takes, extends and ends messages"),
        Grant(actions=("sqs:SendMessage",), resources=(dead,), why="puts wrong requests among the dead letters"),
        *_results(results, prefix, "writes results once, and reads requests that were too large for a message")[:1],
        *((Grant(actions=("s3:GetObject",), resources=(payloads,), why="reads requests that messages name"),) if payloads else ()),
    )


def front_door(*, queue: Value, results: Value, prefix: str = "") -> tuple[Grant, ...]:
    """What a front door does: it sends, and looks for answers."""
    return (
        Grant(
            actions=("sqs:GetQueueAttributes", "sqs:SendMessage"),
            resources=(queue,),
            why="sends requests, and counts those that wait",
        ),
        *_results(results, prefix, "writes tickets and large requests, and reads results"),
    )


def _results(results: Value, prefix: str, why: str) -> tuple[Grant, ...]:
    if _is_table(results):
        return (Grant(actions=("dynamodb:GetItem", "dynamodb:PutItem"), resources=(results,), why=why),)
    return keeps(results, prefix, why)


def _is_table(results: Value) -> bool:
    if isinstance(results, Joined):
        return any(isinstance(part, str) and ":dynamodb:" in part for part in results.parts)
    return isinstance(results, Ref) and results.node.endswith("Table")


def moves_function(function: Value) -> tuple[Grant, ...]:
    """To publish versions of a function, to keep environments of them, and to move its aliases. `function`: its ARN."""
    versions = Joined((function, ":*"))
    kept = (
        "lambda:DeleteProvisionedConcurrencyConfig",
        "lambda:GetProvisionedConcurrencyConfig",
        "lambda:PutProvisionedConcurrencyConfig",
    )
    return (
        Grant(
            actions=("lambda:GetFunction", "lambda:GetFunctionConfiguration", "lambda:PublishVersion"),
            resources=(function, versions),
            why="publishes a version of exactly the release's code",
        ),
        *clears_function(function),
        Grant(actions=kept, resources=(versions,), why="keeps environments of both versions while it moves requests"),
    )  # fmt: skip


def clears_function(function: Value) -> tuple[Grant, ...]:
    """To read a function's alias and to write its weights."""
    return (
        Grant(
            actions=("lambda:GetAlias", "lambda:UpdateAlias"), resources=(function,), why="reads the alias and moves its weights"
        ),
    )


def controller(moves: tuple[Grant, ...], *, registry: Value | None = None) -> tuple[Grant, ...]:
    """What leads a rollout: `moves`, one of those above, and what it decides by. `registry`: the table of releases."""
    actions = ("cloudwatch:DescribeAlarms", "cloudwatch:GetMetricData")
    trail = Grant(
        actions=("dynamodb:GetItem", "dynamodb:PutItem"), resources=(registry or "",),
        why="keeps the trail, and moves the registry's alias at the end",
    )  # fmt: skip
    counts = Grant(actions=actions, resources=EVERYTHING, why="counts requests and failures of both versions, and looks at alarms")
    return (*moves, counts, *((trail,) if registry is not None else ()))


def reads(bucket_arn: Value, prefix: str, why: str) -> tuple[Grant, ...]:
    """To read objects below a prefix, and to list them."""
    return (
        Grant(actions=("s3:GetObject",), resources=(below(bucket_arn, prefix),), why=why),
        _listing(bucket_arn, prefix, "lists the objects that are there"),
    )


def batch(*, manifests: Value, prefix: str, results: Value, results_prefix: str) -> tuple[Grant, ...]:
    """What answers manifests does: it reads them and the objects beside them, and writes pieces of results that it also reads."""
    return (
        *reads(manifests, prefix, "reads manifests"),
        *keeps(results, results_prefix, "claims parts, writes results once, and sees what others have written"),
    )


def data_plane(*, rows: Value, prefix: str, features: Value) -> tuple[Grant, ...]:
    """What makes features of rows: it reads objects, and writes items that are newer."""
    return (
        Grant(actions=("s3:GetObject",), resources=(below(rows, prefix),), why="reads new rows"),
        Grant(actions=("dynamodb:UpdateItem",), resources=(features,), why="writes features of entities"),
    )


def drift(*, log: Value, prefix: str, kept: Value, kept_prefix: str) -> tuple[Grant, ...]:
    """What compares logged inputs with those that a version was first asked for. `kept`: the bucket of references and reports."""
    bus = arn("events", "event-bus/default")
    return (
        *reads(log, prefix, "reads logged inputs"),
        *keeps(kept, kept_prefix, "keeps a version's reference and each report"),
        Grant(actions=("events:PutEvents",), resources=(bus,), why="says that inputs have drifted"),
    )


def validation(*, data: Value, prefix: str, kept: Value, kept_prefix: str) -> tuple[Grant, ...]:
    """What looks at fresh data: it lists and reads them, and keeps what it saw."""
    return (*reads(data, prefix, "reads a sample of fresh data"), *keeps(kept, kept_prefix, "keeps what the last run was of"))


def keeps(bucket_arn: Value, prefix: str, why: str) -> tuple[Grant, ...]:
    """To read and write objects below a prefix, and to be told that one is not there."""
    objects = Grant(actions=("s3:GetObject", "s3:PutObject"), resources=(below(bucket_arn, prefix),), why=why)
    return (objects, _listing(bucket_arn, prefix, "is told that an object is not there, in the place of a refusal"))


def image(repository: Value, group: Id) -> tuple[Grant, ...]:
    """What ECS does to start a task: it pulls the image and opens the log."""
    actions = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
    return (
        Grant(actions=("ecr:GetAuthorizationToken",), resources=EVERYTHING, why="signs in to the registry of images"),
        Grant(actions=actions, resources=(repository,), why="pulls the image"),
        *logs(group),
    )


def invokes(*aliases: Value) -> tuple[Grant, ...]:
    """To invoke functions by their aliases."""
    return (Grant(actions=("lambda:InvokeFunction",), resources=aliases, why="invokes it"),)


def starts(machine: Value) -> tuple[Grant, ...]:
    """To start a state machine."""
    return (Grant(actions=("states:StartExecution",), resources=(machine,), why="starts it"),)


def wildcards(grants: tuple[Grant, ...]) -> dict[str, Any]:
    """Actions that are granted for everything and are not on the list: none, where all is well."""
    return {
        action: grant.why for grant in grants for action in grant.actions if "*" in grant.resources and action not in WILDCARDS
    } | {action: grant.why for grant in grants for action in grant.actions if "*" in action}
