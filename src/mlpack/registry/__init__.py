"""The ground of a registry: a table of small rows and a store of blobs, each behind a protocol.

Promises, for every implementation:
- A commit happens whole or not at all, and is refused when another writer changed one of its rows meanwhile.
- A blob is named by its digest, is verified whenever it is copied, and is there whole or not at all.

Will not: say what a release, an alias or a history is. `releases`, `aliases` and `upkeep` say that, once, for every
implementation.

Rows of the table, by partition and sort key (numbers are padded with zeros so that they sort):

    names                      NAME                      a model that has at least one release
    name/NAME/releases         000000007                 a release: its head and its body, the whole record. Never changes
    name/NAME/heads            000000007                 a copy of that head without the body: lists read it
    name/NAME/digests          sha256:...                the version that has this content
    name/NAME/alias/ALIAS      000000042                 a move of the alias; the last move says where the alias points
    name/NAME/aliases          ALIAS                     an alias that has moved at least once
    policies                   NAME:ALIAS or *:ALIAS     the policy of an alias: what a release must fulfil
    publishing                 ID                        the digests that a publisher relies on until it has finished
    leases                     gc                        the collector that removes garbage now
    fences                     NAME                      counts the model's rollbacks and removals: each of them commits with it
    audit                      TIME ID                   what somebody did to the registry, and who
    settings                   schema | images           the format of the registry; where its images go
    probe                      row                       test rows for a table that is not Amazon's own: see `promises`
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mlpack.core.digest import Digest
from mlpack.errors import ServiceError
from mlpack.registry.fields import FieldError, Fields, parse, shown

T = TypeVar("T")

SCHEMA = 3
"""The format of the rows above. 1 was a directory's SQLite table of its own (before aliases), 2 had no `heads`: see `migration`."""

Moved = Callable[[int], None]
"""Called with the number of bytes that were copied."""


class ConflictError(ServiceError):
    """Another writer was first. `key` is the row that was not at the expected revision."""

    def __init__(self, message: str, key: Key) -> None:
        super().__init__(message, retryable=True)
        self.key = key


class DamagedError(ServiceError):
    """A row that mlpack has not written so: damaged, cut off or changed by others. `key` names it."""

    def __init__(self, where: str, key: Key, why: object, remedy: str = "restore it from a backup") -> None:
        what = "policy" if key.partition == "policies" else "record"
        super().__init__(f"{where}: the {what} {key} is damaged: {why}; {remedy}")
        self.key = key


class ImageRefusedError(ServiceError):
    """A container registry does not support a request, or does not allow it to us. A retry cannot help."""


class RecordError(ServiceError):
    """The reference of an image in a record is invalid: the record is damaged, and no container registry was asked."""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """The place of a row: its partition and its sort key."""

    partition: str
    sort: str

    def __str__(self) -> str:
        return shown(f"{self.partition}/{self.sort}", 200)


class DamagedHead(Mapping[str, Any]):
    """The head of a row that cannot be read. Every access raises the DamagedError, so nobody gets a wrong value."""

    def __init__(self, error: DamagedError) -> None:
        self.error = error

    def __getitem__(self, key: str) -> Any:
        raise self.error

    def __iter__(self) -> Iterator[str]:
        raise self.error

    def __len__(self) -> int:
        raise self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row. `head` is what lists show; `body` is the rest, empty unless it was requested. `revision` counts from 1.

    A table returns every row of a partition. A row that cannot be read has a `DamagedHead`, so that the others can still be
    shown.
    """

    key: Key
    head: Mapping[str, Any]
    body: bytes = b""
    revision: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Write a row if its revision is `expect` now (0: the row does not exist). It then has the next revision."""

    key: Key
    head: Mapping[str, Any]
    body: bytes = b""
    expect: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Remove a row if its revision is `expect` now."""

    key: Key
    expect: int


class Table(Protocol):
    """Rows in partitions, sorted within. A read sees every commit that ended before the read began."""

    heads_alone: bool
    """Whether reading rows without their bodies takes no longer than their heads are long."""

    def get(self, key: Key) -> Row | None:
        """One row with its body, in one read."""

    def query(
        self, partition: str, *, after: str = "", newest_first: bool = False, bodies: bool = False, limit: int | None = None
    ) -> Iterator[Row]:
        """The rows of a partition in the order of their sort keys, beyond `after` in that direction. They are read in pages during
        the iteration.

        With `limit` at most that many rows, in one read when it is 1.
        """

    def commit(self, *writes: Put | Delete) -> None:
        """Do all of these writes or none; they have different keys and are at most 20. ConflictError names the first row that was
        not at its expected revision.

        After any other failure (ServiceError) it is unknown whether the commit took effect: read again.
        """

    def close(self) -> None:
        """Close every connection and file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlob:
    """A blob that exists. `modified`: seconds since the epoch, by the clock of the store."""

    digest: Digest
    size_bytes: int
    modified: float


