"""A registry in a directory: blobs by their sha256, and an SQLite database of releases.

    registry.sqlite     one row per release: name, version, manifest and its digest; never updated, never deleted
    blobs/sha256/ab/…   every file of every release, each content once
    tmp/                what is being written; whatever a killed publisher left is swept by a later one

Promises: several processes of one machine may publish at once; killing one at any moment leaves either the whole release or none of
it visible, and running it again finishes the work. Not for network file systems: SQLite's locks do not hold there.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlpack import buildjson, digest
from mlpack.digest import Digest
from mlpack.errors import RecipeError, ServiceError
from mlpack.records import Release
from mlpack.registry import (
    EVIDENCE,
    FIELDS,
    Manifest,
    artifact_folder,
    as_json,
    decode_manifest,
    manifest_of,
    parse_reference,
    text,
)

if TYPE_CHECKING:
    import sqlite3

__all__ = ["DirectoryRegistry", "Disk", "as_json", "open_registry", "parse_reference", "text"]

_SCHEMA = 1
_BUSY_S = 60.0
"""How long a publisher waits for others: their transactions take milliseconds, their bytes are written before."""
_ABANDONED_S = 24 * 3600
_CHUNK_BYTES = 1 << 20

_Row = tuple[str, int, str, str, bytes]
"""name, version, digest, created, manifest"""

_TABLE = """
CREATE TABLE IF NOT EXISTS releases (
    name TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    digest TEXT NOT NULL,
    created TEXT NOT NULL,
    manifest BLOB NOT NULL,
    PRIMARY KEY (name, version),
    UNIQUE (name, digest)
) STRICT
"""


class Disk:
    """Every change that a registry makes to its directory, a method each, durable when it returns."""

    def make_folder(self, folder: Path) -> None:
        """The folder and those above it."""
        fresh = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for each in fresh:
            _sync(each.parent)

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
        _sync(target.parent)

    def commit(self, connection: sqlite3.Connection) -> None:
        """Make a transaction visible."""
        connection.execute("COMMIT")


def _sync(folder: Path) -> None:
    """Make the names in a folder survive a loss of power."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def open_registry(root: Path) -> DirectoryRegistry:
    """The registry in this directory, which is made by the first `publish`. RecipeError for places that are not directories."""
    if str(root).startswith(("s3:", "http:", "https:")):
        raise RecipeError(f"{root}: this mlpack keeps registries in directories only; give a path")
    if root.exists() and not root.is_dir():
        raise RecipeError(f"{root}: not a directory; give the directory of a registry")
    return DirectoryRegistry(root)


