"""Releases, moves of aliases and policies as rows of the table, and back. Only this module knows their keys and forms.

Promises:
- A row that was changed or cut off by others is a ServiceError that names it, never a wrong value.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.errors import RecipeError, ServiceError
from mlpack.registry import DamagedError, Delete, Key, Put, Row, numbered
from mlpack.registry.fields import BODY_BYTES, FieldError, Fields, as_digest, parse, shown
from mlpack.registry.records import Provenance, Release, ReleaseHead
from mlpack.registry.rows.heads import check_head, head_of, read_head, read_provenance, written
from mlpack.registry.rows.manifest import Manifest, decode_manifest, is_name, part_of

NAMES = "names"
POLICIES = "policies"
PUBLISHING = "publishing"
AUDIT = "audit"
FENCES = "fences"
SETTINGS = "settings"
PROBE = "probe"
LAYOUT_BLOBS = "/image/blobs/"
"""The part of a path that marks the blobs of an image: these are pushed if there is a container registry."""
_NUMBERED = re.compile(r"[0-9]{9}")
_KINDS = re.compile("promote|rollback")
LEASE = Key("leases", "gc")
SCHEMA_KEY = Key(SETTINGS, "schema")
IMAGES_KEY = Key(SETTINGS, "images")

_REFERENCE = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]*)(?:@(?P<version>[1-9][0-9]{0,8})|:(?P<alias>[a-z0-9][a-z0-9-]*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """NAME, NAME@VERSION or NAME:ALIAS."""

    name: str
    version: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        return f"{self.name}{f'@{self.version}' if self.version else ''}{f':{self.alias}' if self.alias else ''}"


def parse_reference(text: str) -> Reference:
    """Parse `NAME`, `NAME@VERSION` or `NAME:ALIAS`. RecipeError on anything else."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise RecipeError(f"{text!r} is not a release: write NAME for the newest one, NAME@VERSION as in minilm@3, or NAME:ALIAS")
    return Reference(name=match["name"], version=int(match["version"]) if match["version"] else None, alias=match["alias"])


def releases(name: str) -> str:
    """The partition of a model's releases."""
    return f"name/{name}/releases"


def heads(name: str) -> str:
    """The partition of a model's heads, which lists read."""
    return f"name/{name}/heads"


def digests(name: str) -> str:
    """The partition that maps a model's digests to versions."""
    return f"name/{name}/digests"


def release_key(name: str, version: int) -> Key:
    """The key of a release."""
    return Key(releases(name), numbered(version))


def head_key(name: str, version: int) -> Key:
    """The key of a release's head, which lists read."""
    return Key(heads(name), numbered(version))


def digest_key(name: str, release_digest: Digest) -> Key:
    """The key of the row that says which version has this content."""
    return Key(digests(name), str(release_digest))


def aliases(name: str) -> str:
    """The partition of the names of a model's aliases."""
    return f"name/{name}/aliases"


def moves(name: str, alias: str) -> str:
    """The partition of an alias's history."""
    return f"name/{name}/alias/{alias}"


def fence_key(name: str) -> Key:
    """The key of a model's fence. Rollbacks and removals of releases both write it, so that neither overtakes the other."""
    return Key(FENCES, name)


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as UTC, ISO 8601, to the millisecond. All have one length, so that they sort as text."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(when: str) -> float:
    """The inverse of `timestamp`."""
    return datetime.fromisoformat(when).timestamp()


# --- releases ---------------------------------------------------------------------------------------------------------


def draft(manifest: Manifest, provenance: Provenance, images: Mapping[str, str], created: str, version: int) -> Release:
    """The release that this manifest would become."""
    return Release(
        name=manifest.name,
        version=version,
        digest=digest.of_bytes(manifest.encode()),
        created=created,
        artifact=manifest.artifact,
        files=manifest.files,
        tags=manifest.tags,
        packages=manifest.packages,
        recipe=manifest.recipe,
        models=manifest.models,
        images=images,
        provenance=provenance,
    )


def manifest_of_release(release: Release) -> Manifest:
    """The manifest whose digest is the release's."""
    return Manifest(
        name=release.name,
        artifact=release.artifact,
        files=release.files,
        tags=release.tags,
        packages=release.packages,
        recipe=release.recipe,
        models=release.models,
    )


