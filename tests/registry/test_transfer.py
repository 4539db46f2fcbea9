"""From registry to registry: everything arrives, nothing changes on the way, and what contradicts itself is refused."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.images.raw_tars import header, pax
from tests.support.registry.builds import build
from tests.support.registry.places import move, stocked
from tests.support.registry.shelf import Shelf
from tests.support.services.aws_server import AwsServer

from mlpack.core import digest
from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import Delete, Key, Put, audit
from mlpack.registry.aliases import policies
from mlpack.registry.aliases.aliases import history
from mlpack.registry.local import directory
from mlpack.registry.moving.transfer import WITH, export, import_
from mlpack.registry.places import open_registry
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows import rows
from mlpack.registry.rows.rows import Reference
from mlpack.registry.upkeep.care import verify
from mlpack.registry.upkeep.collection import RetentionPolicy, collect

FUNCTION = "artifacts/int8@lambda-zip-x86_64/function.zip"
PROD = Reference(name="minilm", alias="prod")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """minilm@1 to minilm@3, fashion@1; minilm:prod went 1, 3, 2; a policy each of minilm, and of every model."""
    root = tmp_path_factory.mktemp("made")
    registry = stocked(root)
    for subject in ("minilm:prod", "*:prod"):
        registry.place.table.commit(Put(key=Key(rows.POLICIES, subject), head={"budgets": {}, "refuses": ["size"]}))
    return root


@pytest.fixture
def source(made: Path, tmp_path: Path) -> Registry:
    shutil.copytree(made / "registry", tmp_path / "registry")
    return directory.open_registry(tmp_path / "registry")


@pytest.fixture
def target(tmp_path: Path) -> Registry:
    return directory.open_registry(tmp_path / "target")


def everything(registry: Registry) -> Any:
    """What people see of a registry."""
    moves = [(move.name, move.alias, move.revision, move.version, move.when, move.who) for move in history(registry.place, PROD)]
    return tuple(registry.releases()), moves, [entry for entry in audit.log(registry) if entry.what != "import"]


@pytest.mark.parametrize("name", ["exported", "exported.tar"])
def test_a_registry_arrives_whole(source: Registry, target: Registry, tmp_path: Path, name: str) -> None:
    assert export(source, tmp_path / "deep" / name) == 4
    done = import_(target, tmp_path / "deep" / name, "bob", parts=WITH)
    assert done.releases == ("fashion@1", "minilm@1", "minilm@2", "minilm@3")
    assert (done.known, done.moves, done.policies_kept) == (0, 3, ())
    assert everything(target) == everything(source)
    assert verify(target).findings == ()
    assert target.show(PROD) == source.show(PROD)
    target.pull(target.show(PROD), tmp_path / "pulled")
    assert [row.key.sort for row in target.place.table.query(rows.POLICIES)] == ["*:prod", "minilm:prod"]
    (said,) = [entry for entry in audit.log(target) if entry.what == audit.IMPORT]
    assert (said.who, said.details["moves"], len(said.details["releases"])) == ("bob", 3, 4)
    again = import_(target, tmp_path / "deep" / name, "bob")
    assert (again.releases, again.known, again.moves) == ((), 4, 0)
    assert everything(target) == everything(source)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [name]


@pytest.mark.slow
def test_a_registry_arrives_on_aws_and_comes_back(aws: AwsServer, source: Registry, target: Registry, tmp_path: Path) -> None:
    there = open_registry(aws.make_place())
    export(source, tmp_path / "exported")
    import_(there, tmp_path / "exported", "bob")
    assert everything(there) == everything(source)
    assert verify(there).findings == ()
    assert import_(there, tmp_path / "exported", "bob").releases == ()
    export(there, tmp_path / "back.tar")
    import_(target, tmp_path / "back.tar", "bob")
    assert everything(target) == everything(source)
    assert verify(target).findings == ()
    damaged = there.show(PROD).files[FUNCTION]
    bucket, _, key = there.place.blobs.uri(damaged).removeprefix("s3://").partition("/")
    client = aws.client("s3")
    client.put_object(Bucket=bucket, Key=key, Body=b"damaged")
    client.close()
    assert [(finding.what, finding.where) for finding in verify(there).findings] == [("blob", f"minilm@2: {FUNCTION} ({damaged})")]
    there.place.table.close()


def test_some_models_arrive_alone(source: Registry, target: Registry, tmp_path: Path) -> None:
    assert export(source, tmp_path / "exported", ["minilm"]) == 3
    import_(target, tmp_path / "exported", "bob", parts=WITH)
    assert target.names() == ("minilm",)
    assert [row.key.sort for row in target.place.table.query(rows.POLICIES)] == ["minilm:prod"]
    with pytest.raises(RecipeError, match=r"no model other in the registry .*it has fashion, minilm"):
        export(source, tmp_path / "none", ["other"])


def test_an_empty_registry_is_exported_as_such(target: Registry, tmp_path: Path) -> None:
    assert export(target, tmp_path / "exported") == 0
    assert import_(target, tmp_path / "exported", None).releases == ()


def test_what_came_since_is_added(source: Registry, target: Registry, tmp_path: Path) -> None:
    export(source, tmp_path / "first")
    import_(target, tmp_path / "first", "bob")
    source.publish(build(tmp_path / "new", content=b"new"))
    move(source.place, "minilm", 4)
    export(source, tmp_path / "second")
    done = import_(target, tmp_path / "second", "bob")
    assert (done.releases, done.known, done.moves) == (("minilm@4",), 4, 1)
    assert everything(target) == everything(source)
    assert verify(target).findings == ()
    older = import_(target, tmp_path / "first", "bob")
    assert (older.releases, older.moves) == ((), 0)


def test_an_interrupted_import_is_gone_on_with(source: Registry, target: Registry, tmp_path: Path) -> None:
    export(source, tmp_path / "exported")
    commits = 0

    class Failing:
        def __getattr__(self, name: str) -> Any:
            return getattr(target.place.table, name)

        def commit(self, *writes: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise ServiceError("the network is down", retryable=True)
            target.place.table.commit(*writes)

    for commits in range(100):
        left = commits
        table: Any = Failing()
        try:
            import_(Registry(dataclasses.replace(target.place, table=table)), tmp_path / "exported", "bob", parts=WITH)
        except ServiceError:
            assert verify(target).findings == ()
            continue
        break
    assert commits > 5
    assert everything(target) == everything(source)
    assert verify(target).findings == ()


def test_what_was_collected_is_not_missed_where_it_comes_to(source: Registry, target: Registry, tmp_path: Path) -> None:
    later = dataclasses.replace(source.place, now=lambda: source.place.now() + 400 * 24 * 3600)
    collect(Registry(later), RetentionPolicy(newest=0, days=0, moves=0, window_days=0), who="carol")
    assert [release.version for release in source.releases("minilm")] == [2, 3]
    export(source, tmp_path / "exported")
    import_(target, tmp_path / "exported", "bob")
    assert verify(target).findings == ()
    assert everything(target)[:2] == everything(source)[:2]


def test_a_collected_release_comes_back_only_as_itself(source: Registry, target: Registry, tmp_path: Path) -> None:
    export(source, tmp_path / "exported")
    later = dataclasses.replace(source.place, now=lambda: source.place.now() + 400 * 24 * 3600)
    collect(Registry(later), RetentionPolicy(newest=0, days=0, moves=0, window_days=0), who="carol")
    assert import_(source, tmp_path / "exported", "bob").releases == ("minilm@1",)
    assert verify(source).findings == ()
    said = audit.entry_put(target.place, audit.COLLECTED, "carol", {"releases": {"minilm@1": f"sha256:{'0' * 64}"}, "images": []})
    target.place.table.commit(said)
    with pytest.raises(RecipeError, match=r"minilm@1 is sha256:0000.*two releases with one name"):
        import_(target, tmp_path / "exported", "bob")


def test_aliases_that_say_a_version_do_not_come(source: Registry, target: Registry, tmp_path: Path) -> None:
    last = next(iter(history(source.place, PROD, whole=True)))
    old = rows.move_put(dataclasses.replace(last, alias="latest", revision=1, previous=None))
    source.place.table.commit(old, Put(key=Key(rows.aliases("minilm"), "latest"), head={}))
    named = policies.put(source.place, policies.Policy(subject="*:mine", refuses=("size",)), "ann")
    row = source.place.table.get(Key(rows.POLICIES, named.subject))
    assert row is not None
    older = Put(key=Key(rows.POLICIES, "*:v1"), head=row.head, body=row.body)
    source.place.table.commit(older, Delete(key=row.key, expect=row.revision))
    export(source, tmp_path / "exported")
    done = import_(target, tmp_path / "exported", "bob")
    assert (len(done.releases), done.moves, done.aliases_left) == (4, 3, ("*:v1", "minilm:latest"))
    assert target.show(PROD) == source.show(PROD)
    assert verify(target).findings == verify(source).findings == ()
    again = import_(source, tmp_path / "exported", "bob")
    assert (again.moves, again.aliases_left) == (0, ("*:v1",))


def test_images_travel_as_bytes_and_are_pushed_on_arrival(tmp_path: Path) -> None:
    one, other = Shelf(tmp_path / "one"), Shelf(tmp_path / "other")
    source = directory.open_registry(tmp_path / "source", images=one)
    published = source.publish(build(tmp_path / "out", "image"))
    move(source.place, "minilm", 1)
    for name in ("exported", "exported.tar"):
        export(source, tmp_path / name)
    pushed = directory.open_registry(tmp_path / "pushed", images=other)
    kept = directory.open_registry(tmp_path / "kept")
    import_(pushed, tmp_path / "exported", "bob")
    import_(kept, tmp_path / "exported.tar", "bob")
    assert pushed.show(PROD) == pushed.show(Reference(name="minilm")) == published
    assert other.check(*published.images.values()) is None
    assert dict(kept.show(PROD).images) == {}
    for index, registry in enumerate((pushed, kept, source)):
        assert verify(registry).findings == ()
        registry.pull(registry.show(PROD), tmp_path / f"pulled{index}")
        assert digest.of_tree(tmp_path / f"pulled{index}") == digest.of_tree(tmp_path / "out")
        assert import_(registry, tmp_path / "exported", "bob").releases == ()
    with pytest.raises(RecipeError, match="has images in a container registry"):
        export(directory.open_registry(tmp_path / "source"), tmp_path / "without")


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(target: Registry, source: Path, said: str) -> None:
    """Refused in these words, and nothing was changed by it."""
    before = everything(target), list(target.place.blobs.list())
    with pytest.raises(RecipeError, match=said):
        import_(target, source, "bob")
    assert (everything(target), list(target.place.blobs.list())) == before


def test_two_releases_with_one_name_are_refused(source: Registry, target: Registry, tmp_path: Path) -> None:
    export(source, tmp_path / "exported")
    here = target.publish(build(tmp_path / "here", content=b"here"))
    there = source.show(Reference(name="minilm", version=1))
    refused(target, tmp_path / "exported", f"minilm@1 is {here.digest} in .*target and {there.digest} in .*exported")


def test_one_release_with_two_names_is_refused(source: Registry, target: Registry, tmp_path: Path) -> None:
    export(source, tmp_path / "exported")
    lone = directory.open_registry(tmp_path / "lone")
    lone.publish(build(tmp_path / "second", content=bytes([2])))  # minilm@2 there
    refused(lone, tmp_path / "exported", "minilm@1 is .*two releases with one name.*\n.*is minilm@1 in .*lone and minilm@2 in")


def test_two_histories_are_refused(source: Registry, target: Registry, tmp_path: Path) -> None:
    export(source, tmp_path / "all")
    export(source, tmp_path / "copy.tar")
    import_(target, tmp_path / "copy.tar", "bob")
    move(target.place, "minilm", 3)
    move(source.place, "minilm", 1)
    export(source, tmp_path / "exported")
    refused(target, tmp_path / "exported", r"minilm:prod has two histories: move 4 goes to version 3 \(.*target and to version 1")


def test_a_policy_that_differs_stays(source: Registry, target: Registry, tmp_path: Path) -> None:
    export(source, tmp_path / "exported")
    target.place.table.commit(Put(key=Key(rows.POLICIES, "*:prod"), head={"refuses": []}, body=b"{}"))
    assert import_(target, tmp_path / "exported", "bob").policies_kept == ("*:prod",)
    row = target.place.table.get(Key(rows.POLICIES, "*:prod"))
    assert row is not None
    assert row.head == {"refuses": []}


def test_damaged_and_missing_bytes_are_all_named(source: Registry, target: Registry, tmp_path: Path) -> None:
    export(source, tmp_path / "exported")
    blobs = sorted(path for path in (tmp_path / "exported" / "blobs").rglob("*") if path.is_file())
    blobs[0].write_bytes(b"damaged")
    blobs[1].unlink()
    with pytest.raises(RecipeError) as caught:
        import_(target, tmp_path / "exported", "bob")
    assert len(caught.value.problems) == 2
    assert blobs[0].name in str(caught.value)
    assert blobs[1].name in str(caught.value)
    assert target.names() == ()


def edit(folder: Path, change: Callable[[list[Any]], None], seal: bool = True) -> None:
    """Change an index, and its digests with it."""
    head, *lines = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    change(lines)
    for line in lines if seal else ():
        line.pop("digest", None)
        line["digest"] = str(digest.of_json(line))
    head["rows"] = len(lines)
    (folder / "index.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (head, *lines)))


def other_body(lines: list[Any]) -> None:
    lines[0]["body"] = lines[0]["body"].replace("ranking", "rankinG")


def outside(lines: list[Any]) -> None:
    lines[0]["body"] = lines[0]["body"].replace("report.md", "../rep.md")


@pytest.mark.parametrize(
    ("change", "seal", "said"),
    [
        (other_body, False, "index.jsonl:2: damaged: its digest is another one"),
        (other_body, True, "not the one that was published"),
        (outside, True, "damaged"),
        (lambda lines: lines[0].update(sort="000000009"), True, "holds"),
        (lambda lines: lines[0].update(partition="name/../releases"), True, "damaged"),
        (lambda lines: lines[0].update(body=7), True, "damaged"),
        (lambda lines: lines[0].pop("head"), True, "damaged"),
        (lambda lines: lines[-1].update(partition="name/minilm/alias/prod", sort="1"), True, "damaged"),
        (lambda lines: lines[-1].update(partition="leases", sort="gc"), True, "damaged"),
        (lambda lines: lines[-1].update(partition="audit", head={"details": {"releases": {"a@1": "x"}}}), True, "damaged"),
    ],
)
def test_a_damaged_index_is_refused(
    source: Registry, target: Registry, tmp_path: Path, change: Callable[[list[Any]], None], seal: bool, said: str
) -> None:
    export(source, tmp_path / "exported")
    edit(tmp_path / "exported", change, seal)
    refused(target, tmp_path / "exported", said)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not the index of an export"),
        ("no json", "not the index of an export"),
        ("[]\n", "not the index of an export"),
        ('{"export":2,"schema":2,"registry":"x","rows":0}\n', "newer mlpack"),
        ('{"export":1,"schema":99,"registry":"x","rows":0}\n', "newer mlpack"),
        ('{"export":1,"schema":2,"registry":"x","rows":1}\n', "has 0 rows instead of 1"),
    ],
)
def test_what_is_no_index_is_refused(target: Registry, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "index.jsonl").write_text(text)
    refused(target, tmp_path / "exported", said)


def test_what_is_no_export_is_refused(source: Registry, target: Registry, tmp_path: Path) -> None:
    refused(target, tmp_path / "nowhere", "no such directory or file")
    refused(target, tmp_path, "has no index.jsonl")
    (tmp_path / "file").write_bytes(b"not a tar at all" * 100)
    refused(target, tmp_path / "file", "neither a directory nor a .tar")
    export(source, tmp_path / "whole.tar")
    cut = (tmp_path / "whole.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(cut[: len(cut) // 3])
    refused(target, tmp_path / "cut.tar", "damaged|has no index")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
def test_links_in_a_tar_are_not_followed(target: Registry, tmp_path: Path, kind: bytes) -> None:
    secret = tmp_path / "index.jsonl"
    secret.write_text('{"export":1,"schema":2,"registry":"x","rows":0}\n')
    with tarfile.open(tmp_path / "hostile.tar", "w") as tar:
        about = tarfile.TarInfo("index.jsonl")
        about.type, about.linkname = kind, str(secret)
        tar.addfile(about, io.BytesIO())
    refused(target, tmp_path / "hostile.tar", "has no index.jsonl")


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (pax(path=b"a/" * 60_000) + header(b"f"), "more than 4096 bytes"),
        (header(b"p", b"x", 1 << 40), "an extension header of"),
        (pax(comment=b"c") * 20, "extension headers"),
        (header(b"index.jsonl", b"S"), "sparse"),
        (header(b"index.jsonl", size=1 << 40), "ends too early"),
        (header(b"index.jsonl") * 2, "twice"),
        (header(b"index.jsonl", b"1", link=b"x") + bytes(1024), "has no index.jsonl"),
        (b"\x1f\x8b" + bytes(2000), "not compressed"),
    ],
)
def test_a_hostile_tar_is_refused_in_little_memory(target: Registry, tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "hostile.tar").write_bytes(data)
    tracemalloc.start()
    try:
        refused(target, tmp_path / "hostile.tar", said)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_what_a_killed_export_left_goes_with_the_next(source: Registry, tmp_path: Path) -> None:
    (tmp_path / "out/mlpack-held-export-old").mkdir(parents=True)
    (tmp_path / "out/mlpack-held-export-old/tar").write_bytes(b"x")
    export(source, tmp_path / "out/exported.tar")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["exported.tar"]


def test_nothing_is_overwritten(source: Registry, tmp_path: Path) -> None:
    export(source, tmp_path / "exported")
    export(source, tmp_path / "exported.tar")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("exported", "exported.tar", "mine", "file"):
        with pytest.raises(RecipeError, match=r"already there|not empty"):
            export(source, tmp_path / name)


@pytest.mark.parametrize("name", ["exported", "exported.tar"])
def test_an_interrupted_export_is_none_and_is_gone_on_with(source: Registry, target: Registry, tmp_path: Path, name: str) -> None:
    lost = source.show(Reference(name="minilm", version=3)).files[FUNCTION]
    blob = Path(source.place.blobs.uri(lost))
    data = blob.read_bytes()
    blob.unlink()
    with pytest.raises(ServiceError, match="damaged"):
        export(source, tmp_path / name)
    with pytest.raises(RecipeError):
        import_(target, tmp_path / name, "bob")
    blob.write_bytes(data)
    export(source, tmp_path / name)
    import_(target, tmp_path / name, "bob")
    assert everything(target) == everything(source)
    assert not list(tmp_path.glob(f".{name}*"))


def test_equal_registries_export_equal_bytes(source: Registry, tmp_path: Path) -> None:
    export(source, tmp_path / "a")
    export(source, tmp_path / "b")
    assert digest.of_tree(tmp_path / "a") == digest.of_tree(tmp_path / "b")
