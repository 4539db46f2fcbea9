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
"""Told of bytes as they move."""


class ConflictError(ServiceError):
    """Somebody else wrote first. `key`: the row that was not as expected."""

    def __init__(self, message: str, key: Key) -> None:
        super().__init__(message, retryable=True)
        self.key = key


class DamagedError(ServiceError):
    """A row is not what mlpack writes: damaged, cut off or tampered with. `key`: which one."""

    def __init__(self, where: str, key: Key, why: object, remedy: str = "restore it from a backup") -> None:
        what = "policy" if key.partition == "policies" else "record"
        super().__init__(f"{where}: the {what} {key} is damaged: {why}; {remedy}")
        self.key = key


class ImageRefusedError(ServiceError):
    """A container registry does not do this, or not for us, however often it is asked."""


class RecordError(ServiceError):
    """What a record says of an image is no image: the record is damaged, and no container registry was asked."""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Where a row is."""

    partition: str
    sort: str

    def __str__(self) -> str:
        return shown(f"{self.partition}/{self.sort}", 200)


class DamagedHead(Mapping[str, Any]):
    """The head of a row that has none that could be read: whoever looks into it gets the DamagedError, and nobody a wrong value."""

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
    """A record. `head` is what lists show; `body` is the rest, empty when it was not asked for. `revision` grows from 1.

    A table gives every row that it finds, with a `DamagedHead` where that cannot be read: others are still there to be shown.
    """

    key: Key
    head: Mapping[str, Any]
    body: bytes = b""
    revision: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Write a row if it is at revision `expect` now; 0: if it is not there. It then has the next revision."""

    key: Key
    head: Mapping[str, Any]
    body: bytes = b""
    expect: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Remove a row if it is at revision `expect` now."""

    key: Key
    expect: int


class Table(Protocol):
    """Rows in partitions, sorted within. Reads see every commit that ended before they began."""

    heads_alone: bool
    """Whether reading rows without their bodies takes no longer than their heads are long."""

    def get(self, key: Key) -> Row | None:
        """One row with its body, in one read."""

    def query(
        self, partition: str, *, after: str = "", newest_first: bool = False, bodies: bool = False, limit: int | None = None
    ) -> Iterator[Row]:
        """Rows of a partition by sort key, beyond `after` in the direction asked for; read in pages while it is iterated.

        With `limit` at most so many, in one read when that is 1.
        """

    def commit(self, *writes: Put | Delete) -> None:
        """All of these or none, on different keys, at most 20. ConflictError names the first row that was not as expected.

        Whether a commit that failed in any other way (ServiceError) took effect is unknown: read again.
        """

    def close(self) -> None:
        """Let go of what is held open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlob:
    """A blob that is there. `modified`: seconds since the epoch, by the clock of where it is."""

    digest: Digest
    size_bytes: int
    modified: float


class Blobs(Protocol):
    """Bytes by their SHA-256."""

    def size(self, blob: Digest) -> int | None:
        """How many bytes it has, None when it is not there. Does not read them."""

    def put(self, blob: Digest, source: Path | bytes, moved: Moved = lambda _: None) -> bool:
        """Keep these bytes, unless they are there; whether they were sent. RecipeError when they have another digest."""

    def read(self, blob: Digest) -> bytes:
        """The bytes of a small one. ServiceError when they are missing or damaged."""

    def fetch(self, blob: Digest, path: Path, moved: Moved = lambda _: None) -> None:
        """Write the bytes to `path`, which then is whole or not there; what an earlier try left beside it is gone on with.

        ServiceError when they are missing or damaged.
        """

    def check(self, blob: Digest) -> str | None:
        """What is wrong with the bytes, read in full: None, or some words ("missing", "damaged: ...")."""

    def list(self) -> Iterator[StoredBlob]:
        """All of them, in the order of their digests."""

    def delete(self, blob: Digest) -> None:
        """Remove it; nothing happens when it is not there.

        Asked for once, for less than `leases.MARGIN_S`: who may delete looks at his lease before he asks again.
        """

    def uri(self, blob: Digest) -> str:
        """Where it is: an absolute path, or an s3:// URI that Lambda's create-function takes."""

    def presign(self, blob: Digest, seconds: int) -> str:
        """A URL for anybody, for so long. RecipeError where there is no such thing."""


class Images(Protocol):
    """The container registry that images are pushed to."""

    def push(self, layout: Path, name: str) -> str:
        """Push the OCI layout as the model `name`; `host/repository@sha256:...`."""

    def fetch(self, reference: str, layout: Path, layouts: Mapping[str, Digest]) -> None:
        """Write the blobs of a pushed image below `layout`: `layouts`, by path there, with their digests."""

    def check(self, reference: str) -> str | None:
        """What is wrong with a pushed image: None, or some words."""

    def delete(self, reference: str) -> None:
        """Remove a pushed image; nothing happens when it is not there. ImageRefusedError when that is not allowed there."""


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
    """A registry's two halves and its name. `now`: seconds since the epoch, for grace periods and histories.

    `doubts`: what these halves, asked now, turn out not to keep of what is promised above, a question each: in words, or None. Of
    halves that need not be asked there are none.
    """

    where: str
    table: Table
    blobs: Blobs
    now: Callable[[], float] = field(repr=False)
    doubts: tuple[Callable[[], Doubt | None], ...] = field(default=(), repr=False)


def read_row(where: str, key: Key, head: bytes | str | None, body: object, revision: object) -> Row:
    """A row of what a table holds of it; with a `DamagedHead` when that is not what mlpack writes."""
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
    """The same, at most so many at a time."""
    every = list(items)
    return (every[start : start + size] for start in range(0, len(every), size))
