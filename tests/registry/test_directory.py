"""A registry in a directory: what may be published, what stays, and what is left when a publisher dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.registry.builds import build

from mlpack import digest
from mlpack.errors import ExitCode, RecipeError, ServiceError
from mlpack.records import Release
from mlpack.registry import NothingChosenError, Registry, decode_manifest
from mlpack.registry.directory import DirectoryRegistry, Disk, as_json, open_registry, parse_reference, text

FUNCTION = "artifacts/int8@lambda-zip-x86_64/function.zip"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return build(tmp_path / "out")


def edit(folder: Path, change: Any) -> None:
    """Change a record on disk."""
    path = folder / "build.json"
    record = json.loads(path.read_bytes())
    change(record)
    path.write_text(json.dumps(record))


def blob_of(root: Path, release: Release, path: str = FUNCTION) -> Path:
    named = release.files[path]
    return root / "blobs" / "sha256" / named.hex[:2] / named.hex


def test_it_is_a_registry(root: Path) -> None:
    registry: Registry = open_registry(root)
    assert registry.list() == ()
    assert not root.exists()


@pytest.mark.parametrize("kind", ["zip", "layer-zip", "image"])
def test_what_was_published_can_be_listed_shown_and_pulled(root: Path, tmp_path: Path, kind: str) -> None:
    made, registry = build(tmp_path / "out", kind), open_registry(root)
    release = registry.publish(made)
    assert (release.name, release.version, release.tags) == ("minilm", 1, {"team": "ranking", "env": "prod"})
    assert registry.list() == registry.list("minilm") == (release,)
    assert registry.list("other") == ()
    assert registry.show("minilm") == registry.show("minilm", 1) == release
    registry.pull(release, tmp_path / "pulled")
    assert digest.of_tree(tmp_path / "pulled") == digest.of_tree(made)


def test_the_same_content_again_changes_nothing(root: Path, made: Path, tmp_path: Path) -> None:
    registry = open_registry(root)
    first = registry.publish(made)
    before = {path: path.stat().st_mtime_ns for path in (root / "blobs").rglob("*")}
    moved = tmp_path / "elsewhere"
    shutil.copytree(made, moved)
    assert registry.publish(moved) == first
    assert len(registry.list()) == 1
    assert {path: path.stat().st_mtime_ns for path in (root / "blobs").rglob("*")} == before


def test_versions_grow_by_name_and_stay(root: Path, tmp_path: Path) -> None:
    registry = open_registry(root)
    published = [registry.publish(build(tmp_path / f"o{i}", content=bytes([i]))) for i in range(3)]
    other = registry.publish(build(tmp_path / "other", name="fashion"))
    assert [release.version for release in published] == [1, 2, 3]
    assert other.version == 1
    assert registry.publish(tmp_path / "o0") == published[0]
    assert registry.show("minilm") == published[2]
    assert registry.list() == (other, *published)


def test_equal_files_are_kept_once(root: Path, tmp_path: Path) -> None:
    registry = open_registry(root)
    for index, name in enumerate(("a", "b")):
        registry.publish(build(tmp_path / name, name=name, content=b"same"))
        assert len([p for p in (root / "blobs").rglob("*") if p.is_file()]) == 5 + 2 * index  # build.json and report.md differ
    assert list((root / "tmp").iterdir()) == []


def test_a_build_that_chose_nothing_is_refused_with_its_own_code(root: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingChosenError, match="chose no candidate") as caught:
        open_registry(root).publish(build(tmp_path / "out", fits=False))
    assert caught.value.exit_code is ExitCode.OVER_BUDGET
    assert not root.exists()


def test_an_altered_artifact_is_refused_before_anything_is_written(root: Path, made: Path) -> None:
    (made / FUNCTION).write_bytes(b"altered!")
    with pytest.raises(RecipeError, match="altered since the build"):
        open_registry(root).publish(made)
    assert not root.exists()


def test_every_missing_and_added_file_is_named(root: Path, made: Path) -> None:
    folder = (made / FUNCTION).parent
    (folder / "event.json").unlink()
    (folder / "extra").write_text("x")
    with pytest.raises(RecipeError) as caught:
        open_registry(root).publish(made)
    assert any("event.json: missing" in problem for problem in caught.value.problems)
    assert any("extra: not made by the build" in problem for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("kind", "break_it", "said"),
    [
        ("zip", lambda f: (f / "function.zip").write_bytes(b"other"), "function.zip: digest"),
        ("zip", lambda f: (f / "function.zip").unlink(), "function.zip: missing"),
        ("layer-zip", lambda f: (f / "layer.zip").write_bytes(b"other"), "layer.zip: digest"),
        ("image", lambda f: (f / "image" / "index.json").unlink(), "index.json: missing"),
        ("image", lambda f: [p.write_bytes(b"x") for p in (f / "image/blobs/sha256").iterdir()], "its bytes have the digest"),
        ("image", lambda f: [p.unlink() for p in (f / "image/blobs/sha256").iterdir()], "is not in the layout"),
    ],
)
def test_a_record_without_a_list_of_files_still_binds_the_artifact(
    root: Path, tmp_path: Path, kind: str, break_it: Any, said: str
) -> None:
    made = build(tmp_path / "out", kind)
    edit(made, lambda record: record["files"].clear())
    break_it(next((made / "artifacts").iterdir()))
    with pytest.raises(RecipeError, match=said):
        open_registry(root).publish(made)


@pytest.mark.parametrize("path", ["../../etc", "/etc/passwd", "artifacts/other/function.zip", "artifacts", "artifacts/../x", ""])
def test_a_record_cannot_name_files_elsewhere(root: Path, made: Path, path: str) -> None:
    edit(made, lambda record: record["artifact"].update(path=path))
    with pytest.raises(RecipeError, match="not below artifacts"):
        open_registry(root).publish(made)


def test_a_chosen_id_cannot_lead_elsewhere(root: Path, made: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        record["chosen"] = ".."
        record["artifact"]["path"] = "artifacts/../secrets"

    edit(made, change)
    with pytest.raises(RecipeError, match="not below artifacts"):
        open_registry(root).publish(made)


@pytest.mark.parametrize("name", ["", "A", "a b", "../a", "a\n"])
def test_a_name_that_is_none_is_refused(root: Path, made: Path, name: str) -> None:
    edit(made, lambda record: record["recipe"].update(name=name))
    with pytest.raises(RecipeError, match="is not a name"):
        open_registry(root).publish(made)


def test_links_are_not_followed(root: Path, made: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    ((made / FUNCTION).parent / "link").symlink_to(secret)
    with pytest.raises(RecipeError, match="not a file"):
        open_registry(root).publish(made)


def test_a_directory_that_is_no_build_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"build\.json"):
        open_registry(root).publish(tmp_path)


def test_a_release_that_is_not_there_says_what_is(root: Path, made: Path) -> None:
    with pytest.raises(RecipeError, match="it is empty"):
        open_registry(root).show("minilm")
    open_registry(root).publish(made)
    with pytest.raises(RecipeError, match=r"no release fashion .*it has minilm"):
        open_registry(root).show("fashion")
    with pytest.raises(RecipeError, match="no release minilm@7"):
        open_registry(root).show("minilm", 7)


@pytest.mark.parametrize("damage", [lambda b: b.write_bytes(b"functioN"), lambda b: b.write_bytes(b""), lambda b: b.unlink()])
def test_a_damaged_blob_is_named_and_nothing_is_pulled(root: Path, made: Path, tmp_path: Path, damage: Any) -> None:
    registry = open_registry(root)
    release = registry.publish(made)
    damage(blob_of(root, release))
    with pytest.raises(ServiceError, match=r"function\.zip: the blob .*is damaged") as caught:
        registry.pull(release, tmp_path / "pulled")
    assert str(blob_of(root, release)) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if "pulled" in path.name] == []
    registry.publish(made)
    registry.pull(release, tmp_path / "pulled")


def test_pull_needs_a_place_of_its_own(root: Path, made: Path, tmp_path: Path) -> None:
    registry = open_registry(root)
    release = registry.publish(made)
    (tmp_path / "empty").mkdir()
    registry.pull(release, tmp_path / "empty")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for taken in ("empty", "link", "out/build.json"):
        with pytest.raises(RecipeError, match="already there"):
            registry.pull(release, tmp_path / taken)


def test_fields_print_one_value(root: Path, tmp_path: Path) -> None:
    registry = open_registry(root)
    zipped = registry.publish(build(tmp_path / "z"))
    image = registry.publish(build(tmp_path / "i", "image", name="fashion"))
    assert Path(registry.field(zipped, "zip")).read_bytes() == b"function"
    assert registry.field(zipped, "digest") == str(digest.of_bytes(b"function"))
    assert registry.field(zipped, "version") == "1"
    assert registry.field(zipped, "size") == str(zipped.artifact["size_bytes"])
    assert registry.field(image, "image") == f"fashion@{image.artifact['digest']}"
    for release, name in ((zipped, "image"), (image, "zip"), (zipped, "colour")):
        with pytest.raises(RecipeError, match="fields are image, zip, digest, size, version"):
            registry.field(release, name)


def test_a_release_reads_as_json_and_as_text(root: Path, made: Path) -> None:
    release = open_registry(root).publish(made)
    read = json.loads(json.dumps(as_json(release)))
    assert read["reference"] == "minilm@1"
    assert read["artifact"]["target"] == "lambda-zip"
    assert read["files"][FUNCTION] == str(digest.of_bytes(b"function"))
    assert "team=ranking" in text(release)


@pytest.mark.parametrize(("said", "meant"), [("minilm", ("minilm", None)), ("a-1@12", ("a-1", 12))])
def test_references_are_read(said: str, meant: tuple[str, int | None]) -> None:
    assert parse_reference(said) == meant


@pytest.mark.parametrize("said", ["", "@1", "a@", "a@0", "a@-1", "a@01", "a@1.5", "A", "a:prod", "../a", "a@1\n", "a@9999999999"])
def test_references_that_are_none_are_refused(said: str) -> None:
    with pytest.raises(RecipeError, match="NAME@VERSION"):
        parse_reference(said)


@pytest.mark.parametrize("place", ["s3://bucket/prefix", "https://host/x"])
def test_other_places_are_refused(place: str) -> None:
    with pytest.raises(RecipeError, match="directories only"):
        open_registry(Path(place))


def test_a_row_that_was_tampered_with_is_not_shown(root: Path, made: Path) -> None:
    registry = open_registry(root)
    registry.publish(made)
    with sqlite3.connect(root / "registry.sqlite") as connection:
        connection.execute("UPDATE releases SET manifest = CAST(replace(CAST(manifest AS TEXT), 'ranking', 'rankinG') AS BLOB)")
    connection.close()
    with pytest.raises(ServiceError, match="not the one that was published"):
        registry.show("minilm")


def test_what_is_no_database_is_said(root: Path) -> None:
    root.mkdir()
    (root / "registry.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(ServiceError, match="not a database"):
        open_registry(root).list()


def test_a_newer_registry_is_left_alone(root: Path, made: Path) -> None:
    open_registry(root).publish(made)
    with sqlite3.connect(root / "registry.sqlite") as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(ServiceError, match="newer mlpack"):
        open_registry(root).publish(made)


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/./b", "", "a\\b", "c:x", "a\nb"])
def test_a_manifest_cannot_name_files_elsewhere(path: str) -> None:
    data = {"name": "a", "artifact": {}, "tags": {}, "files": {path: str(digest.of_bytes(b""))}}
    with pytest.raises(ValueError, match="outside of the release"):
        decode_manifest(json.dumps(data).encode())


def test_a_manifest_cannot_put_a_file_below_a_file() -> None:
    named = str(digest.of_bytes(b""))
    with pytest.raises(ValueError, match="below another"):
        decode_manifest(json.dumps({"name": "a", "artifact": {}, "tags": {}, "files": {"a": named, "a/b": named}}).encode())


# --- several at once, and dying in the middle ------------------------------------------------------------------------


def test_sixteen_publishers_at_once_make_one_version_a_content(root: Path, tmp_path: Path) -> None:
    builds = [build(tmp_path / f"o{i}", content=bytes([i % 8]) * 1000) for i in range(16)]
    waiting, starting = os.pipe()
    children = []
    for made in builds:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(starting)
                os.read(waiting, 1)  # ends when the parent lets go of the other end: all at once
                open_registry(root).publish(made)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    os.close(starting)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 16
    os.close(waiting)
    registry = open_registry(root)
    releases = registry.list("minilm")
    assert [release.version for release in releases] == list(range(1, 9))
    assert len({release.digest for release in releases}) == 8
    for release in releases:
        registry.pull(release, tmp_path / f"pulled{release.version}")


class Dying(Disk):
    """A disk under a process that is killed at its n-th moment: before a change, half-way through it, or right after it."""

    def __init__(self, moment: int | None) -> None:
        self.moments = 0
        self._moment = moment

    def _pass(self) -> None:
        if self.moments == self._moment:
            os.kill(os.getpid(), signal.SIGKILL)
        self.moments += 1

    def make_folder(self, folder: Path) -> None:
        self._pass()
        super().make_folder(folder)
        self._pass()

    def write(self, path: Path, chunks: Iterable[bytes]) -> None:
        self._pass()
        super().write(path, self._interrupted(chunks))
        self._pass()

    def _interrupted(self, chunks: Iterable[bytes]) -> Iterable[bytes]:
        for chunk in chunks:
            yield chunk[: len(chunk) // 2]
            self._pass()
            yield chunk[len(chunk) // 2 :]

    def move(self, source: Path, target: Path) -> None:
        self._pass()
        super().move(source, target)
        self._pass()

    def commit(self, connection: sqlite3.Connection) -> None:
        self._pass()
        super().commit(connection)
        self._pass()


def dies(work: Any) -> bool:
    """Run in a process of its own; whether it was killed."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_publisher_killed_at_any_moment_leaves_all_or_nothing(tmp_path: Path) -> None:
    earlier, made = build(tmp_path / "earlier", content=b"earlier"), build(tmp_path / "out")
    whole = Dying(None)
    first = DirectoryRegistry(tmp_path / "whole", whole)
    first.publish(earlier)
    start = whole.moments
    first.publish(made)
    assert whole.moments - start > 20
    seen = set()
    for moment in range(whole.moments - start):
        root = tmp_path / f"r{moment}"
        open_registry(root).publish(earlier)
        assert dies(lambda root=root, moment=moment: DirectoryRegistry(root, Dying(moment)).publish(made))
        registry = open_registry(root)
        for release in registry.list():
            registry.pull(release, tmp_path / f"p{moment}-{release.version}")
        seen.add(len(registry.list()))
        assert registry.publish(made).version == 2
        assert [release.version for release in registry.list()] == [1, 2]
    assert seen == {1, 2}


