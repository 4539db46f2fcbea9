"""The verbs of `mlpack image`, against a registry in memory."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_registry import FakeRegistry
from mlpack import images
from mlpack.console import Console
from mlpack.errors import PackError, ServiceError
from mlpack.oci import image, layer, layout

QUIET = Console(quiet=True, stream=io.StringIO(), env={})


def nobody(_host: str) -> None:
    """Credentials of nobody."""


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as running:
        yield running


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A layout of one small layer."""
    (tmp_path / "work/tree").mkdir(parents=True)
    (tmp_path / "work/tree/app.py").write_text("print('hi')\n")
    over = layer.layer_from_tree(tmp_path / "work/tree", "var/task", {}, tmp_path / "work/blobs")
    layout.write(image.append(image.empty("amd64"), over, "code"), tmp_path / "work/layout")
    return tmp_path / "work/layout"


def test_what_is_pushed_is_pulled_and_inspected_by_its_digest(registry: FakeRegistry, made: Path, tmp_path: Path) -> None:
    reference = images.push(made, f"{registry.host}/team/model:v1", nobody, QUIET)
    name = image.digest(layout.read(made))
    assert reference == f"{registry.host}/team/model@{name}"
    assert images.pull(reference, tmp_path / "deep/pulled", "x86_64", nobody, QUIET) == str(name)
    assert layout.read(tmp_path / "deep/pulled") == layout.read(made)
    assert (tmp_path / "deep/pulled").stat().st_mode & 0o777 == 0o755
    assert images.validate(tmp_path / "deep/pulled", for_lambda=False) == []
    described = images.inspect(reference, "x86_64", nobody, tmp_path / "cache")
    assert described == images.inspect(str(made), "x86_64", nobody, tmp_path / "cache")


def test_a_failed_pull_leaves_nothing(registry: FakeRegistry, made: Path, tmp_path: Path) -> None:
    """Not even the directory: the next attempt would be told that there is one already."""
    reference = images.push(made, f"{registry.host}/model", nobody, QUIET)
    with pytest.raises(PackError, match="made for linux/amd64, not for linux/arm64: say --arch"):
        images.pull(reference, tmp_path / "pulled", "arm64", nobody, QUIET)
    registry.blobs.clear()
    with pytest.raises(ServiceError):
        images.pull(reference, tmp_path / "pulled", "x86_64", nobody, QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def test_a_pull_never_overwrites(registry: FakeRegistry, made: Path) -> None:
    with pytest.raises(PackError, match="exists already"):
        images.pull(f"{registry.host}/model", made, "x86_64", nobody, QUIET)
    assert images.validate(made, for_lambda=False) == []


def test_every_wrong_byte_is_found(made: Path) -> None:
    (blob,) = (path for path in (made / "blobs/sha256").iterdir() if path.read_bytes()[:2] == b"\x1f\x8b")
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    assert images.validate(made, for_lambda=False)


def test_lambda_is_asked_only_on_request(made: Path) -> None:
    assert images.validate(made, for_lambda=False) == []
    assert images.validate(made, for_lambda=True)  # it has no entrypoint
