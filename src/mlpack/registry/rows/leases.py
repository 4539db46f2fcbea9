"""Intents, leases and fences: how a process that relies on blobs and the collector that removes them notice each other.

A process that is about to refer to something writes an intent and then looks for the lease. A collector takes the lease and
then reads the intents. As in Dekker's algorithm at least one of the two sees the other: the process then waits, or the
collector keeps what the intent names.

Promises:
- There is one collector at a time. Nobody waits longer than `LEASE_S` for a collector that died.
- A living collector is not overlooked because clocks differ: its lease has ended when its row has not changed for `LEASE_S` by
  the clock of the process that watches it, or when the time in it is past by more than `SKEW_S`.
- A collector stops `MARGIN_S` before others may think that it died, so that a running delete has that long to end.
- A rollback waits for nobody. It commits together with the model's fence, and so does each removal of rows, each at the
  revision of the fence that it read before it looked at releases or aliases. Of two that overlap one is refused and looks
  again.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from mlpack.core.digest import Digest
from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import ConflictError, Delete, Key, Place, Put, Row
from mlpack.registry.records import Release
from mlpack.registry.rows import marks, rows

INTENT_S = 24 * 3600.0
"""How long the intent of a killed publisher protects what it named."""
LEASE_S = 100.0
"""Shorter than the time that publishers wait: a killed collector makes none of them fail."""
SKEW_S = 15 * 60.0
"""AWS refuses requests of clocks that are off by more than this."""
MARGIN_S = 45.0
"""Longer than any one request takes."""
YOUNG_S = 1800.0
"""A promotion of a release younger than this needs no intent: no collection removes one that is less than twice as old."""
_RENEW_S = 80.0
_PATIENCE_S = LEASE_S + 20
_TRIES = 3


# --- relying on what is there -----------------------------------------------------------------------------------------


@contextmanager
def intent(place: Place, needed: Iterable[Digest]) -> Iterator[Row]:
    """A context in which these blobs, and images with these digests, are not collected. The transaction that refers to them deletes
    the yielded row; otherwise `done` does. ServiceError when a collection takes too long."""
    key = Key(rows.PUBLISHING, secrets.token_hex(16))
    row = Row(key=key, head={"until": place.now() + INTENT_S, "digests": sorted(map(str, needed))})
    try:
        # The name is unique, so a conflict means that an answer was lost.
        with suppress(ConflictError):
            place.table.commit(Put(key=key, head=row.head))
        _await_collection(place)
        yield row
    except BaseException:
        # The intent is not needed any more. If it cannot be removed, it expires.
        with suppress(ServiceError):
            done(place, row)
        raise


def done(place: Place, row: Row) -> None:
    """Delete an intent that is not needed any more, if it exists."""
    with suppress(ConflictError):
        place.table.commit(Delete(key=row.key, expect=1))


@contextmanager
def protected(place: Place, release: Release) -> Iterator[None]:
    """A context in which no collection removes this release, for a caller that is about to refer to it. RecipeError when it is
    gone."""
    if place.now() - rows.seconds(release.created) < YOUNG_S:
        yield
        return
    with intent(place, rows.relied_on(release)) as row:
        if place.table.get(rows.release_key(release.name, release.version)) is None:
            raise RecipeError(f"{release.name}@{release.version} was collected; publish it again, or choose another release")
        yield
        with suppress(ServiceError):  # the work is done, and the intent expires
            done(place, row)


def fence(place: Place, name: str) -> Put:
    """A write that succeeds only if none of this model's aliases is rolled back and none of its releases removed until then.

    Call it first, then read; then commit the write together with what follows from the read.
    """
    row = place.table.get(rows.fence_key(name))
    return Put(key=rows.fence_key(name), head={}, expect=row.revision if row else 0)


def _await_collection(place: Place) -> None:
    begun = time.monotonic()
    ended = _watch(place)
    for attempt in range(1_000_000):
        row = place.table.get(rows.LEASE)
        if row is None or ended(row):
            return
        if time.monotonic() - begun > _PATIENCE_S:
            raise _busy(place, row)
        time.sleep(min(0.1 * 2 ** min(attempt, 4), 1.0))


def _watch(place: Place) -> Callable[[Row], bool]:
    """A function that is called repeatedly and says whether the lease in this row has ended."""
    last: tuple[str, int] | None = None
    since = 0.0

    def ended(row: Row) -> bool:
        nonlocal last, since
        holder = marks.holder(row, place.where)
        if holder.until + SKEW_S < place.now():
            return True
        if (current := (holder.id, row.revision)) != last:
            last, since = current, time.monotonic()
        return time.monotonic() - since > LEASE_S

    return ended


def _busy(place: Place, row: Row) -> ServiceError:
    holder = marks.holder(row, place.where)
    return ServiceError(
        f"{place.where}: {holder.who} is collecting garbage since {holder.since}: try again when that has ended", retryable=True
    )


# --- collecting -------------------------------------------------------------------------------------------------------


class DeletionLease:
    """The right to delete. Threads may share it."""

    def __init__(self, place: Place, who: str) -> None:
        self._place = place
        self._holder = {"who": who, "since": rows.timestamp(place.now()), "id": secrets.token_hex(16)}
        self._revision = 0
        self._begun = 0.0
        self._lock = threading.Lock()

    def take(self) -> None:
        """Take the lease, after waiting for one that died. ServiceError when a living collector has it."""
        ended = _watch(self._place)
        first: tuple[str, int] | None = None
        while True:
            row = self._place.table.get(rows.LEASE)
            if row is None or ended(row):
                return self._write(row.revision if row else 0)
            state = (marks.holder(row, self._place.where).id, row.revision)
            if first is not None and state != first:  # the collector is alive
                raise _busy(self._place, row)
            first = state
            time.sleep(0.5)

    def check(self) -> None:
        """To be called before each delete. ServiceError when the lease was lost, or would end too soon."""
        with self._lock:
            remaining_s = self._begun + LEASE_S - time.monotonic()
            if remaining_s < MARGIN_S:
                raise ServiceError(f"{self._place.where}: the collection was too slow for its lease: run it again", retryable=True)
            if remaining_s < _RENEW_S:
                self._write(self._revision)

    def release(self) -> None:
        """Give the lease back. When that fails, it ends by itself."""
        with suppress(ServiceError):
            self._place.table.commit(Delete(key=rows.LEASE, expect=self._revision))

    def _write(self, expect: int) -> None:
        begun = time.monotonic()
        head = self._holder | {"until": self._place.now() + LEASE_S}
        try:
            self._place.table.commit(Put(key=rows.LEASE, head=head, expect=expect))
        except ConflictError:
            # A lost answer looks like a conflict when the request was repeated on the way.
            row = self._place.table.get(rows.LEASE)
            if row is None:
                raise ServiceError(
                    f"{self._place.where}: another collection began or ended at this moment: run it again", retryable=True
                ) from None
            if marks.holder(row, self._place.where).id != self._holder["id"] or row.revision != expect + 1:
                raise _busy(self._place, row) from None
        self._revision, self._begun = expect + 1, begun


@contextmanager
def collecting(place: Place, who: str) -> Iterator[DeletionLease]:
    """A context in which this is the only collector."""
    lease = DeletionLease(place, who)
    lease.take()
    try:
        yield lease
    finally:
        lease.release()


def intents(place: Place) -> tuple[list[marks.Intent], list[marks.Intent]]:
    """The intents that are valid, and those that have expired. DamagedError for one that cannot be read: nobody knows what it
    protects."""
    now, every = place.now(), [marks.intent(row, place.where) for row in place.table.query(rows.PUBLISHING)]
    return [each for each in every if each.until > now], [each for each in every if each.until <= now]
