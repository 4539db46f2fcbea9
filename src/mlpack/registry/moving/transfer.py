"""Exports a registry, or some of its models, and imports exports (`exports`) into any other registry.

Promises:
- Everything is verified before anything is imported.
- The same import again changes nothing, and an interrupted import resumes.
- Versions, digests and the histories of aliases stay as they were.
- A contradiction with what is there is refused, and the message names both sides.
- Images travel as bytes. They are pushed to the container registry of the destination if it has one.
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
"""The most releases in a record: DynamoDB stores 400 kB in a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """The changes of an import. `known`: releases that existed. `policies` and `audit`: policies and records of collections that
    were imported on request. `policies_kept`: policies that differ and stay as they are here. `policies_left` and `audit_left`:
    those in the export that were not requested. `aliases_left`: NAME:ALIAS that were not imported, because the name is now
    reserved (`alias_names`)."""

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
"""The parts that are imported only on request: policies, which decide about promotions here, and the log of others' actions."""


# --- out --------------------------------------------------------------------------------------------------------------


def export(registry: Registry, out: Path, names: Iterable[str] = (), moved: Moved = lambda _: None) -> int:
    """Write these models, or all of them, to a new directory or to a file that ends with .tar. Returns the number of releases.

    An interrupted export to a directory resumes. RecipeError for names that do not exist.
    """
    registry.check_schema()
    all_names, chosen = registry.names(), sorted(set(names))
    if missing := [name for name in chosen if name not in all_names]:
        has = ", ".join(all_names) or "none"
        raise RecipeError(f"no model {', '.join(missing)} in the registry {registry.place.where}; it has {has}")
    moves = [move for name in chosen or all_names for move in _moves(registry, name)]
    # Read after the moves and before the collections: the target of a move is then in one of the two.
    releases = [release for name in chosen or all_names for release in registry.releases(name)]
    with disk_of(out.absolute().parent, "free some there, or write to a larger disk"), ExportWriter(out) as writer:
        stored = {blob for release in releases for blob in rows.stored_files(release).values()}
        side_by_side(partial(writer.blob, blob, partial(_fetch, registry, blob, moved)) for blob in sorted(stored))
        for release in releases:
            _export_images(registry, release, writer)
        puts = [rows.release_put(_without_images(release)) for release in releases]
        puts += [rows.move_put(replace(move, release=_body_without_images(registry, move))) for move in moves]
        writer.finish(registry.place.where, [*puts, *_collected(registry, set(chosen or all_names)), *_policies(registry, chosen)])
    return len(releases)


def _moves(registry: Registry, name: str) -> Iterator[rows.Move]:
    table = registry.place.table
    for alias in table.query(rows.aliases(name)):
        for row in table.query(rows.moves(name, marks.alias(alias, registry.place.where)), bodies=True):
            yield rows.decode_move(row, registry.place.where)


def _without_images(release: Release) -> Release:
    """The release without references to pushed images, which differ from registry to registry."""
    return replace(release, images={})


def _body_without_images(registry: Registry, move: rows.Move) -> bytes:
    return rows.encode(_without_images(move.target(registry.place.where)))


def _collected(registry: Registry, names: set[str]) -> Iterator[Put]:
    """Records of the releases that are missing because they were collected: `verify` needs them in the other registry."""
    for key, entry in audit.entries(registry.place):
        if entry.releases:
            releases = {
                text: str(release_digest) for text, release_digest in entry.releases.items() if text.partition("@")[0] in names
            }
            if releases:
                row = {"what": audit.COLLECTED, "who": entry.who, "details": {"releases": releases, "images": []}}
                yield Put(key=key, head=row)


def _policies(registry: Registry, chosen: list[str]) -> Iterator[Put]:
    for policy in policies.listed(registry.place):
        if not chosen or policy.subject.partition(":")[0] in chosen:
            yield policies.put_of(policy)


def _export_images(registry: Registry, release: Release, writer: ExportWriter) -> None:
    """Write every blob of the pushed images that the export does not have yet."""
    for id_, reference in sorted(release.images.items()):
        blobs = {path: blob for path, blob in rows.image_files(release, id_).items() if not writer.has(blob)}
        if not blobs:
            continue
        if registry.images is None:
            what, where = f"{release.name}@{release.version}", registry.place.where
            tell = f"say --images HOST/REPO, or for good: mlpack registry create {where} --images HOST/REPO"
            raise RecipeError(f"{what} has images in a container registry, and {where} has none in its settings: {tell}")
        with tempfile.TemporaryDirectory(dir=writer.scratch) as scratch:
            registry.images.fetch(reference, Path(scratch), blobs)
            for path, blob in blobs.items():
                writer.blob(blob, (Path(scratch) / path).replace)


def _fetch(registry: Registry, blob: Digest, moved: Moved, path: Path) -> None:
    registry.place.blobs.fetch(blob, path, moved)


# --- in ---------------------------------------------------------------------------------------------------------------


