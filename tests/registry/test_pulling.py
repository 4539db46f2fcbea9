"""Pulling beside strangers: what they plant is neither used nor followed, and what is pulled is what was verified."""

from __future__ import annotations

import errno
import os
import stat
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support.registry.builds import build
from tests.support.workshop import Workshop

from mlpack.core import digest
from mlpack.errors import FullDiskError, RecipeError, ServiceError, refusal
from mlpack.registry.local import directory
from mlpack.registry.local.directory import Disk
from mlpack.registry.records import Release
from mlpack.registry.releases import task_root
from mlpack.registry.releases.releases import Registry
from mlpack.registry.releases.workplace import beside

FUNCTION = "artifacts/int8@lambda-zip-x86_64/function.zip"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return directory.open_registry(tmp_path / "registry")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return build(tmp_path / "made")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def half_made(release: Release, shared: Path) -> Path:
    return shared / f".live.{release.digest.hex[:16]}.partial"


def link_for_folder(left: Path, victim: Path) -> None:
    (left / "artifacts").symlink_to(victim)


def link_for_file(left: Path, victim: Path) -> None:
    (left / "report.md").symlink_to(victim / "report.md")


def link_deep(left: Path, victim: Path) -> None:
    (left / "extra").mkdir()
    (left / "extra" / "etc").symlink_to(victim)


def pipe(left: Path, _victim: Path) -> None:
    os.mkfifo(left / "report.md")


def second_name(left: Path, victim: Path) -> None:
    (victim / "mine").write_bytes(b"function")
    (left / FUNCTION).parent.mkdir(parents=True)
    os.link(victim / "mine", left / FUNCTION)


def open_to_others(left: Path, _victim: Path) -> None:
    left.chmod(0o777)


def open_folder(left: Path, _victim: Path) -> None:
    (left / "artifacts").mkdir()
    (left / "artifacts").chmod(0o777)


def another_owner(left: Path, _victim: Path) -> None:
    if os.geteuid():
        pytest.skip("only root gives files away")
    (left / "build.json").write_bytes(b"half")
    os.chown(left / "build.json", 65534, 65534)


def another_folder(left: Path, _victim: Path) -> None:
    if os.geteuid():
        pytest.skip("only root gives files away")
    os.chown(left, 65534, 65534)


PLANTED = (link_for_folder, link_for_file, link_deep, pipe, second_name, open_to_others, open_folder, another_owner, another_folder)


