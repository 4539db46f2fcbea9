"""A registry in a directory: what lies there, what older ones become, and what is left when a publisher dies. What every registry
promises is in `test_contract` and `test_releases`."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support.registry.builds import build

from mlpack.core import digest
from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import SCHEMA
from mlpack.registry.local.directory import Disk, open_registry
from mlpack.registry.records import Release
from mlpack.registry.rows import rows
from mlpack.registry.rows.rows import Reference

MINILM = Reference(name="minilm")
FUNCTION = "artifacts/int8@lambda-zip-x86_64/function.zip"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return build(tmp_path / "out")


def blob_of(root: Path, release: Release, path: str = FUNCTION) -> Path:
    named = release.files[path]
    return root / "blobs" / "sha256" / named.hex[:2] / named.hex


def test_what_lies_there(root: Path, made: Path) -> None:
    release = open_registry(root).publish(made)
    assert sorted(path.name for path in root.iterdir()) == ["blobs", "registry.sqlite", "tmp"]
    assert blob_of(root, release).read_bytes() == b"function"
    assert open_registry(root).field(release, "zip") == str(blob_of(root, release))
    assert list((root / "tmp").iterdir()) == []


def test_reading_makes_nothing(root: Path) -> None:
    with pytest.raises(RecipeError, match="it is empty"):
        open_registry(root).show(MINILM)
    assert not root.exists()


def test_a_file_is_no_registry(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RecipeError, match="not a directory"):
        open_registry(tmp_path / "file")


def test_what_is_no_database_is_said(root: Path) -> None:
    root.mkdir()
    (root / "registry.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(ServiceError, match="not a database"):
        tuple(open_registry(root).releases())


def test_a_newer_database_is_left_alone(root: Path, made: Path) -> None:
    open_registry(root).publish(made)
    with sqlite3.connect(root / "registry.sqlite") as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(ServiceError, match="newer mlpack"):
        open_registry(root).publish(made)


@pytest.mark.parametrize(("column", "value"), [("head", "{"), ("head", "[1]"), ("body", b"{")])
def test_a_row_that_is_no_row_is_named(root: Path, made: Path, column: str, value: str | bytes) -> None:
    open_registry(root).publish(made)
    with sqlite3.connect(root / "registry.sqlite") as connection:
        changed = connection.execute(f"UPDATE rows SET {column} = ? WHERE partition = 'name/minilm/releases'", (value,))
        assert changed.rowcount == 1
    connection.close()
    with pytest.raises(ServiceError, match="the record name/minilm/releases/000000001 is damaged"):
        open_registry(root).show(MINILM)


# --- schema 1 ---------------------------------------------------------------------------------------------------------

SCHEMA_1 = """
CREATE TABLE releases (
    name TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    digest TEXT NOT NULL,
    created TEXT NOT NULL,
    manifest BLOB NOT NULL,
    PRIMARY KEY (name, version),
    UNIQUE (name, digest)
) STRICT
"""
NAMED = digest.of_bytes(b"function")


def old_registry(root: Path, *releases: tuple[str, int, bytes]) -> None:
    """As the first schema left it: name, version and manifest of each release."""
    root.mkdir()
    with sqlite3.connect(root / "registry.sqlite") as connection:
        connection.execute(SCHEMA_1)
        for name, version, manifest in releases:
            row = (name, version, str(digest.of_bytes(manifest)), f"2026-05-0{version}T10:00:00Z", manifest)
            connection.execute("INSERT INTO releases (name, version, digest, created, manifest) VALUES (?, ?, ?, ?, ?)", row)
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    blob = root / "blobs" / "sha256" / NAMED.hex[:2] / NAMED.hex
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"function")


def old_manifest(name: str, note: str) -> bytes:
    """The bytes that the first schema kept."""
    artifact = (
        '"arch":"x86_64","candidate":"int8@lambda-zip-x86_64","compressed_bytes":8,"digest":"%s","kind":"zip",'
        '"path":"artifacts/int8@lambda-zip-x86_64","size_bytes":8,"target":"lambda-zip"'
    ).replace("%s", str(NAMED))
    return f'{{"artifact":{{{artifact}}},"files":{{"{FUNCTION}":"{NAMED}"}},"name":"{name}","tags":{{"note":"{note}"}}}}'.encode()


def test_first_schemas_registry_keeps_its_versions_and_digests(root: Path, made: Path, tmp_path: Path) -> None:
    said = [("minilm", 1, "a"), ("minilm", 2, "b"), ("tiny", 1, "c")]
    old = [(name, version, old_manifest(name, note)) for name, version, note in said]
    old_registry(root, *old)
    registry = open_registry(root)
    found = tuple(registry.releases())
    assert [(one.name, one.version, str(one.digest)) for one in found] == [(n, v, str(digest.of_bytes(m))) for n, v, m in old]
    assert [one.created for one in found] == ["2026-05-01T10:00:00Z", "2026-05-02T10:00:00Z", "2026-05-01T10:00:00Z"]
    assert found[1].tags == {"note": "b"}
    registry.pull(found[1], tmp_path / "pulled")
    assert (tmp_path / "pulled" / FUNCTION).read_bytes() == b"function"
    for name, version, manifest in old:
        row = registry.place.table.get(rows.digest_key(name, digest.of_bytes(manifest)))
        assert row is not None
        assert row.head == {"version": version}
    assert registry.names() == ("minilm", "tiny")
    assert registry.publish(made).version == 3
    assert [one.version for one in open_registry(root).releases("minilm")] == [1, 2, 3]
    with sqlite3.connect(root / "registry.sqlite") as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [("rows",)]
    connection.close()


def test_registry_of_second_schema_is_shown_by_lists_as_it_was(root: Path, made: Path) -> None:
    registry = open_registry(root)
    registry.publish(made)
    listed = [(one.name, one.version, one.head) for one in registry.listed()]
    with sqlite3.connect(root / "registry.sqlite") as connection:  # as that schema left it
        connection.execute("DELETE FROM rows WHERE partition = ?", (rows.heads("minilm"),))
        connection.execute("UPDATE rows SET head = '{\"version\": 2}' WHERE sort = 'schema'")
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    for _ in range(2):
        assert [(one.name, one.version, one.head) for one in open_registry(root).listed()] == listed
    row = registry.place.table.get(rows.SCHEMA_KEY)
    assert row is not None
    assert (row.head, row.revision) == ({"version": SCHEMA}, 2)
    assert open_registry(root).publish(made).version == 1


def test_many_may_migrate_at_once(root: Path) -> None:
    old_registry(root, *(("minilm", version, old_manifest("minilm", str(version))) for version in range(1, 9)))
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: len(tuple(open_registry(root).releases())), range(8)))
    assert counts == [8] * 8


@pytest.mark.parametrize("damaged", [b"{", b"[]", old_manifest("other", "a"), old_manifest("minilm", "a").replace(b"zip", b"ZIP")])
def test_damaged_release_of_the_first_schema_is_named_and_kept(root: Path, damaged: bytes) -> None:
    old_registry(root, ("minilm", 1, old_manifest("minilm", "a")))
    with sqlite3.connect(root / "registry.sqlite") as connection:
        connection.execute("UPDATE releases SET manifest = ?", (damaged,))
    connection.close()
    with pytest.raises(ServiceError, match=r"minilm@1 .*cannot be brought to schema 3"):
        tuple(open_registry(root).releases())
    with sqlite3.connect(root / "registry.sqlite") as connection:
        assert connection.execute("SELECT manifest FROM releases").fetchall() == [(damaged,)]
    connection.close()


# --- dying in the middle ---------------------------------------------------------------------------------------------


class Dying(Disk):
    """A disk under a process that is killed at its n-th moment: before a change, half-way through it, or right after it."""

    def __init__(self, moment: int | None) -> None:
        self.moments = 0
        self._moment = moment

    def _pass(self) -> None:
        if self.moments == self._moment:
            os.kill(os.getpid(), signal.SIGKILL)
        self.moments += 1

    def make_folder(self, folder: Path) -> None:
        self._pass()
        super().make_folder(folder)
        self._pass()

    def write(self, path: Path, chunks: Iterable[bytes]) -> None:
        self._pass()
        super().write(path, self._interrupted(chunks))
        self._pass()

    def _interrupted(self, chunks: Iterable[bytes]) -> Iterable[bytes]:
        for chunk in chunks:
            yield chunk[: len(chunk) // 2]
            self._pass()
            yield chunk[len(chunk) // 2 :]

    def move(self, source: Path, target: Path) -> None:
        self._pass()
        super().move(source, target)
        self._pass()

    def commit(self, connection: sqlite3.Connection) -> None:
        self._pass()
        super().commit(connection)
        self._pass()


def dies(work: Any) -> bool:
    """Run in a process of its own; whether it was killed."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.slow
