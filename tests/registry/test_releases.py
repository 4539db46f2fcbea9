"""Releases, wherever the registry is: what may be published, what is found again, what several publishers at once leave."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.support.registry.builds import build
from tests.support.registry.places import PLACES, empty_place, overwrite
from tests.support.services.aws_server import AwsServer

from mlpack.core import digest
from mlpack.errors import ExitCode, RecipeError, ServiceError
from mlpack.registry import Delete, Moved, Place, Put
from mlpack.registry.places import open_registry
from mlpack.registry.records import Provenance
from mlpack.registry.releases.forms import as_json, text
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows import rows
from mlpack.registry.rows.manifest import NothingChosenError
from mlpack.registry.rows.rows import Reference
from mlpack.registry.upkeep.collection import RetentionPolicy, collect

FUNCTION = "artifacts/int8@lambda-zip-x86_64/function.zip"
MINILM = Reference(name="minilm")


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with empty_place(request, tmp_path) as found:
        yield found


@pytest.fixture
def registry(place: Place) -> Registry:
    return Registry(place)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return build(tmp_path / "out")


def is_empty(place: Place) -> bool:
    """Whether nothing was written there."""
    partitions = [rows.NAMES, rows.PUBLISHING, rows.SETTINGS, rows.releases("minilm")]
    return not list(place.blobs.list()) and not any(list(place.table.query(each)) for each in partitions)


# --- publishing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", "layer-zip", "image"])
def test_what_was_published_can_be_listed_shown_and_pulled(registry: Registry, tmp_path: Path, kind: str) -> None:
    made = build(tmp_path / "out", kind)
    release = registry.publish(made, Provenance(commit="c0ffee", dirty=False, label="1.2.0", who="alice"))
    assert (release.name, release.version, release.tags) == ("minilm", 1, {"team": "ranking", "env": "prod"})
    assert release.provenance.label == "1.2.0"
    assert tuple(registry.releases()) == tuple(registry.releases("minilm")) == (release,)
    assert tuple(registry.releases("other")) == ()
    assert registry.names() == ("minilm",)
    (listed,) = registry.listed()
    assert (listed.name, listed.version, listed.head.digest) == ("minilm", 1, release.digest)
    assert (listed.head.provenance, listed.head.kind) == (release.provenance, kind)
    assert registry.show(MINILM) == registry.show(Reference(name="minilm", version=1)) == release
    registry.pull(release, tmp_path / "pulled")
    assert digest.of_tree(tmp_path / "pulled") == digest.of_tree(made)
    assert list(registry.place.table.query(rows.PUBLISHING)) == []


def test_the_same_content_again_changes_nothing(registry: Registry, made: Path, tmp_path: Path) -> None:
    first = registry.publish(made)
    before = list(registry.place.blobs.list())
    shutil.copytree(made, tmp_path / "elsewhere")
    assert registry.publish(tmp_path / "elsewhere", Provenance(who="somebody else")) == first
    assert len(tuple(registry.releases())) == 1
    assert list(registry.place.blobs.list()) == before
    assert list(registry.place.table.query(rows.PUBLISHING)) == []


def test_versions_grow_by_name_and_stay(registry: Registry, tmp_path: Path) -> None:
    published = [registry.publish(build(tmp_path / f"o{i}", content=bytes([i]))) for i in range(3)]
    other = registry.publish(build(tmp_path / "other", name="fashion"))
    assert [release.version for release in published] == [1, 2, 3]
    assert other.version == 1
    assert registry.publish(tmp_path / "o0") == published[0]
    assert registry.show(MINILM) == published[2]
    assert tuple(registry.releases()) == (other, *published)


def test_equal_files_are_kept_once(registry: Registry, tmp_path: Path) -> None:
    for index, name in enumerate(("a", "b")):
        registry.publish(build(tmp_path / name, name=name, content=b"same"))
        assert len(list(registry.place.blobs.list())) == 5 + 2 * index  # build.json and report.md differ


def test_build_that_chose_nothing_is_refused_with_its_own_code(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(NothingChosenError, match="chose no candidate") as caught:
        registry.publish(build(tmp_path / "nothing", fits=False))
    assert caught.value.exit_code is ExitCode.OVER_BUDGET
    assert is_empty(registry.place)


def test_altered_artifact_is_refused_before_anything_is_written(registry: Registry, made: Path) -> None:
    (made / FUNCTION).write_bytes(b"altered!")
    with pytest.raises(RecipeError, match="altered since the build"):
        registry.publish(made)
    assert is_empty(registry.place)


def test_a_newer_registry_is_left_alone(registry: Registry, made: Path) -> None:
    registry.place.table.commit(Put(key=rows.SCHEMA_KEY, head={"version": 9}))
    for use in (lambda: registry.publish(made), lambda: tuple(registry.listed()), lambda: registry.show(MINILM)):
        with pytest.raises(ServiceError, match=r"newer mlpack \(schema 9, not 3\)"):
            use()


def test_a_publication_whose_intent_was_taken_is_given_up(registry: Registry, made: Path) -> None:
    """It ended, and a collection may have taken what had been sent: no release may refer to that."""
    table = registry.place.table
    known = {row.key for row in table.query(rows.PUBLISHING)}

    def moved(_bytes: int) -> None:
        for row in table.query(rows.PUBLISHING):
            if row.key not in known:
                table.commit(Delete(key=row.key, expect=row.revision))
                known.add(row.key)

    with pytest.raises(ServiceError, match="took too long"):
        registry.publish(made, moved=once(moved))
    assert tuple(registry.releases()) == ()
    assert registry.publish(made).version == 1


def once(call: Moved) -> Moved:
    """Only the first of several threads."""
    lock = threading.Lock()

    def first(number: int) -> None:
        if lock.acquire(blocking=False):
            call(number)

    return first


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_release_that_is_not_there_says_what_is(registry: Registry, made: Path) -> None:
    with pytest.raises(RecipeError, match="it is empty"):
        registry.show(MINILM)
    registry.publish(made)
    with pytest.raises(RecipeError, match=r"no release fashion .*it has minilm"):
        registry.show(Reference(name="fashion"))
    with pytest.raises(RecipeError, match="no release minilm@7"):
        registry.show(Reference(name="minilm", version=7))
    with pytest.raises(RecipeError, match=r"no release minilm:prod .*minilm has no alias yet"):
        registry.show(Reference(name="minilm", alias="prod"))


def test_showing_a_release_is_one_read(aws: AwsServer, made: Path) -> None:
    registry = open_registry(aws.make_place())
    release = registry.publish(made)
    table = registry.place.table
    table.commit(
        rows.move_put(
            rows.Move(
                name="minilm",
                alias="prod",
                revision=1,
                version=1,
                previous=None,
                when=release.created,
                who=None,
                kind="promote",
                why=None,
                forced=False,
                gates=(),
                release=rows.encode(release),
                digest=str(release.digest),
            )
        )
    )
    for wanted in (MINILM, Reference(name="minilm", version=1), Reference(name="minilm", alias="prod")):
        aws.clear_log()
        assert registry.show(wanted) == release
        (only,) = aws.log()
        assert (only.service, only.operation in ("GetItem", "Query")) == ("dynamodb", True)
    table.close()


@pytest.mark.parametrize("damage", [b"functioN", b"", None])
def test_a_damaged_blob_is_named_and_nothing_is_pulled(
    registry: Registry, request: pytest.FixtureRequest, made: Path, tmp_path: Path, damage: bytes | None
) -> None:
    release = registry.publish(made)
    overwrite(registry.place, request, release.files[FUNCTION], damage)
    with pytest.raises(ServiceError, match=r"function\.zip: the blob .*is damaged") as caught:
        registry.pull(release, tmp_path / "pulled")
    assert registry.place.blobs.uri(release.files[FUNCTION]) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if "pulled" in path.name] == []
    registry.publish(made)
    registry.pull(release, tmp_path / "pulled")


def test_pull_needs_a_place_of_its_own(registry: Registry, made: Path, tmp_path: Path) -> None:
    release = registry.publish(made)
    (tmp_path / "empty").mkdir()
    registry.pull(release, tmp_path / "empty")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for taken in ("empty", "link", "out/build.json"):
        with pytest.raises(RecipeError, match="already there"):
            registry.pull(release, tmp_path / taken)


def test_one_file_can_be_fetched(registry: Registry, made: Path, tmp_path: Path) -> None:
    release = registry.publish(made)
    registry.fetch(release, FUNCTION, tmp_path / "new/folder/f.zip")
    assert (tmp_path / "new/folder/f.zip").read_bytes() == b"function"
    with pytest.raises(RecipeError, match=r"minilm@1 has no x\.zip; it has .*function\.zip"):
        registry.fetch(release, "x.zip", tmp_path / "x")


@pytest.mark.parametrize("verb", ["pull", "fetch"])
def test_release_collected_while_it_is_pulled_is_said_to_be(registry: Registry, made: Path, tmp_path: Path, verb: str) -> None:
    release = registry.publish(made)
    registry.publish(build(tmp_path / "newer", content=b"newer"))
    late = dataclasses.replace(registry.place, now=lambda: time.time() + 400 * 24 * 3600)
    nothing = RetentionPolicy(newest=0, days=0, tags=(), moves=0, window_days=0, grace_days=0)
    # Between what is pulled being looked up and its bytes being read.
    assert [each.reference for each in collect(Registry(late), nothing, who="carol").releases] == ["minilm@1"]
    pull = {"pull": partial(registry.pull, release), "fetch": partial(registry.fetch, release, FUNCTION)}[verb]
    with pytest.raises(ServiceError, match=r"minilm@1 was removed by `mlpack gc` while it was pulled: pull minilm again"):
        pull(tmp_path / "pulled")
    assert not list(tmp_path.glob("*pulled*"))
    registry.pull(registry.show(MINILM), tmp_path / "pulled")


def test_a_pull_goes_on_where_it_was(registry: Registry, made: Path, tmp_path: Path) -> None:
    """What is left beside the folder is taken when its digest is right, and nothing else stays."""
    release = registry.publish(made)
    partial = tmp_path / f".pulled.{release.digest.hex[:16]}.partial"
    (partial / FUNCTION).parent.mkdir(parents=True)
    (partial / FUNCTION).write_bytes(b"function")
    (partial / "build.json").write_bytes(b"half a bu")
    (partial / "left.over").write_bytes(b"x")
    moved = [0]
    registry.pull(release, tmp_path / "pulled", moved.append)
    assert digest.of_tree(tmp_path / "pulled") == digest.of_tree(made)
    assert sum(moved) == digest.size_of_tree(made) - len(b"function")
    assert not partial.exists()


def test_fields_print_one_value(registry: Registry, tmp_path: Path) -> None:
    zipped = registry.publish(build(tmp_path / "z"))
    image = registry.publish(build(tmp_path / "i", "image", name="fashion"))
    assert registry.field(zipped, "zip") == registry.place.blobs.uri(zipped.files[FUNCTION])
    assert registry.field(zipped, "digest") == str(digest.of_bytes(b"function"))
    assert registry.field(zipped, "version") == "1"
    assert registry.field(zipped, "size") == str(zipped.artifact.size_bytes)
    assert registry.field(image, "image") == f"fashion@{image.artifact.digest}"
    for release, name in ((zipped, "image"), (image, "zip"), (zipped, "colour")):
        with pytest.raises(RecipeError, match="fields are image, zip, digest, size, version"):
            registry.field(release, name)


def test_a_release_reads_as_json_and_as_text(registry: Registry, made: Path) -> None:
    release = registry.publish(made)
    read = json.loads(json.dumps(as_json(release)))
    assert read["reference"] == "minilm@1"
    assert read["artifact"]["target"] == "lambda-zip"
    assert read["files"][FUNCTION] == str(digest.of_bytes(b"function"))
    assert "team=ranking" in text(release)


def test_a_row_that_was_tampered_with_is_not_shown(registry: Registry, made: Path) -> None:
    registry.publish(made)
    table, key = registry.place.table, rows.release_key("minilm", 1)
    row = table.get(key)
    assert row is not None
    altered = row.body.replace(b"ranking", b"rankinG")
    for expect, (body, said) in enumerate(
        [(altered, "not the one that was published"), (row.body[:-9], "is damaged"), (b"", "is damaged")], start=1
    ):
        table.commit(Put(key=key, head=row.head, body=body, expect=expect))
        with pytest.raises(ServiceError, match=f"name/minilm/releases/000000001.*{said}"):
            registry.show(MINILM)


# --- several at once --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_publishers_at_once_make_one_version_a_content(registry: Registry, tmp_path: Path) -> None:
    """Processes; each content is published by two, and they share what is equal in all."""
    count, where = 16 if not registry.place.where.startswith("s3:") else 8, registry.place.where
    builds = [build(tmp_path / f"o{i}", content=bytes([i % (count // 2)]) * 1000) for i in range(count)]
    waiting, starting = os.pipe()
    children = []
    for made in builds:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(starting)
                os.read(waiting, 1)  # ends when the parent lets go of the other end: all at once
                open_registry(where).publish(made)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    os.close(starting)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * count
    os.close(waiting)
    releases = tuple(registry.releases("minilm"))
    assert [release.version for release in releases] == list(range(1, count // 2 + 1))
    assert len({release.digest for release in releases}) == count // 2
    for release in releases:
        registry.pull(release, tmp_path / f"pulled{release.version}")
    stored = {named for release in releases for named in release.files.values()}
    assert [one.digest for one in registry.place.blobs.list()] == sorted(stored)
    assert list(registry.place.table.query(rows.PUBLISHING)) == []


def test_two_registries_may_share_a_bucket_and_a_table(aws: AwsServer, made: Path, tmp_path: Path) -> None:
    aws.make_place()
    one, other = open_registry("s3://models/team?table=mlpack-registry"), open_registry("s3://models/team/b?table=mlpack-registry")
    assert one.publish(made).version == other.publish(made).version == 1
    other.publish(build(tmp_path / "second", content=b"2"))
    assert [release.version for release in one.releases()] == [1]
    assert [release.version for release in other.releases()] == [1, 2]
    assert len(list(one.place.blobs.list())) == 5
    for each in (one, other):
        each.place.table.close()
