"""Removing what nobody needs, while others roll back, and where a container registry lets nothing be removed."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.registry.builds import build
from tests.support.registry.interleaved import Bytes, Memory, Run, every_order
from tests.support.registry.places import move, put_releases
from tests.support.registry.shelf import Shelf

from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import ImageRefusedError, Key, Place, Put, audit
from mlpack.registry.aliases import aliases
from mlpack.registry.aliases.aliases import MoveRequest, rollback
from mlpack.registry.local import directory
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows import leases, rows
from mlpack.registry.rows.rows import Reference
from mlpack.registry.upkeep.care import verify
from mlpack.registry.upkeep.collection import CollectionPlan, RetentionPolicy, as_json, collect, plan

pytestmark = pytest.mark.slow

DAY = 24 * 3600.0
NOTHING = RetentionPolicy(newest=0, days=0, tags=(), moves=0, window_days=0, grace_days=0)
PROD = Reference(name="minilm", alias="prod")


# --- others who roll back ---------------------------------------------------------------------------------------------


class Story:
    """A collection that finds minilm@1 outside of every window, and somebody who rolls back twice, the second time to it.

    A step ends before each access that the other could change, or whose outcome it could: nobody but who rolls back writes moves,
    nobody but the collector removes releases.
    """

    def __init__(self) -> None:
        table = Memory()
        place = Place(where="here", table=table, blobs=Bytes(set()), now=time.time)  # type: ignore[arg-type]
        self.files = {each.version: rows.relied_on(each) for each in put_releases(place, "minilm", 3)}
        for version in (1, 2, 3):
            move(place, "minilm", version)
        self.rows = table.found
        self.broken = 0
        self.ends: set[tuple[bool, bool]] = set()
        """Whether minilm@1 is there at the end, and live."""

    def once(self, run: Run) -> None:
        """One order."""
        table, there = Memory(dict(self.rows)), Bytes(set().union(*self.files.values()))

        def place(actor: int, seen: Callable[[str, set[str]], bool]) -> Place:
            def before(verb: str, partitions: set[str]) -> None:
                if seen(verb, partitions):
                    run.turn(actor)

            mine = Memory(table.found, before)
            return Place(where="here", table=mine, blobs=there, now=lambda: time.time() + 1000 * DAY)  # type: ignore[arg-type]

        history, releases = rows.moves("minilm", "prod"), rows.releases("minilm")

        def reads_moves(verb: str, partitions: set[str]) -> bool:
            return rows.FENCES in partitions or history in partitions

        def reads_releases(verb: str, partitions: set[str]) -> bool:
            return rows.FENCES in partitions or (verb == "get" and releases in partitions)

        collector, mover = place(0, reads_moves), place(1, reads_releases)

        def between() -> None:
            """What minilm:prod points to is there, and the bytes of every release."""
            kept = {int(key.sort) for key in table.found if key.partition == releases}
            self.broken += live() not in kept or any(not self.files[version] <= there.there for version in kept)

        def live() -> int:
            last = max(key for key in table.found if key.partition == history)
            return int(table.found[last].head["version"])

        def roll_back_twice() -> None:
            for _ in range(2):
                rollback(mover, PROD, MoveRequest(who="bob"))

        made, moved = run.all([lambda: collect(Registry(collector), NOTHING, who="carol"), roll_back_twice], between)
        assert isinstance(made, CollectionPlan), made
        assert moved is None or (isinstance(moved, RecipeError) and "nothing good was live" in str(moved)), moved
        there_still = rows.release_key("minilm", 1) in table.found
        self.ends.add((there_still, live() == 1))
        if not self.broken:
            assert ("minilm@1" in [each.reference for each in made.releases]) is not there_still
            assert (moved is None) is (live() == 1)


def test_rollback_during_a_collection_arrives_at_what_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(aliases.time, "sleep", lambda _: None)
    story = Story()
    count = every_order(story.once)
    with capsys.disabled():
        print(f"\n{count} orders of a collection and two roll-backs")
    assert story.broken == 0
    # Whoever is first: kept and live, or gone and said to be.
    assert story.ends == {(True, True), (False, False)}
    assert count > 500


def test_without_the_fence_it_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The enumeration above does find the orders that break it."""
    monkeypatch.setattr(aliases.time, "sleep", lambda _: None)
    number = itertools.count()
    monkeypatch.setattr(leases, "fence", lambda _place, _name: Put(key=Key("nothing", str(next(number))), head={}))
    story = Story()
    every_order(story.once)
    assert story.broken > 0


def test_rolling_back_waits_for_no_collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = directory.open_registry(tmp_path / "registry").place
    put_releases(place, "minilm", 2)
    for version in (1, 2):
        move(place, "minilm", version)
    late = dataclasses.replace(place, now=lambda: time.time() + 1000 * DAY)
    patient = SimpleNamespace(**(vars(time) | {"sleep": lambda _: pytest.fail("it waited")}))  # not SQLite's own moments
    monkeypatch.setattr(leases, "time", patient)
    with leases.collecting(late, "carol"):
        assert rollback(late, PROD, MoveRequest(who="bob")).move.version == 1
    assert leases.intents(late) == ([], [])


