"""The audit log of a registry: what was done and by whom.

Promises:
- An entry never changes, and the log is in the order of time.
- Only an action that leaves no other trace has a row here. Publications and moves of aliases are read from their own rows.

Will not: decide anything.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.core.digest import Digest
from mlpack.errors import RecipeError
from mlpack.registry import Key, Place, Put, Row
from mlpack.registry.fields import FieldError, Fields, as_digest, as_time, shown
from mlpack.registry.reading import Damaged, whole
from mlpack.registry.rows import marks, rows

if TYPE_CHECKING:
    from mlpack.registry.releases.releases import Registry

COLLECTED = "collected"
"""Garbage collection removed releases: `releases` (NAME@VERSION: digest), `images` (the references they had)."""
IMAGES_REMOVED = "images removed"
"""Images were removed from the container registry: `images`."""
IMAGES_REFUSED = "images refused"
"""The container registry keeps so many (`images`) of the images that were to be removed, and `why`."""
GC, IMPORT = "gc", "import"
"""The record of an import may list in `collected` what its registry had collected before, in the form of `releases`."""
_ORDER = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class AuditEntry:
    """An action on the registry. `what` is "publish", "promote", "rollback", or the word that was passed to `record`."""

    when: str
    """UTC, ISO 8601."""
    what: str
    who: str | None
    details: Mapping[str, Any]

    @property
    def releases(self) -> Mapping[str, Digest]:
        """The releases that were collected, NAME@VERSION, with their digests."""
        if self.what not in (COLLECTED, IMPORT):
            return {}
        digests = (
            Fields(self.details).maybe("releases" if self.what == COLLECTED else "collected", Fields(self.details).inside) or {}
        )
        return {_release(text): as_digest(digest_text, f"the digest of {shown(text)}") for text, digest_text in digests.items()}

    @property
    def images(self) -> tuple[str, ...]:
        """The images that are to be removed from the container registry, or were."""
        if self.what not in (COLLECTED, IMAGES_REMOVED):
            return ()
        images = Fields(self.details).each("images")
        for each in images:
            as_digest(each.rpartition("@")[2] if isinstance(each, str) else None, "the digest of an image")
        return tuple(images)


def _release(text: str) -> str:
    """The text, if it is a NAME@VERSION."""
    try:
        if rows.parse_reference(text).version is not None:
            return text
    except RecipeError:
        pass
    raise FieldError(f"{shown(text)!r} is no release")


def record(place: Place, what: str, who: str | None, details: Mapping[str, Any]) -> None:
    """Append an entry to the log."""
    place.table.commit(entry_put(place, what, who, details))


def entry_put(place: Place, what: str, who: str | None, details: Mapping[str, Any]) -> Put:
    """The write of an entry, for one commit with the action that it records."""
    when = rows.timestamp(place.now())
    # Entries of one process within a millisecond keep their order.
    id_ = f"{next(_ORDER):06d}{secrets.token_hex(8)}"
    return Put(key=Key(rows.AUDIT, f"{when} {id_}"), head={"what": what, "who": who, "details": dict(details)})


def entries(place: Place, since: str = "") -> Iterator[tuple[Key, AuditEntry]]:
    """The recorded entries, oldest first, with the keys of their rows."""
    for row in place.table.query(rows.AUDIT, after=since):
        yield row.key, decode(row, place.where)


def log(registry: Registry, since: str = "", damaged: Damaged | None = None) -> list[AuditEntry]:
    """Every action since then (UTC, ISO 8601; "" for all): recorded entries, publications, and moves of aliases.

    `damaged` is called with each row that cannot be read, which is then skipped; without it the first one raises DamagedError.
    """
    place = registry.place
    where = place.where
    entries = list(whole(place.table.query(rows.AUDIT, after=since), lambda row: decode(row, where), damaged))
    for name in whole(place.table.query(rows.NAMES), lambda row: marks.name(row, where), damaged):
        for each in registry.listed(name, damaged):
            details = {"release": f"{name}@{each.version}", "digest": str(each.head.digest)}
            entries.append(AuditEntry(when=each.head.created, what="publish", who=each.head.provenance.who, details=details))
        for alias in whole(place.table.query(rows.aliases(name)), lambda row: marks.alias(row, where), damaged):
            history = place.table.query(rows.moves(name, alias))
            entries.extend(whole(history, lambda row: _moved(rows.decode_move(row, where)), damaged))
    return sorted((entry for entry in entries if entry.when >= since), key=lambda entry: entry.when)


def _moved(move: rows.Move) -> AuditEntry:
    details = {
        "alias": f"{move.name}:{move.alias}",
        "revision": move.revision,
        "from": move.previous,
        "to": move.version,
        "why": move.why,
        "forced": move.forced,
    }
    return AuditEntry(when=move.when, what=move.kind, who=move.who, details=details)


def decode(row: Row, where: str) -> AuditEntry:
    """The entry of a row. DamagedError when mlpack has not written it so."""
    with rows.reading(row.key, where):
        when, _, id_ = row.key.sort.partition(" ")
        if not id_:
            raise FieldError("its key is not a time and a name")
        fields = Fields(row.head)
        entry = AuditEntry(
            when=as_time(when, "the time in its key"),
            what=fields.label("what"),
            who=fields.maybe("who", fields.label),
            details=fields.inside("details"),
        )
        _ = entry.releases, entry.images  # raises unless the form is right
    return entry
