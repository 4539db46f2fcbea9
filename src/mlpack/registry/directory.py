"""A registry in a directory on a local disk.

    registry.sqlite                the table: see `mlpack.registry`
    blobs/sha256/ab/abcdef...      every file of every release, each content once
    tmp/                           what is being written; whatever a killed publisher left is swept by a later one

Promises: several processes of one machine may publish at once; killing one at any moment leaves either the whole release or none of
it visible, and running it again finishes the work. Not for network file systems: SQLite's locks do not hold there.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack import digest
from mlpack.digest import Digest
from mlpack.errors import RecipeError, ServiceError
from mlpack.records import Provenance
from mlpack.registry import SCHEMA, ConflictError, Delete, Key, Moved, Place, Put, Row, Stored, rows
from mlpack.registry.manifest import decode_manifest
from mlpack.registry.releases import Images, Registry, sync_folder

if TYPE_CHECKING:
    import sqlite3

_BUSY_S = 60.0
"""How long a writer waits for others: their transactions take milliseconds, their bytes are written before."""
_ABANDONED_S = 24 * 3600
_CHUNK_BYTES = 1 << 20
_PAGE_ROWS = 500
_NOTHING = "x''"
"""SQL for no bytes."""

_TABLE = """
CREATE TABLE IF NOT EXISTS rows (
    partition TEXT NOT NULL,
    sort TEXT NOT NULL,
    revision INTEGER NOT NULL CHECK (revision > 0),
    head TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (partition, sort)
) STRICT, WITHOUT ROWID
"""


class Disk:
    """Every change that a registry makes to its directory, a method each, durable when it returns."""

    def make_folder(self, folder: Path) -> None:
        """The folder and those above it."""
        fresh = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for each in fresh:
            sync_folder(each.parent)

    def write(self, path: Path, chunks: Iterable[bytes]) -> None:
        """A new file with these bytes."""
        with path.open("xb") as stream:
            for chunk in chunks:
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())

    def move(self, source: Path, target: Path) -> None:
        """Replace `target` at once."""
        source.replace(target)
        sync_folder(target.parent)

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there."""
        path.unlink(missing_ok=True)

    def commit(self, connection: sqlite3.Connection) -> None:
        """Make a transaction visible."""
        connection.execute("COMMIT")


def open_registry(root: Path, disk: Disk | None = None, images: Images | None = None) -> Registry:
    """The registry in this directory, which is made by the first `publish`. RecipeError for places that are not directories."""
    if root.exists() and not root.is_dir():
        raise RecipeError(f"{root}: not a directory; give the directory of a registry")
    disk = disk or Disk()
    place = Place(where=str(root), table=SqliteTable(root, disk), blobs=Files(root, disk), now=time.time)
    return Registry(place, images)


