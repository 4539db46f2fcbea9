"""What a release is made of: its packages, its evidence, and the one digest of both.

Promises: a build directory becomes a manifest only when it is what its build.json says, file by file; equal manifests have equal
bytes; one that was read names no file outside of its directory. Nothing here reads or writes files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.errors import ExitCode, MlpackError, RecipeError
from mlpack.registry.fields import BODY_BYTES, FieldError, Fields, as_digest, parse, shown
from mlpack.registry.records import ReleasePackage

if TYPE_CHECKING:  # who lists releases reads manifests and no records: making their classes takes 30 ms
    from mlpack.report.record import ArtifactRecord, BuildRecord
    from mlpack.report.record.candidates import PackageRecord

EVIDENCE = ("build.json", "report.md", "report.html")
"""What lies beside the artifacts and is published with them; only build.json must be there."""

ATTESTATIONS = "attestations/"
"""Whatever signed statements a build carries: every file below it is published."""

PATH_CHARS = 1024
"""As long as S3 takes a key; Linux takes 4,096 bytes, which leaves room for the directory that it is pulled to."""
PART_BYTES = 255
"""As long as Linux takes a name."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


class NothingChosenError(MlpackError):
    """A build in which no candidate fits its budgets has nothing to publish: exit 5, as the build itself had."""

    exit_code = ExitCode.OVER_BUDGET


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a release's digest is the digest of.

    `artifact`: the chosen package. `packages`: every one that is published, by candidate. `models`: the digest of the set of models
    that the candidates were made of.
    """

    name: str
    artifact: ReleasePackage
    files: Mapping[str, Digest]
    tags: Mapping[str, str]
    packages: Mapping[str, ReleasePackage] = field(default_factory=dict)
    recipe: str | None = None
    models: str | None = None

    def encode(self) -> bytes:
        """Canonical JSON: equal manifests have equal bytes."""
        files = {path: str(file_digest) for path, file_digest in self.files.items()}
        fields: dict[str, Any] = {"name": self.name, "artifact": self.artifact.manifest, "files": files, "tags": self.tags}
        if self.packages:  # releases of the first schema had none of these, and keep their digests
            packages = {id_: package.manifest for id_, package in self.packages.items()}
            fields |= {"packages": packages, "recipe": self.recipe, "models": self.models}
        return digest.canonical_json(fields)


def decode_manifest(data: bytes) -> Manifest:
    """The manifest that `encode` wrote. ValueError when it is anything else, or names a file outside of its directory."""
    fields = Fields(parse(data, BODY_BYTES), "a manifest")
    files = {path: as_digest(file_digest, f"the digest of {shown(path)}") for path, file_digest in fields.inside("files").items()}
    for path in files:
        # Looked at first: of what is longer than any path nothing is made.
        if not is_inside(path) or {str(parent) for parent in PurePosixPath(path).parents} & files.keys():
            raise FieldError(f"a file outside of the release, or below another file: {shown(path)!r}")
    tags = fields.inside("tags")
    packages = fields.maybe("packages", fields.inside) or {}
    return Manifest(
        name=fields.label("name"),
        artifact=package_of(fields.inside("artifact"), "artifact"),
        files=files,
        tags={key: Fields(tags, "tags").text(key) for key in tags},
        packages={part_of(id_): package_of(one, f"the package {shown(id_)}", id_) for id_, one in packages.items()},
        recipe=fields.maybe("recipe", fields.label),
        models=fields.maybe("models", fields.label),
    )


def package_of(value: Mapping[str, Any], what: str, candidate: str | None = None) -> ReleasePackage:
    """A package of a manifest.

    Args:
        value: As the manifest has it.
        what: How errors call it.
        candidate: Whose package it is; None: the value says it.

    Returns:
        The package.

    Raises:
        ValueError: It is not what `manifest_of` writes.
    """
    fields = Fields(value, what)
    fields.maybe("candidate", fields.label)
    if candidate is None:
        candidate = part_of(fields.label("candidate"))
    return ReleasePackage(
        candidate=candidate,
        kind=fields.label("kind"),
        digest=fields.digest("digest"),
        size_bytes=fields.whole("size_bytes"),
        compressed_bytes=fields.maybe("compressed_bytes", fields.whole),
        target=fields.maybe("target", fields.label),
        arch=fields.maybe("arch", fields.label),
        path=fields.maybe("path", fields.label),
        manifest=dict(value),
    )


def part_of(text: str) -> str:
    """The same, where it may be the name of a folder or file. ValueError when not."""
    if "/" in text or not is_inside(text):
        raise FieldError(f"{shown(text)!r} is no candidate")
    return text


def is_inside(path: str) -> bool:
    """Whether a POSIX path stays below the directory it is joined to, on any system."""
    parts = path.split("/")
    if len(path) > PATH_CHARS or max(len(part.encode("utf-8", "replace")) for part in parts) > PART_BYTES:
        return False
    return bool(path) and not set(parts) & {"", ".", ".."} and not re.search(r"[\\:\x00-\x1f]", path)


def manifest_of(record: BuildRecord, files: Mapping[str, Digest]) -> Manifest:
    """The manifest of a build, after holding what was found in its directory against what its record says.

    `files`: by path relative to the directory: the evidence, and everything below `folders`. Raises as `Registry.publish` does;
    every file that is missing, altered or was added is named.
    """
    name, (chosen, artifact) = record.recipe.name, _chosen(record)
    folder_of = folders(record)
    if not is_name(name):
        raise RecipeError(f"build.json: recipe.name {name!r} is not a name: use small letters, digits and dashes")
    problems: list[str] = []
    packages: dict[str, Mapping[str, Any]] = {}
    for id_, folder in folder_of.items():
        inside = {path.removeprefix(f"{folder}/"): actual for path, actual in files.items() if path.startswith(f"{folder}/")}
        if not inside and id_ != chosen:
            continue  # the build made it and did not keep it
        one = record.candidate(id_)
        package = artifact if id_ == chosen or one is None else one.package
        listed = {path: entry.digest for path, entry in record.files.items() if path.startswith(f"{folder}/")}
        problems += _folder_problems(folder, listed, files)
        problems += _artifact_problems(package, inside)
        where = {"target": one.target if one else None, "arch": one.arch if one else None}
        sizes = {"size_bytes": package.size_bytes, "compressed_bytes": package.compressed_bytes}
        packages[id_] = {**where, "kind": package.kind, "digest": package.digest, **sizes}
    if problems:
        raise RecipeError(*problems, f"{name}: this directory is not what its build.json says; build again, then publish")
    models = {c.id: c.model.digest for c in record.candidates}
    where = {key: packages[chosen][key] for key in ("target", "arch")}
    try:
        chosen_package = package_of({"candidate": chosen, **where, **artifact.to_json()}, "artifact")
        published = {id_: package_of(value, f"the package of {id_}", id_) for id_, value in packages.items()}
    except FieldError as error:
        raise RecipeError(f"build.json: cannot be published: {error}") from error
    return Manifest(
        name=name,
        artifact=chosen_package,
        files=files,
        tags=record.recipe.tags,
        packages=published,
        recipe=record.recipe.digest,
        models=str(digest.of_json(models)),
    )


def is_name(text: str) -> bool:
    """Whether it may be the name of a model or of an alias."""
    return _NAME.fullmatch(text) is not None


def folders(record: BuildRecord) -> dict[str, str]:
    """Where the packages are that a build may have kept, by candidate; the chosen one's comes first and must be there.

    NothingChosenError when none was chosen, RecipeError when it is elsewhere.
    """
    chosen, _artifact = _chosen(record)
    folder_of = {chosen: artifact_folder(record)}
    for one in record.candidates:
        if one.package.digest is not None and is_inside(one.id) and "/" not in one.id:
            folder_of.setdefault(one.id, f"artifacts/{one.id}")
    return folder_of


def _folder_problems(folder: str, listed: Mapping[str, str], files: Mapping[str, Digest]) -> Iterable[str]:
    """Files that are not what the record's list has; nothing when the record has no list of this folder."""
    yield from (f"{path}: missing" for path in sorted(listed.keys() - files.keys()))
    for path, file_digest in sorted(files.items()):
        if path.startswith(f"{folder}/") and listed and listed.get(path) != str(file_digest):
            yield f"{path}: {'altered since the build' if path in listed else 'not made by the build'}"