def test_a_publisher_killed_at_any_moment_leaves_all_or_nothing(tmp_path: Path) -> None:
    earlier, made = build(tmp_path / "earlier", content=b"earlier"), build(tmp_path / "out")
    whole = Dying(None)
    first = open_registry(tmp_path / "whole", whole)
    first.publish(earlier)
    start = whole.moments
    first.publish(made)
    assert whole.moments - start > 20
    seen = set()
    for moment in range(whole.moments - start):
        root = tmp_path / f"r{moment}"
        open_registry(root).publish(earlier)
        assert dies(lambda root=root, moment=moment: open_registry(root, Dying(moment)).publish(made))
        registry = open_registry(root)
        for release in tuple(registry.releases()):
            registry.pull(release, tmp_path / f"p{moment}-{release.version}")
        seen.add(len(tuple(registry.releases())))
        assert registry.publish(made).version == 2
        assert [release.version for release in tuple(registry.releases())] == [1, 2]
    assert seen == {1, 2}


@pytest.mark.slow
def test_a_puller_killed_at_any_moment_leaves_all_or_nothing(root: Path, made: Path, tmp_path: Path) -> None:
    release = open_registry(root).publish(made)
    whole = Dying(None)
    open_registry(root, whole).pull(release, tmp_path / "whole")
    for moment in range(whole.moments):
        folder = tmp_path / f"pulled{moment}"
        assert dies(lambda folder=folder, moment=moment: open_registry(root, Dying(moment)).pull(release, folder))
        if not folder.exists():
            open_registry(root).pull(release, folder)
        assert digest.of_tree(folder) == digest.of_tree(made)


def test_a_disk_that_is_full_leaves_nothing_behind(root: Path, made: Path, tmp_path: Path) -> None:
    class Full(Disk):
        def write(self, path: Path, chunks: Iterable[bytes]) -> None:
            super().write(path, (chunk[:1] for chunk in chunks))
            raise OSError(28, "No space left on device", str(path))

    with pytest.raises(OSError, match="No space"):
        open_registry(root, Full()).publish(made)
    assert tuple(open_registry(root).releases()) == ()
    assert list((root / "tmp").iterdir()) == []
    release = open_registry(root).publish(made)
    with pytest.raises(OSError, match="No space"):
        open_registry(root, Full()).pull(release, tmp_path / "pulled")
    assert not [path for path in tmp_path.iterdir() if "pulled" in path.name]


def test_what_a_killed_publisher_left_is_swept_a_day_later(root: Path, made: Path) -> None:
    (root / "tmp").mkdir(parents=True)
    old, new = root / "tmp" / "old", root / "tmp" / "new"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    open_registry(root).publish(made)
    assert not old.exists()
    assert new.exists()
