"""Garbage collection: what stays and why, what goes, and that nothing which somebody needs ever does."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.support.registry.builds import build
from tests.support.registry.shelf import Shelf
from tests.support.services.aws_server import AwsServer, Fault

from mlpack.core.digest import Digest
from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import ConflictError, Delete, Put, audit, places
from mlpack.registry.aliases.aliases import MoveRequest, promote, rollback
from mlpack.registry.local import directory
from mlpack.registry.records import Release
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows import leases, rows
from mlpack.registry.rows.rows import Reference
from mlpack.registry.upkeep.care import verify
from mlpack.registry.upkeep.collection import CollectionPlan, RetentionPolicy, as_json, collect, plan

DAY = 24 * 3600.0
NOTHING = RetentionPolicy(newest=0, days=0, tags=(), moves=0, window_days=0, grace_days=0)
"""Keeps what is kept whatever it says."""
FUNCTION = "artifacts/int8@lambda-zip-x86_64/function.zip"


class Clock:
    """A clock that is moved by hand, from now."""

    def __init__(self) -> None:
        self.seconds = time.time()

    def __call__(self) -> float:
        return self.seconds

    def days(self, count: float) -> None:
        self.seconds += count * DAY


@pytest.fixture
def clock() -> Clock:
    return Clock()


def open_registry(root: Path, clock: Clock, images: Shelf | None = None) -> Registry:
    opened = directory.open_registry(root)
    return Registry(dataclasses.replace(opened.place, now=clock), images)


@pytest.fixture
def registry(tmp_path: Path, clock: Clock) -> Registry:
    return open_registry(tmp_path / "registry", clock)


@pytest.fixture
def publish(registry: Registry, tmp_path: Path) -> Callable[..., Release]:
    """Publish something new, or the same `content` again."""
    made: dict[tuple[str, bytes], Path] = {}

    def publish(content: bytes | None = None, name: str = "minilm", **how: Any) -> Release:
        key = (name, content if content is not None else str(len(made)).encode())
        if key not in made:
            made[key] = build(tmp_path / f"o{len(made)}", content=key[1], name=name, **how)
        return registry.publish(made[key])

    return publish


def move(registry: Registry, version: int, alias: str = "prod", name: str = "minilm") -> None:
    promote(registry.place, Reference(name=name, version=version), alias, MoveRequest(who="alice"), lambda _release, _live: ())


def why(made: CollectionPlan) -> dict[str, tuple[str, ...]]:
    return {kept.reference: kept.why for kept in made.kept}


def gone(made: CollectionPlan) -> list[str]:
    return [each.reference for each in made.releases]


def whole(registry: Registry) -> bool:
    return verify(registry).findings == ()


# --- what stays -------------------------------------------------------------------------------------------------------


def test_the_newest_stays_whatever_the_policy_says(registry: Registry, publish: Callable[..., Release], clock: Clock) -> None:
    for _ in range(3):
        publish()
    publish(name="fashion")
    clock.days(1000)
    made = plan(registry, NOTHING)
    assert why(made) == {"fashion@1": ("the newest",), "minilm@3": ("the newest",)}
    assert gone(made) == ["minilm@2", "minilm@1"]


def test_so_many_of_each_name_stay(registry: Registry, publish: Callable[..., Release], clock: Clock) -> None:
    for _ in range(4):
        publish()
    clock.days(1)
    made = plan(registry, dataclasses.replace(NOTHING, newest=3))
    assert why(made)["minilm@2"] == ("one of the newest 3",)
    assert gone(made) == ["minilm@1"]


def test_the_young_stay(registry: Registry, publish: Callable[..., Release], clock: Clock) -> None:
    publish()
    clock.days(5)
    publish()
    publish()
    young = "younger than an hour"
    assert why(plan(registry, NOTHING)) == {"minilm@3": ("the newest", young), "minilm@2": (young,)}
    clock.days(5)
    made = plan(registry, dataclasses.replace(NOTHING, days=7))
    assert why(made)["minilm@2"] == ("younger than 7 days",)
    assert gone(made) == ["minilm@1"]
    assert gone(plan(registry, dataclasses.replace(NOTHING, days=10.5))) == []


@pytest.mark.parametrize(
    ("tag", "stays"), [("team", True), ("team=ranking", True), ("team=search", False), ("keep", False), ("env=prod", True)]
)
def test_what_has_a_tag_stays(registry: Registry, publish: Callable[..., Release], clock: Clock, tag: str, stays: bool) -> None:
    publish()
    publish()
    clock.days(100)
    made = plan(registry, dataclasses.replace(NOTHING, tags=(tag,)))
    assert (gone(made) == []) is stays
    assert (f"tagged {tag}" in why(made).get("minilm@1", ())) is stays


def test_what_an_alias_points_to_stays_and_what_it_did_a_while(
    registry: Registry, publish: Callable[..., Release], clock: Clock
) -> None:
    for _ in range(5):
        publish()
    for version in (1, 2, 3, 1, 4):
        move(registry, version)
        clock.days(10)
    move(registry, 2, alias="canary")
    clock.days(10)
    # prod: 1 from day 0, 2 from 10, 3 from 20, 1 from 30, 4 from 40; canary: 2 from 50; now is 60
    assert gone(plan(registry, NOTHING)) == ["minilm@3"]
    assert why(plan(registry, NOTHING))["minilm@4"] == ("minilm:prod points to it",)
    assert why(plan(registry, NOTHING))["minilm@1"] == ("minilm:prod would be rolled back to it",)
    assert gone(plan(registry, dataclasses.replace(NOTHING, moves=2))) == ["minilm@3"]
    assert gone(plan(registry, dataclasses.replace(NOTHING, moves=3))) == []
    assert gone(plan(registry, dataclasses.replace(NOTHING, window_days=15))) == ["minilm@3"]
    assert gone(plan(registry, dataclasses.replace(NOTHING, window_days=21))) == ["minilm@3"]
    kept = plan(registry, dataclasses.replace(NOTHING, window_days=1000))
    assert gone(kept) == []
    assert len(why(kept)["minilm@1"]) == 1
    assert why(kept)["minilm@1"][0].startswith("minilm:prod pointed to it until ")
    assert set(why(kept)["minilm@2"]) >= {"minilm:canary points to it"}


def test_rollback_target_stays_when_those_between_are_gone(
    registry: Registry, publish: Callable[..., Release], clock: Clock
) -> None:
    first = publish()
    for _ in range(3):
        publish()
    for version in (1, 2, 3, 4):
        move(registry, version)
    clock.days(1000)
    assert gone(collect(registry, NOTHING, {str(first.files[FUNCTION]): "lambda ranking:1"}, who="bob")) == ["minilm@2"]
    prod = Reference(name="minilm", alias="prod")
    assert rollback(registry.place, prod, MoveRequest(who="alice")).move.version == 3
    clock.days(1000)
    made = collect(registry, NOTHING, who="bob")
    assert why(made)["minilm@1"] == ("minilm:prod would be rolled back to it",)
    assert rollback(registry.place, prod, MoveRequest(who="alice")).move.version == 1


def test_what_is_in_use_stays(registry: Registry, publish: Callable[..., Release], clock: Clock) -> None:
    first = publish()
    publish()
    publish()
    clock.days(100)
    live = {str(first.files[FUNCTION]): "lambda ranking:1", f"sha256:{'0' * 64}": "lambda other:1"}
    made = plan(registry, NOTHING, live)
    assert why(made)["minilm@1"] == ("in use by lambda ranking:1",)
    assert gone(made) == ["minilm@2"]


@pytest.mark.parametrize(
    "said", ["shelf.example/minilm@{digest}", "{digest}", "elsewhere/x@{digest}", "shelf.example/minilm:v1", "shelf.example/minilm"]
)
def test_images_in_use_stay(tmp_path: Path, clock: Clock, said: str) -> None:
    registry = open_registry(tmp_path / "registry", clock, Shelf(tmp_path / "shelf"))
    first = registry.publish(build(tmp_path / "a", "image", content=b"a"))
    registry.publish(build(tmp_path / "b", "image", content=b"b"))
    clock.days(100)
    assert len(plan(registry, NOTHING).images) == 1
    made = plan(registry, NOTHING, {said.format(digest=first.artifact.digest): "ecs worker"})
    assert why(made)["minilm@1"] == ("in use by ecs worker",)
    assert (gone(made), made.images) == ([], ())


def test_bytes_without_a_release_go_after_the_grace(registry: Registry, publish: Callable[..., Release], clock: Clock) -> None:
    publish()
    left = Path(registry.place.blobs.uri(Digest(f"sha256:{'ab' * 32}")))
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"what a killed publisher left")
    graceful = dataclasses.replace(NOTHING, grace_days=1)
    assert plan(registry, graceful).blobs == ()
    clock.days(1.1)
    made = plan(registry, graceful)
    assert [(stored.digest.hex[:2], stored.size_bytes) for stored in made.blobs] == [("ab", 28)]
    assert made.size_bytes == 28
    assert left.exists()
    collect(registry, graceful, who="bob")
    assert not left.exists()
    assert whole(registry)


def test_a_policy_counts_nothing_below_zero() -> None:
    with pytest.raises(RecipeError, match="less than 0"):
        RetentionPolicy(newest=-1)


# --- what goes --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_plan_changes_nothing_and_collecting_does_what_it_said(
    registry: Registry, publish: Callable[..., Release], clock: Clock, tmp_path: Path
) -> None:
    for _ in range(25):
        publish()
    clock.days(100)
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "registry" / "blobs").rglob("*"))
    planned = plan(registry, NOTHING)
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "registry" / "blobs").rglob("*")) == before
    steps: list[tuple[int, int]] = []
    assert collect(registry, NOTHING, who="bob", progress=lambda done, total: steps.append((done, total))) == planned
    assert [release.version for release in registry.releases()] == [25]
    assert {stored.digest for stored in registry.place.blobs.list()} == set(registry.show(Reference(name="minilm")).files.values())
    assert whole(registry)
    assert steps[-1] == (24 + len(planned.blobs),) * 2
    said = {entry.what: entry for _, entry in audit.entries(registry.place)}
    assert said[audit.GC].who == "bob"
    assert said[audit.GC].details["blobs"] == len(planned.blobs)
    assert len([1 for _, entry in audit.entries(registry.place) if entry.what == audit.COLLECTED]) == 4
    assert collect(registry, NOTHING, who="bob").releases == ()
    assert registry.place.table.get(rows.LEASE) is None


@pytest.mark.slow
def test_collecting_on_aws(aws: AwsServer, clock: Clock, tmp_path: Path) -> None:
    opened = places.open_registry(aws.make_place())
    registry = Registry(dataclasses.replace(opened.place, now=clock))
    for version in range(1, 13):
        registry.publish(build(tmp_path / f"o{version}", content=bytes([version])))
    clock.days(1)
    move(registry, 2)
    clock.days(100)
    planned = plan(registry, NOTHING)
    assert collect(registry, NOTHING, who="bob") == planned
    assert [release.version for release in registry.releases()] == [2, 12]
    assert {stored.digest for stored in registry.place.blobs.list()} == {n for r in registry.releases() for n in r.files.values()}
    assert whole(registry)
    assert [entry.what for _, entry in audit.entries(registry.place)] == [audit.COLLECTED, audit.COLLECTED, audit.GC]
    assert leases.intents(registry.place) == ([], [])
    registry.place.table.close()


@pytest.mark.slow
def test_a_delete_is_asked_for_again_only_with_the_lease(aws: AwsServer, clock: Clock, tmp_path: Path) -> None:
    registry = Registry(dataclasses.replace(places.open_registry(aws.make_place()).place, now=clock))
    for version in (1, 2):
        registry.publish(build(tmp_path / f"o{version}", content=bytes([version])))
    clock.days(100)
    aws.clear_log()
    aws.plan(Fault("error", service="s3", operation="DeleteObject"))
    made = collect(registry, NOTHING, who="bob")
    assert len([one for one in aws.log("s3") if one.operation == "DeleteObject"]) == len(made.blobs) + 1
    assert whole(registry)
    registry.place.table.close()


def test_versions_never_repeat(registry: Registry, publish: Callable[..., Release], clock: Clock) -> None:
    first = publish(b"one")
    publish(b"two")
    clock.days(100)
    collect(registry, NOTHING, who="bob")
    again = publish(b"one")
    assert (again.version, again.digest) == (3, first.digest)
    assert whole(registry)


def test_bytes_of_others_stay(registry: Registry, publish: Callable[..., Release], clock: Clock) -> None:
    shared, other = publish(b"same"), publish(b"same", name="fashion")
    publish(b"new")
    clock.days(100)
    collect(registry, NOTHING, who="bob")
    assert shared.files[FUNCTION] == other.files[FUNCTION]
    assert registry.place.blobs.check(shared.files[FUNCTION]) is None
    assert whole(registry)


def test_images_go_when_no_release_has_them(tmp_path: Path, clock: Clock) -> None:
    shelf = Shelf(tmp_path / "shelf")
    registry = open_registry(tmp_path / "registry", clock, shelf)
    first, second = (registry.publish(build(tmp_path / name, "image", content=name.encode())) for name in "ab")
    clock.days(100)
    made = collect(registry, NOTHING, who="bob")
    assert made.images == tuple(first.images.values()) == tuple(shelf.removed)
    assert whole(registry)
    assert collect(registry, NOTHING, who="bob").images == ()
    assert registry.images is not None
    assert registry.images.check(*second.images.values()) is None


def test_images_of_collection_that_was_cut_off_go_with_the_next(tmp_path: Path, clock: Clock) -> None:
    shelf = Shelf(tmp_path / "shelf")
    registry = open_registry(tmp_path / "registry", clock, shelf)
    first, _ = (registry.publish(build(tmp_path / name, "image", content=name.encode())) for name in "ab")
    clock.days(100)
    collect(open_registry(tmp_path / "registry", clock), NOTHING, who="without a container registry")
    assert plan(registry, NOTHING).images == tuple(first.images.values())
    again = registry.publish(tmp_path / "a")  # and is needed again
    assert again.version == 3
    assert next(iter(first.images.values())) not in plan(registry, NOTHING).images
    clock.days(100)
    registry.publish(build(tmp_path / "c", "image", content=b"c"))
    assert next(iter(first.images.values())) in collect(registry, NOTHING, who="bob").images
    assert whole(registry)


def test_a_registry_with_a_damaged_row_is_not_collected_from(
    registry: Registry, publish: Callable[..., Release], clock: Clock
) -> None:
    publish()
    publish()
    row = registry.place.table.get(rows.release_key("minilm", 2))
    assert row is not None
    registry.place.table.commit(Put(key=row.key, head=row.head, body=row.body[:-5], expect=1))
    clock.days(100)
    before = list(registry.place.blobs.list())
    with pytest.raises(ServiceError, match="damaged"):
        collect(registry, NOTHING, who="bob")
    assert list(registry.place.blobs.list()) == before


def test_a_plan_is_json(registry: Registry, publish: Callable[..., Release], clock: Clock) -> None:
    publish()
    publish()
    clock.days(100)
    said = as_json(plan(registry, NOTHING))
    assert said["kept"] == [{"release": "minilm@2", "why": ["the newest"]}]
    assert [each["release"] for each in said["releases"]] == ["minilm@1"]
    assert said["size_bytes"] == sum(blob["size_bytes"] for blob in said["blobs"]) > 0


# --- others at work ---------------------------------------------------------------------------------------------------


class Between:
    """A registry's table in which something happens before the n-th commit of a kind."""

    def __init__(self, registry: Registry, when: Callable[[tuple[Put | Delete, ...]], bool], happens: Callable[[], object]) -> None:
        self._table, self._when, self._happens = registry.place.table, when, happens
        self.done = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    def commit(self, *writes: Put | Delete) -> None:
        if not self.done and self._when(writes):
            self.done = True
            self._happens()
        self._table.commit(*writes)


