"""A registry is read without the right to write, and without making a file: by others, and beside writers."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.registry.builds import build

from mlpack.registry import Key, Put
from mlpack.registry.aliases.aliases import MoveRequest, history, promote
from mlpack.registry.local import directory
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows.rows import Reference
from mlpack.registry.upkeep import care

NOBODY = 65534
PROD = Reference(name="minilm", alias="prod")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = directory.open_registry(tmp_path / "registry")
    registry.publish(build(tmp_path / "made"))
    promote(registry.place, Reference(name="minilm", version=1), "prod", MoveRequest(who="alice"), lambda _release, _live: ())
    return registry


def as_nobody(folder: Path, work: Callable[[], str]) -> str:
    """What it gives or raises, done by a user who may read there and write nowhere."""
    if os.geteuid():
        pytest.skip("only root becomes another user")
    for above in (folder, *folder.parents):
        if not above.stat().st_mode & 0o005:
            above.chmod(above.stat().st_mode | 0o055)
        if above == Path("/tmp"):
            break
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            said = work()
        except BaseException as error:  # noqa: BLE001 - told to the parent
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read().decode()
    os.waitpid(child, 0)
    return said


def listing(root: Path) -> list[tuple[str, int, int]]:
    return sorted((path.name, path.lstat().st_mtime_ns, path.lstat().st_ino) for path in (root, *root.rglob("*")))


def everything(root: Path) -> str:
    """What the verbs say that read."""
    registry = directory.open_registry(root)
    listed = [(each.name, each.version) for each in registry.listed()]
    moves = [move.version for move in history(registry.place, PROD)]
    return f"{listed} {registry.show(PROD).version} {moves} {len(care.verify(registry).findings)}"


EXPECTED = "[('minilm', 1)] 1 [1] 0"


def test_reading_makes_and_changes_no_file(registry: Registry) -> None:
    root = Path(registry.place.where)
    before = listing(root)
    assert everything(root) == EXPECTED
    assert listing(root) == before


def test_who_may_only_read_reads(registry: Registry, tmp_path: Path) -> None:
    root = Path(registry.place.where)
    before = listing(root)
    assert as_nobody(root, lambda: everything(root)) == EXPECTED
    pulled = tmp_path / "theirs"
    pulled.mkdir()
    pulled.chmod(0o777)

    def pull() -> str:
        registry.pull(registry.show(PROD), pulled / "out")
        return "pulled"

    assert as_nobody(root, pull) == "pulled"
    assert listing(root) == before


def test_who_may_not_write_is_told(registry: Registry, tmp_path: Path) -> None:
    root = Path(registry.place.where)
    put = Put(key=Key("p", "s"), head={})

    def commit() -> str:
        registry.place.table.commit(put)
        return "written"

    said = as_nobody(root, commit)
    assert said.startswith("ServiceError")
    assert "may not write there" in said


def test_reader_sees_what_writer_that_is_at_work_has_committed(registry: Registry) -> None:
    """Its log has it, and the database itself does not yet."""
    root = Path(registry.place.where)
    writer = sqlite3.connect(root / "registry.sqlite", isolation_level=None)
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    writer.execute("INSERT INTO rows VALUES ('names', 'other', 1, '{}', x'')")
    expected = "('minilm', 'other')"
    try:
        before = sorted(path.name for path in root.iterdir())
        assert str(registry.names()) == expected
        assert as_nobody(root, lambda: str(registry.names())) == expected
        assert sorted(path.name for path in root.iterdir()) == before
    finally:
        writer.close()
    assert as_nobody(root, lambda: str(registry.names())) == expected


def test_killed_writers_rest_is_told_to_who_may_not_clean_up(registry: Registry, tmp_path: Path) -> None:
    root, copy = Path(registry.place.where), tmp_path / "copy"
    writer = sqlite3.connect(root / "registry.sqlite", isolation_level=None)
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    writer.execute("INSERT INTO rows VALUES ('names', 'other', 1, '{}', x'')")
    copy.mkdir()
    for name in ("registry.sqlite", "registry.sqlite-wal"):  # as a crash of the machine leaves it
        shutil.copyfile(root / name, copy / name)
    writer.close()
    left = directory.open_registry(copy)
    assert "a program was killed while it wrote there" in as_nobody(copy, lambda: str(left.names()))
    assert left.names() == ("minilm", "other")  # who may write cleans up
    assert as_nobody(copy, lambda: str(left.names())) == "('minilm', 'other')"


def test_an_older_registry_is_not_migrated_by_who_may_only_read(registry: Registry) -> None:
    root = Path(registry.place.where)
    with sqlite3.connect(root / "registry.sqlite") as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    assert "mlpack registry migrate" in as_nobody(root, lambda: everything(root))
    assert everything(root) == EXPECTED
    assert as_nobody(root, lambda: everything(root)) == EXPECTED


def test_a_reader_beside_writers_never_sees_half_of_a_commit(registry: Registry) -> None:
    """Two rows that are written together, over and over; and everything that was committed before a read is in it."""
    table, keys, ended = registry.place.table, (Key("pair", "a"), Key("pair", "b")), threading.Event()
    table.commit(*(Put(key=key, head={"n": 1}) for key in keys))
    committed = [1]

    def write() -> None:
        for number in range(1, 60):
            table.commit(*(Put(key=key, head={"n": number + 1}, expect=number) for key in keys))
            committed[0] = number + 1
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not ended.is_set():
        least = committed[0]
        first, second = (row.head["n"] for row in table.query("pair"))
        assert first == second
        assert first >= least
        reads += 1
    writer.join()
    assert reads


def test_a_directory_without_a_right_to_it_is_said(registry: Registry) -> None:
    root = Path(registry.place.where)

    def look() -> str:
        return str(registry.names())

    if os.geteuid():
        pytest.skip("only root becomes another user")
    (root / "registry.sqlite").chmod(0o600)
    said = as_nobody(root, look)
    assert said.startswith("ServiceError"), said
    assert "may not open it" in said
