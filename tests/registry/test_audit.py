"""What was done to a registry: records, publications and moves in one log, by time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.support.registry.builds import build

from mlpack.errors import ServiceError
from mlpack.registry import Key, Put, audit
from mlpack.registry.aliases.aliases import MoveRequest, promote, rollback
from mlpack.registry.local import directory
from mlpack.registry.records import Provenance
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows import rows
from mlpack.registry.rows.rows import Reference


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    opened = directory.open_registry(tmp_path / "registry")
    seconds = iter(range(1_800_000_000, 1_900_000_000))
    return Registry(dataclasses.replace(opened.place, now=lambda: float(next(seconds))))


def test_an_empty_registry_has_no_log(registry: Registry) -> None:
    assert audit.log(registry) == []


def test_everything_is_in_the_log_in_the_order_of_time(registry: Registry, tmp_path: Path) -> None:
    prod, alice = Reference(name="minilm", alias="prod"), MoveRequest(who="alice", why="it is better")
    audit.record(registry.place, "create", "carol", {"bucket": "models"})
    registry.publish(build(tmp_path / "a", content=b"a"), Provenance(who="bob"))
    promote(registry.place, Reference(name="minilm", version=1), "prod", alice, lambda _release, _live: ())
    registry.publish(build(tmp_path / "b", content=b"b"), Provenance(who="bob"))
    promote(registry.place, Reference(name="minilm", version=2), "prod", alice, lambda _release, _live: ())
    rollback(registry.place, prod, alice)
    audit.record(registry.place, audit.GC, "carol", {"blobs": 0})
    log = audit.log(registry)
    assert [(entry.what, entry.who) for entry in log] == [
        ("create", "carol"),
        ("publish", "bob"),
        ("promote", "alice"),
        ("publish", "bob"),
        ("promote", "alice"),
        ("rollback", "alice"),
        ("gc", "carol"),
    ]
    assert [entry.when for entry in log] == sorted(entry.when for entry in log)
    assert log[1].details["release"] == "minilm@1"
    back = {"alias": "minilm:prod", "revision": 3, "from": 2, "to": 1, "why": "it is better", "forced": False}
    assert log[5].details == back
    assert audit.log(registry, since=log[4].when) == log[4:]
    assert audit.log(registry, since="2999") == []


def test_what_is_recorded_at_one_moment_stays_in_order(tmp_path: Path) -> None:
    place = dataclasses.replace(directory.open_registry(tmp_path / "registry").place, now=lambda: 1_800_000_000.0)
    for number in range(50):
        audit.record(place, "counted", None, {"number": number})
    assert [entry.details["number"] for _, entry in audit.entries(place)] == list(range(50))


def test_a_damaged_record_is_named(registry: Registry) -> None:
    registry.place.table.commit(Put(key=Key(rows.AUDIT, "2026-11-24T00:00:00.000Z x"), head={"who": "bob"}))
    with pytest.raises(ServiceError, match=r"the record audit/2026-11-24T00:00:00\.000Z x is damaged"):
        audit.log(registry)