def encode(release: Release) -> bytes:
    """The body of a release's row."""
    return digest.canonical_json(
        {
            "manifest": manifest_of_release(release).encode().decode(),
            "created": release.created,
            "version": release.version,
            "images": dict(release.images),
            "provenance": dataclasses.asdict(release.provenance),
        }
    )


def release_puts(release: Release) -> tuple[Put, Put, Put]:
    """The writes that make a release visible, once, in one transaction: its record, its head, its digest."""
    return (
        release_put(release),
        head_put(release),
        Put(key=digest_key(release.name, release.digest), head={"version": release.version}),
    )


def release_put(release: Release) -> Put:
    """The write of its record alone."""
    head = written(head_of(release))
    return Put(key=release_key(release.name, release.version), head=head, body=encode(release))


def head_put(release: Release) -> Put:
    """The write of its head alone."""
    return Put(key=head_key(release.name, release.version), head=written(head_of(release)))


def release_deletes(name: str, version: int, release_digest: Digest) -> tuple[Delete, Delete, Delete]:
    """The inverse of `release_puts`."""
    keys = (release_key(name, version), head_key(name, version), digest_key(name, release_digest))
    first, second, third = (Delete(key=key, expect=1) for key in keys)
    return first, second, third


def decode(row: Row, where: str) -> Release:
    """The release of a row with its body. DamagedError when it is not the one that was published there."""
    with reading(row.key, where):
        name, version = _numbered_in(row.key)
        text = Fields(row.head).digest("digest")
        release = _release(row.body, name, str(text))
        if release.version != version:
            raise FieldError(f"it holds {shown(release.name)}@{release.version}")
        check_head(row.head, release)
    return release


def decode_body(body: bytes, name: str, digest_text: str | None, what: str) -> Release:
    """As `decode`, from the body alone; `digest_text` is the digest that the release must have."""
    try:
        return _release(body, name, digest_text)
    except FieldError as error:
        raise ServiceError(f"{what} is damaged: {error}; restore it from a backup") from error


def _release(body: bytes, name: str, digest_text: str | None) -> Release:
    """The release of a body. FieldError for anything that `encode` does not write."""
    fields = Fields(parse(body, BODY_BYTES, texts=BODY_BYTES), "its body")
    data = fields.text("manifest", BODY_BYTES).encode()
    if str(digest.of_bytes(data)) != digest_text:
        raise FieldError("it is not the one that was published: its manifest has another digest")
    try:
        manifest = decode_manifest(data)
    except FieldError:
        raise
    except ValueError as error:
        raise FieldError(shown(error)) from None
    if manifest.name != name:
        raise FieldError(f"it is not the one that was published: it is of {shown(manifest.name)}")
    images = {part_of(id_): _image(reference, id_) for id_, reference in fields.inside("images").items()}
    return draft(manifest, read_provenance(fields.inside("provenance")), images, fields.time("created"), fields.version("version"))


def _image(reference: object, id_: str) -> str:
    text = Fields({id_: reference}, "images").label(id_)
    as_digest(text.rpartition("@")[2], f"the image of {shown(id_)}")
    return text


def decode_head(row: Row, where: str) -> ReleaseHead:
    """A release as a list shows it, from its row of heads. DamagedError when it is not one that mlpack wrote there."""
    with reading(row.key, where):
        _, version = _numbered_in(row.key)
        head = read_head(row.head)
        if head.version != version:
            raise FieldError(f"it says version {head.version}")
        return head


@contextmanager
def reading(key: Key, where: str, remedy: str | None = None) -> Iterator[None]:
    """A context in which any error about a row's content becomes a DamagedError that names the row."""
    try:
        yield
    except FieldError as error:
        raise (DamagedError(where, key, error, remedy) if remedy else DamagedError(where, key, error)) from error


def numbered_in(row: Row, where: str) -> int:
    """The number of a release, from its row alone."""
    with reading(row.key, where):
        return _numbered_in(row.key)[1]