@pytest.mark.parametrize("plant", PLANTED)
def test_what_others_planted_is_left_alone(
    registry: Registry, made: Path, shared: Path, tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    release, victim = registry.publish(made), tmp_path / "victim"
    victim.mkdir()
    (victim / "report.md").write_text("precious")
    left = half_made(release, shared)
    left.mkdir()
    plant(left, victim)
    before = digest.of_tree(victim), sorted(path.name for path in left.rglob("*"))
    registry.pull(release, shared / "live")
    assert digest.of_tree(shared / "live") == digest.of_tree(made)
    assert (digest.of_tree(victim), sorted(path.name for path in left.rglob("*"))) == before
    assert sorted(path.name for path in shared.iterdir()) == sorted(["live", left.name])
    assert all(path.lstat().st_nlink == 1 for path in (shared / "live").rglob("*") if path.is_file())


@pytest.mark.parametrize("make", ["link", "link to nothing", "file", "pipe"])
def test_a_name_that_is_taken_is_gone_around(registry: Registry, made: Path, shared: Path, tmp_path: Path, make: str) -> None:
    release = registry.publish(made)
    left = half_made(release, shared)
    (tmp_path / "victim").mkdir()
    if make == "pipe":
        os.mkfifo(left)
    elif make == "file":
        left.write_text("x")
    else:
        left.symlink_to(tmp_path / ("victim" if make == "link" else "nowhere"))
    registry.pull(release, shared / "live")
    registry.fetch(release, FUNCTION, shared / "f.zip")
    assert digest.of_tree(shared / "live") == digest.of_tree(made)
    assert list((tmp_path / "victim").iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_no_bug(registry: Registry, made: Path, shared: Path) -> None:
    release = registry.publish(made)
    left = half_made(release, shared)
    (left / "report.md" / "deep").mkdir(parents=True)
    (left / "artifacts").write_text("x")
    registry.pull(release, shared / "live")
    assert digest.of_tree(shared / "live") == digest.of_tree(made)
    assert [path.name for path in shared.iterdir()] == ["live"]


def test_a_package_that_was_planted_is_not_unpacked(registry: Registry, built: Workshop, shared: Path) -> None:
    """The right names, and its package.json agrees with it."""
    release = registry.publish(built.root / "out")
    for name in (".live.{}.packed", ".live.{}.unpacked", ".live.{}.unpacked/release"):
        inside = shared / name.format(release.digest.hex[:16]) / "artifacts" / release.artifact.candidate
        inside.mkdir(parents=True)
        with zipfile.ZipFile(inside / "function.zip", "w") as archive:
            archive.writestr("bootstrap.py", "evil")
        named = digest.of_bytes(b"evil")
        files = f'[{{"path": "bootstrap.py", "size_bytes": 4, "digest": "{named}"}}]'
        (inside / "package.json").write_text(f'{{"schema": 1, "kind": "zip", "files": {files}}}')
    task_root.pull(registry, release, shared / "live")
    assert (shared / "live" / "bootstrap.py").read_text() != "evil"
    assert (shared / "live" / "model" / "model.json").is_file()


@pytest.mark.parametrize("planted", ["theirs", "open", "link", "second name"])
def test_file_with_right_bytes_is_not_taken_over_from_others(
    registry: Registry, made: Path, shared: Path, tmp_path: Path, planted: str
) -> None:
    release, out = registry.publish(made), shared / "f.zip"
    (tmp_path / "elsewhere").write_bytes(b"function")
    if planted == "link":
        out.symlink_to(tmp_path / "elsewhere")
    elif planted == "second name":
        os.link(tmp_path / "elsewhere", out)
    else:
        out.write_bytes(b"function")
        out.chmod(0o666)
        if planted == "theirs":
            if os.geteuid():
                pytest.skip("only root gives files away")
            os.chown(out, 65534, 65534)
    before = out.lstat().st_ino
    registry.fetch(release, FUNCTION, out)
    found = out.lstat()
    assert stat.S_ISREG(found.st_mode)
    assert (found.st_nlink, found.st_uid, found.st_ino != before) == (1, os.geteuid(), True)
    assert (tmp_path / "elsewhere").read_bytes() == b"function"
    registry.fetch(release, FUNCTION, out)  # now it is ours, and stays
    assert out.lstat().st_ino == found.st_ino


def test_several_pulls_to_one_place_give_one_whole_release(registry: Registry, made: Path, shared: Path) -> None:
    release = registry.publish(made)

    def pull(_number: int) -> str:
        try:
            registry.pull(release, shared / "live")
        except RecipeError as error:
            return "already" if "already there" in str(error) else str(error)
        return "pulled"

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(pull, range(4)))
    assert sorted(set(said)) in (["already", "pulled"], ["pulled"])
    assert said.count("pulled") == 1
    assert digest.of_tree(shared / "live") == digest.of_tree(made)
    assert [path.name for path in shared.iterdir()] == ["live"]


def test_directory_swapped_while_it_is_filled_leads_nowhere(shared: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()

    def fill_what_is_swapped() -> None:
        with beside(shared / "live", "x.partial", lambda _error: False) as work:
            (shared / ".live.x.partial").rename(shared / "moved")
            (shared / ".live.x.partial").symlink_to(victim)
            (work.path / "file").write_text("written")
            work.become()

    with pytest.raises(ServiceError, match="somebody else put something there"):
        fill_what_is_swapped()
    assert list(victim.iterdir()) == []
    assert (shared / "moved" / "file").read_text() == "written"


def test_a_pull_has_the_modes_of_any_new_directory(registry: Registry, made: Path, tmp_path: Path) -> None:
    registry.pull(registry.publish(made), tmp_path / "pulled")
    (tmp_path / "usual").mkdir()
    for folder in (tmp_path / "pulled", tmp_path / "pulled" / "artifacts"):
        assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_while_it_is_made_nobody_else_gets_in(shared: Path) -> None:
    with beside(shared / "live", "x.partial", lambda _error: False) as work:
        assert stat.S_IMODE((shared / work.name).stat().st_mode) == 0o700
        with beside(shared / "live", "x.partial", lambda _error: True) as other:
            assert other.name != work.name
    assert list(shared.iterdir()) == []


class Full(Disk):
    def write(self, path: Path, chunks: Iterable[bytes]) -> None:
        super().write(path, (chunk[:1] for chunk in chunks))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_a_full_disk_is_said_to_be_the_one_that_is_full(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "registry"
    release = directory.open_registry(root).publish(made)
    full = directory.open_registry(root, Full())
    with pytest.raises(FullDiskError) as caught:
        full.publish(build(tmp_path / "more", content=b"more"))
    said = str(refusal(caught.value))
    assert str(root) in said
    assert "bytes left: free some there, or use a registry on a larger disk with --registry" in said
    with pytest.raises(FullDiskError) as caught:
        full.pull(release, tmp_path / "deep" / "pulled")
    said = str(refusal(caught.value))
    assert f"{tmp_path / 'deep'}, which has" in said
    assert "--out" in said
    assert "MLPACK_STORE" not in said
