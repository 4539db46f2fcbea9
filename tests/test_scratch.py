"""Where the fast tests put their temporary files (`tools/scratch.py`)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from tools import scratch

ROOM = shutil._ntuple_diskusage(1 << 40, 0, 1 << 40)


@pytest.fixture(autouse=True)
def _nobody_knows_better(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "usual"))
    monkeypatch.setattr(scratch, "_available", lambda: 1 << 40)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: ROOM)


def test_memory_with_room_is_taken(tmp_path: Path) -> None:
    assert scratch.directory(tmp_path) == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_or_memory_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(scratch, "_available", lambda: scratch.NEEDED)
        assert scratch.directory(tmp_path) == str(tmp_path / "usual")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: ROOM._replace(free=scratch.NEEDED - 1))
    assert scratch.directory(tmp_path) == str(tmp_path / "usual")


def test_where_nothing_may_run_or_nothing_is_the_usual_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scratch.directory(tmp_path / "nowhere") == str(tmp_path / "usual")
    monkeypatch.setattr(scratch, "_executes", lambda _folder: False)
    assert scratch.directory(tmp_path) == str(tmp_path / "usual")


def test_a_choice_of_the_users_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert scratch.directory(tmp_path) == str(tmp_path / "usual")
