"""The schema of a registry's database: its one table, how it is made and checked, and how older ones are migrated.

Promises:
- A database with anything else in it is neither read nor written: a view or a trigger would run a stranger's SQL.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mlpack.errors import ServiceError
from mlpack.registry import SCHEMA, Delete, Key, Put
from mlpack.registry.fields import FieldError, as_time, shown
from mlpack.registry.records import Provenance
from mlpack.registry.rows import rows
from mlpack.registry.rows.manifest import decode_manifest

if TYPE_CHECKING:
    import sqlite3

_NOTHING = "x''"
"""SQL for no bytes."""

_TABLE = """
CREATE TABLE rows (
    partition TEXT NOT NULL,
    sort TEXT NOT NULL,
    revision INTEGER NOT NULL CHECK (revision > 0),
    head TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (partition, sort)
) STRICT, WITHOUT ROWID
"""


def check(connection: sqlite3.Connection, path: Path) -> int:
    """The schema of the database, 0 for an empty one. ServiceError when it is not a registry's."""
    schema, objects = _described(connection)
    if schema > SCHEMA:
        raise ServiceError(f"{path}: written by a newer mlpack (schema {schema}, not {SCHEMA}); update mlpack")
    objects_there = {
        str(name): (str(kind), " ".join(str(text).split())) for kind, name, text in objects if not str(name).startswith("sqlite_")
    }
    if schema == 0 and not objects_there:
        return 0
    expected = {"rows", "releases"} if schema == 1 else {"rows"}
    odd = sorted(name for name, (kind, _) in objects_there.items() if kind != "table" or name not in expected)
    if odd or schema < 1:
        what = f"it holds the {objects_there[odd[0]][0]} {shown(odd[0])!r}" if odd else f"its schema is {schema}"
        raise ServiceError(f"{path}: not a registry's database: {what}; name another registry, or restore it from a backup")
    if "rows" in objects_there and objects_there["rows"][1] != " ".join(_TABLE.split()):
        raise ServiceError(f"{path}: damaged: its table is not the one that mlpack makes; restore it from a backup")
    if schema > 1 and "rows" not in objects_there:
        raise ServiceError(f"{path}: damaged: its table is missing; restore it from a backup")
    return int(schema)


def _described(connection: sqlite3.Connection) -> tuple[int, list[tuple[str, str, str]]]:
    """The number of the schema and the objects of the database at one moment: the maker of the table commits both at once."""
    alone = not connection.in_transaction
    if alone:
        connection.execute("BEGIN")
    try:
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        return schema, connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    finally:
        if alone and connection.in_transaction:
            connection.execute("ROLLBACK")


def prepare(connection: sqlite3.Connection, path: Path, patience_s: float) -> None:
    """Make the table in this schema, in write-ahead mode, in which readers never wait for a writer."""
    schema = check(connection, path)
    _write_ahead(connection, patience_s)
    if schema < SCHEMA:
        connection.execute("BEGIN IMMEDIATE")
        schema = check(connection, path)  # another process may have been first
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master").fetchall()}
        if "rows" not in there:
            connection.execute(_TABLE)
        if "releases" in there:
            _migrate(connection, path)
        _add_heads(connection)
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.execute("COMMIT")


def apply(connection: sqlite3.Connection, write: Put | Delete) -> bool:
    """Execute a write if the row is at its expected revision."""
    key = (write.key.partition, write.key.sort)
    if isinstance(write, Delete):
        done = connection.execute("DELETE FROM rows WHERE partition = ? AND sort = ? AND revision = ?", (*key, write.expect))
    elif write.expect:
        done = connection.execute(
            "UPDATE rows SET head = ?, body = ?, revision = revision + 1 WHERE partition = ? AND sort = ? AND revision = ?",
            (json.dumps(dict(write.head)), write.body, *key, write.expect),
        )
    else:
        done = connection.execute(
            "INSERT INTO rows (partition, sort, revision, head, body) VALUES (?, ?, 1, ?, ?) ON CONFLICT DO NOTHING",
            (*key, json.dumps(dict(write.head)), write.body),
        )
    return done.rowcount == 1


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Migrate schema 1, which had only a table of releases. They keep their versions, digests and times."""
    for name, version, old, created, data in connection.execute(
        "SELECT name, version, digest, created, manifest FROM releases ORDER BY name, version"
    ).fetchall():
        try:
            release = rows.draft(decode_manifest(data), Provenance(), {}, as_time(created, "its time"), version)
            for put in rows.release_puts(release):
                apply(connection, put)
            if (release.name, str(release.digest)) != (name, old):
                raise FieldError(f"it is {shown(release.name)} with the digest {release.digest}, not {shown(old)}")
        except ValueError as error:
            raise ServiceError(
                f"{path}: {shown(name)}@{version} is damaged: {error}; the registry cannot be brought to schema {SCHEMA} before it "
                "is restored from a backup"
            ) from error
        apply(connection, Put(key=Key(rows.NAMES, name), head={}))
    connection.execute("DROP TABLE releases")


def _add_heads(connection: sqlite3.Connection) -> None:
    """Migrate schema 2, which had no rows of `heads`. The row of a record is taken as it is; `verify` checks it."""
    for (name,) in connection.execute("SELECT sort FROM rows WHERE partition = ?", (rows.NAMES,)).fetchall():
        connection.execute(
            f"INSERT INTO rows (partition, sort, revision, head, body) SELECT ?, sort, 1, head, {_NOTHING} FROM rows "
            "WHERE partition = ? ON CONFLICT DO NOTHING",
            (rows.heads(name), rows.releases(name)),
        )
    head, (partition, sort) = json.dumps({"version": SCHEMA}), (rows.SCHEMA_KEY.partition, rows.SCHEMA_KEY.sort)
    connection.execute(
        "UPDATE rows SET head = ?, revision = revision + 1 WHERE partition = ? AND sort = ? AND head <> ?",
        (head, partition, sort, head),
    )


def _write_ahead(connection: sqlite3.Connection, patience_s: float) -> None:
    """Switch to write-ahead mode and wait for its lock, for which SQLite does not wait by itself."""
    import sqlite3

    deadline = time.monotonic() + patience_s
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous = FULL")
