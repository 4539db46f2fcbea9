"""Registries of an older mlpack, brought to this one's format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.registry.places import PLACES, empty_place, put_releases

from mlpack.errors import ServiceError
from mlpack.registry import SCHEMA, Delete, Place, Put, Row
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows import rows
from mlpack.registry.rows.heads import head_of
from mlpack.registry.upkeep.care import verify
from mlpack.registry.upkeep.migration import migrate

pytestmark = pytest.mark.slow


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with empty_place(request, tmp_path) as found:
        yield found


def old(place: Place) -> Registry:
    """Three releases as schema 2 left them. What it knew of in a directory was another layout: that has tests of its own."""
    put_releases(place, "minilm", 3)
    place.table.commit(*(Delete(key=rows.head_key("minilm", version), expect=1) for version in (1, 2, 3)))
    place.table.commit(Put(key=rows.SCHEMA_KEY, head={"version": 2}))
    return Registry(place)


def shown(registry: Registry) -> list[tuple[int, Any]]:
    return [(one.version, one.head) for one in registry.listed("minilm")]


def heads(registry: Registry) -> list[tuple[int, Any]]:
    return [(release.version, head_of(release)) for release in registry.releases("minilm")]


def test_old_registry_says_what_to_do_and_is_then_as_a_new_one(place: Place) -> None:
    registry = old(place)
    with pytest.raises(ServiceError, match=r"schema 2, not 3.*mlpack registry migrate"):
        tuple(registry.listed())
    assert migrate(registry) == 3
    assert shown(registry) == heads(registry)
    assert not [finding for finding in verify(registry).findings if finding.what != "blob"]
    assert migrate(registry) == 0


def test_what_an_older_mlpack_published_meanwhile_is_added(place: Place) -> None:
    registry = old(place)
    table = place.table

    class Late:
        """A table in which the third release comes when the schema was raised."""

        def __getattr__(self, name: str) -> Any:
            return getattr(table, name)

        def commit(self, *writes: Put | Delete) -> None:
            table.commit(*writes)
            if writes[0].key == rows.SCHEMA_KEY:
                table.commit(Put(key=third.key, head=third.head, body=third.body))

    third = table.get(rows.release_key("minilm", 3))
    assert isinstance(third, Row)
    table.commit(Delete(key=third.key, expect=1))
    late = Registry(Place(where=place.where, table=Late(), blobs=place.blobs, now=place.now))  # type: ignore[arg-type]
    assert migrate(late) == 3
    assert shown(registry) == heads(registry)


def test_a_migration_that_was_cut_off_is_finished(place: Place) -> None:
    registry = old(place)
    place.table.commit(rows.head_put(next(registry_releases(place))))
    assert migrate(registry) == 2
    assert shown(registry) == heads(registry)


def registry_releases(place: Place) -> Iterator[Any]:
    for row in place.table.query(rows.releases("minilm"), bodies=True):
        yield rows.decode(row, place.where)


def test_what_lists_lack_is_mended(place: Place) -> None:
    registry = old(place)
    migrate(registry)
    place.table.commit(Delete(key=rows.head_key("minilm", 2), expect=1))
    assert [str(one) for one in verify(registry).findings if "lists do not show it" in str(one)]
    assert migrate(registry) == 1
    assert shown(registry) == heads(registry)


def test_a_damaged_record_is_named_and_the_schema_stays(place: Place) -> None:
    registry = old(place)
    row = place.table.get(rows.release_key("minilm", 2))
    assert row is not None
    place.table.commit(Put(key=row.key, head=row.head, body=row.body[:-3], expect=1))
    with pytest.raises(ServiceError, match="releases/000000002 is damaged"):
        migrate(registry)
    found = place.table.get(rows.SCHEMA_KEY)
    assert found is not None
    assert found.head == {"version": 2}


def test_empty_registry_gets_this_schema_a_newer_one_is_left(place: Place) -> None:
    registry = Registry(place)
    assert migrate(registry) == 0
    row = place.table.get(rows.SCHEMA_KEY)
    assert row is not None
    assert row.head == {"version": SCHEMA}
    place.table.commit(Put(key=rows.SCHEMA_KEY, head={"version": SCHEMA + 1}, expect=1))
    with pytest.raises(ServiceError, match="newer mlpack"):
        migrate(registry)