def _numbered_in(key: Key) -> tuple[str, int]:
    """The model in the partition of a numbered row (releases, heads, moves), and the row's number."""
    parts = key.partition.split("/")
    if parts[0] != "name" or len(parts) < 3 or not is_name(parts[1]):
        raise FieldError("its name is not one that a model may have")
    if parts[2:] not in (["releases"], ["heads"]) and not (len(parts) == 4 and parts[2] == "alias" and is_name(parts[3])):
        raise FieldError("its alias is not one that a model may have")
    if _NUMBERED.fullmatch(key.sort) is None or not int(key.sort):
        raise FieldError("it is not numbered")
    return parts[1], int(key.sort)


def stored_files(release: Release) -> dict[str, Digest]:
    """The files of a release that are blobs: all of them, except the content of images that were pushed."""
    return {path: blob for path, blob in sorted(release.files.items()) if not (release.images and LAYOUT_BLOBS in path)}


def relied_on(release: Release) -> set[Digest]:
    """Everything without which this release is not whole: blobs, and the manifests of its images."""
    return {*stored_files(release).values(), *map(image_digest, release.images.values())}


def image_files(release: Release, id_: str) -> dict[str, Digest]:
    """The blobs of a candidate's image, by path in its OCI layout."""
    layout = f"artifacts/{id_}/image/"
    return {path.removeprefix(layout): blob for path, blob in release.files.items() if path.startswith(f"{layout}blobs/")}


def image_digest(reference: str) -> Digest:
    """The digest in `host/name@sha256:...`."""
    return Digest(reference.rpartition("@")[2])


# --- moves of aliases -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One step of an alias. The last one is where the alias points; `revision` counts from 1 without a gap."""

    name: str
    alias: str
    revision: int
    version: int
    previous: int | None
    """Which version it pointed to before."""
    when: str
    """UTC, ISO 8601; never before the move before it."""
    who: str | None
    kind: str
    """`promote` or `rollback`."""
    why: str | None
    forced: bool
    gates: tuple[Mapping[str, Any], ...]
    """What was checked: gate, ok, detail."""
    release: bytes
    """The body of the release's row, so that following an alias is one read."""
    digest: str

    def target(self, where: str) -> Release:
        """The release that the alias points to after this move."""
        key = Key(moves(self.name, self.alias), numbered(self.revision))
        release = decode_body(self.release, self.name, self.digest, f"{where}: the record {key} of {self.name}:{self.alias}")
        if release.version != self.version:
            raise DamagedError(where, key, f"it leads to version {self.version} and holds the record of {release.version}")
        return release


def move_put(move: Move) -> Put:
    """The write that makes a move, unless another move has its revision."""
    keys = ("version", "previous", "when", "who", "kind", "why", "forced", "digest")
    return Put(
        key=Key(moves(move.name, move.alias), numbered(move.revision)),
        head={key: getattr(move, key) for key in keys},
        body=digest.canonical_json({"gates": [dict(gate) for gate in move.gates], "release": move.release.decode()}),
    )


def decode_move(row: Row, where: str) -> Move:
    """A move from its row. It has its gates and its release only if the row came with its body."""
    with reading(row.key, where):
        name, revision = _numbered_in(row.key)
        alias = row.key.partition.split("/")[3]
        fields = Fields(row.head)
        body = Fields(parse(row.body, 2 * BODY_BYTES, texts=BODY_BYTES) if row.body else {"gates": [], "release": ""}, "its body")
        return Move(
            name=name,
            alias=alias,
            revision=revision,
            version=fields.version("version"),
            previous=fields.maybe("previous", fields.version),
            when=fields.time("when"),
            who=fields.maybe("who", fields.label),
            kind=fields.word("kind", _KINDS, "a kind of move"),
            why=fields.maybe("why", fields.text),
            forced=fields.flag("forced"),
            digest=str(fields.digest("digest")),
            gates=tuple(_gate(each) for each in body.each("gates")),
            release=body.text("release", BODY_BYTES).encode(),
        )


def _gate(value: object) -> Mapping[str, Any]:
    fields = Fields(value, "a gate")
    return {"gate": fields.label("gate"), "ok": fields.flag("ok"), "detail": fields.text("detail")}