def between(registry: Registry, when: Callable[[tuple[Put | Delete, ...]], bool], happens: Callable[[], object]) -> Registry:
    table: Any = Between(registry, when, happens)
    return Registry(dataclasses.replace(registry.place, table=table), registry.images)


def takes_lease(writes: tuple[Put | Delete, ...]) -> bool:
    return isinstance(writes[0], Put) and writes[0].key == rows.LEASE


def announces(writes: tuple[Put | Delete, ...]) -> bool:
    return isinstance(writes[0], Put) and writes[0].key.partition == rows.PUBLISHING


def publishes(writes: tuple[Put | Delete, ...]) -> bool:
    return isinstance(writes[0], Put) and writes[0].key.partition.endswith("/releases")


def removes_releases(writes: tuple[Put | Delete, ...]) -> bool:
    return isinstance(writes[0], Delete) and writes[0].key.partition.endswith("/releases")


def test_what_is_being_published_loses_nothing(
    registry: Registry, publish: Callable[..., Release], clock: Clock, tmp_path: Path
) -> None:
    """A collection between a publisher's bytes and its rows: all of its bytes are old, and no release has them."""
    publish(b"old")
    publish(b"new")
    clock.days(100)
    collected = []
    made = between(registry, publishes, lambda: collected.append(collect(registry, NOTHING, who="bob")))
    release = made.publish(build(tmp_path / "between", content=b"old", name="other"))
    assert gone(collected[0]) == ["minilm@1"]
    assert release.files[FUNCTION] not in {stored.digest for stored in collected[0].blobs}
    assert whole(registry)


