"""Lists releases from their heads, and compares each head with another row, so that a list never shows a forged head.

Promises:
- Releases come in pages, as they are read. A release that is published or collected meanwhile is no error.
- It reads no bodies. Where heads of records can be read without their bodies, the two heads are compared field by field.
  Elsewhere (DynamoDB reads the bodies all the same) the digest is compared with the row that says which version has it.

Will not: find other damage. `care` does that.
"""

from __future__ import annotations

from collections.abc import Iterator

from mlpack.errors import ServiceError
from mlpack.registry import DamagedError, DamagedHead, Key, Place, Row
from mlpack.registry.records import ReleaseHead
from mlpack.registry.rows import marks, rows


def heads(place: Place, name: str) -> Iterator[tuple[Row, ReleaseHead | ServiceError]]:
    """Each row of a model's `heads`, with its content, or with the error."""
    if place.table.heads_alone:
        yield from _beside_records(place, name)
    else:
        yield from _beside_digests(place, name)


def _beside_records(place: Place, name: str) -> Iterator[tuple[Row, ReleaseHead | ServiceError]]:
    records = place.table.query(rows.releases(name))
    record = next(records, None)
    for row in place.table.query(rows.heads(name)):
        while record is not None and record.key.sort < row.key.sort:
            if (missing := _unshown(place, name, record.key.sort)) is not None:
                yield missing
            record = next(records, None)
        same = record is not None and record.key.sort == row.key.sort and _equal(record, row)
        yield from _entries_of(place, name, row, same=same)
        if record is not None and record.key.sort == row.key.sort:
            record = next(records, None)
    while record is not None:
        if (missing := _unshown(place, name, record.key.sort)) is not None:
            yield missing
        record = next(records, None)


def _unshown(place: Place, name: str, sort: str) -> tuple[Row, ServiceError] | None:
    """The error for a record without a head; None when that was only a matter of the moment."""
    key = Key(rows.heads(name), sort)
    row = place.table.get(Key(rows.releases(name), sort))
    if row is None or place.table.get(key) is not None:
        return None
    return row, DamagedError(place.where, key, "it is missing", "run `mlpack registry migrate`, which adds it")


def _beside_digests(place: Place, name: str) -> Iterator[tuple[Row, ReleaseHead | ServiceError]]:
    digests: dict[int, str] = {}
    for row in place.table.query(rows.digests(name)):
        try:
            digests[marks.version(row, place.where)] = row.key.sort
        except ServiceError:
            continue  # the digest of a version is then not known, and its record is read
    for row in place.table.query(rows.heads(name)):
        release_digest = digests.get(int(row.key.sort)) if row.key.sort.isdecimal() and len(row.key.sort) < 10 else None
        same = release_digest is not None and not isinstance(row.head, DamagedHead) and row.head.get("digest") == release_digest
        yield from _entries_of(place, name, row, same=same)


def _entries_of(place: Place, name: str, row: Row, *, same: bool) -> Iterator[tuple[Row, ReleaseHead | ServiceError]]:
    """The content of a row. It is read again when it is not the `same` as the other row. Nothing if it was collected meanwhile."""
    try:
        head = rows.decode_head(row, place.where)
        if not same:
            record, again = place.table.get(Key(rows.releases(name), row.key.sort)), place.table.get(row.key)
            if again is None or (record is None and place.table.get(row.key) is None):
                return
            if record is None:
                raise DamagedError(place.where, row.key, "there is no record of it")
            head = rows.decode_head(again, place.where)
            if not _equal(record, again):
                raise DamagedError(place.where, row.key, "it is not what the record says")
    except ServiceError as error:
        yield row, error
    else:
        yield row, head


def _equal(record: Row, row: Row) -> bool:
    if isinstance(record.head, DamagedHead) or isinstance(row.head, DamagedHead):
        return False
    return dict(record.head) == dict(row.head)
