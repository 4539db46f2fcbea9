"""Nothing of the publisher's machine is published but what the build holds: no link is followed, nothing is waited for."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.registry.builds import build

from mlpack.core.files import plain_files
from mlpack.errors import PackError, RecipeError
from mlpack.registry.local import directory
from mlpack.report import diff
from mlpack.targets.shipped import unpack

PACKAGE = "artifacts/int8@lambda-zip-x86_64"


def link_for(name: str) -> Callable[[Path, Path], None]:
    def plant(folder: Path, elsewhere: Path) -> None:
        path, target = folder / name, elsewhere / Path(name).name
        if path.is_dir():
            shutil.copytree(path, target)
            shutil.rmtree(path)
        elif path.exists():
            path.replace(target)
        else:
            target.mkdir()
            (target / "secret").write_text("secret")
        path.symlink_to(target)

    return plant


def pipe_for(name: str) -> Callable[[Path, Path], None]:
    def plant(folder: Path, _elsewhere: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).parent.mkdir(exist_ok=True)
        os.mkfifo(folder / name)

    return plant


def socket_for(name: str) -> Callable[[Path, Path], None]:
    def plant(folder: Path, _elsewhere: Path) -> None:
        (folder / name).unlink()
        here = Path.cwd()
        os.chdir(folder)  # names of sockets are short
        try:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(name)
        finally:
            os.chdir(here)

    return plant


def link_within(folder: Path, elsewhere: Path) -> None:
    (folder / "attestations").mkdir()
    (elsewhere / "secret").write_text("secret")
    (folder / "attestations" / "a").symlink_to(elsewhere / "secret")


PLANTED = {
    **{f"a link for {name}": link_for(name) for name in ("build.json", "report.md", "report.html", "artifacts", PACKAGE)},
    **{f"a link for {name}": link_for(name) for name in (f"{PACKAGE}/function.zip", f"{PACKAGE}/event.json", "attestations")},
    **{f"a pipe for {name}": pipe_for(name) for name in ("build.json", "report.md", f"{PACKAGE}/function.zip", "attestations/a")},
    "a socket": socket_for("report.md"),
    "a link among the attestations": link_within,
    "a link to nothing": lambda folder, _elsewhere: (
        (folder / "report.md").unlink(),
        (folder / "report.md").symlink_to("nowhere"),
    ),
    "a link to itself": lambda folder, _elsewhere: (
        (folder / "report.md").unlink(),
        (folder / "report.md").symlink_to("report.md"),
    ),
    "a folder for a file": lambda folder, _elsewhere: ((folder / "report.md").unlink(), (folder / "report.md").mkdir()),
}


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED)
def test_what_is_no_file_of_the_build_is_not_published(tmp_path: Path, plant: Callable[[Path, Path], None]) -> None:
    made = build(tmp_path / "made")
    (tmp_path / "elsewhere").mkdir()
    plant(made, tmp_path / "elsewhere")
    registry = directory.open_registry(tmp_path / "registry")
    with pytest.raises(RecipeError, match=r"a (link|pipe|socket|folder)"):
        registry.publish(made)
    assert not (tmp_path / "registry").exists()


def test_a_build_that_is_reached_by_a_link_is_published(tmp_path: Path) -> None:
    """The directory itself is the user's word: `out/latest`, say."""
    (tmp_path / "latest").symlink_to(build(tmp_path / "made"))
    assert directory.open_registry(tmp_path / "registry").publish(tmp_path / "latest").version == 1


def test_a_record_that_is_a_link_is_not_compared(tmp_path: Path) -> None:
    made = build(tmp_path / "made")
    (made / "build.json").rename(tmp_path / "elsewhere.json")
    (made / "build.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(RecipeError, match="a link, not a file"):
        diff.read(made)
    assert diff.read(tmp_path / "elsewhere.json").schema == 1


@pytest.mark.parametrize("name", ["package.json", "function.zip"])
def test_a_package_that_is_a_link_is_not_unpacked(tmp_path: Path, name: str) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "package.json").write_text('{"schema": 1, "kind": "zip", "files": []}')
    (package / "function.zip").write_bytes(b"")
    (package / name).rename(tmp_path / name)
    (package / name).symlink_to(tmp_path / name)
    with pytest.raises(PackError, match="a link, not a file"):
        unpack(package, tmp_path / "out")


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one")

    def read_while_it_changes() -> None:
        with plain_files.opened(tmp_path, "file") as stream:
            stream.read()
            (tmp_path / "file").write_text("another")

    with pytest.raises(RecipeError, match="changed while it was read"):
        read_while_it_changes()


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 11)
    assert plain_files.read(tmp_path, "file", 11) == b"x" * 11
    with pytest.raises(RecipeError, match="larger than 10 bytes"):
        plain_files.read(tmp_path, "file", 10)


@pytest.mark.parametrize("name", ["a:b", "a\\b", "a\nb", "d/" * 600 + "x"])
def test_a_build_that_nobody_could_pull_is_not_published(tmp_path: Path, name: str) -> None:
    made = build(tmp_path / "made")
    try:
        (made / "attestations" / name).parent.mkdir(parents=True)
        (made / "attestations" / name).write_text("x")
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(RecipeError, match="cannot be published"):
        directory.open_registry(tmp_path / "registry").publish(made)
    assert not (tmp_path / "registry").exists()
