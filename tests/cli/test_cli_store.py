from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from tests.support.command_line import run
from tests.support.entries import made, there
from tests.support.workshop import Workshop, measure_quickly

from mlpack.cli import commands
from mlpack.core.environment import STORE_MAX_BYTES, Environment
from mlpack.errors import ExitCode, RecipeError
from mlpack.store import care
from mlpack.store.local import Store


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of four entries that the command line uses."""
    monkeypatch.setenv("MLPACK_STORE", str(tmp_path / "store"))
    made(tmp_path / "store", *"abcd")
    return tmp_path / "store"


@pytest.fixture
def project(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A project to build, with the command line pointed at its store and standing in its directory."""
    monkeypatch.setenv("MLPACK_STORE", str(workshop.store.root))
    monkeypatch.chdir(workshop.root)
    return workshop


def shown(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_status_says_kinds_counts_and_ages(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("store", "status", "--json") == 0
    found = shown(capsys)
    assert (found["path"], found["max_bytes"]) == (str(root), STORE_MAX_BYTES)
    assert [kind["kind"] for kind in found["kinds"]] == ["step/a", "step/b", "step/c", "step/d"]
    assert sum(kind["size_bytes"] for kind in found["kinds"]) == found["size_bytes"] > 0
    assert found["oldest_use"] == found["kinds"][0]["oldest_use"] == "1970-01-12T13:46:40Z"
    assert found["in_use"] == {"count": 0, "size_bytes": 0}
    assert run("store", "status") == 0
    said = capsys.readouterr().out
    assert "at most 50 GB" in said
    assert "step/a, oldest use 1970-01-12T13:46:40Z" in said


def test_prune_keeps_to_the_setting_or_the_option(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("store", "prune", "--json") == 0
    found = shown(capsys)
    assert found["removed"] == []
    monkeypatch.setenv("MLPACK_STORE_MAX", f"{found['size_bytes'] - 1}B")
    assert run("store", "prune", "--dry-run", "--json") == 0
    assert [each["kind"] for each in shown(capsys)["removed"]] == ["step/a"]
    assert run("store", "prune") == 0
    said = capsys.readouterr()
    assert said.out.split() == ["1", "step/a"]
    assert "1 entry" in said.err
    assert there(root, *"abcd") == set("bcd")
    assert run("store", "prune", "--max", "none", "--json") == 0
    assert shown(capsys)["removed"] == []
    assert run("-q", "store", "prune", "--max", "0", "--json") == 0
    assert len(shown(capsys)["removed"]) == 3
    assert there(root, *"abcd") == set()


def test_prune_says_what_running_builds_use(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = Store(root)
    assert opened.find({"kind": "step/b", "name": "b"})
    assert run("store", "prune", "--max", "0") == 0
    assert "1 entry is in use by running builds" in capsys.readouterr().err
    assert run("store", "status") == 0
    assert "in use by running builds: 1 entry" in capsys.readouterr().out


@pytest.mark.parametrize("said", ["5", "5 parsecs", "-5GB", "1e3GB", "lots", "0GB", "nan", "5,5GB", "\u0665GB", "NONE"])
def test_size_that_is_none_is_refused_before_the_work(
    project: Workshop, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("store", "prune", f"--max={said}") == ExitCode.RECIPE
    assert f"'{said}'" in capsys.readouterr().err
    monkeypatch.setenv("MLPACK_STORE_MAX", said)
    for words in (["store", "status"], ["store", "prune"], ["build", "recipe.yaml"]):
        assert run(*words) == ExitCode.RECIPE
        shown = capsys.readouterr().err
        assert "MLPACK_STORE_MAX: " in shown
        assert f"'{said}'" in shown
    assert not (project.root / "out").exists()


@pytest.mark.parametrize(("said", "size"), [("", 50 * 10**9), ("20GB", 20 * 10**9), ("1 MiB", 2**20), ("0", 0), ("none", None)])
def test_setting_is_a_size_nothing_or_none(said: str, size: int | None) -> None:
    assert Environment({"MLPACK_STORE_MAX": said}).store_max_bytes == size
    with pytest.raises(RecipeError, match="MLPACK_STORE_MAX"):
        _ = Environment({"MLPACK_STORE_MAX": said + "x"}).store_max_bytes


def test_status_of_no_store_makes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLPACK_STORE", str(tmp_path / "none"))
    assert run("store", "status") == run("store", "prune", "--max", "0") == 0
    assert not (tmp_path / "none").exists()


def test_shell_completes_the_verbs_of_the_store() -> None:
    complete = ShellComplete(commands.cli, {}, "mlpack", "_MLPACK_COMPLETE")
    assert [item.value for item in complete.get_completions(["store"], "")] == ["prune", "status"]
    options = [item.value for item in complete.get_completions(["store", "prune"], "--")]
    assert {"--max", "--dry-run", "--json"} <= set(options)


@pytest.mark.slow
def test_build_prunes_at_its_end_and_says_what_did_not_fit(
    project: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure_quickly(monkeypatch)
    made(project.store.root, "old")
    whole = ["build", "recipe.yaml", "--only", "fp32@*", "--json"]
    monkeypatch.setenv("MLPACK_STORE_MAX", "0")
    project.store.release()
    with Store(project.store.root).scratch() as making:
        (making / "half").write_text("x")
        assert run(*whole) == 0
        assert (making / "half").exists()
    said = capsys.readouterr()
    assert json.loads(said.out)["chosen"] == "fp32@lambda-zip-x86_64"
    assert "of this very build did not fit into the store" in said.err.replace("\n", " ")
    assert not list((project.store.root / "trees").iterdir())
    assert there(project.store.root, "old") == set()


@pytest.mark.slow
def test_build_ends_right_while_another_prunes_without_end(project: Workshop) -> None:
    """All that lies in the store goes at once, unless the build holds it; the runtime part cannot be made without a network."""
    for tree in (project.store.root / "trees").iterdir():
        project.store.hold(tree.name)
    done, rounds = threading.Event(), []

    def prune() -> None:
        while not done.is_set():
            found = care.prune(project.store.root, 0)
            rounds.append(len(found.removed) if found is not None else 0)
            done.wait(0.05)

    pruner = threading.Thread(target=prune)
    pruner.start()
    try:
        record, _ = project.build()
    finally:
        done.set()
        pruner.join()
    assert len(rounds) > 5
    assert record["chosen"]
    again, _ = project.build()
    assert all(step["cached"] for one in again["candidates"] for step in one["steps"])
    assert again["artifact"] == record["artifact"]