def test_a_release_that_is_published_again_meanwhile_stays(
    registry: Registry, publish: Callable[..., Release], clock: Clock, tmp_path: Path
) -> None:
    publish(b"old")
    publish(b"new")
    clock.days(100)
    with leases.intent(registry.place, rows.relied_on(registry.show(Reference(name="minilm", version=1)))):
        made = collect(registry, NOTHING, who="bob")
    assert why(made)["minilm@1"] == ("being published or promoted",)
    assert gone(made) == []


def test_an_image_that_is_being_pushed_stays(tmp_path: Path, clock: Clock) -> None:
    shelf = Shelf(tmp_path / "shelf")
    registry = open_registry(tmp_path / "registry", clock, shelf)
    first = registry.publish(build(tmp_path / "a", "image", content=b"a"))
    registry.publish(build(tmp_path / "b", "image", content=b"b"))
    clock.days(100)
    again = build(tmp_path / "c", "image", content=b"a")
    (again / "report.html").write_text("<!doctype html><p>other</p>\n")
    made = between(registry, publishes, lambda: collect(registry, NOTHING, who="bob"))
    assert made.publish(again).artifact.digest == first.artifact.digest
    assert shelf.removed == []
    assert [release.version for release in registry.releases()] == [2, 3]
    assert whole(registry)


