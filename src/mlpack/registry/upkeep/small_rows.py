"""Verifies the small rows: settings, names, aliases, fences, policies, the log, intents and the lease.

Promises:
- It only reads. Each damaged row is reported once, by its key.
- Rows that appear or disappear meanwhile cause no finding.

Will not: verify releases, moves or blobs. `care` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mlpack.errors import ServiceError
from mlpack.registry import Place, Row, audit
from mlpack.registry.aliases import policies
from mlpack.registry.fields import FieldError
from mlpack.registry.rows import leases, marks, rows

Say = Callable[[str, Row, str], None]
"""Called with a faulty row: what it is, the row, and its fault."""

Check = Callable[[Row, str], object]


def check(place: Place, say: Say) -> None:
    """Verify every small row except names and aliases of models, which `care` verifies."""
    for what, partition, look in _partitions(place):
        for row in place.table.query(partition, bodies=True):
            problem = wrong(row, place.where, look)
            if problem is not None:
                say(what, row, problem)


def wrong(row: Row, where: str, look: Check) -> str | None:
    """The fault of a row, in the words of its DamagedError; None when it has none."""
    try:
        look(row, where)
    except ServiceError as error:
        return str(error)
    return None


def bare(look: Check) -> Check:
    """The same check, for a row that has no body."""

    def looked(row: Row, where: str) -> None:
        look(row, where)
        with rows.reading(row.key, where):
            if row.body:
                raise FieldError("it has a body")

    return looked


def _partitions(place: Place) -> Iterator[tuple[str, str, Check]]:
    yield "setting", rows.SETTINGS, bare(_setting)
    yield "fence", rows.FENCES, bare(marks.fence)
    yield "policy", rows.POLICIES, policies.decode
    yield "publication", rows.PUBLISHING, bare(lambda row, where: _intent(row, where, place.now()))
    yield "lease", rows.LEASE.partition, bare(_lease)
    yield "audit", rows.AUDIT, bare(audit.decode)


def _setting(row: Row, where: str) -> None:
    if row.key == rows.IMAGES_KEY:
        marks.images(row, where)
    elif row.key == rows.SCHEMA_KEY:
        marks.schema(row, where)
    else:
        _unknown(row, where)


def _lease(row: Row, where: str) -> None:
    if row.key != rows.LEASE:
        _unknown(row, where)
    marks.holder(row, where)


def _intent(row: Row, where: str, now: float) -> None:
    intent = marks.intent(row, where)
    with rows.reading(row.key, where, marks.UNPUBLISHED):
        if intent.until > now + leases.INTENT_S + leases.SKEW_S:
            raise FieldError("it holds for longer than any publication, and keeps bytes for so long")


def _unknown(row: Row, where: str) -> None:
    with rows.reading(row.key, where):
        raise FieldError("mlpack writes no row of this name")
