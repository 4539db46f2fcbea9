"""Tests whether bucket and table keep the guarantees that a registry rests on. See `mlpack.store.conditional`.

    PREFIX/blobs/!conditional-writes     a small object
    probe                                a partition with one row, written anew for each test

Promises:
- `registry create` and `verify` run every test; a writer runs once per process the tests of what it is about to rely on.
- Amazon's own services are not tested, since their documentation guarantees it. Roles therefore need no further rights there.
- The tests touch nothing else in the registry.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import ClientError

from mlpack.errors import ServiceError
from mlpack.registry import ConflictError, Delete, Doubt, Key, Put, Row
from mlpack.registry.aws.refusals import AwsCall, explained
from mlpack.registry.rows import rows
from mlpack.store import conditional

if TYPE_CHECKING:
    from mlpack.registry.aws.clients import Address, Clients

ROW = Key(rows.PROBE, "row")
_TRIES = 5
_NO_TRANSACTIONS = "it does not know transactions (TransactWriteItems)"
_STALE = "what was written before is not seen by a consistent read"
_NO_SUCH_OPERATION = ("UnknownOperationException", "UnknownOperation", "NotImplemented", "InvalidAction", "501")

REMEDY = 'Use another store, or a newer version of it: docs/registry.md, "Stores other than AWS", says which were tried'
_BYTES_LOST = (
    "What is written once could be overwritten unseen: whoever publishes may replace the bytes of a release that others deploy."
)
_ROWS_LOST = (
    "Two publishers would give the same version twice, two moves of an alias would overwrite each other in its history, and a "
    "collection could remove what is being published, each of them told that all went well."
)


class Rows(Protocol):
    """The operations of a table that the tests use."""

    def get(self, key: Key) -> Row | None:
        """See `Table.get`."""

    def query(self, partition: str) -> Iterator[Row]:
        """See `Table.query`."""

    def write(self, *writes: Put | Delete) -> None:
        """See `Table.commit`."""


class PromiseCheck:
    """A test of one guarantee of a store, run before its first use in this process. Threads may share it."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()

    def sure(self, client: Any, ask: Callable[[], Doubt | None]) -> None:
        """Raise ServiceError when the store does not keep the guarantee, or cannot be tested."""
        if conditional.is_open(client, self._what):
            with self._lock:
                if conditional.is_open(client, self._what):
                    refuse(ask())
                    conditional.remember(str(client.meta.endpoint_url), self._what)


def elsewhere(clients: Clients, service: str, ask: Callable[[], Doubt | None]) -> Callable[[], Doubt | None]:
    """The same test, except for Amazon's own service, which gets none."""
    return lambda: None if conditional.is_amazons(clients.get(service)) else ask()


def refuse_any(asks: Iterable[Callable[[], Doubt | None]]) -> None:
    """Run these tests; ServiceError for the first guarantee that is not kept or cannot be tested."""
    for ask in asks:
        refuse(ask())


def refuse(doubt: Doubt | None) -> None:
    """Raise ServiceError for a guarantee that a store does not keep."""
    if doubt is not None:
        raise ServiceError(f"{doubt} {REMEDY}")


def of_bucket(clients: Clients, address: Address, *, parts: bool = True) -> Doubt | None:
    """The guarantee that the bucket does not keep, or None; `parts`: also test uploads in parts. ServiceError when it cannot be
    tested."""
    client, bucket = clients.get("s3"), address.bucket
    key = f"{address.prefix}/blobs/{conditional.NAME}".lstrip("/")
    arn = f"arn:{clients.partition}:s3:::{bucket}"
    grants = (("s3:PutObject", f"{arn}/{key}"), ("s3:GetObject", f"{arn}/{key}"), ("s3:ListBucket", arn))
    with explained(AwsCall(where=str(address), action="s3:PutObject", resource=f"{arn}/{key}", grants=grants)):
        behaviour = conditional.of_objects(client, bucket, key)
        if not behaviour and parts:
            behaviour = conditional.of_parts(client, bucket, key)
    where = f"{address}: the bucket at {client.meta.endpoint_url}"
    return Doubt(half="bytes", where=where, behaviour=behaviour, consequence=_BYTES_LOST) if behaviour else None


def of_table(clients: Clients, address: Address, table: Rows) -> Doubt | None:
    """The guarantee that the table does not keep, or None. ServiceError when it cannot be tested."""
    behaviour = _rows_behaviour(table)
    where = f"{address}: the table at {clients.get('dynamodb').meta.endpoint_url}"
    consequence = "No release could be recorded." if behaviour == _NO_TRANSACTIONS else _ROWS_LOST
    return Doubt(half="rows", where=where, behaviour=behaviour, consequence=consequence) if behaviour else None


def _rows_behaviour(table: Rows) -> str:
    """Write a row of the test's own and then writes that must be refused. Returns the first wrong answer in words."""
    for _ in range(_TRIES):
        row, mine, other = table.get(ROW), secrets.token_hex(16), Key(rows.PROBE, secrets.token_hex(16))
        before = _revision(row)
        try:
            table.write(Put(key=ROW, head={"by": mine}, expect=before))
        except ConflictError:
            if _revision(table.get(ROW)) <= before:
                return _STALE
            continue  # another process runs the test at this moment
        for statement, what, write in (
            ("a row that is there is written on the condition that it is not", "put", Put(key=ROW, head={}, expect=0)),
            ("a row is written on the condition of a revision that it does not have", "put", Put(key=ROW, head={}, expect=1 << 40)),
            ("a row is removed on the condition of a revision that it does not have", "delete", Delete(key=ROW, expect=1 << 40)),
        ):
            if not _is_refused(table, write):
                return f"its conditions do not hold: {statement} ({what})"
        try:
            if not _is_refused(table, Put(key=other, head={}), Put(key=ROW, head={}, expect=1 << 40)):
                return "the conditions of its transactions do not hold"
        except ServiceError as error:
            if not _is_unknown(error):
                raise
            return _NO_TRANSACTIONS
        finally:
            half = table.get(other) is not None
            if half:
                with suppress(ServiceError):
                    table.write(Delete(key=other, expect=1))
        if half:
            return "a transaction that it refused was done by half"
        rows_read, listed = table.get(ROW), [row_read.key for row_read in table.query(ROW.partition)]
        if rows_read is None or rows_read.revision <= before or ROW not in listed:
            return _STALE
        if rows_read.revision == before + 1 and dict(rows_read.head) != {"by": mine}:
            return "a write that it refused was done all the same"
        return ""
    raise ServiceError("other processes test this table at the same moment, again and again: try again", retryable=True)


def _revision(row: Row | None) -> int:
    return row.revision if row else 0


def _is_refused(table: Rows, *writes: Put | Delete) -> bool:
    try:
        table.write(*writes)
    except ConflictError:
        return True
    return False


def _is_unknown(error: ServiceError) -> bool:
    cause = error.__cause__
    return isinstance(cause, ClientError) and str(_of(cause.response, "Error").get("Code")) in _NO_SUCH_OPERATION


def _of(answer: Any, name: str) -> dict[str, Any]:
    return dict(answer.get(name) or {})
