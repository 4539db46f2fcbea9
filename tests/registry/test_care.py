"""Verifying a registry: what is whole is found whole, and whatever is damaged, missing or added is named."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.registry.builds import build
from tests.support.registry.places import stocked
from tests.support.registry.shelf import Shelf

from mlpack.core import digest
from mlpack.errors import ServiceError
from mlpack.registry import Delete, Key, Put, audit, numbered
from mlpack.registry.local import directory
from mlpack.registry.records import Release
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows import rows
from mlpack.registry.rows.rows import Reference
from mlpack.registry.upkeep.care import VerificationReport, verify

FUNCTION = "artifacts/int8@lambda-zip-x86_64/function.zip"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    stocked(root)
    return root


@pytest.fixture
def registry(made: Path, tmp_path: Path) -> Registry:
    """minilm@1 to minilm@3 and fashion@1; minilm:prod went 1, 3, 2."""
    shutil.copytree(made / "registry", tmp_path / "registry")
    return directory.open_registry(tmp_path / "registry")


def found(report: VerificationReport) -> list[tuple[str, str, str]]:
    return [(finding.what, finding.where, finding.problem) for finding in report.findings]


def blob(registry: Registry, release: Release, path: str = FUNCTION) -> Path:
    return Path(registry.place.blobs.uri(release.files[path]))


def release(registry: Registry, version: int, name: str = "minilm") -> Release:
    return registry.show(Reference(name=name, version=version))


def rewrite(registry: Registry, key: Key, change: Callable[[dict[str, Any]], None] = lambda _: None, body: Any = None) -> None:
    """Change a row behind the registry's back, its revision too."""
    row = registry.place.table.get(key)
    assert row is not None
    head = dict(row.head)
    change(head)
    registry.place.table.commit(Put(key=key, head=head, body=row.body if body is None else body(row.body), expect=row.revision))


def remove(registry: Registry, *keys: Key) -> None:
    for key in keys:
        row = registry.place.table.get(key)
        assert row is not None
        registry.place.table.commit(Delete(key=key, expect=row.revision))


def test_a_whole_registry_has_no_findings(registry: Registry) -> None:
    seen: list[tuple[int, int]] = []
    report = verify(registry, progress=lambda done, total: seen.append((done, total)))
    assert report.findings == ()
    assert (report.releases, report.moves, report.images, report.earlier) == (4, 3, 0, 0)
    stored = {named for each in registry.releases() for named in each.files.values()}
    assert report.blobs == len(stored)
    assert seen == [(done, len(stored)) for done in range(len(stored) + 1)]


def test_an_empty_registry_is_whole_and_stays_nothing(tmp_path: Path) -> None:
    report = verify(directory.open_registry(tmp_path / "registry"), resume=None)
    assert (report.releases, report.findings) == (0, ())
    assert not (tmp_path / "registry").exists()


def test_damaged_bytes_are_named_with_every_release_of_them(registry: Registry) -> None:
    one, event = release(registry, 1), "artifacts/int8@lambda-zip-x86_64/event.json"
    blob(registry, one).write_bytes(b"?")
    blob(registry, one, event).unlink()
    report = verify(registry)
    shared = [(name, version) for name, version in (("minilm", 1), ("minilm", 2), ("minilm", 3), ("fashion", 1))]
    assert sorted(found(report)) == sorted(
        [("blob", f"{name}@{version}: {event} ({one.files[event]})", "missing") for name, version in shared]
        + [("blob", f"minilm@1: {FUNCTION} ({one.files[FUNCTION]})", f"damaged: its bytes have the digest {digest.of_bytes(b'?')}")]
    )
    assert all("publish the same build again" in finding.remedy for finding in report.findings)


def test_a_repaired_registry_is_whole_again(registry: Registry, made: Path) -> None:
    blob(registry, release(registry, 1)).unlink()
    assert verify(registry).findings
    registry.publish(made / "o1")
    assert verify(registry).findings == ()


def test_each_digest_is_read_once(registry: Registry) -> None:
    read: list[str] = []

    class Counting:
        def check(self, named: digest.Digest) -> str | None:
            read.append(str(named))
            return registry.place.blobs.check(named)

    counted = Registry(dataclasses.replace(registry.place, blobs=Counting()))  # type: ignore[arg-type]
    report = verify(counted)
    assert len(read) == len(set(read)) == report.blobs


SECOND = rows.release_key("minilm", 2)
SHOWN = rows.head_key("minilm", 2)
Damage = Callable[[Registry], None]


