"""What topologies are put together from: a program with its role, log and alias, and the names of everything. Pure.

Promises: every program has a log that forgets, a role with its grants and nothing else, a reserved concurrency, and an alias
that all its callers go by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlpack.core import digest
from mlpack.deploy import grants
from mlpack.deploy.graph.functions import Alias, Function, Image, Version, Zip
from mlpack.deploy.graph.roles import Grant, Logs, Role
from mlpack.deploy.graph.stores import Queue
from mlpack.deploy.graph.values import Context, Id, Joined, Node, Parameter, Ref, Value
from mlpack.deploy.service import Service

LETTERS_S = 1_209_600
"""How long dead letters are kept: SQS's longest."""
SMALL_MB = 512
_BUCKET_LETTERS = 63 - 13
"""Beside a hyphen and the account's twelve digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A function before it has its role, log and alias. `name`: what is added to the stack's name, "" for the model's own."""

    id: str
    name: str
    code: Zip | Image
    timeout_s: int
    reserved: int
    memory_mb: int = SMALL_MB
    architecture: str = "x86_64"
    grants: tuple[Grant, ...] = ()
    environment: Mapping[str, Value] = field(default_factory=dict)
    ephemeral_mb: int = 512
    snapstart: bool = False
    dead: Id | None = None

    @property
    def alias(self) -> Id:
        """Where its callers go."""
        return Id(f"{self.id}Live")


def named(service: Service, name: str) -> str:
    """A resource's name: `fashion-prod-brake`."""
    return f"{service.stack}-{name}" if name else service.stack


def logs(service: Service, of: str, group: str) -> Logs:
    """A group of log lines of what has this id."""
    return Logs(id=Id(f"{of}Logs"), name=group, retention_days=kept_days(service.deploy.log.keep_days))


def kept_days(days: int) -> int:
    """The first number of days that CloudWatch Logs keeps lines for and that is not less."""
    kept = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
    return next((each for each in kept if each >= days), kept[-1])


def program(service: Service, of: Program) -> tuple[Node, ...]:
    """A function with its log, role, first version and alias."""
    name, group = named(service, of.name), Id(f"{of.id}Logs")
    letters = grants.dead_letters(Ref(of.dead)) if of.dead is not None else ()
    return (
        logs(service, of.id, f"/aws/lambda/{name}"),
        Role(
            id=Id(f"{of.id}Role"),
            service="lambda.amazonaws.com",
            grants=(*grants.logs(group), *grants.traces(), *letters, *of.grants),
        ),
        Function(
            id=Id(of.id),
            name=name,
            role=Id(f"{of.id}Role"),
            code=of.code,
            architecture="arm64" if of.architecture == "arm64" else "x86_64",
            memory_mb=of.memory_mb,
            timeout_s=of.timeout_s,
            logs=group,
            environment=dict(sorted(of.environment.items())),
            reserved=of.reserved,
            ephemeral_mb=of.ephemeral_mb,
            snapstart=of.snapstart,
            dead_letters=Ref(of.dead) if of.dead is not None else None,
        ),
        Version(id=Id(f"{of.id}First"), function=Id(of.id)),
        Alias(id=of.alias, function=Id(of.id), version=Id(f"{of.id}First")),
    )


def queues(service: Service, of: str, name: str, *, visibility_s: int, retention_s: int, **more: object) -> tuple[Queue, Queue]:
    """A queue, after the one for its dead letters."""
    dead = letters(service, f"{of}Dead", f"{name}-dead")
    receives = service.deploy.worker.receives
    queue = Queue(
        id=Id(of), name=named(service, name), visibility_s=visibility_s, retention_s=retention_s, dead=dead.id, receives=receives,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return dead, queue


def letters(service: Service, of: str, name: str) -> Queue:
    """A queue for what failed for good."""
    return Queue(id=Id(of), name=named(service, name), visibility_s=60, retention_s=LETTERS_S)


def own_zip(name: str, sha256: str, handler: str) -> Zip:
    """One of mlpack's own programs, which lies beside the files: where it is put is the environment's to say."""
    return Zip(
        bucket=Parameter("ProgramsBucket", "the bucket that controller.zip and jobs.zip are put into, of this region"),
        key=Parameter(f"{name.title()}Key", f"the key of {name}.zip in that bucket", f"mlpack/{name}-{sha256[:16]}.zip"),
        runtime="python3.13",
        handler=handler,
        sha256=sha256,
    )


def below(bucket: Id, prefix: str) -> Value:
    """`s3://BUCKET/PREFIX` of a bucket that is made."""
    return Joined(("s3://", Ref(bucket, "name"), f"/{prefix}"))


def bucket_name(service: Service, name: str) -> Value:
    """Of a bucket that is made: names of buckets are the world's, so the account stands in it. They have 63 small letters."""
    whole = named(service, name)
    own = whole.lower()
    if own != whole or len(own) > _BUCKET_LETTERS:
        own = f"{own[: _BUCKET_LETTERS - 9].rstrip('-')}-{digest.of_bytes(whole.encode()).hex[:8]}"
    return Joined((f"{own}-", Context("account")))
