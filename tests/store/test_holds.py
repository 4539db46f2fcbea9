from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule

from mlpack.store import holds
from mlpack.store.holds import Holds

HOLDER = f"""
import sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from mlpack.store.holds import Holds
kept = Holds(Path(sys.argv[1]))
for name in sys.argv[2:]:
    kept.hold(name)
print("ready", flush=True)
sys.stdin.readline()
"""


def holder(path: Path, *names: str) -> subprocess.Popen[str]:
    made = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), *names], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert made.stdout is not None
    assert made.stdout.readline() == "ready\n"
    return made


def is_free(path: Path, name: str) -> bool:
    with Holds(path).alone(name) as free:
        return free


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_hold_of_another_process_ends_with_it(tmp_path: Path, end: str) -> None:
    path = tmp_path / "holds"
    with holder(path, "a") as other:
        assert not is_free(path, "a")
        assert is_free(path, "b")
        other.send_signal(signal.SIGKILL) if end == "kill" else other.communicate("\n")
        other.wait()
        assert is_free(path, "a")


def test_two_users_of_one_process_see_each_other(tmp_path: Path) -> None:
    path = tmp_path / "holds"
    kept, another = Holds(path), Holds(path)
    kept.hold("a")
    another.hold("a")
    kept.release()
    assert not is_free(path, "a")
    another.release()
    assert is_free(path, "a")
    kept.hold("a")
    del kept
    assert is_free(path, "a")


FORKER = HOLDER.replace(
    'print("ready", flush=True)',
    """
import os
if os.fork():
    os._exit(0)
print("ready", flush=True)
""",
)


def test_forked_child_keeps_what_its_parent_held(tmp_path: Path) -> None:
    path = tmp_path / "holds"
    with subprocess.Popen(
        [sys.executable, "-c", FORKER, str(path), "a"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.wait()
        assert not is_free(path, "a")
        assert parent.stdin is not None
        parent.stdin.close()  # which its child reads to the end
        parent.stdout.read()
        assert is_free(path, "a")


@pytest.mark.slow
def test_who_has_something_alone_lets_nobody_begin(tmp_path: Path) -> None:
    path = tmp_path / "holds"
    with Holds(path).alone("a") as free:
        assert free
        starting = subprocess.Popen([sys.executable, "-c", HOLDER, str(path), "a"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            starting.wait(1)
    with starting:
        assert starting.stdout is not None
        assert starting.stdout.readline() == b"ready\n"
        assert not is_free(path, "a")
        starting.communicate(b"\n")


def test_system_without_such_locks_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds.fcntl, "F_OFD_SETLK", 0x7F)
    monkeypatch.setattr(holds.fcntl, "F_OFD_SETLKW", 0x7F)
    Holds(tmp_path / "holds").hold("a")
    assert not is_free(tmp_path / "holds", "b")


def test_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Holds(tmp_path / "gone" / "holds").hold("a")


@given(st.lists(st.text(max_size=40), unique=True, min_size=2, max_size=30))
def test_names_are_held_each_by_itself(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.mktemp("names") / "holds"
    kept = Holds(path)
    for name in names[1:]:
        kept.hold(name)
    assert is_free(path, names[0])
    assert not any(is_free(path, name) for name in names[1:])


class ManyUsers(RuleBasedStateMachine):
    """Any order of holds and ends of several users against a model."""

    users = Bundle("users")

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "holds")
        self.held: dict[int, set[str]] = {}

    @rule(target=users)
    def come(self) -> Holds:
        user = Holds(self.path)
        self.held[id(user)] = set()
        return user

    @rule(user=users, name=st.sampled_from("abc"))
    def hold(self, user: Holds, name: str) -> None:
        user.hold(name)
        self.held[id(user)].add(name)

    @rule(user=users)
    def release(self, user: Holds) -> None:
        user.release()
        self.held[id(user)].clear()

    @rule(name=st.sampled_from("abc"))
    def ask(self, name: str) -> None:
        assert is_free(self.path, name) == all(name not in each for each in self.held.values())

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestManyUsers = ManyUsers.TestCase
