from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.support.entries import LARGE, action, made, put, there

from mlpack.core import digest
from mlpack.core.files import temporary
from mlpack.store import care
from mlpack.store.care import BASES, FAILED, LEFT_OVER, MAKING
from mlpack.store.local import Store


def left_whole(root: Path) -> bool:
    """Whether each tree is what its name says, and nothing else lies about once the store is opened."""
    Store(root).release()
    trees = {path.name: path for path in (root / "trees").iterdir()}
    assert all(digest.of_tree(path).hex == name for name, path in trees.items())
    assert not list((root / "temporary").iterdir())
    return all(path.stat().st_nlink > 1 for path in (root / "files").iterdir())


def pruned(root: Path, most: int = 0, **more: Any) -> care.PruneReport:
    found = care.prune(root, most, **more)
    assert found is not None
    return found


def on_disk(root: Path) -> int:
    """What du says of the folders that are counted."""
    folders = [str(root / name) for name in ("trees", "actions")]
    said = subprocess.run(["du", "-s", "-B1", "-c", *folders], check=True, capture_output=True, text=True).stdout
    return int(said.splitlines()[-1].split()[0])


def test_least_recently_used_goes_first(tmp_path: Path) -> None:
    made(tmp_path, "a", "b", "c", "d")
    assert there(tmp_path, "a") == {"a"}  # which is a use
    size = care.status(tmp_path).size_bytes
    found = pruned(tmp_path, size - 1)
    assert [item.kind for item in found.removed] == ["step/b"]
    assert found.size_bytes == care.status(tmp_path).size_bytes <= size - 1
    pruned(tmp_path, found.size_bytes - 1)
    assert there(tmp_path, *"abcd") == {"a", "d"}
    assert left_whole(tmp_path)


def test_what_is_pruned_is_a_miss_and_made_again(tmp_path: Path) -> None:
    made(tmp_path, "a", "b")
    pruned(tmp_path)
    assert there(tmp_path, "a", "b") == set()
    opened = Store(tmp_path)
    assert (put(opened, "a") / "name").read_text() == "a"
    assert not list((tmp_path / "files").iterdir())


def test_size_is_what_du_says(tmp_path: Path) -> None:
    made(tmp_path, "a", "b", "c")
    made(tmp_path, "big", "bigger", data=LARGE)
    folders = sum(path.stat().st_blocks * 512 for path in (tmp_path / "trees", tmp_path / "actions"))
    assert care.status(tmp_path).size_bytes == pytest.approx(on_disk(tmp_path) - folders, rel=0.02)


def test_file_of_several_trees_counts_once_until_the_last_goes(tmp_path: Path) -> None:
    made(tmp_path, "a", "b", "c", data=LARGE)
    status = care.status(tmp_path)
    assert len(LARGE) < status.size_bytes < 1.1 * len(LARGE)
    assert sum(kind.size_bytes for kind in status.kinds) == status.size_bytes
    first = pruned(tmp_path, status.size_bytes - 1)
    assert len(first.removed) == 1
    assert first.freed_bytes < 100_000
    assert first.removed[0].size_bytes > len(LARGE)
    rest = pruned(tmp_path)
    assert rest.freed_bytes == first.size_bytes
    assert not list((tmp_path / "files").iterdir())


def test_tree_of_several_actions_counts_once_until_all_go(tmp_path: Path) -> None:
    opened = Store(tmp_path)
    for name in ("a", "b", "c"):
        with opened.entry(action(name)) as entry:
            (entry.dir / "same").write_bytes(b"x" * 100_000)
    opened.release()
    status = care.status(tmp_path)
    assert 100_000 < status.size_bytes < 130_000
    assert [kind.count for kind in status.kinds] == [1]
    assert pruned(tmp_path).freed_bytes == status.size_bytes
    assert not list((tmp_path / "actions").iterdir())


HOLDER = f"""
import sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from mlpack.store.local import Store
from tests.support.entries import put
opened = Store(Path(sys.argv[1]))
for name in sys.argv[2:]:
    put(opened, name)
print("ready", flush=True)
sys.stdin.readline()
"""


