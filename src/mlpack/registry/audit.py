"""What was done to a registry, by whom: rows of their own for what leaves no other trace, and one log of everything.

Promises: an entry is never changed; the log is in the order of time. Publications and moves of aliases are their own record: they
are read from where they are. It decides nothing.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.errors import ServiceError
from mlpack.registry import Key, Place, Put, Row, rows

if TYPE_CHECKING:
    from mlpack.registry.releases import Registry

COLLECTED = "collected"
"""Releases that garbage collection removed: `releases` (NAME@VERSION: digest), `images` (the references they had)."""
IMAGES_REMOVED = "images removed"
"""From the container registry: `images`."""
IMAGES_REFUSED = "images refused"
"""Of the images that were to be removed, how many (`images`) the container registry keeps, and `why`."""
GC, IMPORT = "gc", "import"
_ORDER = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Entry:
    """Something that was done. `what`: "publish", "promote", "rollback", or what `record` was told."""

    when: str
    """UTC, ISO 8601."""
    what: str
    who: str | None
    details: Mapping[str, Any]


def record(place: Place, what: str, who: str | None, details: Mapping[str, Any]) -> None:
    """Keep that this was done."""
    place.table.commit(entry_put(place, what, who, details))


def entry_put(place: Place, what: str, who: str | None, details: Mapping[str, Any]) -> Put:
    """The same as a write, to be in one commit with what it tells of."""
    when = rows.timestamp(place.now())
    # What one process does within a millisecond stays in its order.
    id_ = f"{next(_ORDER):06d}{secrets.token_hex(8)}"
    return Put(key=Key(rows.AUDIT, f"{when} {id_}"), head={"what": what, "who": who, "details": dict(details)})


def entries(place: Place, since: str = "") -> Iterator[tuple[Key, Entry]]:
    """What was recorded, oldest first, with the keys of the rows."""
    for row in place.table.query(rows.AUDIT, after=since):
        yield row.key, _decode(row, place.where)


def log(registry: Registry, since: str = "") -> list[Entry]:
    """Everything that was done since then (UTC, ISO 8601; "" for always): records, publications, moves of aliases."""
    place = registry.place
    found = [entry for _, entry in entries(place, since)]
    for name in registry.names():
        for row in place.table.query(rows.heads(name)):
            details = {"release": f"{name}@{row.head['version']}", "digest": row.head["digest"]}
            found.append(Entry(when=row.head["created"], what="publish", who=row.head.get("who"), details=details))
        for alias in place.table.query(rows.aliases(name)):
            history = place.table.query(rows.moves(name, alias.key.sort))
            found.extend(_moved(rows.decode_move(row, place.where)) for row in history)
    return sorted((entry for entry in found if entry.when >= since), key=lambda entry: entry.when)


def _moved(move: rows.Move) -> Entry:
    said = {
        "alias": f"{move.name}:{move.alias}",
        "revision": move.revision,
        "from": move.previous,
        "to": move.version,
        "why": move.why,
        "forced": move.forced,
    }
    return Entry(when=move.when, what=move.kind, who=move.who, details=said)


def _decode(row: Row, where: str) -> Entry:
    try:
        head = row.head
        return Entry(when=row.key.sort.split(" ")[0], what=head["what"], who=head["who"], details=head["details"])
    except (KeyError, TypeError) as error:
        raise ServiceError(f"{where}: the record {row.key} is damaged: {error}; restore it from a backup") from error
