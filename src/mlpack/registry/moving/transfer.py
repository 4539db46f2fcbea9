"""A registry, or some of its models, to an export (`exports`) and from there into any other registry.

Promises: everything is verified before anything is imported; the same import again changes nothing, and an interrupted one is gone
on with; versions, digests and the histories of aliases stay as they were; what contradicts what is there is refused, both sides
named. Images travel as bytes, and are pushed to the container registry of where they come to, if it has one.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mlpack.core.digest import Digest
from mlpack.errors import RecipeError, disk_of
from mlpack.registry import ConflictError, DamagedHead, Delete, Key, Moved, Put, Row, audit, batches
from mlpack.registry.aliases import alias_names, policies
from mlpack.registry.moving.exports import ExportIndex, ExportReader, ExportWriter, read_export, temporary
from mlpack.registry.parallel import side_by_side
from mlpack.registry.records import Release
from mlpack.registry.releases.releases import Registry
from mlpack.registry.rows import leases, marks, rows
from mlpack.registry.upkeep import care

_RECORDED = 1000
"""Releases in a record: DynamoDB keeps 400 kB in a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What an import changed. `known`: releases that were there. `policies` and `audit`: policies and records of collections that
    came because they were asked for; `policies_kept`: those that differ, and stay as they are here; `policies_left` and
    `audit_left`: what the export has of these, and was not asked for. `aliases_left`: NAME:ALIAS that did not come, because no
    alias may be called so any more (`alias_names`)."""

    releases: tuple[str, ...]
    known: int
    moves: int
    policies_kept: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    policies_left: tuple[str, ...] = ()
    audit: int = 0
    audit_left: int = 0
    aliases_left: tuple[str, ...] = ()


POLICIES, AUDIT = "policies", "audit"
WITH = (POLICIES, AUDIT)
"""What an import brings only when it is asked to: what decides about promotions here, and what others are said to have done."""


# --- out --------------------------------------------------------------------------------------------------------------


def export(registry: Registry, out: Path, names: Iterable[str] = (), moved: Moved = lambda _: None) -> int:
    """Write these models, or all of them, to a new directory or to a file that ends with .tar; how many releases.

    An export to a directory that was interrupted is gone on with. RecipeError for names that are not there.
    """
    registry.check_schema()
    known, chosen = registry.names(), sorted(set(names))
    if missing := [name for name in chosen if name not in known]:
        has = ", ".join(known) or "none"
        raise RecipeError(f"no model {', '.join(missing)} in the registry {registry.place.where}; it has {has}")
    moves = [move for name in chosen or known for move in _moves(registry, name)]
    # After the moves, and before what was collected: what the first speak of is in one of the second.
    releases = [release for name in chosen or known for release in registry.releases(name)]
    with disk_of(out.absolute().parent, "free some there, or write to a larger disk"), ExportWriter(out) as writer:
        stored = {named for release in releases for named in rows.stored_files(release).values()}
        side_by_side(partial(writer.blob, named, partial(_fetch, registry, named, moved)) for named in sorted(stored))
        for release in releases:
            _export_images(registry, release, writer)
        found = [rows.release_put(_without_images(release)) for release in releases]
        found += [rows.move_put(replace(move, release=_body_without_images(registry, move))) for move in moves]
        writer.finish(registry.place.where, [*found, *_collected(registry, set(chosen or known)), *_policies(registry, chosen)])
    return len(releases)


def _moves(registry: Registry, name: str) -> Iterator[rows.Move]:
    table = registry.place.table
    for alias in table.query(rows.aliases(name)):
        for row in table.query(rows.moves(name, marks.alias(alias, registry.place.where)), bodies=True):
            yield rows.decode_move(row, registry.place.where)


def _without_images(release: Release) -> Release:
    """Where its images were pushed to is a matter of each registry."""
    return replace(release, images={})


def _body_without_images(registry: Registry, move: rows.Move) -> bytes:
    return rows.encode(_without_images(move.target(registry.place.where)))


def _collected(registry: Registry, names: set[str]) -> Iterator[Put]:
    """Which releases are missing because they were collected: `verify` asks for that wherever they come to."""
    for key, entry in audit.entries(registry.place):
        if entry.releases:
            gone = {text: str(named) for text, named in entry.releases.items() if text.partition("@")[0] in names}
            if gone:
                said = {"what": audit.COLLECTED, "who": entry.who, "details": {"releases": gone, "images": []}}
                yield Put(key=key, head=said)


def _policies(registry: Registry, chosen: list[str]) -> Iterator[Put]:
    for policy in policies.listed(registry.place):
        if not chosen or policy.subject.partition(":")[0] in chosen:
            yield policies.put_of(policy)


def _export_images(registry: Registry, release: Release, writer: ExportWriter) -> None:
    """Every byte of its pushed images that is not there yet."""
    for id_, reference in sorted(release.images.items()):
        wanted = {path: named for path, named in rows.image_files(release, id_).items() if not writer.has(named)}
        if not wanted:
            continue
        if registry.images is None:
            what, where = f"{release.name}@{release.version}", registry.place.where
            tell = f"say --images HOST/REPO, or for good: mlpack registry create {where} --images HOST/REPO"
            raise RecipeError(f"{what} has images in a container registry, and {where} says nothing of one: {tell}")
        with tempfile.TemporaryDirectory(dir=writer.scratch) as scratch:
            registry.images.fetch(reference, Path(scratch), wanted)
            for path, named in wanted.items():
                writer.blob(named, (Path(scratch) / path).replace)


def _fetch(registry: Registry, named: Digest, moved: Moved, path: Path) -> None:
    registry.place.blobs.fetch(named, path, moved)


# --- in ---------------------------------------------------------------------------------------------------------------


def import_(
    registry: Registry, source: Path, who: str | None, moved: Moved = lambda _: None, *, asked: Collection[str] = ()
) -> ImportResult:
    """Bring an export in. RecipeError, before anything is written, when it is damaged or contradicts what is there.

    `asked`: what of `WITH` is brought, too. Which releases the other registry had collected is kept in the record of the import in
    any case, as what the export says: `verify` asks for that.
    """
    with ExportReader(source) as reader:
        found = read_export(reader)
        registry.check_schema()
        found, left = _without_reserved(registry, found)
        _check_times(registry, found, str(source))
        _check_bytes(reader, found)
        _check_conflicts(registry, found, str(source))
        registry.check_schema(write=True)
        if AUDIT not in asked:  # first, so that nothing is missed whenever this is interrupted
            gone = _gone(registry, found)
            for texts in batches(gone, _RECORDED):
                said = {"from": found.registry, "releases": [], "moves": 0, "collected": {text: gone[text] for text in texts}}
                audit.record(registry.place, audit.IMPORT, who, said)
        made = replace(_bring(registry, reader, found, moved, asked), aliases_left=left)
    for number, releases in enumerate(batches(made.releases, _RECORDED) if made.releases else [[]]):
        counts = {"moves": made.moves, "policies": list(made.policies), "audit": made.audit} if number == 0 else {"moves": 0}
        if releases or made.moves or made.policies or made.audit:
            audit.record(registry.place, audit.IMPORT, who, {"from": found.registry, "releases": releases, **counts})
    return made


def _without_reserved(registry: Registry, found: ExportIndex) -> tuple[ExportIndex, tuple[str, ...]]:
    """The export without aliases whose names are reserved, unless they are here already, and without policies for such."""
    called = {(move.name, move.alias) for move in found.moves if alias_names.why_reserved(move.alias)}
    left = {each for each in called if registry.place.table.get(Key(rows.aliases(each[0]), each[1])) is None}
    reserved = {each.subject for each in found.policies if alias_names.why_reserved(each.subject.partition(":")[2])}
    kept = replace(
        found,
        moves=tuple(move for move in found.moves if (move.name, move.alias) not in left),
        policies=tuple(each for each in found.policies if each.subject not in reserved),
    )
    return kept, tuple(sorted({f"{name}:{alias}" for name, alias in left} | reserved))


def _gone(registry: Registry, found: ExportIndex) -> dict[str, str]:
    """The releases that the other registry had collected, as far as that is not known here."""
    known = care.collected_releases(registry)
    said = {text: str(named) for _, entry in found.collected for text, named in entry.releases.items()}
    return {text: named for text, named in said.items() if text not in known and not _is_there(registry, text)}


def _check_times(registry: Registry, found: ExportIndex, source: str) -> None:
    """An alias whose last move is of another century would be of that century for ever: no move is before the one before it."""
    limit = rows.timestamp(registry.place.now() + leases.SKEW_S)
    times = [(f"{each.name}@{each.version}", each.created) for each in found.releases]
    times += [(f"move {each.revision} of {each.name}:{each.alias}", each.when) for each in found.moves]
    if problems := [f"{source}: {what} is of {when}, which has not come yet" for what, when in times if when > limit]:
        raise RecipeError(*problems, "nothing was imported: set the clocks, or export again")


def _check_bytes(reader: ExportReader, found: ExportIndex) -> None:
    problems: list[str] = []

    def look(named: Digest, where: str) -> None:
        if problem := reader.problem(named):
            problems.append(f"{reader.source}: {where} ({named}): {problem}; export again, or copy the export again")

    blobs = {named: f"{each.name}@{each.version}: {path}" for each in found.releases for path, named in each.files.items()}
    side_by_side(partial(look, named, where) for named, where in sorted(blobs.items()))
    if problems:
        raise RecipeError(*sorted(problems))


def _check_conflicts(registry: Registry, found: ExportIndex, source: str) -> None:
    """Everything that would have two meanings afterwards."""
    place, problems, here = registry.place, list[str](), registry.place.where
    collected = care.collected_releases(registry)
    for name in sorted({release.name for release in found.releases}):
        there = {str(each.head["digest"]): each.version for each in registry.listed(name)}
        versions = {version: named for named, version in there.items()}
        for release in (each for each in found.releases if each.name == name):
            what, named = f"{name}@{release.version}", str(release.digest)
            known = versions.get(release.version) or collected.get(what, named)
            if known != named:
                problems.append(f"{what} is {known} in {here} and {named} in {source}: two releases with one name")
            elif there.get(named, release.version) != release.version:
                problems.append(f"{named} is {name}@{there[named]} in {here} and {what} in {source}: one release, two names")
    for move in found.moves:
        row = place.table.get(rows.move_put(move).key)
        known_move = rows.decode_move(row, here) if row else move
        if not _same(known_move, move):
            problems.append(
                f"{move.name}:{move.alias} has two histories: move {move.revision} goes to version {known_move.version} "
                f"({known_move.when}) in {here} and to version {move.version} ({move.when}) in {source}"
            )
    if problems:
        raise RecipeError(*problems, "nothing was imported: import into another registry, or export without these models")


def _same(one: rows.Move, other: rows.Move) -> bool:
    """Whether it is the same move; where the images of its release are may differ."""
    return replace(one, release=b"", gates=()) == replace(other, release=b"", gates=())


def _bring(registry: Registry, reader: ExportReader, found: ExportIndex, moved: Moved, asked: Collection[str]) -> ImportResult:
    place = registry.place
    releases = [f"{each.name}@{each.version}" for each in found.releases if _bring_release(registry, reader, each, moved)]
    brought = sum(_bring_collected(registry, row, entry) for row, entry in found.collected) if AUDIT in asked else 0
    moves = sum(_bring_move(registry, move) for move in found.moves)
    new, kept, left = list[str](), list[str](), list[str]()
    for policy in found.policies:
        put = policies.put_of(policy)
        known = place.table.get(put.key)
        if known is not None:
            if isinstance(known.head, DamagedHead) or dict(known.head) != dict(put.head):
                kept.append(policy.subject)
        elif POLICIES not in asked:
            left.append(policy.subject)
        elif _put_once(registry, put):
            new.append(policy.subject)
    return ImportResult(
        releases=tuple(releases),
        known=len(found.releases) - len(releases),
        moves=moves,
        policies=tuple(new),
        policies_kept=tuple(kept),
        policies_left=tuple(left),
        audit=brought,
        audit_left=0 if AUDIT in asked else sum(place.table.get(row.key) is None for row, _ in found.collected),
    )


def _bring_collected(registry: Registry, row: Row, entry: audit.AuditEntry) -> bool:
    """The record of a collection, without images: whether theirs may go is nothing that an export may say."""
    gone = {text: str(named) for text, named in entry.releases.items() if not _is_there(registry, text)}
    head = {"what": audit.COLLECTED, "who": entry.who, "details": {"releases": gone, "images": []}}
    return bool(gone) and _put_once(registry, Put(key=row.key, head=head))


def _is_there(registry: Registry, reference: str) -> bool:
    wanted = rows.parse_reference(reference)
    return wanted.version is not None and registry.place.table.get(rows.release_key(wanted.name, wanted.version)) is not None


def _put_once(registry: Registry, put: Put) -> bool:
    """Whether it was not there."""
    try:
        registry.place.table.commit(put)
    except ConflictError:
        return False
    return True


def _bring_release(registry: Registry, reader: ExportReader, release: Release, moved: Moved) -> bool:
    """Bytes first, then its rows; False when it is there."""
    table, what = registry.place.table, f"{release.name}@{release.version}"
    if table.get(rows.release_key(release.name, release.version)):
        return False
    pushed = {Digest(one["digest"]) for one in release.packages.values() if registry.images and one["kind"] == "image"}
    with leases.intent(registry.place, {*release.files.values(), *pushed}) as intent:
        made = replace(release, images=_push(registry, reader, release))
        side_by_side(partial(_put_blob, registry, reader, named, moved) for named in set(rows.stored_files(made).values()))
        named = Key(rows.NAMES, release.name)
        new = [] if table.get(named) else [Put(key=named, head={})]
        try:
            table.commit(*rows.release_puts(made), Delete(key=intent.key, expect=1), *new)
        except ConflictError as error:
            row = table.get(rows.release_key(release.name, release.version))
            if row is None or rows.decode(row, registry.place.where).digest != release.digest:
                raise RecipeError(f"{what}: somebody published it meanwhile in {registry.place.where}: run it again") from error
    return True


def _put_blob(registry: Registry, reader: ExportReader, named: Digest, moved: Moved) -> None:
    with reader.file(named) as path:
        registry.place.blobs.put(named, path, moved)


def _push(registry: Registry, reader: ExportReader, release: Release) -> dict[str, str]:
    """Its images to the container registry that this registry has; their references."""
    pushed: dict[str, str] = {}
    for id_, one in sorted(release.packages.items()):
        if registry.images is None or one["kind"] != "image":
            continue
        prefix = f"artifacts/{id_}/image/"
        with temporary() as folder:
            for path, named in release.files.items():
                if path.startswith(prefix):
                    target = folder / path.removeprefix(prefix)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with reader.file(named) as source:
                        shutil.copyfile(source, target)
            pushed[id_] = registry.images.push(folder, release.name)
    return pushed


def _bring_move(registry: Registry, move: rows.Move) -> bool:
    """False when it is there. Its release is the one of this registry."""
    place = registry.place
    put = rows.move_put(move)
    if place.table.get(put.key):
        return False
    row = place.table.get(rows.release_key(move.name, move.version))
    made = replace(move, release=row.body if row else move.release)
    named = (Put(key=Key(rows.aliases(move.name), move.alias), head={}),) if move.revision == 1 else ()
    try:
        if row is None:  # collected before it was exported: history, and nothing that could be pulled
            place.table.commit(rows.move_put(made), *named)
        else:
            with leases.held(place, rows.decode(row, place.where)):
                place.table.commit(rows.move_put(made), *named)
    except ConflictError as error:
        known = place.table.get(put.key)
        if known is None or not _same(rows.decode_move(known, place.where), move):
            raise RecipeError(f"{move.name}:{move.alias} was moved meanwhile in {place.where}: run it again") from error
    return True
