"""Exports that somebody edited by hand: policies and records come only when asked for, and none that mlpack never wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.registry.builds import build

from mlpack.core import digest
from mlpack.errors import RecipeError
from mlpack.registry import audit
from mlpack.registry.aliases import policies
from mlpack.registry.aliases.aliases import MoveRequest, promote
from mlpack.registry.local import directory
from mlpack.registry.moving.exports import INDEX
from mlpack.registry.moving.transfer import AUDIT, POLICIES, WITH, export, import_
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows import rows
from mlpack.registry.rows.rows import Reference
from mlpack.registry.upkeep import care

pytestmark = pytest.mark.slow  # an export and an import a row

OPEN = {"budgets": {}, "refuses": []}
GONE = f"sha256:{'1' * 64}"
COLLECTED = {"what": "collected", "who": "ceo@example.com", "details": {"releases": {"minilm@7": GONE}, "images": []}}
WHEN = "2020-01-01T00:00:00.000Z 000000ab"


@pytest.fixture
def target(tmp_path: Path) -> Registry:
    return directory.open_registry(tmp_path / "target")


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    source = directory.open_registry(tmp_path / "source")
    source.publish(build(tmp_path / "made"))
    promote(source.place, Reference(name="minilm", version=1), "prod", MoveRequest(who="alice"), lambda _release, _live: ())
    export(source, tmp_path / "exported")
    return tmp_path / "exported"


def forge(exported: Path, *new: dict[str, Any], change: Callable[[dict[str, Any]], None] = lambda _row: None) -> None:
    """More rows, or changed ones, with the digests that they then have: nothing is signed."""
    first, *lines = (json.loads(line) for line in (exported / INDEX).read_bytes().splitlines())
    made = []
    for row in (*lines, *new):
        row.pop("digest", None)
        change(row)
        made.append(row | {"digest": str(digest.of_json(row))})
    first["rows"] = len(made)
    (exported / INDEX).write_bytes(b"".join(digest.canonical_json(each) + b"\n" for each in (first, *made)))


def row(partition: str, sort: str, head: Any, body: str = "") -> dict[str, Any]:
    return {"partition": partition, "sort": sort, "head": head, "body": body}


def test_policies_and_records_come_only_when_they_are_asked_for(exported: Path, target: Registry) -> None:
    forge(exported, row(rows.POLICIES, "*:prod", OPEN), row(rows.AUDIT, WHEN, COLLECTED))
    done = import_(target, exported, "bob")
    assert (done.policies, done.policies_left, done.audit, done.audit_left) == ((), ("*:prod",), 0, 1)
    assert policies.of_alias(target.place, "minilm", "prod").refuses == policies.REGRESSIONS
    assert [entry.who for entry in audit.log(target) if entry.what == audit.COLLECTED] == []
    assert care.verify(target).findings == ()
    done = import_(target, exported, "bob", parts=[POLICIES])
    assert (done.policies, done.policies_left, done.audit) == (("*:prod",), (), 0)
    assert policies.of_alias(target.place, "minilm", "prod").refuses == ()
    done = import_(target, exported, "bob", parts=[AUDIT])
    assert (done.audit, done.audit_left) == (1, 0)
    assert [entry.who for entry in audit.log(target) if entry.what == audit.COLLECTED] == ["ceo@example.com"]
    said = [entry.details for entry in audit.log(target) if entry.what == audit.IMPORT]
    assert [each["policies"] for each in said if each.get("policies")] == [["*:prod"]]
    assert care.verify(target).findings == ()
    entries = audit.log(target)
    done = import_(target, exported, "bob", parts=WITH)
    assert (done.releases, done.policies, done.audit) == ((), (), 0)
    assert audit.log(target) == entries


def test_what_was_collected_elsewhere_is_kept_as_exported(exported: Path, target: Registry) -> None:
    forge(exported, row(rows.AUDIT, WHEN, COLLECTED))
    import_(target, exported, "bob")
    first = next(entry for entry in audit.log(target) if entry.what == audit.IMPORT)
    assert (first.who, first.details["collected"]) == ("bob", {"minilm@7": GONE})
    assert care.collected_releases(target) == {"minilm@7": GONE}


FORGED = {
    "a policy with another name": row(rows.POLICIES, "../../x", OPEN),
    "a policy of nothing": row(rows.POLICIES, "*:prod", {"a": 1}),
    "a policy with a body": row(rows.POLICIES, "*:prod", OPEN, "junk"),
    "a policy below 0": row(rows.POLICIES, "*:prod", {"budgets": {"latency_p95_ms": -1}, "refuses": []}),
    "a policy of text": row(rows.POLICIES, "*:prod", {"budgets": {"latency_p95_ms": "nan"}, "refuses": []}),
    "a policy of an unknown budget": row(rows.POLICIES, "*:prod", {"budgets": {"colour": 1}, "refuses": []}),
    "a policy of an unknown regression": row(rows.POLICIES, "*:prod", {"budgets": {}, "refuses": ["colour"]}),
    "a promotion in the log": row(rows.AUDIT, WHEN, COLLECTED | {"what": "promote"}),
    "a removal of images": row(rows.AUDIT, WHEN, {"what": "images removed", "who": None, "details": {"images": [f"a@{GONE}"]}}),
    "images that are to go": row(
        rows.AUDIT, WHEN, COLLECTED | {"details": {"releases": {}, "images": [f"registry.example/minilm@{GONE}"]}}
    ),
    "a record without a time": row(rows.AUDIT, "yesterday x", COLLECTED),
    "a record by a terminal": row(rows.AUDIT, WHEN, COLLECTED | {"who": "ceo\x1b[2J"}),
    "a record by two lines": row(rows.AUDIT, WHEN, COLLECTED | {"who": "ceo\n::error::x"}),
    "a record of no release": row(rows.AUDIT, WHEN, COLLECTED | {"details": {"releases": {"../x": GONE}, "images": []}}),
    "a setting": row(rows.SETTINGS, "images", {"prefix": "evil.example/x"}),
    "a lease": row("leases", "gc", {"until": 9e9, "who": "x", "since": WHEN[:24], "id": "x"}),
    "a digest": row("name/minilm/digests", GONE, {"version": 9}),
    "a head": row("name/minilm/heads", "000000009", {"version": 9}),
    "a model with another name": row("name/../x/releases", "000000001", {}, "{}"),
    "no partition": row("", "", {}),
    "a head that is a list": row(rows.POLICIES, "*:prod", []),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("asked", [(), WITH], ids=["plain", "with"])
def test_what_mlpack_never_wrote_is_refused_and_nothing_comes(
    exported: Path, target: Registry, forged: dict[str, Any], asked: tuple[str, ...]
) -> None:
    forge(exported, forged)
    with pytest.raises(RecipeError, match="damaged"):
        import_(target, exported, "bob", parts=asked)
    assert not Path(target.place.where).exists()


def test_a_move_of_another_century_does_not_come(exported: Path, target: Registry) -> None:
    def change(found: dict[str, Any]) -> None:
        if "/alias/" in found["partition"]:
            found["head"]["when"] = "2999-01-01T00:00:00.000Z"

    forge(exported, change=change)
    with pytest.raises(RecipeError, match="has not come yet"):
        import_(target, exported, "bob")


def test_a_row_that_is_there_twice_does_not_come(exported: Path, target: Registry) -> None:
    forge(exported, row(rows.POLICIES, "*:prod", OPEN), row(rows.POLICIES, "*:prod", {"budgets": {}, "refuses": ["size"]}))
    with pytest.raises(RecipeError, match="there twice"):
        import_(target, exported, "bob")


@pytest.mark.parametrize("text", ["", "[]", "null", "[" * 100_000, '{"export": 1}', '{"export": 1, "rows": "x"}', "\ufeff{}"])
def test_an_index_that_is_none_is_refused(exported: Path, target: Registry, text: str) -> None:
    (exported / INDEX).write_text(text)
    with pytest.raises(RecipeError):
        import_(target, exported, "bob")


def test_a_link_in_an_export_is_not_followed(exported: Path, target: Registry, tmp_path: Path) -> None:
    (exported / INDEX).rename(tmp_path / "elsewhere")
    (exported / INDEX).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecipeError, match="a link, not a file"):
        import_(target, exported, "bob")