def test_a_release_that_is_being_promoted_stays(registry: Registry, publish: Callable[..., Release], clock: Clock) -> None:
    """A collection between a promotion's look at an old release and its move."""
    publish()
    publish()
    clock.days(100)
    collected = []
    moving = between(
        registry,
        lambda writes: isinstance(writes[0], Put) and "/alias/" in writes[0].key.partition,
        lambda: collected.append(collect(registry, NOTHING, who="bob")),
    )
    move(moving, 1)
    assert why(collected[0])["minilm@1"] == ("being published or promoted",)
    assert whole(registry)


def test_a_release_that_was_collected_cannot_be_promoted(registry: Registry, publish: Callable[..., Release], clock: Clock) -> None:
    """A collection before the promotion says that it is about to move."""
    publish()
    publish()
    clock.days(100)
    moving = between(registry, announces, lambda: collect(registry, NOTHING, who="bob"))
    with pytest.raises(RecipeError, match="minilm@1 was collected"):
        move(moving, 1)
    assert whole(registry)


def test_a_publisher_whose_intent_is_long_past_gives_up(
    registry: Registry, publish: Callable[..., Release], clock: Clock, tmp_path: Path
) -> None:
    publish()

    def a_week_later() -> None:
        clock.days(7)
        collect(registry, NOTHING, who="bob")

    made = between(registry, publishes, a_week_later)
    with pytest.raises(ServiceError, match="took too long and was given up"):
        made.publish(build(tmp_path / "slow", content=b"slow"))
    assert whole(registry)
    assert registry.publish(tmp_path / "slow").version == 2
    assert whole(registry)