class Blobs(Protocol):
    """Blobs by their SHA-256."""

    def size(self, blob: Digest) -> int | None:
        """The size of the blob in bytes, None when it does not exist. It reads no content."""

    def put(self, blob: Digest, source: Path | bytes, moved: Moved = lambda _: None) -> bool:
        """Store these bytes unless they exist. Returns whether they were sent. RecipeError when they have another digest."""

    def read(self, blob: Digest) -> bytes:
        """The bytes of a small blob. ServiceError when they are missing or damaged."""

    def fetch(self, blob: Digest, path: Path, moved: Moved = lambda _: None) -> None:
        """Write the bytes to `path`, which is then whole, or does not exist. It resumes what an earlier attempt left beside it.

        ServiceError when they are missing or damaged.
        """

    def check(self, blob: Digest) -> str | None:
        """The fault of the blob, which is read in full: None, or words such as "missing" or "damaged: ..."."""

    def list(self) -> Iterator[StoredBlob]:
        """Every blob, in the order of the digests."""

    def delete(self, blob: Digest) -> None:
        """Remove the blob if it exists.

        One request, which takes less than `leases.MARGIN_S`: the caller checks its lease before it tries again.
        """

    def uri(self, blob: Digest) -> str:
        """The place of the blob: an absolute path, or an s3:// URI that Lambda's create-function accepts."""

    def presign(self, blob: Digest, seconds: int) -> str:
        """A URL of the blob that anybody can read for so many seconds. RecipeError where the store has no such URLs."""


class Images(Protocol):
    """The container registry that images are pushed to."""

    def push(self, layout: Path, name: str) -> str:
        """Push the OCI layout as the model `name`. Returns `host/repository@sha256:...`."""

    def fetch(self, reference: str, layout: Path, layouts: Mapping[str, Digest]) -> None:
        """Write the blobs of a pushed image below `layout`. `layouts` maps paths there to digests."""

    def check(self, reference: str) -> str | None:
        """The fault of a pushed image: None, or words."""

    def delete(self, reference: str) -> None:
        """Remove a pushed image if it exists. ImageRefusedError when the registry does not allow it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A promise of this module that a store does not keep.

    `half` is "bytes" or "rows"; `behaviour` says what the store did in the test; `consequence` says what may go wrong in use."""

    half: str
    where: str
    behaviour: str
    consequence: str

    def __str__(self) -> str:
        return f"{self.where}: this store does not keep what a registry needs: {self.behaviour}. {self.consequence}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The two halves of a registry (table and blobs) and its name. `now`: seconds since the epoch, for grace periods and histories.

    `doubts` are tests of promises that the halves may not keep. Each returns None, or a `Doubt`. Halves that need no test have
    none.
    """

    where: str
    table: Table
    blobs: Blobs
    now: Callable[[], float] = field(repr=False)
    doubts: tuple[Callable[[], Doubt | None], ...] = field(default=(), repr=False)


def read_row(where: str, key: Key, head: bytes | str | None, body: object, revision: object) -> Row:
    """The row that a table stores as this text; with a `DamagedHead` when mlpack has not written it so."""
    try:
        if not isinstance(revision, int) or not 0 < revision < 1 << 63:
            raise FieldError("its revision is no number")
        if head is None or body is None:
            raise FieldError("it is too large to be read")
        if not isinstance(body, (bytes, bytearray, memoryview)):
            raise FieldError("its body is not bytes")
        value = parse(head)
        Fields(value, "its head")
        return Row(key=key, head=value, body=bytes(body), revision=revision)
    except FieldError as error:
        damaged = DamagedHead(DamagedError(where, key, error))
        return Row(key=key, head=damaged, revision=revision if isinstance(revision, int) else 0)


def numbered(number: int) -> str:
    """A number as a sort key."""
    return f"{number:09d}"


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of at most `most`."""
    every = list(items)
    return (every[start : start + size] for start in range(0, len(every), size))
