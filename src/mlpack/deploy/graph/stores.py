"""Queues, buckets, tables and topics. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mlpack.deploy.graph.values import Id, Node, Ref, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue(Node):
    """Messages. Times in seconds. `dead`: the queue for those that were received `receives` times."""

    name: str
    visibility_s: int
    retention_s: int
    fifo: bool = False
    dead: Id | None = None
    receives: int = 5
    key: Value | None = None
    senders: tuple[tuple[str, Value], ...] = ()
    """(service, source) that may send without a role: events of a bucket, a rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(Node):
    """Messages of a queue to an alias."""

    queue: Id
    alias: Id
    batch: int
    window_s: int = 0
    most_at_once: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket(Node):
    """Objects. Public access is blocked, TLS required, encryption on, in all of them."""

    name: Value | None = None
    expire_days: int | None = None
    versioned: bool = False
    key: Value | None = None
    events: tuple[tuple[str, str, Ref], ...] = ()
    """(event, prefix, the queue or alias that hears of it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Node):
    """A DynamoDB table, paid by request. Keys are (name, S|N|B). `ttl`: the column that says when a row ends."""

    name: str
    hash_key: tuple[str, str]
    range_key: tuple[str, str] | None = None
    ttl: str | None = None
    key: Value | None = None
    recovery: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic(Node):
    """Where people and pagers hear of alarms and rollouts."""

    name: str
    key: Value | None = None
    services: tuple[str, ...] = ()
    """That may publish to it."""