def moved(number: int) -> Key:
    return Key(rows.moves("minilm", "prod"), numbered(number))


def all_of(gone: Release) -> tuple[Key, ...]:
    """Every row of a release."""
    return tuple(put.key for put in rows.release_puts(gone))


def second_digest(registry: Registry) -> Key:
    return rows.digest_key("minilm", release(registry, 2).digest)


def add(key: Key, **head: Any) -> Damage:
    return lambda registry: registry.place.table.commit(Put(key=key, head=head))


def change(key: Key, **to: Any) -> Damage:
    return lambda registry: rewrite(registry, key, lambda head: head.update(to))


def replace(key: Key, old: bytes, new: bytes) -> Damage:
    return lambda registry: rewrite(registry, key, body=lambda body: body.replace(old, new))


EARLY = "1999-01-01T00:00:00.000Z"
DAMAGES: dict[str, tuple[Damage, str, str]] = {
    "head": (change(SECOND, size_bytes=1), "minilm@2", "the head of its row"),
    "list": (change(SHOWN, size_bytes=1), "minilm@2", "what lists show"),
    "list again": (change(SHOWN), "minilm@2", "what lists show"),
    "unlisted": (lambda r: remove(r, SHOWN), "minilm@2", "lists do not show it"),
    "list of nothing": (add(rows.head_key("minilm", 9)), "name/minilm/heads/000000009", "has no record"),
    "revision": (change(SECOND), "minilm@2", "changed after it was published"),
    "body": (replace(SECOND, b"ranking", b"rankinG"), "minilm@2", "not the one that was published"),
    "cut off": (lambda r: rewrite(r, SECOND, body=lambda body: body[:-9]), "minilm@2", "damaged"),
    "release": (lambda r: remove(r, SECOND), "minilm@2", "missing, and no collection removed it"),
    "number": (add(Key(rows.releases("minilm"), "x")), "name/minilm/releases/x", "not numbered"),
    "digest": (lambda r: remove(r, second_digest(r)), "minilm@2", "no record says that it has the digest"),
    "wrong digest": (
        lambda r: rewrite(r, second_digest(r), lambda head: head.update(version=3)),
        "name/minilm/digests/",
        "says that it is minilm@3, which is sha256:",
    ),
    "digest of nothing": (
        add(rows.digest_key("minilm", digest.of_bytes(b"")), version=9),
        "name/minilm/digests/",
        "says that it is minilm@9, which is not there",
    ),
    "name": (add(Key(rows.NAMES, "../x")), "names/../x", "not a name"),
    "empty name": (add(Key(rows.NAMES, "empty")), "empty", "has no release"),
    "alias": (add(Key(rows.aliases("minilm"), "canary")), "minilm:canary", "never moved"),
    "gap": (lambda r: remove(r, moved(2)), "minilm:prod", "move 3 is where 2 should be"),
    "fork": (change(moved(3), previous=1), "minilm:prod", "says that it came from version 1, but the move before it went to 3"),
    "back in time": (change(moved(2), when=EARLY), "minilm:prod", f"move 2 was made at {EARLY}, before"),
    "other version": (change(moved(3), version=1), "minilm:prod", "leads to version 1 and holds the record of 2"),
    "other record": (
        replace(moved(3), b'\\"who\\":null', b'\\"who\\":\\"eve\\"'),
        "minilm:prod",
        "move 3 has another record of minilm@2",
    ),
    "no move": (lambda r: rewrite(r, moved(1), body=lambda _: b"{}"), "minilm:prod", "is damaged"),
}


