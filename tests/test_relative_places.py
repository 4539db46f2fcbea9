"""Every place that the environment names is absolute once it is read: children work in other directories."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from mlpack.core.environment import Environment, place
from mlpack.errors import MeasureError, RecipeError
from mlpack.oci.distribution import keychain
from mlpack.pipeline.measuring.measure import Child, Subject
from mlpack.store import shared_cache
from mlpack.store.local import Store


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("MLPACK_STORE", "XDG_CACHE_HOME", "DOCKER_CONFIG", "MLPACK_RIE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "means"),
    [("cache", "cache"), ("./cache", "cache"), ("a/../cache", "a/../cache"), ("~", "home"), ("~/cache", "home/cache"), (".", "")],
)
def test_a_place_is_absolute(text: str, means: str, here: Path) -> None:
    assert place(text) == here / means
    assert place("/x") == Path("/x")


def test_a_home_that_nobody_has_is_a_name(here: Path) -> None:
    assert place("~nobody-of-this-name/x") == here / "~nobody-of-this-name/x"


@pytest.mark.parametrize(
    ("environ", "means"),
    [
        ({"MLPACK_STORE": "cache"}, "cache"),
        ({"MLPACK_STORE": "~/cache"}, "home/cache"),
        ({"XDG_CACHE_HOME": "xdg"}, "xdg/mlpack"),
        ({"XDG_CACHE_HOME": "~/xdg"}, "home/xdg/mlpack"),
        ({"MLPACK_STORE": "", "XDG_CACHE_HOME": ""}, "home/.cache/mlpack"),
        ({}, "home/.cache/mlpack"),
    ],
)
def test_the_store_is_at_an_absolute_place(
    environ: dict[str, str], means: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert Environment().store == here / means


def test_a_store_hands_out_absolute_paths_only(here: Path) -> None:
    store = Store(Path("cache"))
    with store.scratch() as work:
        assert work.is_absolute()
        assert work.is_relative_to(here / "cache")
    with store.entry({"kind": "x"}) as entry:
        (entry.dir / "f").write_text("x")
    assert entry.dir.is_absolute()
    os.chdir("/")
    assert (entry.dir / "f").read_text() == "x"


@pytest.mark.parametrize(("text", "means"), [("shared", "shared"), ("~/shared", "home/shared"), ("/x/y", "/x/y")])
def test_a_shared_cache_in_a_directory_is_at_an_absolute_place(text: str, means: str, here: Path) -> None:
    folder = shared_cache._place_of(text)
    assert str(here / means) in repr(folder.__dict__ if hasattr(folder, "__dict__") else folder)


def test_program_that_the_environment_names_is_found_anywhere(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = here / "tools/rie"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("MLPACK_RIE", "tools/rie")
    assert Environment().program("aws-lambda-rie") == program


def test_root_file_system_that_environment_names_is_a_directory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Environment({}).program("arm64-root") is None
    monkeypatch.setenv("MLPACK_ARM64_ROOT", "arm64")
    with pytest.raises(RecipeError, match="MLPACK_ARM64_ROOT: arm64 is no directory"):
        Environment().program("arm64-root")
    (here / "arm64").mkdir()
    assert Environment().program("arm64-root") == here / "arm64"


def test_docker_s_directory_may_be_relative(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "docker").mkdir()
    (here / "docker/config.json").write_text('{"auths": {"r.example": {"username": "ada", "password": "x"}}}')
    monkeypatch.setenv("DOCKER_CONFIG", "docker")
    environment = Environment()
    found = keychain.of_environment(environment.variables, environment.home)
    monkeypatch.chdir("/")
    assert found("r.example") == ("ada", "x")


def test_a_package_at_a_relative_path_is_measured(here: Path) -> None:
    """The child works in the package: its program, its data and its own root must be found all the same."""
    (here / "package").mkdir()
    (here / "calls").mkdir()
    (here / "package/bootstrap.py").write_text(
        "import json, os, sys\n"
        "for line in sys.stdin:\n"
        "    print(json.dumps({'argv': sys.argv, 'cwd': os.getcwd(),"
        " 'root': os.environ['LAMBDA_TASK_ROOT']}), flush=True)\n"
    )
    subject = Subject(id="x", root=Path("package"), memory_mb=1769, interpreter=Path(os.path.relpath(sys.executable)))
    child = Child(subject, Path("calls"), frozenset(os.sched_getaffinity(0)))
    try:
        told = child.ask(op="load")
    finally:
        child.close()
    package = str(here / "package")
    assert (told["argv"], told["cwd"], told["root"]) == (
        [f"{package}/bootstrap.py", "bench", str(here / "calls")], package, package,
    )  # fmt: skip


def test_a_package_that_is_not_there_is_a_measure_error(here: Path) -> None:
    with pytest.raises(MeasureError):
        Child(Subject(id="x", root=Path("none"), memory_mb=1769, interpreter=Path(sys.executable)), Path("calls"), frozenset({0}))
