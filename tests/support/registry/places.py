"""Places to put rows and bytes in, of each kind, for the tests of what is written once above them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.registry.builds import build

from mlpack.core.digest import Digest, of_bytes
from mlpack.registry import Key, Place, Put
from mlpack.registry.aliases.aliases import MoveRequest, promote
from mlpack.registry.local import directory
from mlpack.registry.places import open_registry
from mlpack.registry.records import Provenance, Release
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows import rows
from mlpack.registry.rows.manifest import Manifest, package_of

PLACES = ["directory", pytest.param("aws", marks=pytest.mark.slow)]
"""What `empty_place` knows. A directory alone is quick."""


@contextmanager
def empty_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty place of the kind that the fixture's parameter names."""
    where = str(tmp_path / "registry") if request.param == "directory" else request.getfixturevalue("aws").make_place()
    place = open_registry(where).place
    yield place
    place.table.close()


def overwrite(place: Place, request: pytest.FixtureRequest, named: Digest, data: bytes | None) -> None:
    """Put other bytes where a blob is, behind the registry's back; None: remove it."""
    uri = place.blobs.uri(named)
    if not uri.startswith("s3://"):
        Path(uri).unlink() if data is None else Path(uri).write_bytes(data)
        return
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    client = request.getfixturevalue("aws").client("s3")
    client.delete_object(Bucket=bucket, Key=key) if data is None else client.put_object(Bucket=bucket, Key=key, Body=data)
    client.close()


def put_releases(place: Place, name: str, count: int) -> list[Release]:
    """Releases NAME@1 to NAME@count, as rows alone: their bytes are nowhere."""
    made = []
    for version in range(1, count + 1):
        artifact = {"candidate": "int8@lambda-zip-x86_64", "kind": "zip", "digest": str(of_bytes(b"zip")), "size_bytes": 3}
        manifest = Manifest(
            name=name,
            artifact=package_of(artifact, "artifact"),
            files={"build.json": of_bytes(f"{name} {version}".encode())},
            tags={},
        )
        release = rows.draft(manifest, Provenance(who="alice"), {}, rows.timestamp(place.now()), version)
        place.table.commit(*rows.release_puts(release), *([Put(key=Key(rows.NAMES, name), head={})] if version == 1 else []))
        made.append(release)
    return made


@dataclasses.dataclass
class Unreadable:
    """Blobs while S3 is down: whatever is asked of them raises."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"blobs.{name} was asked for")


def move(place: Place, name: str, version: int, alias: str = "prod") -> None:
    """Promote it, by alice, without gates."""
    promote(place, rows.Reference(name=name, version=version), alias, MoveRequest(who="alice"), lambda _release, _live: ())


def stocked(root: Path) -> Registry:
    """A registry in `root`/registry with minilm@1 to minilm@3 and fashion@1; minilm:prod went 1, 3, 2."""
    registry = directory.open_registry(root / "registry")
    for version in range(1, 4):
        registry.publish(build(root / f"o{version}", content=bytes([version])))
    registry.publish(build(root / "other", name="fashion"))
    for version in (1, 3, 2):
        move(registry.place, "minilm", version)
    return registry
