"""Brings a registry that an older mlpack wrote to the format of this one.

Promises:
- No release, alias or history changes. After a kill at any moment a second run finishes.
- In a registry that is up to date it only adds what is missing.

A directory migrates by itself when it is opened. Damage is reported, not mended.
"""

from __future__ import annotations

from functools import partial

from mlpack.registry import SCHEMA, ConflictError, Put
from mlpack.registry.parallel import side_by_side
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows import marks, rows


def migrate(registry: Registry) -> int:
    """Migrate a registry. Returns the number of rows that were added. ServiceError when a newer mlpack wrote the registry, or when
    a record is damaged."""
    table = registry.place.table
    row = table.get(rows.SCHEMA_KEY)
    if row is None or marks.schema(row, registry.place.where) >= SCHEMA:
        registry.check_schema(write=True)
        return _add_heads(registry)
    added = _add_heads(registry)
    try:
        table.commit(Put(key=rows.SCHEMA_KEY, head={"version": SCHEMA}, expect=row.revision))
    except ConflictError:
        registry.check_schema()  # another process was first
    # An older mlpack may have published until that moment.
    return added + _add_heads(registry)


def _add_heads(registry: Registry) -> int:
    """Add the rows of `heads`, which schema 2 did not have."""
    table, missing = registry.place.table, list[Put]()
    for name in registry.names():
        there = {row.key.sort for row in table.query(rows.heads(name))}
        for row in table.query(rows.releases(name), bodies=True):
            if row.key.sort not in there:
                missing.append(rows.head_put(rows.decode(row, registry.place.where)))
    side_by_side(partial(_put, registry, put) for put in missing)
    return len(missing)


def _put(registry: Registry, put: Put) -> None:
    try:
        registry.place.table.commit(put)
    except ConflictError:
        return  # another process migrates it, too