class Files:
    """Blobs as files. See `mlpack.registry.Blobs`."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self._root = root
        self._disk = disk
        self._swept = False

    def size(self, named: Digest) -> int | None:
        """See `Blobs.size`."""
        try:
            return self._path(named).stat().st_size
        except FileNotFoundError:
            return None

    def put(self, named: Digest, source: Path | bytes, moved: Moved = lambda _: None) -> bool:
        """See `Blobs.put`. A damaged blob is replaced."""
        blob = self._path(named)
        if blob.is_file() and digest.of_file(blob) == named:
            return False
        fresh = self._root / "tmp" / secrets.token_hex(16)
        self._disk.make_folder(fresh.parent)
        self._sweep()
        try:
            self._disk.write(fresh, _checked(_read(source, moved), named, lambda found: _changed(source, named, found)))
            self._disk.make_folder(blob.parent)
            self._disk.move(fresh, blob)
        finally:
            fresh.unlink(missing_ok=True)
        return True

    def read(self, named: Digest) -> bytes:
        """See `Blobs.read`."""
        return b"".join(self._verified(named, lambda _: None))

    def fetch(self, named: Digest, path: Path, moved: Moved = lambda _: None) -> None:
        """See `Blobs.fetch`. Nothing is gone on with: a local copy takes no longer than the check of half of one."""
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            self._disk.write(fresh, self._verified(named, moved))
            self._disk.move(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)

    def check(self, named: Digest) -> str | None:
        """See `Blobs.check`."""
        try:
            found = digest.of_file(self._path(named))
        except FileNotFoundError:
            return "missing"
        return None if found == named else f"damaged: its bytes have the digest {found}"

    def list(self) -> Iterator[Stored]:
        """See `Blobs.list`."""
        folder = self._root / "blobs" / "sha256"
        for path in sorted(folder.glob("??/*")):
            try:
                stat = path.stat()
                yield Stored(digest=Digest(f"sha256:{path.name}"), size_bytes=stat.st_size, modified=stat.st_mtime)
            except (FileNotFoundError, ValueError):
                continue  # removed meanwhile, or not ours

    def delete(self, named: Digest) -> None:
        """See `Blobs.delete`."""
        self._disk.remove(self._path(named))

    def uri(self, named: Digest) -> str:
        """See `Blobs.uri`: as `--zip-file fileb://` takes it."""
        return str(self._path(named).absolute())

    def presign(self, named: Digest, seconds: int) -> str:  # noqa: ARG002 - the protocol's
        """See `Blobs.presign`."""
        raise RecipeError(f"{self._root} is a directory: there are no URLs to sign; its files can be read where they are")

    def _path(self, named: Digest) -> Path:
        return self._root / "blobs" / "sha256" / named.hex[:2] / named.hex

    def _verified(self, named: Digest, moved: Moved) -> Iterator[bytes]:
        """A blob's bytes; after the last one ServiceError when they are not what they should be."""
        blob = self._path(named)

        def damaged(found: str) -> ServiceError:
            return ServiceError(
                f"the blob {blob} is damaged ({found} instead of {named}); "
                "publish the same build again to repair it, or restore the registry from a backup"
            )

        try:
            yield from _checked(_read(blob, moved), named, damaged)
        except FileNotFoundError as error:
            raise damaged("missing") from error

    def _sweep(self) -> None:
        """Remove what killed publishers left a day ago and more."""
        if self._swept:
            return
        self._swept = True
        for left in (self._root / "tmp").iterdir():
            try:
                if time.time() - left.stat().st_mtime > _ABANDONED_S:
                    left.unlink()
            except FileNotFoundError:
                continue  # another publisher swept it, or finished with it


class SqliteTable:
    """Rows in SQLite. See `mlpack.registry.Table`. Reading makes no files."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self._path = root / "registry.sqlite"
        self._disk = disk

    def get(self, key: Key) -> Row | None:
        """See `Table.get`."""
        found = self._select(
            "SELECT sort, revision, head, body FROM rows WHERE partition = ? AND sort = ?", key.partition, (key.partition, key.sort)
        )
        return found[0] if found else None

    def query(
        self, partition: str, *, after: str = "", newest_first: bool = False, bodies: bool = False, limit: int | None = None
    ) -> Iterator[Row]:
        """See `Table.query`."""
        beyond, order = ("<", "DESC") if newest_first else (">", "ASC")
        since, left = after or ("\U0010ffff" if newest_first else ""), limit
        text = (
            f"SELECT sort, revision, head, {'body' if bodies else _NOTHING} FROM rows "
            f"WHERE partition = ? AND sort {beyond} ? ORDER BY sort {order} LIMIT ?"
        )
        while left is None or left > 0:
            page = _PAGE_ROWS if left is None else min(left, _PAGE_ROWS)
            found = self._select(text, partition, (partition, since, page))
            yield from found
            if len(found) < page:
                return
            since = found[-1].key.sort
            left = None if left is None else left - len(found)

    def commit(self, *writes: Put | Delete) -> None:
        """See `Table.commit`."""
        self._disk.make_folder(self._path.parent)
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            for write in writes:
                if not _apply(connection, write):
                    connection.execute("ROLLBACK")
                    raise ConflictError(f"{self._path}: {write.key} was changed by another", write.key)
            self._disk.commit(connection)

    def close(self) -> None:
        """See `Table.close`: nothing is held open between calls, so that any number of processes may fork."""

    def _select(self, text: str, partition: str, values: tuple[object, ...]) -> list[Row]:
        if not self._path.is_file():
            return []
        with self._connection() as connection:
            found = connection.execute(text, values).fetchall()
        return [
            Row(key=Key(partition, sort), revision=revision, head=_json(head, self._path, partition, sort), body=bytes(body))
            for sort, revision, head, body in found
        ]

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """The database, in write-ahead mode; what was not committed is rolled back. ServiceError when SQLite gives up."""
        import sqlite3

        try:
            connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
            try:
                _prepare(connection, self._path)
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise ServiceError(
                f"{self._path}: {error}; the registry is locked by another program, out of space, or not a registry's database",
                retryable=isinstance(error, sqlite3.OperationalError),
            ) from error


def _apply(connection: sqlite3.Connection, write: Put | Delete) -> bool:
    """Do it, if the row is as expected."""
    key = (write.key.partition, write.key.sort)
    if isinstance(write, Delete):
        done = connection.execute("DELETE FROM rows WHERE partition = ? AND sort = ? AND revision = ?", (*key, write.expect))
    elif write.expect:
        done = connection.execute(
            "UPDATE rows SET head = ?, body = ?, revision = revision + 1 WHERE partition = ? AND sort = ? AND revision = ?",
            (json.dumps(write.head), write.body, *key, write.expect),
        )
    else:
        done = connection.execute(
            "INSERT INTO rows (partition, sort, revision, head, body) VALUES (?, ?, 1, ?, ?) ON CONFLICT DO NOTHING",
            (*key, json.dumps(write.head), write.body),
        )
    return done.rowcount == 1


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """The table is there, in this schema, in write-ahead mode: readers never wait for a writer."""
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if schema > SCHEMA:
        raise ServiceError(f"{path}: written by a newer mlpack (schema {schema}, not {SCHEMA}); update mlpack")
    _write_ahead(connection)
    if schema < SCHEMA:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_TABLE)
        if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'releases'").fetchone() != (0,):
            _migrate(connection, path)
        _add_heads(connection)
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.execute("COMMIT")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Schema 1 had a table of releases alone. They keep their versions, their digests and their times."""
    for name, version, named, created, data in connection.execute(
        "SELECT name, version, digest, created, manifest FROM releases ORDER BY name, version"
    ).fetchall():
        try:
            made = rows.draft(decode_manifest(data), Provenance(), {}, created, version)
            for put in rows.release_puts(made):
                _apply(connection, put)
            if (made.name, str(made.digest)) != (name, named):
                raise ValueError(f"it is {made.name} with the digest {made.digest}, not {named}")
        except (ValueError, KeyError) as error:
            raise ServiceError(
                f"{path}: {name}@{version} is damaged: {error!r}; the registry cannot be brought to schema {SCHEMA} before it is "
                "restored from a backup"
            ) from error
        _apply(connection, Put(key=Key(rows.NAMES, name), head={}))
    connection.execute("DROP TABLE releases")


