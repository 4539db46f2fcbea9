"""Rows in SQLite: the table of a registry in a directory. It implements `mlpack.registry.Table`.

Promises:
- Reading creates no file and needs no right to write.
- What is read was committed whole, and is never a mixture of two moments, also while others write.
- A database that mlpack did not make (another table, a view, a trigger, no file) is a ServiceError before the first read or
  write.
- A damaged row is a `DamagedHead`; the other rows are still returned.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mlpack.errors import ServiceError, full_disk_error
from mlpack.registry import SCHEMA, ConflictError, DamagedError, Delete, Key, Put, Row, read_row
from mlpack.registry.fields import BODY_BYTES, HEAD_BYTES, shown
from mlpack.registry.local import sqlite_schema

if TYPE_CHECKING:
    import sqlite3

    from mlpack.registry.local.disk import Disk

T = TypeVar("T")

_BUSY_S = 60.0
"""How long a writer waits for others: their transactions take milliseconds, since their blobs are written before."""
_PAGE_ROWS = 500
_PAGE_BYTES = 32 << 20
"""A page ends with the row that goes beyond this."""
_FRESH_S = 0.02
"""Longer than one tick of a file system's clock (10 ms at 100 Hz)."""
_BUSY, _LOCKED, _PERM, _READONLY, _FULL, _CANTOPEN, _CORRUPT, _NOTADB, _SCHEMA = 5, 6, 3, 8, 13, 14, 11, 26, 17
"""Primary result codes. sqlite.org/rescode.html"""


class SqliteTable:
    """Rows in SQLite. No file is open between calls, so that any number of processes may fork."""

    heads_alone = True

    def __init__(self, root: Path, disk: Disk) -> None:
        self._path = root / "registry.sqlite"
        self._disk = disk

    def get(self, key: Key) -> Row | None:
        """See `Table.get`."""
        rows_read = self._select(key.partition, "sort = CAST(? AS TEXT)", "", _text(key.sort), bodies=True, most=1)
        return rows_read[0][1] if rows_read else None

    def query(
        self, partition: str, *, after: str = "", newest_first: bool = False, bodies: bool = False, limit: int | None = None
    ) -> Iterator[Row]:
        """See `Table.query`."""
        beyond, order = ("<", "DESC") if newest_first else (">", "ASC")
        since, remaining = _text(after) if after else None, limit
        while remaining is None or remaining > 0:
            page = _PAGE_ROWS if remaining is None else min(remaining, _PAGE_ROWS)
            where = "" if since is None else f"sort {beyond} CAST(? AS TEXT)"
            page_rows = self._select(partition, where, f"ORDER BY sort {order}", since, bodies=bodies, most=page)
            for sort, row in page_rows:
                # A damaged index may return the same rows again and again.
                if since is not None and not (sort < since if newest_first else sort > since):
                    raise DamagedError(str(self._path), row.key, "it is not in its place; the database is damaged")
                since = sort
                yield row
            if not page_rows:
                return
            remaining = None if remaining is None else remaining - len(page_rows)

    def commit(self, *writes: Put | Delete) -> None:
        """See `Table.commit`."""
        self._disk.make_folder(self._path.parent)
        _look(self._path)
        with self._explained(), _opened(self._path, "rwc") as connection:
            sqlite_schema.prepare(connection, self._path, _BUSY_S)
            connection.execute("BEGIN IMMEDIATE")
            for write in writes:
                if not sqlite_schema.apply(connection, write):
                    connection.execute("ROLLBACK")
                    raise ConflictError(f"{self._path}: {write.key} was changed by another", write.key)
            self._disk.commit(connection)

    def close(self) -> None:
        """See `Table.close`: nothing is held open."""

    def _select(
        self, partition: str, where: str, order: str, value: bytes | None, *, bodies: bool, most: int
    ) -> list[tuple[bytes, Row]]:
        """Rows of a partition with their sort keys as stored: at most so many, and fewer when they are large."""
        text = (
            f"SELECT sort, revision, CASE WHEN length(head) > {HEAD_BYTES} THEN NULL ELSE head END, "
            f"{f'CASE WHEN length(body) > {2 * BODY_BYTES} THEN NULL ELSE body END' if bodies else _NOTHING} FROM rows "
            f"WHERE partition = CAST(? AS TEXT) {f'AND {where}' if where else ''} {order} LIMIT ?"
        )
        values = (_text(partition), *(() if value is None else (value,)), most)

        def work(connection: sqlite3.Connection) -> list[tuple[bytes, Row]]:
            connection.text_factory = bytes
            rows_read, size = [], 0
            for sort, revision, head, body in connection.execute(text, values):
                rows_read.append(self._row(partition, sort, revision, head, body))
                size += len(head or b"") + len(body or b"")
                if size > _PAGE_BYTES:
                    break
            return rows_read

        return self._read(work)

    def _row(self, partition: str, sort: bytes, revision: object, head: bytes | None, body: object) -> tuple[bytes, Row]:
        key = Key(partition, sort.decode("utf-8", "backslashreplace"))
        if _text(key.sort) != sort:
            head = b"\xff"  # a key that is no text
        return sort, read_row(str(self._path), key, head, body, revision)

    # --- reading -----------------------------------------------------------------------------------------------------

    def _read(self, work: Callable[[sqlite3.Connection], list[T]]) -> list[T]:
        """The result of `work` on the database as it is between two commits; an empty list when there is no database.

        A database that nobody has open (it has no write-ahead log) is read as immutable, which needs no file beside it; its
        times show that it did not change meanwhile. A database that somebody has open is read through its log.
        """
        deadline = time.monotonic() + _BUSY_S
        while (before := _look(self._path)) is not None:
            try:
                with self._explained():
                    result = self._read_once(before, work)
            except ServiceError:
                # A writer began or ended meanwhile: the result may mix two moments.
                if _look(self._path) == before or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
                continue
            if result is not None and (before.logged or _look(self._path) == before or time.monotonic() > deadline):
                return result
        return []

    def _read_once(self, before: _FileState, work: Callable[[sqlite3.Connection], list[T]]) -> list[T] | None:
        """One attempt of `_read`; None when the database changed meanwhile."""
        may_write = _may_write(self._path)
        if before.broken_off:
            if not may_write:
                raise ServiceError(
                    f"{self._path}: a program was killed while it wrote there, and only a user who may write there can repair it: "
                    "ask one to run any `mlpack` command on this registry, such as `mlpack list`"
                )
        elif before.logged:
            with _opened(self._path, "ro") as connection:
                if sqlite_schema.check(connection, self._path) == SCHEMA:
                    return work(connection)
        else:
            if time.time() - before.modified_ns / 1e9 < _FRESH_S and before.size:
                time.sleep(_FRESH_S)  # a later change then has another time
                return None if _look(self._path) != before else self._read_still(work, may_write)
            return self._read_still(work, may_write)
        return self._read_as_writer(work, may_write)

    def _read_still(self, work: Callable[[sqlite3.Connection], list[T]], may_write: bool) -> list[T]:
        with _opened(self._path, "ro&immutable=1") as connection:
            schema = sqlite_schema.check(connection, self._path)
            if schema == SCHEMA:
                return work(connection)
            if schema == 0:
                return []  # no table was made yet
        return self._read_as_writer(work, may_write)

    def _read_as_writer(self, work: Callable[[sqlite3.Connection], list[T]], may_write: bool) -> list[T]:
        """Read after a write that is needed first: rows of an older mlpack, or what a killed program left."""
        if not may_write:
            raise ServiceError(
                f"{self._path}: written by an older mlpack; run `mlpack registry migrate` once as somebody who may write there"
            )
        with _opened(self._path, "rw") as connection:
            sqlite_schema.prepare(connection, self._path, _BUSY_S)
            return work(connection)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """A context in which an error of SQLite becomes a ServiceError that says why."""
        import sqlite3

        try:
            yield
        except sqlite3.Error as error:
            number = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if number == _FULL:
                raise full_disk_error(self._path.parent, _LARGER) from error
            raise ServiceError(
                f"{self._path}: {shown(error)}; {_why(number)}", retryable=isinstance(error, sqlite3.OperationalError)
            ) from error


