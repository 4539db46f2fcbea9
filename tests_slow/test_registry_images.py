"""Releases whose images are in Debian's docker-registry: published, pulled, looked after, collected."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.registry.builds import build
from tests.support.services.real_registry import PASSWORD, USER, Registry
from tests_slow.conftest import program

from mlpack.core import digest
from mlpack.errors import ServiceError
from mlpack.oci import layout
from mlpack.registry import ImageRefusedError
from mlpack.registry.images.images import Repositories, open_images
from mlpack.registry.local import directory
from mlpack.registry.releases.releases import Registry as Mlpack
from mlpack.registry.rows.rows import parse_reference
from mlpack.registry.upkeep.care import verify
from mlpack.registry.upkeep.collection import RetentionPolicy, collect


def nobody(_host: str) -> None:
    """No credentials."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Registry]:
    """A registry that lets images be deleted."""
    (tmp_path / "server").mkdir()
    running = Registry(tmp_path / "server", deletes=True)
    running.start()
    yield running
    running.kill()


@pytest.fixture
def images(server: Registry) -> Repositories:
    return open_images(f"{server.host}/team/models", nobody)


def test_a_release_goes_there_and_comes_back_as_it_was(server: Registry, images: Repositories, tmp_path: Path) -> None:
    built = build(tmp_path / "out", "image", content=bytes(range(256)) * 100_000)
    registry = directory.open_registry(tmp_path / "registry", images=images)
    release = registry.publish(built)
    ((candidate, reference),) = release.images.items()
    assert reference == f"{server.host}/team/models/minilm@{release.artifact.digest}"
    pushed = {path.name for path in (built / f"artifacts/{candidate}/image/blobs/sha256").iterdir()}
    kept = {path.name for path in (tmp_path / "registry/blobs/sha256").glob("??/*")}
    assert len(pushed) == 3
    assert not kept & pushed
    registry.pull(registry.show(parse_reference("minilm")), tmp_path / "pulled")
    assert digest.of_tree(tmp_path / "pulled") == digest.of_tree(built)
    assert registry.publish(built) == release
    assert registry.field(release, "image") == reference
    told = json.loads(_run("skopeo", "inspect", "--tls-verify=false", f"docker://{reference}"))
    assert told["Digest"] == str(release.artifact.digest)
    assert told["RepoTags"] == [f"sha-{digest.Digest(told['Digest']).hex}"]


def test_verify_sees_a_blob_that_was_removed_there(server: Registry, images: Repositories, tmp_path: Path) -> None:
    registry = directory.open_registry(tmp_path / "registry", images=images)
    release = registry.publish(build(tmp_path / "out", "image"))
    assert verify(registry).findings == ()
    made = layout.read(tmp_path / "out" / "artifacts" / release.artifact.candidate / "image")
    named = made.layers[0].digest
    (data,) = (tmp_path / "server/data").glob(f"docker/registry/v2/blobs/sha256/{named.hex[:2]}/{named.hex}/data")
    data.unlink()
    (found,) = verify(registry).findings
    assert f"its blob {named} is missing" in str(found)
    with pytest.raises(ServiceError, match=named.hex):
        registry.pull(release, tmp_path / "pulled")
    registry.publish(tmp_path / "out")
    assert verify(registry).findings == ()
    registry.pull(release, tmp_path / "pulled")


def test_an_image_that_is_deleted_is_gone_with_its_tag(server: Registry, images: Repositories, tmp_path: Path) -> None:
    registry = directory.open_registry(tmp_path / "registry", images=images)
    references = [registry.publish(build(tmp_path / name, "image", content=name.encode())).images.popitem()[1] for name in "ab"]
    images.delete(references[0])
    assert [images.check(each) for each in references] == ["missing", None]
    listed = json.loads(_run("skopeo", "list-tags", "--tls-verify=false", f"docker://{server.host}/team/models/minilm"))
    assert listed["Tags"] == [f"sha-{references[1].rpartition(':')[2]}"]
    images.delete(references[0])
    images.delete(f"{server.host}/team/models/nowhere@{references[0].rpartition('@')[2]}")
    assert images.check(references[1]) is None


def test_a_registry_that_deletes_nothing_says_how_it_would(registry: Registry, tmp_path: Path) -> None:
    images = open_images(f"{registry.host}/team", nobody)
    place = directory.open_registry(tmp_path / "place", images=images)
    reference = place.publish(build(tmp_path / "out", "image")).images.popitem()[1]
    with pytest.raises(ImageRefusedError, match=r"storage\.delete\.enabled"):
        images.delete(reference)
    assert images.check(reference) is None
    place.publish(build(tmp_path / "newer", "image", content=b"newer"))
    late = dataclasses.replace(place.place, now=lambda: time.time() + 400 * 24 * 3600)
    nothing = RetentionPolicy(newest=0, days=0, tags=(), moves=0, window_days=0, grace_days=0)
    for releases in (["minilm@1"], []):  # and again, without an error
        made = collect(Mlpack(late, images), nothing, who="carol")
        assert [each.reference for each in made.releases] == releases
        assert [each.reference for each in made.refused] == [reference]
    assert verify(place).findings == ()


def test_a_private_registry_is_given_the_password_for_its_host(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    server = Registry(tmp_path / "private", private=True, deletes=True)
    server.start()
    try:
        images = open_images(f"{server.host}/team", {server.host: (USER, PASSWORD)}.get)
        registry = directory.open_registry(tmp_path / "registry", images=images)
        release = registry.publish(build(tmp_path / "out", "image"))
        registry.pull(release, tmp_path / "pulled")
        assert digest.of_tree(tmp_path / "pulled") == digest.of_tree(tmp_path / "out")
        refused = directory.open_registry(tmp_path / "registry", images=open_images(f"{server.host}/team", nobody))
        with pytest.raises(ServiceError, match="docker login"):
            refused.pull(release, tmp_path / "other")
        images.delete(release.images.popitem()[1])
    finally:
        server.kill()


def _run(name: str, *words: str) -> str:
    done = subprocess.run([program(name), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
