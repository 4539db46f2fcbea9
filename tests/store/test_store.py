from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlpack.core import digest
from mlpack.errors import PassError, RecipeError
from mlpack.store.local import Store, remove

ACTION = {"kind": "test", "version": 1, "input": "x"}


def put(store: Store, action: dict[str, object] = ACTION, text: str = "hello") -> Path:
    with store.entry(action) as entry:
        if not entry.hit:
            (entry.dir / "sub").mkdir()
            (entry.dir / "sub/out.txt").write_text(text)
    return entry.dir


def test_first_time_is_a_miss_and_the_second_a_hit(store: Store) -> None:
    with store.entry(ACTION) as entry:
        assert not entry.hit
        (entry.dir / "a").write_text("1")
    tree = entry.digest
    assert digest.of_tree(store.path(tree)) == tree
    with store.entry(ACTION) as again:
        assert again.hit
        assert again.digest == tree


def test_other_actions_with_equal_output_share_one_tree(store: Store) -> None:
    assert put(store, {"kind": "a"}) == put(store, {"kind": "b"})


def test_trees_are_read_only_once_in_place(store: Store) -> None:
    folder = put(store)
    assert all(not e.stat(follow_symlinks=False).st_mode & 0o222 for _, e in digest.entries(folder))


def test_a_failure_is_never_kept(store: Store) -> None:
    with pytest.raises(RuntimeError), store.entry(ACTION) as entry:  # noqa: PT012 - the work that fails is the block
        (entry.dir / "half").write_text("x")
        raise RuntimeError
    assert store.find(ACTION) is None
    assert not list((store.root / "temporary").iterdir())
    assert not list((store.root / "trees").iterdir())


def test_an_empty_output_is_refused(store: Store) -> None:
    with pytest.raises(PassError, match="output is empty"), store.entry(ACTION):
        pass


@pytest.mark.parametrize(
    "damage", ["changed", "truncated", "removed", "added", "tree gone", "record cut", "record garbage", "record of another"]
)
def test_a_damaged_entry_is_a_miss_and_is_mended(store: Store, damage: str) -> None:
    folder = put(store)
    record = next((store.root / "actions").glob("*.json"))
    for path in (folder, folder / "sub"):
        path.chmod(0o755)
    victim = folder / "sub/out.txt"
    victim.chmod(0o644)
    match damage:
        case "changed":
            victim.write_text("jello")
        case "truncated":
            os.truncate(victim, 2)
        case "removed":
            victim.unlink()
        case "added":
            (folder / "more").write_text("x")
        case "tree gone":
            remove(folder)
        case "record cut":
            record.write_bytes(record.read_bytes()[:40])
        case "record garbage":
            record.write_text("[]")
        case _:
            value = json.loads(record.read_text())
            value["action"]["input"] = "y"
            record.write_text(json.dumps(value))
    assert store.find(ACTION) is None
    assert (put(store) / "sub/out.txt").read_text() == "hello"
    assert store.find(ACTION) is not None


def test_touching_without_changing_is_still_a_hit(store: Store) -> None:
    folder = put(store)
    os.utime(folder / "sub/out.txt", (1, 1))
    assert store.find(ACTION) is not None


def test_verify_finds_what_is_not_repeatable(store: Store) -> None:
    put(store)
    again = Store(store.root, verify=True)
    put(again)
    with pytest.raises(PassError, match="not repeatable"):
        put(again, text="other")


def test_nearest_names_the_action_that_shares_most(store: Store) -> None:
    put(store, {"kind": "k", "a": 1, "b": 1, "c": 1})
    put(store, {"kind": "k", "a": 1, "b": 2, "c": 1})
    put(store, {"kind": "other", "a": 1, "b": 3, "c": 1})
    assert store.nearest({"kind": "k", "a": 1, "b": 2, "c": 9}) == {"kind": "k", "a": 1, "b": 2, "c": 1}
    assert store.nearest({"kind": "new"}) is None