def holder(root: Path, *names: str) -> subprocess.Popen[str]:
    """A process that found or made these entries and is still at work."""
    started = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root), *names], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def test_what_living_process_found_or_made_stays_until_it_ends(tmp_path: Path) -> None:
    made(tmp_path, "a", "b")
    with holder(tmp_path, "a", "new") as other:
        status = care.status(tmp_path)
        assert status.held == 2
        assert 0 < status.held_bytes < status.size_bytes
        found = pruned(tmp_path)
        assert (found.held, len(found.removed)) == (2, 1)
        assert there(tmp_path, "a", "b", "new") == {"a", "new"}
        other.kill()
        other.wait()
        assert len(pruned(tmp_path).removed) == 2


def test_dry_run_removes_nothing_and_says_the_same(tmp_path: Path) -> None:
    made(tmp_path, *"abcdef")
    half = care.status(tmp_path).size_bytes // 2
    said = pruned(tmp_path, half, dry_run=True)
    assert there(tmp_path, *"abcdef") == set("abcdef")
    made(tmp_path, *"abcdef")  # as they were used before
    done = pruned(tmp_path, half)
    assert [item.name for item in done.removed] == [item.name for item in said.removed]
    assert (done.freed_bytes, done.size_bytes) == (said.freed_bytes, said.size_bytes)


def test_left_over_goes_first_and_whatever_the_limit(tmp_path: Path) -> None:
    made(tmp_path, "a", "b", "c")
    opened = Store(tmp_path)
    orphan = put(opened, "orphan")
    gone = put(opened, "gone")
    opened.release()
    del opened
    (tmp_path / "actions" / f"{digest.of_json(action('orphan')).hex}.json").unlink()
    gone.chmod(0o755)
    shutil.rmtree(gone)
    (tmp_path / "actions" / ("0" * 64 + ".json")).write_text("[")
    (tmp_path / "files" / ("1" * 64)).write_text("its trees have gone")
    (tmp_path / "temporary/making-dead").mkdir()
    (tmp_path / "temporary/making-dead/half").write_text("x")
    (tmp_path / BASES / "blobs/sha256").mkdir(parents=True)
    incoming = tmp_path / BASES / "blobs/sha256/.incoming-x"
    incoming.write_text("x")
    old = tmp_path / "actions" / f".{'2' * 64}.json.abc"
    old.write_text("x")
    for path in (incoming, old):
        os.utime(path, (1_000_000,) * 2)
    found = pruned(tmp_path, 10**12)
    assert {item.kind for item in found.removed} == {LEFT_OVER}
    assert len(found.removed) == 7
    assert not orphan.exists()
    assert not incoming.exists()
    assert there(tmp_path, "a", "b", "c") == {"a", "b", "c"}
    assert {kind.kind for kind in care.status(tmp_path).kinds} == {"step/a", "step/b", "step/c"}


def test_what_is_being_made_stays(tmp_path: Path) -> None:
    opened = Store(tmp_path)
    blobs = tmp_path / BASES / "blobs/sha256"
    blobs.mkdir(parents=True)
    (blobs / ".incoming-x").write_text("x")
    with opened.scratch() as work:
        (work / "half").write_text("x")
        assert [kind.kind for kind in care.status(tmp_path).kinds] == [MAKING]
        assert pruned(tmp_path).removed == []
        assert (work / "half").exists()
    assert (blobs / ".incoming-x").exists()


def test_base_images_go_unless_a_build_uses_them(tmp_path: Path) -> None:
    opened = Store(tmp_path)
    for folder in ("blobs/sha256", "rootfs", "paths"):
        (tmp_path / BASES / folder).mkdir(parents=True)
        (tmp_path / BASES / folder / ("3" * 64)).write_bytes(b"x" * 10_000)
    opened.hold(BASES)
    (kind,) = care.status(tmp_path).kinds
    assert (kind.kind, kind.count) == ("base images", 3)
    assert (pruned(tmp_path).held, len(pruned(tmp_path).removed)) == (3, 0)
    opened.release()
    assert len(pruned(tmp_path).removed) == 3