def test_collection_that_is_overtaken_again_and_again_gives_up(tmp_path: Path) -> None:
    registry = directory.open_registry(tmp_path / "registry")
    put_releases(registry.place, "minilm", 2)

    class Restless:
        """Somebody rolls back before each commit."""

        def __getattr__(self, name: str) -> Any:
            return getattr(registry.place.table, name)

        def commit(self, *writes: Any) -> None:
            if writes[-1].key.partition == rows.FENCES:
                registry.place.table.commit(leases.fence(registry.place, "minilm"))
            registry.place.table.commit(*writes)

    table: Any = Restless()
    restless = dataclasses.replace(registry.place, table=table, now=lambda: time.time() + 1000 * DAY)
    with pytest.raises(ServiceError, match="others rolled back 100 times") as caught:
        collect(Registry(restless), NOTHING, who="carol")
    assert caught.value.retryable
    assert len(list(registry.releases())) == 2


# --- container registries that refuse ---------------------------------------------------------------------------------


class Stubborn(Shelf):
    """A container registry that does not remove the images that `error` is for."""

    error: Callable[[str], ServiceError | None] = staticmethod(lambda _reference: None)

    def delete(self, reference: str) -> None:
        if (error := self.error(reference)) is not None:
            raise error
        super().delete(reference)


@pytest.fixture
def shelf(tmp_path: Path) -> Stubborn:
    return Stubborn(tmp_path / "shelf")


@pytest.fixture
def registry(tmp_path: Path, shelf: Stubborn) -> Registry:
    """minilm@1 to minilm@3, of which two could go with their images."""
    opened = directory.open_registry(tmp_path / "registry", images=shelf)
    for name in "abc":
        opened.publish(build(tmp_path / name, "image", content=name.encode()))
    return Registry(dataclasses.replace(opened.place, now=lambda: time.time() + 100 * DAY), shelf)


def said(registry: Registry, what: str) -> list[Any]:
    return [entry.details for _, entry in audit.entries(registry.place) if entry.what == what]


def test_container_registry_that_removes_nothing_keeps_the_rest(registry: Registry, shelf: Stubborn) -> None:
    shelf.error = lambda reference: ImageRefusedError(f"{reference} cannot be deleted")  # type: ignore[method-assign]
    before = plan(registry, NOTHING)
    for _ in range(2):  # and again, without an error
        made = collect(registry, NOTHING, who="bob")
        assert [(each.reference, each.why) for each in made.refused] == [(one, f"{one} cannot be deleted") for one in before.images]
        assert made.images == before.images
    assert [release.version for release in registry.releases()] == [3]
    assert {stored.digest for stored in registry.place.blobs.list()} == set(
        rows.stored_files(registry.show(Reference(name="minilm"))).values()
    )
    assert verify(registry).findings == ()
    assert said(registry, audit.IMAGES_REMOVED) == []
    assert said(registry, audit.IMAGES_REFUSED) == [{"images": 2, "why": f"{before.images[0]} cannot be deleted"}] * 2
    assert as_json(made)["refused"][0] == {"image": before.images[0], "why": f"{before.images[0]} cannot be deleted"}
    shelf.error = lambda _reference: None  # type: ignore[method-assign]
    assert collect(registry, NOTHING, who="bob").refused == ()
    assert sorted(shelf.removed) == sorted(before.images)
    assert collect(registry, NOTHING, who="bob").images == ()


def test_what_is_refused_for_one_image_is_not_for_the_others(registry: Registry, shelf: Stubborn) -> None:
    first, second = plan(registry, NOTHING).images
    shelf.error = lambda reference: ImageRefusedError("in use") if reference == first else None  # type: ignore[method-assign]
    assert [each.reference for each in collect(registry, NOTHING, who="bob").refused] == [first]
    assert shelf.removed == [second]
    assert said(registry, audit.IMAGES_REMOVED) == [{"images": [second]}]
    assert plan(registry, NOTHING).images == (first,)


@pytest.mark.parametrize("retryable", [True, False])
def test_one_that_gives_no_answer_is_an_error_after_the_rest(
    registry: Registry, shelf: Stubborn, retryable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    first, second = plan(registry, NOTHING).images
    asked: list[str] = []

    def error(reference: str) -> ServiceError | None:
        asked.append(reference)
        return ServiceError("no answer", retryable=retryable) if reference == first else None

    shelf.error = error  # type: ignore[method-assign]
    with pytest.raises(ServiceError, match="no answer"):
        collect(registry, NOTHING, who="bob")
    assert asked.count(first) == (5 if retryable else 1)
    assert shelf.removed == [second]
    assert [release.version for release in registry.releases()] == [3]
    assert plan(registry, NOTHING).images == (first,)
    shelf.error = lambda _reference: None  # type: ignore[method-assign]
    assert collect(registry, NOTHING, who="bob").images == (first,)


def test_a_record_of_many_images_fits_in_a_row(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlpack.registry.upkeep import removal

    monkeypatch.setattr(removal, "_RECORDED", 1)
    made = collect(registry, NOTHING, who="bob")
    assert said(registry, audit.IMAGES_REMOVED) == [{"images": [each]} for each in made.images]
    assert plan(registry, NOTHING).images == ()