_NOTHING = "x''"
"""SQL for no bytes."""
_LARGER = "free some there, or use a registry on a larger disk with --registry"


@dataclass(frozen=True, slots=True)
class _FileState:
    """The state of the database's files at a moment. Between two equal states nothing was written."""

    inode: int
    size: int
    modified_ns: int
    logged: bool
    """There is a write-ahead log with something in it, and who has it open."""
    broken_off: bool
    """There is a log or a journal of a program that is gone."""


def _text(part: str) -> bytes:
    """A key's part as the database stores it. Half a surrogate pair, which no key has, is searched and not found."""
    return part.encode("utf-8", "surrogatepass")


def _look(path: Path) -> _FileState | None:
    """The state; None when there is no database. ServiceError when one of its files is something else: nothing is opened to find
    out."""
    status = _lstat(path)
    if status is None:
        return None
    wal, shm, journal = (_lstat(path.with_name(path.name + suffix)) for suffix in ("-wal", "-shm", "-journal"))
    logged = wal is not None and wal.st_size > 0
    broken_off = (logged and shm is None) or (journal is not None and journal.st_size > 0)
    return _FileState(status.st_ino, status.st_size, status.st_mtime_ns, logged and not broken_off, broken_off)


def _lstat(path: Path) -> os.stat_result | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ServiceError(f"{path}: {error.strerror}: the registry cannot be read") from error
    if not stat.S_ISREG(status.st_mode):
        what = "a link" if stat.S_ISLNK(status.st_mode) else "a directory" if stat.S_ISDIR(status.st_mode) else "no file"
        raise ServiceError(f"{path}: {what}, not a registry's database: put the database itself there, or name another registry")
    return status


def _may_write(path: Path) -> bool:
    real = {"effective_ids": True} if os.access in os.supports_effective_ids else {}
    return os.access(path, os.W_OK, **real) and os.access(path.parent, os.W_OK | os.X_OK, **real)


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """The open database; whatever is not committed is rolled back."""
    import sqlite3

    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_BUSY_S, isolation_level=None)
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 4 * BODY_BYTES)
        # A database is data: nothing that its schema calls runs.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        yield connection
    finally:
        connection.close()


def _why(number: int) -> str:
    if number in (_BUSY, _LOCKED):
        return "the registry is locked by another program: try again"
    if number in (_READONLY, _PERM):
        return "this user may not write there: ask for that right, or use another registry"
    if number == _CANTOPEN:
        return "this user may not open it, or what it needs beside it"
    if number in (_CORRUPT, _NOTADB):
        return "it is damaged, or not a registry's database: restore it from a backup"
    return "the registry is locked by another program, out of space, or not a registry's database"