def test_failed_steps_go_unless_they_are_being_written(tmp_path: Path) -> None:
    opened = Store(tmp_path)
    (tmp_path / FAILED / "quantize-123").mkdir(parents=True)
    (tmp_path / FAILED / "quantize-123/step.json").write_text("{}")
    opened.hold(FAILED)
    assert pruned(tmp_path).removed == []
    opened.release()
    assert [item.kind for item in pruned(tmp_path).removed] == ["failed steps"]


def test_what_no_mlpack_put_there_stays(tmp_path: Path) -> None:
    made(tmp_path, "a")
    mine = [
        tmp_path / name
        for name in (
            "notes.txt",
            "trees/mine/x",
            "actions/mine.json",
            f"{BASES}/mine/x",
            f"{BASES}/x",
            f"{FAILED}/mine/x",
            "other/x",
        )
    ]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    (tmp_path / "trees" / ("4" * 64)).symlink_to(tmp_path / "other")
    pruned(tmp_path)
    assert all(path.read_text() == "mine" for path in mine)


@pytest.mark.parametrize("name", ["nothing", "folder", "file"])
def test_where_no_store_is_nothing_goes_and_none_is_made(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder/trees").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    assert care.status(tmp_path / name).size_bytes == 0
    assert pruned(tmp_path / name).removed == []
    assert sorted(tmp_path.rglob("*")) == before


def test_entry_that_cannot_be_removed_is_said_and_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, "a", "b")
    whole = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path == Store(tmp_path).path(digest.of_tree(path)) and (path / "name").read_text() == "a":
            raise PermissionError(13, "Permission denied")
        return whole(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    found = pruned(tmp_path)
    assert (found.refused, len(found.removed)) == (1, 1)
    assert "Permission denied" in found.reason
    monkeypatch.undo()
    assert left_whole(tmp_path)
    assert len(pruned(tmp_path).removed) == 1


def test_used_while_the_prune_looked_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, "a", "b")
    survey = care.survey

    def surveyed(root: Path) -> list[care.Item]:
        items = survey(root)
        assert there(root, "a") == {"a"}
        return items

    monkeypatch.setattr(care, "survey", surveyed)
    pruned(tmp_path)
    assert there(tmp_path, "a", "b") == {"a"}


def test_two_prunes_take_turns(tmp_path: Path) -> None:
    made(tmp_path, "a")
    from mlpack.store.holds import Holds

    with Holds(tmp_path / "holds").alone("prune") as only:
        assert only
        assert care.prune(tmp_path, 0, wait=False) is None
    assert len(pruned(tmp_path, wait=False).removed) == 1


KILLED = f"""
import os, signal, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from mlpack.store import local as store
from mlpack.store import care
from tests.support.entries import made
store._SHARED_BYTES = 100
folder = Path(sys.argv[1])
for stop in range(1, 10_000):
    root = folder / str(stop)
    made(root, "a", "b")
    made(root, "big", "bigger", data=b"x" * 100)
    child = os.fork()
    if not child:
        left = [stop]
        def count(event, _arguments):
            if event.startswith(("os.", "shutil.", "open", "fcntl.", "tempfile.")):
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        care.prune(root, 0)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        print(stop - 1)
        break
"""


@pytest.mark.slow
def test_killed_at_each_step_every_entry_is_whole_or_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A kill between making a directory and marking it leaves it empty for five seconds: nobody makes one here.
    monkeypatch.setattr(temporary, "_YOUNG_S", 0.0)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=True, capture_output=True, text=True)
    steps = int(done.stdout)
    assert steps > 50
    gone: set[int] = set()
    for step in range(1, steps + 1):
        root = tmp_path / str(step)
        names = there(root, "a", "b", "big", "bigger")
        gone.add(4 - len(names))
        assert left_whole(root)
        opened = Store(root)
        for name in ("a", "b"):
            assert (put(opened, name) / "name").read_text() == name
        opened.release()
        pruned(root)
        assert not any(list((root / folder).iterdir()) for folder in ("trees", "actions", "files", "temporary"))
    assert gone == {0, 1, 2, 3, 4}


