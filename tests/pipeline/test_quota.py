"""A quota of the processor: found where the kernel gives one, tried before it is trusted, and gone afterwards."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from mlpack.pipeline.measuring import quota
from mlpack.pipeline.measuring.quota import Quota

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def failing(share: float) -> Iterator[tuple[str, ...]]:
    yield (sys.executable, "-c", "import sys; sys.exit('Failed to connect to bus')")


@contextmanager
def strict(share: float) -> Iterator[tuple[str, ...]]:
    """A process that says it had its share, whatever it runs."""
    yield (sys.executable, "-c", f"print({share * quota._TRIAL_S})")


@contextmanager
def lenient(share: float) -> Iterator[tuple[str, ...]]:
    yield (sys.executable, "-c", f"print({0.9 * quota._TRIAL_S})")


def test_a_quota_that_gives_more_than_it_says_is_none() -> None:
    assert quota.trial(Quota(name="lenient", held=lenient)) == "a busy process had 90% of a processor, and 20% were allowed"


def test_a_quota_that_fails_says_why() -> None:
    assert quota.trial(Quota(name="no bus", held=failing)) == "Failed to connect to bus"
    assert quota.trial(Quota(name="strict", held=strict)) is None


def test_the_first_way_that_holds_is_taken() -> None:
    broken, loose, good = (Quota(name=name, held=held) for name, held in (("a", failing), ("b", lenient), ("c", strict)))
    assert quota.first_that_holds((broken, loose, good)) is good
    reason = quota.first_that_holds((broken, loose))
    assert reason == "a: Failed to connect to bus; b: a busy process had 90% of a processor, and 20% were allowed"


def test_without_cgroups_and_systemd_there_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota.shutil, "which", lambda _: None)
    reason = quota.first_that_holds(quota.ways(tmp_path / "cgroup", tmp_path / "mounts"))
    assert reason == "no cgroup can be made here, and there is no systemd to ask"


@pytest.mark.parametrize(
    ("line", "mount", "control", "version"),
    [
        ("0::/user.slice/session", "cgroup2 {root} cgroup2 rw 0 0", "cpu.max", "version 2"),
        ("3:cpu,cpuacct:/user.slice/session", "cgroup {root} cgroup rw,cpu,cpuacct 0 0", "cpu.cfs_quota_us", "version 1"),
    ],
)
def test_a_group_is_made_in_the_nearest_that_lends_its_control(
    line: str, mount: str, control: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel makes the control's file with the group: here the nearest group has none, and the one above it has."""
    root = tmp_path / "cgroup"
    (root / "user.slice/session").mkdir(parents=True)
    (tmp_path / "self").write_text(f"9:name=systemd:/\n{line}\n")
    (tmp_path / "mounts").write_text(mount.format(root=root) + "\nproc /proc proc rw 0 0\n")
    monkeypatch.setattr(quota.shutil, "which", lambda _: None)
    monkeypatch.setattr(quota.os, "access", lambda path, _: path.name == control and path.parent.parent == root / "user.slice")
    (found,) = quota.ways(tmp_path / "self", tmp_path / "mounts")
    assert found.name == f"a cgroup ({version})"
    monkeypatch.setattr(quota, "_GONE_S", 0.0)
    with found.held(0.29) as prefix:
        group = type(root)(prefix[-1]).parent
        assert group.parent == root / "user.slice"
        written = {path.name: path.read_text() for path in group.iterdir()}
    allowed = {"cpu.max": "5800 20000"} if control == "cpu.max" else {"cpu.cfs_period_us": "20000", "cpu.cfs_quota_us": "5800"}
    assert written == allowed


def test_the_prefix_enters_the_group_before_the_command_runs(tmp_path: Path) -> None:
    procs = tmp_path / "cgroup.procs"
    command = ["/bin/sh", "-c", quota._ENTER, str(procs), sys.executable, "-c", "import os; print(os.getpid())"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert procs.read_text() == done.stdout  # the same process: no shell stays between


def test_a_real_quota_holds_its_share_and_goes() -> None:
    found = quota.first_that_holds(quota.ways())
    if isinstance(found, str):
        pytest.skip(found)
    with found.held(0.25) as prefix:
        command = [*prefix, sys.executable, "-I", "-S", "-c", quota._BUSY.format(s=0.6)]
        spent = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert spent <= 0.6 * 0.25 * 1.3  # others may leave it less, and nothing leaves it more
    groups = [word for word in prefix if word.endswith("cgroup.procs")]
    assert not any(quota.Path(group).parent.exists() for group in groups)