class DirectoryRegistry:
    """See the module. `disk` is where its changes go."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self._root = root
        self._disk = disk or Disk()

    def publish(self, build_dir: Path) -> Release:
        """See `Registry.publish`."""
        data = buildjson.read_bytes(build_dir)
        record = buildjson.decode(data, str(build_dir / "build.json"))
        files = {path: digest.of_file(build_dir / path) for path in _published(build_dir, artifact_folder(record))}
        manifest = manifest_of(record, files)
        if files["build.json"] != digest.of_bytes(data):
            raise RecipeError(f"{build_dir}: build.json changed while it was read; publish when the build has ended")
        self._disk.make_folder(self._root / "tmp")
        self._sweep()
        for path, named in sorted(files.items()):
            self._keep(build_dir / path, named)
        return self._record(manifest)

    def list(self, name: str | None = None) -> tuple[Release, ...]:
        """See `Registry.list`."""
        query = "SELECT name, version, digest, created, manifest FROM releases WHERE ?1 IS NULL OR name = ?1 ORDER BY name, version"
        return tuple(_release(row, self._root) for row in self._rows(query, name))

    def show(self, name: str, version: int | None = None) -> Release:
        """See `Registry.show`."""
        query = (
            "SELECT name, version, digest, created, manifest FROM releases "
            "WHERE name = ?1 AND (?2 IS NULL OR version = ?2) ORDER BY version DESC LIMIT 1"
        )
        for row in self._rows(query, name, version):
            return _release(row, self._root)
        wanted = name if version is None else f"{name}@{version}"
        known = sorted({release.name for release in self.list()})
        have = f"it has {', '.join(known)}" if known else "it is empty"
        raise RecipeError(f"no release {wanted} in the registry {self._root} ({have}); see `mlpack list`")

    def pull(self, release: Release, folder: Path) -> None:
        """See `Registry.pull`."""
        if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
            raise RecipeError(f"{folder}: already there and not an empty directory; give another one with --out")
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        fresh = folder.absolute().with_name(f".{folder.absolute().name}.{secrets.token_hex(8)}")
        try:
            fresh.mkdir()
            for path, named in sorted(release.files.items()):
                (fresh / path).parent.mkdir(parents=True, exist_ok=True)
                self._disk.write(fresh / path, self._verified(named, path))
            self._disk.move(fresh, folder.absolute())
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def field(self, release: Release, name: str) -> str:
        """See `Registry.field`. `zip` is the path of the function's blob, as `--zip-file fileb://` takes it."""
        artifact = release.artifact
        if name == "zip" and artifact["kind"] in ("zip", "layer-zip"):
            inside = next(path for path in release.files if path.endswith("/function.zip"))
            return str(self._blob(release.files[inside]).absolute())
        if name == "image" and artifact["kind"] == "image":
            return f"{release.name}@{artifact['digest']}"
        values = {"digest": artifact["digest"], "size": artifact["size_bytes"], "version": release.version}
        if name not in values:
            what = f"a {artifact['kind']}, which has no {name}" if name in FIELDS else f"asked for {name!r}"
            raise RecipeError(f"{release.name}@{release.version} is {what}; fields are {', '.join(FIELDS)}")
        return str(values[name])

    # --- bytes -------------------------------------------------------------------------------------------------------

    def _blob(self, named: Digest) -> Path:
        return self._root / "blobs" / "sha256" / named.hex[:2] / named.hex

    def _keep(self, source: Path, named: Digest) -> None:
        """Copy a file into the blobs unless it is there, whole. A damaged blob is replaced."""
        blob = self._blob(named)
        if blob.is_file() and digest.of_file(blob) == named:
            return
        fresh = self._root / "tmp" / secrets.token_hex(16)
        try:
            self._disk.write(fresh, _chunks(source, named, lambda found: _changed(source, named, found)))
            self._disk.make_folder(blob.parent)
            self._disk.move(fresh, blob)
        finally:
            fresh.unlink(missing_ok=True)

    def _verified(self, named: Digest, path: str) -> Iterator[bytes]:
        """A blob's bytes; after the last one ServiceError when they are not what they should be."""
        blob = self._blob(named)

        def damaged(found: str) -> ServiceError:
            return ServiceError(
                f"{path}: the blob {blob} is damaged ({found} instead of {named}); "
                "publish the same build again to repair it, or restore the registry from a backup"
            )

        try:
            yield from _chunks(blob, named, damaged)
        except FileNotFoundError as error:
            raise damaged("missing") from error

    def _sweep(self) -> None:
        """Remove what killed publishers left a day ago and more."""
        for left in (self._root / "tmp").iterdir():
            try:
                if time.time() - left.stat().st_mtime > _ABANDONED_S:
                    left.unlink()
            except FileNotFoundError:
                continue  # another publisher swept it, or finished with it

    # --- rows --------------------------------------------------------------------------------------------------------

    def _record(self, manifest: Manifest) -> Release:
        """The one transaction: an equal release is found, or the next version is made."""
        data = manifest.encode()
        named = digest.of_bytes(data)
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA user_version = {_SCHEMA}")
            found = connection.execute(
                "SELECT version, created FROM releases WHERE name = ? AND digest = ?", (manifest.name, str(named))
            ).fetchone()
            if found is None:
                query = "SELECT coalesce(max(version), 0) + 1 FROM releases WHERE name = ?"
                (version,) = connection.execute(query, (manifest.name,)).fetchone()
                created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
                row = (manifest.name, version, str(named), created, data)
                connection.execute("INSERT INTO releases (name, version, digest, created, manifest) VALUES (?, ?, ?, ?, ?)", row)
            else:
                version, created = found
            self._disk.commit(connection)
        return _release((manifest.name, version, str(named), created, data), self._root)

    def _rows(self, query: str, *values: object) -> Sequence[_Row]:
        """What is there; nothing where no release was ever published. Makes no files."""
        if not (self._root / "registry.sqlite").is_file():
            return []
        with self._connection() as connection:
            if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'releases'").fetchone() == (0,):
                return []
            return connection.execute(query, values).fetchall()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """The database, in write-ahead mode; what was not committed is rolled back. ServiceError when SQLite gives up."""
        import sqlite3

        path = self._root / "registry.sqlite"
        try:
            connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
            try:
                _write_ahead(connection)
                (schema,) = connection.execute("PRAGMA user_version").fetchone()
                if schema > _SCHEMA:
                    raise ServiceError(f"{path}: written by a newer mlpack (schema {schema}, not {_SCHEMA}); update mlpack")
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise ServiceError(
                f"{path}: {error}; the registry is locked by another program, out of space, or not a registry's database",
                retryable=isinstance(error, sqlite3.OperationalError),
            ) from error


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Readers never wait for a publisher. SQLite does not wait by itself for the lock that this change of mode needs."""
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


def _published(build_dir: Path, folder: str) -> list[str]:
    """The evidence that is there, and every file of the artifact. RecipeError for links: not they would be published."""
    root = build_dir / folder
    if not root.is_dir() or root.is_symlink():
        raise RecipeError(f"{root}: missing, though build.json names it as the chosen artifact; build again, then publish")
    paths = [name for name in EVIDENCE if (build_dir / name).is_file()]
    for path, entry in digest.entries(root):
        if entry.is_symlink() or not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
            raise RecipeError(f"{root / path}: not a file; a package holds files only")
        if entry.is_file(follow_symlinks=False):
            paths.append(f"{folder}/{path}")
    return paths


def _chunks(source: Path, named: Digest, wrong: Callable[[str], Exception]) -> Iterator[bytes]:
    """A file's bytes; after the last one, what `wrong` makes of their digest is raised when it is not `named`."""
    state = hashlib.sha256()
    with source.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            state.update(chunk)
            yield chunk
    if state.hexdigest() != named.hex:
        raise wrong(f"sha256:{state.hexdigest()}")


def _changed(source: Path, named: Digest, found: str) -> RecipeError:
    return RecipeError(f"{source}: changed while it was published ({named}, then {found}); publish when the build has ended")


def _release(row: _Row, root: Path) -> Release:
    """A row as a value. ServiceError when the manifest is not the one that was published."""
    name, version, named, created, data = row
    try:
        manifest = decode_manifest(data)
    except ValueError as error:
        raise ServiceError(f"{root}: the record of {name}@{version} is damaged: {error}; restore it from a backup") from error
    if digest.of_bytes(data) != Digest(named) or manifest.name != name:
        raise ServiceError(f"{root}: the record of {name}@{version} is not the one that was published; restore it from a backup")
    return Release(
        name=name,
        version=version,
        digest=Digest(named),
        created=created,
        artifact=manifest.artifact,
        files=manifest.files,
        tags=manifest.tags,
    )