def test_what_a_dead_process_left_is_swept(store: Store) -> None:
    script = f"""
import os, signal, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from mlpack.store.local import Store
with Store(Path({str(store.root)!r})).entry({{'kind': 'x'}}) as entry:
    (entry.dir / 'a').write_text('1')
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list((store.root / "temporary").iterdir())
    Store(store.root)
    assert not list((store.root / "temporary").iterdir())


def _race(root: Path) -> None:
    store = Store(root)
    for number in range(20):
        put(store, {"kind": "race", "n": number % 5}, text=str(number % 5))


def test_processes_that_do_the_same_work_cannot_spoil_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_race, args=(tmp_path / "s",)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    store = Store(tmp_path / "s")
    for number in range(5):
        entry = store.find({"kind": "race", "n": number})
        assert entry is not None
        assert digest.of_tree(entry.dir) == entry.digest


def test_what_a_living_process_makes_is_never_swept(store: Store) -> None:
    """Not even when its process id means nothing here, as in another container: who holds a directory says so."""
    with store.scratch() as work:
        (work / "half").write_text("x")
        Store(store.root)
        script = f"from mlpack.store.local import Store; from pathlib import Path; Store(Path({str(store.root)!r}))"
        subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": ":".join(sys.path)})
        assert (work / "half").exists()
    assert not list((store.root / "temporary").iterdir())


def test_whatever_else_lies_among_the_temporary_is_swept(store: Store) -> None:
    (store.root / "temporary/file").write_text("x")
    (store.root / "temporary/link").symlink_to("/nowhere")
    (store.root / "temporary/123-dead/sub").mkdir(parents=True)
    Store(store.root)
    assert not list((store.root / "temporary").iterdir())


@pytest.mark.parametrize("place", ["/proc/nowhere/store", "file"])
def test_a_store_that_cannot_be_made_is_told(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="MLPACK_STORE"):
        Store(tmp_path / place)


def put_large(store: Store, kind: str, data: bytes) -> Path:
    with store.entry({"kind": kind}) as entry:
        if not entry.hit:
            (entry.dir / "data").write_bytes(data)
            (entry.dir / "which").write_text(kind)
    return entry.dir / "data"


def test_a_large_file_of_two_trees_is_kept_once(store: Store) -> None:
    data = os.urandom(1 << 20)
    paths = [put_large(store, kind, data) for kind in ("a", "b", "c")]
    assert len({path.parent for path in paths}) == 3
    assert len({path.stat().st_ino for path in paths}) == 1
    assert put_large(store, "small", data[:-1]).stat().st_nlink == 1
    for kind in ("a", "b", "c"):
        found = store.find({"kind": kind})
        assert found is not None
        assert digest.of_tree(found.dir) == found.tree


def test_damage_of_a_shared_file_is_not_passed_on(store: Store) -> None:
    data = os.urandom(1 << 20)
    first = put_large(store, "a", data)
    first.chmod(0o644)
    first.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    again = put_large(store, "b", data)
    assert again.read_bytes() == data
    assert again.stat().st_ino != first.stat().st_ino
    assert store.find({"kind": "a"}) is None
    assert put_large(store, "a", data).read_bytes() == data


def test_an_executable_does_not_share_its_mode(store: Store) -> None:
    data = os.urandom(1 << 20)
    plain = put_large(store, "a", data)
    with store.entry({"kind": "b"}) as entry:
        (entry.dir / "program").write_bytes(data)
        (entry.dir / "program").chmod(0o755)
    assert (entry.dir / "program").stat().st_mode & 0o777 == 0o555
    assert plain.stat().st_mode & 0o777 == 0o444


def test_second_names_go_with_their_trees(store: Store) -> None:
    folder = put_large(store, "a", os.urandom(1 << 20)).parent
    assert len(list((store.root / "files").iterdir())) == 1
    remove(folder)
    Store(store.root)
    assert not list((store.root / "files").iterdir())