def import_(
    registry: Registry, source: Path, who: str | None, moved: Moved = lambda _: None, *, parts: Collection[str] = ()
) -> ImportResult:
    """Import an export. RecipeError, before anything is written, when it is damaged or contradicts the registry.

    `parts`: which of `WITH` are imported, too. The record of the import always lists the releases that the other registry had
    collected, as the export states them, since `verify` needs them.
    """
    with ExportReader(source) as reader:
        index = read_export(reader)
        registry.check_schema()
        index, reserved = _without_reserved(registry, index)
        _check_times(registry, index, str(source))
        _check_bytes(reader, index)
        _check_conflicts(registry, index, str(source))
        registry.check_schema(write=True)
        if AUDIT not in parts:  # first, so that an interruption at any moment loses nothing
            collected = _collected_by_either(registry, index)
            for texts in batches(collected, _RECORDED):
                details = {
                    "from": index.registry,
                    "releases": [],
                    "moves": 0,
                    "collected": {text: collected[text] for text in texts},
                }
                audit.record(registry.place, audit.IMPORT, who, details)
        result = replace(_bring(registry, reader, index, moved, parts), aliases_left=reserved)
    for number, releases in enumerate(batches(result.releases, _RECORDED) if result.releases else [[]]):
        counts = {"moves": result.moves, "policies": list(result.policies), "audit": result.audit} if number == 0 else {"moves": 0}
        if releases or result.moves or result.policies or result.audit:
            audit.record(registry.place, audit.IMPORT, who, {"from": index.registry, "releases": releases, **counts})
    return result


def _without_reserved(registry: Registry, index: ExportIndex) -> tuple[ExportIndex, tuple[str, ...]]:
    """The export without aliases of reserved names, unless they exist here, and without policies for those."""
    called = {(move.name, move.alias) for move in index.moves if alias_names.why_reserved(move.alias)}
    reserved_names = {each for each in called if registry.place.table.get(Key(rows.aliases(each[0]), each[1])) is None}
    reserved = {each.subject for each in index.policies if alias_names.why_reserved(each.subject.partition(":")[2])}
    rest = replace(
        index,
        moves=tuple(move for move in index.moves if (move.name, move.alias) not in reserved_names),
        policies=tuple(each for each in index.policies if each.subject not in reserved),
    )
    return rest, tuple(sorted({f"{name}:{alias}" for name, alias in reserved_names} | reserved))


def _collected_by_either(registry: Registry, index: ExportIndex) -> dict[str, str]:
    """The releases that the other registry had collected and this one does not know as collected."""
    collected = care.collected_releases(registry)
    digests = {text: str(release_digest) for _, entry in index.collected for text, release_digest in entry.releases.items()}
    return {
        text: release_digest for text, release_digest in digests.items() if text not in collected and not _is_there(registry, text)
    }


def _check_times(registry: Registry, index: ExportIndex, source: str) -> None:
    """Refuse moves from the future: no later move may be earlier, so the alias would keep that time for ever."""
    limit = rows.timestamp(registry.place.now() + leases.SKEW_S)
    times = [(f"{each.name}@{each.version}", each.created) for each in index.releases]
    times += [(f"move {each.revision} of {each.name}:{each.alias}", each.when) for each in index.moves]
    if problems := [f"{source}: {what} is of {when}, which has not come yet" for what, when in times if when > limit]:
        raise RecipeError(*problems, "nothing was imported: set the clocks, or export again")


def _check_bytes(reader: ExportReader, index: ExportIndex) -> None:
    problems: list[str] = []

    def look(blob: Digest, where: str) -> None:
        if problem := reader.problem(blob):
            problems.append(f"{reader.source}: {where} ({blob}): {problem}; export again, or copy the export again")

    blobs = {blob: f"{each.name}@{each.version}: {path}" for each in index.releases for path, blob in each.files.items()}
    side_by_side(partial(look, blob, where) for blob, where in sorted(blobs.items()))
    if problems:
        raise RecipeError(*sorted(problems))


def _check_conflicts(registry: Registry, index: ExportIndex, source: str) -> None:
    """Refuse everything that would have two meanings afterwards."""
    place, problems, here = registry.place, list[str](), registry.place.where
    collected = care.collected_releases(registry)
    for name in sorted({release.name for release in index.releases}):
        there = {str(each.head.digest): each.version for each in registry.listed(name)}
        versions = {version: release_digest for release_digest, version in there.items()}
        for release in (each for each in index.releases if each.name == name):
            what, release_digest = f"{name}@{release.version}", str(release.digest)
            existing = versions.get(release.version) or collected.get(what, release_digest)
            if existing != release_digest:
                problems.append(f"{what} is {existing} in {here} and {release_digest} in {source}: two releases with one name")
            elif there.get(release_digest, release.version) != release.version:
                problems.append(
                    f"{release_digest} is {name}@{there[release_digest]} in {here} and {what} in {source}: one release, two names"
                )
    for move in index.moves:
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
    """Whether two moves are the same; the images of their releases may be in different places."""
    return replace(one, release=b"", gates=()) == replace(other, release=b"", gates=())


