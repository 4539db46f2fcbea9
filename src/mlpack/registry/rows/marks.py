"""The small rows: names, digests, intents, the lease and settings. It says what each must be and returns its value.

Promises:
- As `rows`: a row that mlpack has not written in this form is a DamagedError that names it.

Will not: read releases and moves (`rows`), the log (`audit`) or policies (`policies`), or decide anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlpack.core.digest import Digest
from mlpack.registry import Row
from mlpack.registry.fields import FieldError, Fields, as_digest
from mlpack.registry.rows import rows
from mlpack.registry.rows.manifest import is_name

UNPUBLISHED = "remove this row when nothing is being published, which loses nothing"
_UNCOLLECTED = "remove this row when no `mlpack gc` runs, which loses nothing"
_UNSET = "say it again with `mlpack registry create --images`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What a publisher relies on, until that time (seconds since the epoch)."""

    row: Row
    until: float
    digests: frozenset[Digest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who collects garbage, since when, and until when the lease was taken. `id` is of this one collection."""

    who: str
    since: str
    id: str
    until: float


def name(row: Row, where: str) -> str:
    """The model of a row of `names`."""
    return _valid_name(row, where, "that a model may have")


def alias(row: Row, where: str) -> str:
    """The alias of a row of its model's `aliases`."""
    return _valid_name(row, where, "that an alias may have")


def fence(row: Row, where: str) -> str:
    """The model of a row of `fences`."""
    return _valid_name(row, where, "that a model may have")


def _valid_name(row: Row, where: str, what: str) -> str:
    with rows.reading(row.key, where):
        if not is_name(row.key.sort):
            raise FieldError(f"not a name {what}")
        Fields(dict(row.head))
    return row.key.sort


def version(row: Row, where: str) -> int:
    """The version that has the content of a row of `digests`."""
    with rows.reading(row.key, where):
        as_digest(row.key.sort, "its key")
        return Fields(row.head).version("version")


def schema(row: Row, where: str) -> int:
    """The format of the registry."""
    with rows.reading(row.key, where):
        return Fields(row.head).whole("version", 1, 1_000_000)


def images(row: Row, where: str) -> str:
    """The container registry that images go to."""
    with rows.reading(row.key, where, _UNSET):
        return Fields(row.head).label("prefix")


def intent(row: Row, where: str) -> Intent:
    """The intent in a row of `publishing`."""
    with rows.reading(row.key, where, UNPUBLISHED):
        fields = Fields(row.head)
        digests = frozenset(as_digest(each, "one of its digests") for each in fields.each("digests"))
        return Intent(row=row, until=fields.seconds("until"), digests=digests)


def holder(row: Row, where: str) -> Holder:
    """The holder of the lease."""
    with rows.reading(row.key, where, _UNCOLLECTED):
        fields = Fields(row.head)
        return Holder(who=fields.label("who"), since=fields.time("since"), id=fields.label("id"), until=fields.seconds("until"))