@pytest.mark.parametrize(("damage", "where", "problem"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_row_is_named(registry: Registry, damage: Damage, where: str, problem: str) -> None:
    damage(registry)
    findings = found(verify(registry))
    assert [each for each in findings if where in each[1] and problem in each[2]], findings


def test_what_an_alias_points_to_must_be_there(registry: Registry) -> None:
    gone = release(registry, 2)
    remove(registry, *all_of(gone))
    assert ("alias", "minilm:prod", "move 3 leads to minilm@2, which is not there") in found(verify(registry))
    audit.record(registry.place, audit.COLLECTED, "bob", {"releases": {"minilm@2": str(gone.digest)}, "images": []})
    assert found(verify(registry)) == [("alias", "minilm:prod", "points to minilm@2, which was collected")]


def test_what_was_collected_is_missed_by_nobody(registry: Registry) -> None:
    gone = release(registry, 1)
    remove(registry, *all_of(gone))
    assert ("release", "minilm@1", "missing, and no collection removed it") in found(verify(registry))
    audit.record(registry.place, audit.COLLECTED, "bob", {"releases": {"minilm@1": str(gone.digest)}, "images": []})
    assert found(verify(registry)) == []


def test_a_release_that_is_collected_meanwhile_is_no_finding(registry: Registry) -> None:
    gone = release(registry, 1)

    class Collected:
        """Blobs from which a release's bytes go, and its rows before them, as soon as somebody looks."""

        def check(self, named: digest.Digest) -> str | None:
            if registry.place.table.get(rows.release_key("minilm", 1)):
                remove(registry, *all_of(gone))
            return "missing" if named == gone.files[FUNCTION] else None

    meanwhile = Registry(dataclasses.replace(registry.place, blobs=Collected()))  # type: ignore[arg-type]
    assert verify(meanwhile, parallel=1).findings == ()


def test_images_are_asked_for_in_the_container_registry(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf")
    registry = directory.open_registry(tmp_path / "registry", images=shelf)
    made = registry.publish(build(tmp_path / "out", "image"))
    (reference,) = made.images.values()
    report = verify(registry)
    assert (report.images, report.findings) == (1, ())
    shelf.delete(reference)
    assert found(verify(registry)) == [("image", f"minilm@1 ({reference})", "missing")]
    report = verify(directory.open_registry(tmp_path / "registry"))
    (unasked,) = report.images_unasked
    assert report.findings == ()
    assert "knows of no container registry" in str(unasked)
    assert f"mlpack registry create {tmp_path / 'registry'} --images HOST/REPO" in unasked.remedy


# --- going on ---------------------------------------------------------------------------------------------------------


class Failing:
    """Blobs that cannot be asked any more after some."""

    def __init__(self, registry: Registry, good: int) -> None:
        self.registry, self.good, self.read = registry, good, 0

    def check(self, named: digest.Digest) -> str | None:
        self.read += 1
        if self.read > self.good:
            raise ServiceError("the network is down", retryable=True)
        return self.registry.place.blobs.check(named)


def interrupted(registry: Registry, resume: Path, good: int) -> Failing:
    blobs = Failing(registry, good)
    with pytest.raises(ServiceError, match="the network is down"):
        verify(Registry(dataclasses.replace(registry.place, blobs=blobs)), resume=resume, parallel=1)  # type: ignore[arg-type]
    return blobs


def test_an_interrupted_verify_goes_on(registry: Registry, tmp_path: Path) -> None:
    resume = tmp_path / "state" / "verify"
    whole = verify(registry)
    interrupted(registry, resume, 3)
    interrupted(registry, resume, 2)
    report = verify(registry, resume=resume)
    assert (report.earlier, report.blobs, report.findings) == (5, whole.blobs, ())
    assert not resume.exists()


def test_what_was_damaged_is_looked_at_again(registry: Registry, tmp_path: Path) -> None:
    resume = tmp_path / "verify"
    first = sorted({named for each in registry.releases() for named in each.files.values()})[0]
    Path(registry.place.blobs.uri(first)).write_bytes(b"damaged")
    interrupted(registry, resume, 3)
    report = verify(registry, resume=resume)
    assert report.earlier == 2
    assert {finding.what for finding in report.findings} == {"blob"}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("/registry", "/elsewhere"),
        lambda text: "{}\n" + text.partition("\n")[2],
        lambda text: "",
        lambda text: "no state at all",
        lambda text: json.dumps(json.loads(text.partition("\n")[0]) | {"begun": 0}) + "\n" + text.partition("\n")[2],
    ],
    ids=["another registry", "empty head", "empty", "words", "long ago"],
)
def test_a_state_of_something_else_is_begun_anew(registry: Registry, tmp_path: Path, change: Callable[[str], str]) -> None:
    resume = tmp_path / "verify"
    interrupted(registry, resume, 3)
    resume.write_text(change(resume.read_text()))
    assert verify(registry, resume=resume).earlier == 0


def test_a_line_that_was_cut_off_counts_for_nothing(registry: Registry, tmp_path: Path) -> None:
    resume = tmp_path / "verify"
    interrupted(registry, resume, 3)
    resume.write_text(resume.read_text()[:-20])
    interrupted(registry, resume, 1)
    report = verify(registry, resume=resume)
    assert (report.earlier, report.findings) == (2, ())


def test_a_newer_registry_is_not_judged(registry: Registry) -> None:
    rewrite(registry, rows.SCHEMA_KEY, lambda head: head.update(version=99))
    with pytest.raises(ServiceError, match="newer mlpack"):
        verify(registry)