def _add_heads(connection: sqlite3.Connection) -> None:
    """Schema 2 had no rows with what lists show alone. What a record's row says is taken as it is: `verify` knows better."""
    for (name,) in connection.execute("SELECT sort FROM rows WHERE partition = ?", (rows.NAMES,)).fetchall():
        connection.execute(
            f"INSERT INTO rows (partition, sort, revision, head, body) SELECT ?, sort, 1, head, {_NOTHING} FROM rows "
            "WHERE partition = ? ON CONFLICT DO NOTHING",
            (rows.heads(name), rows.releases(name)),
        )
    said, (partition, sort) = json.dumps({"version": SCHEMA}), (rows.SCHEMA_KEY.partition, rows.SCHEMA_KEY.sort)
    connection.execute(
        "UPDATE rows SET head = ?, revision = revision + 1 WHERE partition = ? AND sort = ? AND head <> ?",
        (said, partition, sort, said),
    )


def _write_ahead(connection: sqlite3.Connection) -> None:
    """SQLite does not wait by itself for the lock that this change of mode needs."""
    import sqlite3

    deadline = time.monotonic() + _BUSY_S
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous = FULL")


def _json(text: str, path: Path, partition: str, sort: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise ServiceError(f"{path}: the record {partition}/{sort} is damaged: {error}; restore it from a backup") from error


def _read(source: Path | bytes, moved: Moved) -> Iterator[bytes]:
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
            moved(len(chunk))


def _checked(chunks: Iterable[bytes], named: Digest, wrong: Callable[[str], Exception]) -> Iterator[bytes]:
    """These bytes; after the last one, what `wrong` makes of their digest is raised when it is not `named`."""
    state = hashlib.sha256()
    for chunk in chunks:
        state.update(chunk)
        yield chunk
    if state.hexdigest() != named.hex:
        raise wrong(f"sha256:{state.hexdigest()}")


def _changed(source: Path | bytes, named: Digest, found: str) -> RecipeError:
    what = source if isinstance(source, Path) else "these bytes"
    return RecipeError(f"{what}: changed while it was published ({named}, then {found}); publish when the build has ended")
