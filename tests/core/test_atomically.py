"""Tests of `mlpack.core.files.atomically`: a file is there whole or not at all, whatever interrupts its writer."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mlpack.core.files import atomically


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "lock"
    place.write_text("old")
    with atomically.replacing(place) as fresh, fresh.open("wb") as stream:
        stream.write(b"half")
        stream.flush()
        assert place.read_text() == "old"
        assert fresh.parent == tmp_path
        stream.write(b" and half")
    assert place.read_text() == "half and half"
    assert names(tmp_path) == {"lock"}


def interrupted(place: Path, error: BaseException) -> None:
    """A writer that does not come to its end."""
    with atomically.replacing(place) as fresh:
        fresh.write_text("half")
        raise error


@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt()])
def test_an_error_leaves_the_place_as_it_was(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "there").write_text("old")
    for name in ("there", "new"):
        with pytest.raises(type(error)):
            interrupted(tmp_path / name, error)
    assert names(tmp_path) == {"there"}
    assert (tmp_path / "there").read_text() == "old"


def test_an_error_of_the_renaming_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        atomically.write(tmp_path / "folder", b"x")
    assert names(tmp_path) == {"folder"}


def test_a_writer_that_is_killed_leaves_the_place_as_it_was(tmp_path: Path) -> None:
    place = tmp_path / "lock"
    place.write_text("old")
    code = (
        "import os, pathlib, sys\nfrom mlpack.core.files import atomically\n"
        "with atomically.replacing(pathlib.Path(sys.argv[1])) as fresh:\n    fresh.write_text('half')\n    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, place], check=False).returncode == 9
    assert place.read_text() == "old"
    assert all(name == "lock" or name.startswith(".lock-") for name in names(tmp_path))


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o755])
def test_permissions_do_not_depend_on_the_umask(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        atomically.write(tmp_path / "file", b"x", mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_put_without_a_mode_keeps_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(b"x")
    (tmp_path / "made").chmod(0o640)
    atomically.put(tmp_path / "made", tmp_path / "file", mode=None)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("theirs")
    (tmp_path / "link").symlink_to("target")
    atomically.write(tmp_path / "link", b"ours")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "theirs"


def test_the_longest_name_of_a_file_has_room_for_its_other_one(tmp_path: Path) -> None:
    for name in ("n" * 255, "é" * 127, os.fsdecode(b"\xff" * 255)):
        atomically.write(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"


def test_what_is_durable_is_synced_before_and_after_renaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, bool]] = []
    place, fsync = tmp_path / "row", os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append((os.fstat(handle).st_ino, place.exists())), fsync(handle)))
    atomically.write(place, b"x")
    assert synced == []
    place.unlink()
    atomically.write(place, b"x", durable=True)
    assert synced == [(place.stat().st_ino, False), (tmp_path.stat().st_ino, True)]


def test_what_is_not_put_anywhere_is_removed(tmp_path: Path) -> None:
    with atomically.unfinished(tmp_path, ".incoming-") as fresh:
        assert stat.S_IMODE(fresh.stat().st_mode) == 0o600
        assert fresh.name.startswith(".incoming-")
    assert names(tmp_path) == set()
    with atomically.unfinished(tmp_path, ".incoming-") as fresh:
        atomically.put(fresh, tmp_path / "blob")
    assert names(tmp_path) == {"blob"}


def test_writers_of_one_place_do_not_meet(tmp_path: Path) -> None:
    place, seen = tmp_path / "lock", set()
    texts = [bytes([letter]) * 50_000 for letter in b"abcdefgh"]
    writers = [threading.Thread(target=lambda text=text: [atomically.write(place, text) for _ in range(20)]) for text in texts]
    for each in writers:
        each.start()
    while any(each.is_alive() for each in writers):
        if place.exists():
            seen.add(place.read_bytes())
    for each in writers:
        each.join()
    seen.add(place.read_bytes())
    assert seen <= set(texts)
    assert names(tmp_path) == {"lock"}