BUILDER = f"""
import random, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from mlpack.core import digest
from mlpack.store.local import Store
from tests.support.entries import LARGE, put
root, seed = Path(sys.argv[1]), int(sys.argv[2])
chance = random.Random(seed)
for turn in range(25):
    opened, used = Store(root), {{}}
    for _ in range(6):
        name = chance.choice(["a", "b", "c", "d", "big", "bigger"])
        used[name] = put(opened, name, LARGE if name[0] == "b" and len(name) > 1 else None)
        for known, folder in used.items():
            assert (folder / "name").read_text() == known
            assert (folder / "sub/data").stat().st_size == (len(LARGE) if known.startswith("big") else len(known))
    for folder in used.values():
        assert digest.of_tree(folder).hex == folder.name
    opened.release()
"""


def test_builders_in_processes_end_right_while_others_prune(tmp_path: Path) -> None:
    builders = [
        subprocess.Popen([sys.executable, "-c", BUILDER, str(tmp_path), str(seed)], stderr=subprocess.PIPE, text=True)
        for seed in range(3)
    ]
    removed = 0
    while any(builder.poll() is None for builder in builders):
        found = care.prune(tmp_path, 0, wait=False)
        removed += len(found.removed) if found is not None else 0
        time.sleep(0.001)
    for builder in builders:
        _, said = builder.communicate()
        assert builder.returncode == 0, said
    assert removed > 10
    assert left_whole(tmp_path)


class Storekeeping(RuleBasedStateMachine):
    """Builds that come, find, make and end in any order while the store is pruned to any size."""

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.builds: dict[int, tuple[Store, dict[str, Path]]] = {}
        Store(self.root)

    @rule(number=st.integers(0, 2), name=st.sampled_from(["a", "b", "c", "d", "e"]))
    def use(self, number: int, name: str) -> None:
        if number not in self.builds:
            self.builds[number] = Store(self.root), {}
        opened, used = self.builds[number]
        used[name] = put(opened, name)

    @rule(number=st.integers(0, 2), how=st.sampled_from(["end", "forget"]))
    def end(self, number: int, how: str) -> None:
        opened, _ = self.builds.pop(number, (None, None))
        if opened is not None and how == "end":
            opened.release()

    @rule(share=st.floats(0, 1.2))
    def prune(self, share: float) -> None:
        before = care.status(self.root)
        limit = int(share * before.size_bytes)
        found = pruned(self.root, limit)
        after = care.status(self.root)
        assert after.size_bytes == found.size_bytes == before.size_bytes - found.freed_bytes
        assert after.held == before.held
        assert after.size_bytes <= max(limit, before.held_bytes)

    @rule(name=st.sampled_from(["a", "b", "c"]))
    def kill_between_tree_and_record(self, name: str) -> None:
        (self.root / "actions" / f"{digest.of_json(action(name)).hex}.json").unlink(missing_ok=True)

    @invariant()
    def what_is_held_is_there(self) -> None:
        for _, used in getattr(self, "builds", {}).values():
            for name, folder in used.items():
                assert (folder / "name").read_text() == name

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            assert left_whole(self.root)
            self.folder.cleanup()


TestStorekeeping = Storekeeping.TestCase
TestStorekeeping.settings = settings(
    max_examples=settings.default.max_examples // 3,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_killed_holder_ends_its_holds(tmp_path: Path) -> None:
    with holder(tmp_path, "a") as other:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    assert care.status(tmp_path).held == 0


def test_record_of_another_version_is_an_entry_like_others(tmp_path: Path) -> None:
    made(tmp_path, "a")
    (record,) = (tmp_path / "actions").iterdir()
    record.write_text(json.dumps(json.loads(record.read_text()) | {"format": 99}))
    assert pruned(tmp_path, 10**9).removed == []
    assert [item.kind for item in pruned(tmp_path).removed] == ["step/a"]