def test_a_publisher_that_ends_as_its_intent_does_is_seen(
    registry: Registry, publish: Callable[..., Release], clock: Clock, tmp_path: Path
) -> None:
    """Its intent was read as past, and it is done before that can be removed."""
    publish(b"a")
    publish(b"b")
    made = build(tmp_path / "slow", content=b"slow")
    with leases.intent(registry.place, [Digest(f"sha256:{'0' * 64}")]) as row:
        clock.days(2)
        ended = between(
            registry,
            lambda writes: isinstance(writes[0], Delete) and writes[0].key == row.key,
            lambda: (leases.done(registry.place, row), registry.publish(made)),
        )
        # The publisher inside waits for nobody: it has looked for the lease before.
        looked = pytest.MonkeyPatch()
        looked.setattr(leases, "_await_collection", lambda _place: None)
        collect(ended, NOTHING, who="bob")
        looked.undo()
    assert registry.show(Reference(name="minilm")).version == 3
    assert whole(registry)


@pytest.mark.slow
def test_two_collections_at_once_are_one(
    registry: Registry, publish: Callable[..., Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish()
    monkeypatch.setattr(leases, "_RENEW_S", leases.LEASE_S + 1)
    with leases.collecting(registry.place, "alice") as lease:

        def alive(seconds: float) -> None:
            lease.check()

        # The leases' own clock only: a table sleeps as well, and would write into itself while it waits.
        monkeypatch.setattr(leases, "time", SimpleNamespace(monotonic=time.monotonic, sleep=alive))
        with pytest.raises(ServiceError, match="alice is collecting garbage since"):
            collect(registry, NOTHING, who="bob")


def test_a_collection_that_lost_its_lease_deletes_nothing_more(
    registry: Registry, publish: Callable[..., Release], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish()
    publish()
    clock.days(100)
    lost = between(registry, removes_releases, lambda: monkeypatch.setattr(leases, "MARGIN_S", leases.LEASE_S))
    before = {stored.digest for stored in registry.place.blobs.list()}
    with pytest.raises(ServiceError, match="too slow for its lease"):
        collect(lost, NOTHING, who="bob")
    assert {stored.digest for stored in registry.place.blobs.list()} == before
    monkeypatch.undo()
    assert [release.version for release in registry.releases()] == [2]
    assert len(collect(registry, NOTHING, who="bob").blobs) > 0
    assert whole(registry)


def test_an_answer_that_was_lost_is_no_conflict(registry: Registry, publish: Callable[..., Release], clock: Clock) -> None:
    publish()
    publish()
    clock.days(100)

    def lose(*writes: Put | Delete) -> None:
        registry.place.table.commit(*writes)
        if removes_releases(writes):
            raise ConflictError("changed by another", writes[0].key)

    table: Any = Between(registry, lambda _: False, lambda: None)
    table.commit = lose
    assert gone(collect(Registry(dataclasses.replace(registry.place, table=table)), NOTHING, who="bob")) == ["minilm@1"]
    assert whole(registry)


def test_rows_that_are_not_as_they_should_be_stop_it(registry: Registry, publish: Callable[..., Release], clock: Clock) -> None:
    first = publish()
    publish()
    registry.place.table.commit(Delete(key=rows.digest_key("minilm", first.digest), expect=1))
    clock.days(100)
    before = list(registry.place.blobs.list())
    with pytest.raises(ServiceError, match="run `mlpack verify`"):
        collect(registry, NOTHING, who="bob")
    assert list(registry.place.blobs.list()) == before


# --- anything in any order --------------------------------------------------------------------------------------------

POLICIES = st.builds(
    RetentionPolicy,
    newest=st.integers(0, 3),
    days=st.sampled_from([0.0, 1.0, 10.0]),
    tags=st.just(()),
    moves=st.integers(0, 2),
    window_days=st.sampled_from([0.0, 5.0]),
    grace_days=st.sampled_from([0.0, 3.0]),
)
NAMES = st.sampled_from(["minilm", "fashion"])
CONTENTS = st.integers(0, 5)


class Collecting(RuleBasedStateMachine):
    """Publications, promotions and collections as days go by, beside a model of what must be there."""

    builds: Mapping[tuple[str, int], Path]
    root: Path

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory(dir=self.root)
        self.clock = Clock()
        self.registry = open_registry(Path(self.folder.name) / "registry", self.clock)
        self.newest: dict[str, int] = {}
        self.aliases: dict[tuple[str, str], int] = {}

    @rule(name=NAMES, content=CONTENTS)
    def publish(self, name: str, content: int) -> None:
        version = self.registry.publish(self.builds[name, content]).version
        assert version <= self.newest.get(name, 0) + 1
        self.newest[name] = max(version, self.newest.get(name, 0))

    @rule(name=NAMES, alias=st.sampled_from(["prod", "canary"]), back=st.integers(0, 5))
    def promote(self, name: str, alias: str, back: int) -> None:
        there = [listed.version for listed in self.registry.listed(name)] if name in self.newest else []
        if there:
            version = there[max(0, len(there) - 1 - back)]
            move(self.registry, version, alias, name)
            self.aliases[name, alias] = version

    @rule(days=st.sampled_from([0.01, 0.5, 4.0, 30.0]))
    def wait(self, days: float) -> None:
        self.clock.days(days)

    @rule(policy=POLICIES)
    def collect(self, policy: RetentionPolicy) -> None:
        planned = plan(self.registry, policy)
        assert collect(self.registry, policy, who="bob") == planned

    @invariant()
    def nothing_is_missing(self) -> None:
        if not hasattr(self, "registry"):
            return
        assert verify(self.registry).findings == ()
        for name, version in self.newest.items():
            assert self.registry.show(Reference(name=name)).version == version
        for (name, alias), version in self.aliases.items():
            assert self.registry.show(Reference(name=name, alias=alias)).version == version
            assert self.registry.show(Reference(name=name, version=version)).version == version

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


@pytest.mark.slow
def test_anything_in_any_order(tmp_path: Path) -> None:
    made = {(n, c): build(tmp_path / f"{n}{c}", name=n, content=bytes([c])) for n in ("minilm", "fashion") for c in range(6)}

    class Case(Collecting):
        builds = made
        root = tmp_path

    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Case, settings=settings(max_examples=10, stateful_step_count=15, deadline=None))  # type: ignore[no-untyped-call]
