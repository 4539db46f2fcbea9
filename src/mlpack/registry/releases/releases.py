"""Publishes releases, and lists, shows and pulls them, whatever kind of registry it is.

Promises:
- Blobs are written first and one transaction last: a release that can be seen has all its bytes.
- Versions only grow and never change. Publishing the same content again is a success and changes nothing.
- A pull verifies every byte, and an interrupted pull resumes.

Will not: build, judge or deploy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlpack.core import digest, retry
from mlpack.core.digest import Digest
from mlpack.core.files import plain_files
from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import SCHEMA, ConflictError, DamagedError, Delete, Images, Key, Moved, Place, Put, Row
from mlpack.registry.parallel import side_by_side
from mlpack.registry.reading import Damaged, whole
from mlpack.registry.records import Provenance, Release, ReleaseHead
from mlpack.registry.releases import pulling
from mlpack.registry.rows import leases, listing, marks, rows
from mlpack.registry.rows.manifest import ATTESTATIONS, EVIDENCE, Manifest, artifact_folder, decode_manifest, folders, manifest_of
from mlpack.registry.rows.rows import Reference

FIELDS = ("image", "zip", "digest", "size", "version")
"""The fields of `show --field`: the image by digest, the place of the function zip, the artifact's digest and size."""

_TRIES, _PAUSES = 200, retry.spread(0.02, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSummary:
    """A release as lists show it: the head of its row."""

    name: str
    version: int
    head: ReleaseHead


class Registry:
    """The releases of a place. `images` is where images go; None: they are stored among the blobs."""

    def __init__(self, place: Place, images: Images | None = None) -> None:
        self.place = place
        self.images = images

    # --- publishing --------------------------------------------------------------------------------------------------

    def publish(self, build_dir: Path, provenance: Provenance | None = None, moved: Moved = lambda _: None) -> Release:
        """Publish the build in `build_dir`. Returns the new release, or the existing one with the same content.

        NothingChosenError when the build chose nothing, RecipeError when the directory is not what its build.json says.
        """
        manifest = _read_manifest(build_dir)
        self.check_schema(write=True)
        stored = {path: blob for path, blob in manifest.files.items() if not self._pushed_elsewhere(path)}
        pushed = {one.digest for one in manifest.packages.values() if self.images and one.kind == "image"}
        with leases.intent(self.place, {*stored.values(), *pushed}) as intent:
            self._send(build_dir, stored, moved)
            images = self._push_images(build_dir, manifest)
            return self._record(manifest, provenance or Provenance(), images, intent)

    def _pushed_elsewhere(self, path: str) -> bool:
        return self.images is not None and path.startswith("artifacts/") and rows.LAYOUT_BLOBS in path

    def _send(self, build_dir: Path, stored: Mapping[str, Digest], moved: Moved) -> None:
        paths = {blob: path for path, blob in sorted(stored.items())}
        blobs = self.place.blobs
        side_by_side(partial(blobs.put, blob, build_dir / path, moved) for blob, path in paths.items())

    def _push_images(self, build_dir: Path, manifest: Manifest) -> dict[str, str]:
        if self.images is None:
            return {}
        image_ids = [id_ for id_, one in manifest.packages.items() if one.kind == "image"]
        return {id_: self.images.push(build_dir / "artifacts" / id_ / "image", manifest.name) for id_ in sorted(image_ids)}

    def _record(self, manifest: Manifest, provenance: Provenance, images: Mapping[str, str], intent: Row) -> Release:
        """Find the release with the same content, or commit the next version, in one transaction."""
        table, release_digest = self.place.table, digest.of_bytes(manifest.encode())
        for _ in retry.attempts(_TRIES, _PAUSES):
            if existing := table.get(rows.digest_key(manifest.name, release_digest)):
                draft = self._recorded(manifest.name, marks.version(existing, self.place.where), release_digest)
                leases.done(self.place, intent)
                return draft
            newest = next(table.query(rows.releases(manifest.name), newest_first=True, limit=1), None)
            version = rows.numbered_in(newest, self.place.where) + 1 if newest else 1
            draft = rows.draft(manifest, provenance, images, rows.timestamp(self.place.now()), version)
            writes: list[Put | Delete] = [*rows.release_puts(draft), Delete(key=intent.key, expect=1)]
            if newest is None:
                writes.append(Put(key=Key(rows.NAMES, manifest.name), head={}))
            try:
                table.commit(*writes)
            except ConflictError as error:
                if error.key == intent.key:
                    raise ServiceError(f"{self.place.where}: the publication took too long and was given up: try again") from error
                continue
            return draft
        raise ServiceError(f"{manifest.name}: {_TRIES} others published at the same moment: try again", retryable=True)

    def _recorded(self, name: str, version: int, release_digest: Digest) -> Release:
        row = self.place.table.get(rows.release_key(name, version))
        if row is None:
            raise ServiceError(f"{self.place.where}: {name}@{version} has a digest and no record: run `mlpack verify`")
        release = rows.decode(row, self.place.where)
        if release.digest != release_digest:
            key = rows.digest_key(name, release_digest)
            raise DamagedError(self.place.where, key, f"it says that this is {name}@{version}, which is {release.digest}")
        return release

    # --- reading -----------------------------------------------------------------------------------------------------

    def names(self) -> tuple[str, ...]:
        """Every model with a release, by name."""
        return tuple(self._names(None))

    def _names(self, damaged: Damaged | None) -> Iterator[str]:
        return whole(self.place.table.query(rows.NAMES), lambda row: marks.name(row, self.place.where), damaged)

    def listed(self, name: str | None = None, damaged: Damaged | None = None) -> Iterator[ReleaseSummary]:
        """Every release, of one name or of all, by name and version, in pages, from heads alone. `damaged` is called with each row
        that cannot be read, which is then skipped; without it the first one raises DamagedError."""
        self.check_schema()
        for each in (name,) if name is not None else tuple(self._names(damaged)):
            for _, head in listing.heads(self.place, each):
                if not isinstance(head, ServiceError):
                    yield ReleaseSummary(name=each, version=head.version, head=head)
                elif damaged is None:
                    raise head
                else:
                    damaged(head)

    def releases(self, name: str | None = None, damaged: Damaged | None = None) -> Iterator[Release]:
        """As `listed`, with the whole records."""
        self.check_schema()
        for each in (name,) if name is not None else tuple(self._names(damaged)):
            rows_read = self.place.table.query(rows.releases(each), bodies=True)
            yield from whole(rows_read, lambda row: rows.decode(row, self.place.where), damaged)

    def show(self, reference: Reference) -> Release:
        """One release, in one read: by version, by alias, else the newest. RecipeError when there is none."""
        table, release = self.place.table, None
        if reference.alias is not None:
            partition = rows.moves(reference.name, reference.alias)
            for row in table.query(partition, newest_first=True, bodies=True, limit=1):
                return rows.decode_move(row, self.place.where).target(self.place.where)
        elif reference.version is not None:
            release = table.get(rows.release_key(reference.name, reference.version))
        else:
            release = next(table.query(rows.releases(reference.name), newest_first=True, bodies=True, limit=1), None)
        if release is not None:
            return rows.decode(release, self.place.where)
        self.check_schema()
        raise RecipeError(
            f"no release {reference} in the registry {self.place.where} ({self._what_is(reference)}); see `mlpack list`"
        )

    def _what_is(self, reference: Reference) -> str:
        """What exists instead, for the message about what does not."""
        names = self.names()
        if reference.name in names and reference.alias:
            aliases = [marks.alias(row, self.place.where) for row in self.place.table.query(rows.aliases(reference.name))]
            return f"{reference.name} has the aliases {', '.join(aliases)}" if aliases else f"{reference.name} has no alias yet"
        return f"it has {', '.join(names)}" if names else "it is empty"

    def check_schema(self, *, write: bool = False) -> None:
        """Raise ServiceError when a newer mlpack wrote the registry, or when it needs `mlpack registry migrate` first."""
        row = self.place.table.get(rows.SCHEMA_KEY)
        version = marks.schema(row, self.place.where) if row else None
        if version is None and write:
            try:
                self.place.table.commit(Put(key=rows.SCHEMA_KEY, head={"version": SCHEMA}))
            except ConflictError:
                return  # another publisher was first
        elif version is not None and version > SCHEMA:
            raise ServiceError(f"{self.place.where}: written by a newer mlpack (schema {version}, not {SCHEMA}); update mlpack")
        elif version is not None and version < SCHEMA:
            raise ServiceError(
                f"{self.place.where}: written by an older mlpack (schema {version}, not {SCHEMA}): run `mlpack registry migrate` "
                "once, after which that older mlpack cannot publish there any more"
            )

    # --- pulling -----------------------------------------------------------------------------------------------------

    def pull(self, release: Release, folder: Path, moved: Moved = lambda _: None) -> None:
        """Write a release's files to `folder`, which must be empty or missing, all of them or none.

        It resumes what an interrupted pull of the same release left beside it. ServiceError names a file whose bytes are
        damaged.
        """
        pulling.pull(self, release, folder, moved)

    def fetch(self, release: Release, path: str, out: Path, moved: Moved = lambda _: None) -> None:
        """Write one of a release's files to `out`, verified. RecipeError when it has no such file."""
        pulling.fetch(self, release, path, out, moved)

    def field(self, release: Release, name: str) -> str:
        """One of `FIELDS`. RecipeError when this kind of release does not have it."""
        artifact = release.artifact
        if name == "zip" and (inside := function_zip(release)) is not None:
            return self.place.blobs.uri(release.files[inside])
        if name == "image" and artifact.kind == "image":
            return release.images.get(artifact.candidate, f"{release.name}@{artifact.digest}")
        values = {"digest": artifact.digest, "size": artifact.size_bytes, "version": release.version}
        if name not in values:
            what = f"a {artifact.kind}, which has no {name}" if name in FIELDS else f"asked for {name!r}"
            raise RecipeError(f"{release.name}@{release.version} is {what}; fields are {', '.join(FIELDS)}")
        return str(values[name])


def function_zip(release: Release) -> str | None:
    """The path of the chosen package's function zip among the release's files; None when it is an image."""
    path = f"artifacts/{release.artifact.candidate}/function.zip"
    return path if path in release.files else None


def _read_manifest(build_dir: Path) -> Manifest:
    """The manifest of a build directory, checked against its record."""
    from mlpack.report.record import files as record_files

    data = record_files.read_bytes(build_dir)
    record = record_files.decode(data, str(build_dir / "build.json"))
    folder_of = folders(record)
    needed = [artifact_folder(record), *(folder for folder in folder_of.values() if plain_files.is_there(build_dir, folder))]
    files = {path: plain_files.digest_of(build_dir, path) for path in _published(build_dir, dict.fromkeys(needed))}
    manifest = manifest_of(record, files)
    if files["build.json"] != digest.of_bytes(data):
        raise RecipeError(f"{build_dir}: build.json changed while it was read; publish when the build has ended")
    try:
        decode_manifest(manifest.encode())  # what is published can be read
    except ValueError as error:
        raise RecipeError(f"{build_dir}: cannot be published: {error}") from error
    return manifest


def _published(build_dir: Path, folders_: Iterable[str]) -> list[str]:
    """The evidence that exists, and every file of the packages. RecipeError for links, because a link would not be published as
    one."""
    paths = [name for name in EVIDENCE if plain_files.is_there(build_dir, name)]
    attested = ATTESTATIONS.rstrip("/")
    for folder in (*folders_, *([attested] if plain_files.is_there(build_dir, attested) else [])):
        try:
            paths += [f"{folder}/{path}" for path in plain_files.below(build_dir, folder)]
        except FileNotFoundError as error:
            what = f"{build_dir / folder}: missing, though build.json names it as the chosen artifact"
            raise RecipeError(f"{what}; build again, then publish") from error
    return paths
