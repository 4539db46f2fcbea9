"""What the function will see, straight from a release."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.support.registry.builds import build
from tests.support.workshop import Workshop

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.errors import PackError, RecipeError, ServiceError
from mlpack.registry import Moved
from mlpack.registry.local import directory
from mlpack.registry.local.directory import Files
from mlpack.registry.records import Release
from mlpack.registry.releases import task_root
from mlpack.registry.releases.releases import Registry
from mlpack.targets.shipped import unpack


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return directory.open_registry(tmp_path / "registry")


@pytest.fixture
def release(registry: Registry, built: Workshop) -> Release:
    return registry.publish(built.root / "out")


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "registry")


@pytest.mark.slow
def test_it_is_what_unpacking_the_build_gives(registry: Registry, release: Release, built: Workshop, tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    task_root.pull(registry, release, tmp_path / "task")
    assert left(tmp_path) == ["task"]
    expected = unpack(next((built.root / "out/artifacts").iterdir()), tmp_path / "expected")
    assert digest.of_tree(tmp_path / "task") == digest.of_tree(expected)
    with pytest.raises(RecipeError, match="already there"):
        task_root.pull(registry, release, tmp_path / "task")


class Breaking(Files):
    """Blobs of a network that goes away after some of them."""

    def __init__(self, root: Path, left: int) -> None:
        super().__init__(root, directory.Disk())
        self.left = left
        self.fetched: list[Digest] = []

    def fetch(self, named: Digest, path: Path, moved: Moved = lambda _: None) -> None:
        if len(self.fetched) >= self.left:
            raise ServiceError("the network is gone", retryable=True)
        self.fetched.append(named)
        super().fetch(named, path, moved)


def test_an_interrupted_one_goes_on_where_it_was(registry: Registry, release: Release, tmp_path: Path) -> None:
    def through(blobs: Breaking) -> Registry:
        return Registry(dataclasses.replace(registry.place, blobs=blobs))

    first = Breaking(tmp_path / "registry", 2)
    with pytest.raises(ServiceError, match="network is gone"):
        task_root.pull(through(first), release, tmp_path / "task")
    assert not (tmp_path / "task").exists()
    second = Breaking(tmp_path / "registry", 1000)
    task_root.pull(through(second), release, tmp_path / "task")
    assert not set(first.fetched) & set(second.fetched)
    assert left(tmp_path) == ["task"]


@pytest.mark.parametrize("kind", ["zip", "image"])
def test_a_package_that_is_none_leaves_nothing(registry: Registry, tmp_path: Path, kind: str) -> None:
    release = registry.publish(build(tmp_path / "out", kind))
    with pytest.raises(PackError):
        task_root.pull(registry, release, tmp_path / "task")
    assert left(tmp_path) == ["out"]
