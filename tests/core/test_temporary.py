"""Temporary directories: gone at the end, or with the next run when their maker was killed; never anybody else's."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlpack.core.files import temporary


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory of the test's own, not swept yet."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(temporary, "_swept", set())
    return folder


def left_over(place: Path, name: str = "mlpack-held-install-abc") -> Path:
    """What a process leaves that is killed while it holds a directory."""
    folder = place / name
    (folder / "sealed").mkdir(parents=True)
    (folder / "sealed/pinned.txt").write_text("x")
    (folder / "sealed").chmod(0o555)
    return folder


def test_a_directory_is_private_and_gone_at_the_end(place: Path) -> None:
    with temporary.directory("install") as work:
        assert work.parent == place
        assert work.stat().st_mode & 0o777 == 0o700
        (work / "a").mkdir()
        (work / "a/b").write_text("x")
        (work / "a").chmod(0o555)
    assert list(place.iterdir()) == []
    with pytest.raises(KeyError), temporary.directory("install"):
        raise KeyError
    assert list(place.iterdir()) == []


def test_what_was_left_goes_when_the_next_is_made(place: Path) -> None:
    left_over(place)
    left_over(place, "mlpack-held-export-xyz")
    with temporary.directory("install") as work:
        assert list(place.iterdir()) == [work]


def test_what_a_living_process_holds_stays(place: Path) -> None:
    kept = left_over(place)
    held = os.open(kept, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    temporary.sweep(place)
    assert kept.exists()
    os.close(held)
    temporary.sweep(place)
    assert not kept.exists()


def test_what_is_not_ours_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = left_over(place, "mlpack-install-of-an-older-one"), left_over(place, "held-mlpack-x"), left_over(place, "x")
    target = left_over(place.parent, "elsewhere")
    (place / "mlpack-held-link").symlink_to(target)
    (place / "mlpack-held-file").write_text("x")
    os.mkfifo(place / "mlpack-held-pipe")
    temporary.sweep(place)
    assert all(each.exists() for each in (*others, target / "sealed/pinned.txt"))
    assert (place / "mlpack-held-link").is_symlink()
    assert (place / "mlpack-held-file").exists()
    theirs = left_over(place)
    monkeypatch.setattr(os, "geteuid", lambda: theirs.stat().st_uid + 1)
    temporary.sweep(place)
    assert theirs.exists()


def test_links_inside_what_is_removed_are_not_followed(place: Path) -> None:
    target = place.parent / "precious"
    target.mkdir()
    (target / "file").write_text("x")
    target.chmod(0o500)
    work = left_over(place)
    (work / "link").symlink_to(target)
    temporary.sweep(place)
    assert not work.exists()
    assert (target / "file").read_text() == "x"
    assert target.stat().st_mode & 0o777 == 0o500


def test_one_that_was_made_this_moment_stays(place: Path) -> None:
    (place / "mlpack-held-install-new").mkdir()
    temporary.sweep(place)
    assert (place / "mlpack-held-install-new").exists()


def test_a_relative_temporary_directory_becomes_absolute(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", "tmp")
    with temporary.directory("install") as work:
        assert work.is_absolute()
        assert work.parent == place


@pytest.mark.slow
def test_killed_process_leaves_nothing_beyond_the_next_run(place: Path) -> None:
    program = (
        "from mlpack.core.files import temporary; import time\n"
        "with temporary.directory('x') as work: (work / 'f').touch(); print(1, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program]
    environ = {**os.environ, "TMPDIR": str(place), "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        temporary.sweep(place)
        assert len(list(place.iterdir())) == 1
        process.send_signal(signal.SIGKILL)
    assert len(list(place.iterdir())) == 1
    with temporary.directory("install") as work:
        assert list(place.iterdir()) == [work]


def test_what_is_marked_is_not_left_until_its_maker_has_ended(tmp_path: Path) -> None:
    with temporary.marked(tmp_path, "making-") as work:
        (work / "half").write_text("x")
        assert not temporary.is_left(work)
    assert list(tmp_path.iterdir()) == []
    work.mkdir()
    assert not temporary.is_left(work)  # empty and young: its maker may be about to mark it
    (work / "half").write_text("x")
    assert temporary.is_left(work)
    assert work.exists()


def test_who_asks_whether_it_is_left_marks_nothing(tmp_path: Path) -> None:
    (tmp_path / "half").write_text("x")
    assert [temporary.is_left(tmp_path) for _ in range(3)] == [True] * 3


def test_a_link_is_not_asked_about(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with pytest.raises(NotADirectoryError):
        temporary.is_left(tmp_path / "link")