def _bring(registry: Registry, reader: ExportReader, index: ExportIndex, moved: Moved, parts: Collection[str]) -> ImportResult:
    place = registry.place
    releases = [f"{each.name}@{each.version}" for each in index.releases if _bring_release(registry, reader, each, moved)]
    brought = sum(_bring_collected(registry, row, entry) for row, entry in index.collected) if AUDIT in parts else 0
    moves = sum(_bring_move(registry, move) for move in index.moves)
    new, skipped, reserved = list[str](), list[str](), list[str]()
    for policy in index.policies:
        put = policies.put_of(policy)
        existing = place.table.get(put.key)
        if existing is not None:
            if isinstance(existing.head, DamagedHead) or dict(existing.head) != dict(put.head):
                skipped.append(policy.subject)
        elif POLICIES not in parts:
            reserved.append(policy.subject)
        elif _put_once(registry, put):
            new.append(policy.subject)
    return ImportResult(
        releases=tuple(releases),
        known=len(index.releases) - len(releases),
        moves=moves,
        policies=tuple(new),
        policies_kept=tuple(skipped),
        policies_left=tuple(reserved),
        audit=brought,
        audit_left=0 if AUDIT in parts else sum(place.table.get(row.key) is None for row, _ in index.collected),
    )


def _bring_collected(registry: Registry, row: Row, entry: audit.AuditEntry) -> bool:
    """Import the record of a collection, without images: an export must not say whether those may be removed."""
    absent = {text: str(release_digest) for text, release_digest in entry.releases.items() if not _is_there(registry, text)}
    head = {"what": audit.COLLECTED, "who": entry.who, "details": {"releases": absent, "images": []}}
    return bool(absent) and _put_once(registry, Put(key=row.key, head=head))


def _is_there(registry: Registry, reference: str) -> bool:
    parsed = rows.parse_reference(reference)
    return parsed.version is not None and registry.place.table.get(rows.release_key(parsed.name, parsed.version)) is not None


def _put_once(registry: Registry, put: Put) -> bool:
    """Commit the row. Returns whether it was new."""
    try:
        registry.place.table.commit(put)
    except ConflictError:
        return False
    return True


def _bring_release(registry: Registry, reader: ExportReader, release: Release, moved: Moved) -> bool:
    """Import a release, blobs first, then its rows; False when it exists."""
    table, what = registry.place.table, f"{release.name}@{release.version}"
    if table.get(rows.release_key(release.name, release.version)):
        return False
    pushed = {one.digest for one in release.packages.values() if registry.images and one.kind == "image"}
    with leases.intent(registry.place, {*release.files.values(), *pushed}) as intent:
        copy = replace(release, images=_push(registry, reader, release))
        side_by_side(partial(_put_blob, registry, reader, name_key, moved) for name_key in set(rows.stored_files(copy).values()))
        name_key = Key(rows.NAMES, release.name)
        new = [] if table.get(name_key) else [Put(key=name_key, head={})]
        try:
            table.commit(*rows.release_puts(copy), Delete(key=intent.key, expect=1), *new)
        except ConflictError as error:
            row = table.get(rows.release_key(release.name, release.version))
            if row is None or rows.decode(row, registry.place.where).digest != release.digest:
                raise RecipeError(f"{what}: somebody published it meanwhile in {registry.place.where}: run it again") from error
    return True


def _put_blob(registry: Registry, reader: ExportReader, blob: Digest, moved: Moved) -> None:
    with reader.file(blob) as path:
        registry.place.blobs.put(blob, path, moved)


def _push(registry: Registry, reader: ExportReader, release: Release) -> dict[str, str]:
    """Push its images to the container registry of this registry. Returns their references."""
    pushed: dict[str, str] = {}
    for id_, one in sorted(release.packages.items()):
        if registry.images is None or one.kind != "image":
            continue
        prefix = f"artifacts/{id_}/image/"
        with temporary() as folder:
            for path, blob in release.files.items():
                if path.startswith(prefix):
                    target = folder / path.removeprefix(prefix)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with reader.file(blob) as source:
                        shutil.copyfile(source, target)
            pushed[id_] = registry.images.push(folder, release.name)
    return pushed


def _bring_move(registry: Registry, move: rows.Move) -> bool:
    """Import a move; False when it exists. It refers to the release of this registry."""
    place = registry.place
    put = rows.move_put(move)
    if place.table.get(put.key):
        return False
    row = place.table.get(rows.release_key(move.name, move.version))
    copy = replace(move, release=row.body if row else move.release)
    name_put = (Put(key=Key(rows.aliases(move.name), move.alias), head={}),) if move.revision == 1 else ()
    try:
        if row is None:  # the release was collected before the export: the move is history, with nothing to pull
            place.table.commit(rows.move_put(copy), *name_put)
        else:
            with leases.protected(place, rows.decode(row, place.where)):
                place.table.commit(rows.move_put(copy), *name_put)
    except ConflictError as error:
        existing = place.table.get(put.key)
        if existing is None or not _same(rows.decode_move(existing, place.where), move):
            raise RecipeError(f"{move.name}:{move.alias} was moved meanwhile in {place.where}: run it again") from error
    return True