def artifact_folder(record: BuildRecord) -> str:
    """The folder of the chosen artifact, `artifacts/<id>`, relative to the build's directory.

    NothingChosenError when there is none, RecipeError when it is elsewhere.
    """
    chosen, artifact = _chosen(record)
    path = artifact.path
    parts = PurePosixPath(path).parts
    if not is_inside(path) or len(parts) < 2 or parts[:2] != ("artifacts", chosen):
        raise RecipeError(f"build.json: artifact.path {path!r} is not below artifacts/{chosen}")
    return f"artifacts/{chosen}"


_BESIDE = ("package.json", "event.json", "openapi.json")
"""What lies beside what ships."""


def _chosen(record: BuildRecord) -> tuple[str, ArtifactRecord]:
    """The chosen candidate's id and its package. NothingChosenError when there is none."""
    if record.chosen is None or record.artifact is None:
        raise NothingChosenError(
            f"{record.recipe.name}: the build chose no candidate, so there is nothing to publish; "
            "report.md says what exceeds which budget"
        )
    return record.chosen, record.artifact


def _artifact_problems(artifact: ArtifactRecord | PackageRecord, inside: Mapping[str, Digest]) -> Iterable[str]:
    """Whether the artifact's own digest follows from the files in its folder."""
    kind, expected = artifact.kind or "", artifact.digest or ""
    if kind == "image":
        yield from _image_problems(expected, {p.removeprefix("image/"): d for p, d in inside.items() if p.startswith("image/")})
        return
    names = {"zip": ("function.zip",), "layer-zip": ("function.zip", "layer.zip")}.get(kind)
    if names is None:  # a form of a plug-in's target: its digest is that of what ships
        if expected not in {str(file_digest) for path, file_digest in inside.items() if path not in _BESIDE}:
            yield f"build.json: artifact.kind {kind!r} has the digest {expected}, and none of its files has"
        return
    missing = [name for name in names if name not in inside]
    yield from (f"{name}: missing" for name in missing)
    if not missing:
        actual = inside[names[0]] if kind == "zip" else digest.of_json({name: str(inside[name]) for name in names})
        if str(actual) != expected:
            yield f"{', '.join(names)}: digest {actual}, but build.json says {expected}"


def _image_problems(expected: str, layout: Mapping[str, Digest]) -> Iterable[str]:
    """Whether the layout holds the manifest, and each of its blobs is what its name says."""
    if f"blobs/{expected.replace(':', '/')}" not in layout:
        yield f"image: the manifest {expected} is not in the layout"
    for required in ("index.json", "oci-layout"):
        if required not in layout:
            yield f"image/{required}: missing"
    for path, blob in sorted(layout.items()):
        if path.startswith("blobs/") and path != f"blobs/{str(blob).replace(':', '/')}":
            yield f"image/{path}: its bytes have the digest {blob}"