def test_a_puller_killed_at_any_moment_leaves_all_or_nothing(root: Path, made: Path, tmp_path: Path) -> None:
    release = open_registry(root).publish(made)
    whole = Dying(None)
    DirectoryRegistry(root, whole).pull(release, tmp_path / "whole")
    for moment in range(whole.moments):
        folder = tmp_path / f"pulled{moment}"
        assert dies(lambda folder=folder, moment=moment: DirectoryRegistry(root, Dying(moment)).pull(release, folder))
        if not folder.exists():
            open_registry(root).pull(release, folder)
        assert digest.of_tree(folder) == digest.of_tree(made)


def test_a_disk_that_is_full_leaves_nothing_behind(root: Path, made: Path, tmp_path: Path) -> None:
    class Full(Disk):
        def write(self, path: Path, chunks: Iterable[bytes]) -> None:
            super().write(path, (chunk[:1] for chunk in chunks))
            raise OSError(28, "No space left on device", str(path))

    with pytest.raises(OSError, match="No space"):
        DirectoryRegistry(root, Full()).publish(made)
    assert open_registry(root).list() == ()
    assert list((root / "tmp").iterdir()) == []
    release = open_registry(root).publish(made)
    with pytest.raises(OSError, match="No space"):
        DirectoryRegistry(root, Full()).pull(release, tmp_path / "pulled")
    assert not [path for path in tmp_path.iterdir() if "pulled" in path.name]


def test_what_a_killed_publisher_left_is_swept_a_day_later(root: Path, made: Path) -> None:
    (root / "tmp").mkdir(parents=True)
    old, new = root / "tmp" / "old", root / "tmp" / "new"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    open_registry(root).publish(made)
    assert not old.exists()
    assert new.exists()
