"""What a registry is: releases that never change, under versions that only grow, each with all its bytes and its evidence.

Promises, of every implementation: bytes first and one transaction last, so that a release which can be seen has all its bytes;
publishing the same content again is a success that changes nothing; what is pulled was verified byte by byte. It does not build,
judge or deploy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from mlpack import digest, words
from mlpack.buildjson import Record
from mlpack.digest import Digest
from mlpack.errors import ExitCode, MlpackError, RecipeError
from mlpack.records import Release

FIELDS = ("image", "zip", "digest", "size", "version")
"""What `show --field` can print: the image as NAME@sha256:..., where the function zip lies, the artifact's digest and bytes."""

EVIDENCE = ("build.json", "report.md", "report.html")
"""What lies beside the artifacts and is published with them; only build.json must be there."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_REFERENCE = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]*)(?:@(?P<version>[1-9][0-9]{0,8}))?")


class NothingChosenError(MlpackError):
    """A build in which no candidate fits its budgets has nothing to publish: exit 5, as the build itself had."""

    exit_code = ExitCode.OVER_BUDGET


class Registry(Protocol):
    """A place for releases."""

    def publish(self, build_dir: Path) -> Release:
        """Keep what a build left in `build_dir`; the release it became, or the one that it already was.

        NothingChosenError when the build chose nothing, RecipeError when the directory is not what its build.json says.
        """

    def list(self, name: str | None = None) -> tuple[Release, ...]:
        """Every release, of one name or of all, by name and version."""

    def show(self, name: str, version: int | None = None) -> Release:
        """One release, the newest when no version is given. RecipeError when there is none."""

    def pull(self, release: Release, folder: Path) -> None:
        """Write a release's files to `folder`, which must not exist or be empty, all of them or none.

        ServiceError that names the file when its bytes are damaged.
        """

    def field(self, release: Release, name: str) -> str:
        """One of `FIELDS`. RecipeError when this kind of release has no such thing."""


def parse_reference(text: str) -> tuple[str, int | None]:
    """`NAME` or `NAME@VERSION`. RecipeError on anything else."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise RecipeError(f"{text!r} is not a release: write NAME for the newest one, or NAME@VERSION as in minilm@3")
    return match["name"], int(match["version"]) if match["version"] else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a release's digest is the digest of."""

    name: str
    artifact: Mapping[str, Any]
    files: Mapping[str, Digest]
    tags: Mapping[str, str]

    def encode(self) -> bytes:
        """Canonical JSON: equal manifests have equal bytes."""
        files = {path: str(named) for path, named in self.files.items()}
        return digest.canonical_json({"name": self.name, "artifact": self.artifact, "files": files, "tags": self.tags})


def decode_manifest(data: bytes) -> Manifest:
    """The manifest that `encode` wrote. ValueError when it is anything else, or names a file outside of its directory."""
    value = json.loads(data)
    try:
        files = {str(path): Digest(text) for path, text in value["files"].items()}
        made = Manifest(name=value["name"], artifact=dict(value["artifact"]), files=files, tags=dict(value["tags"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a manifest: {error}") from error
    for path in made.files:
        above = {str(parent) for parent in PurePosixPath(path).parents}
        if not is_inside(path) or above & files.keys():
            raise ValueError(f"a file outside of the release, or below another file: {path!r}")
    return made


def is_inside(path: str) -> bool:
    """Whether a POSIX path stays below the directory it is joined to, on any system."""
    parts = path.split("/")
    return bool(path) and not set(parts) & {"", ".", ".."} and not re.search(r"[\\:\x00-\x1f]", path)


def manifest_of(record: Record, files: Mapping[str, Digest]) -> Manifest:
    """The manifest of a build, after holding what was found in its directory against what its record says.

    `files`: by path relative to the directory, the evidence and everything below the chosen artifact's folder. Raises as
    `Registry.publish` does; every file that is missing, altered or was added is named.
    """
    name, chosen, artifact = record["recipe"]["name"], record["chosen"], record["artifact"]
    folder = artifact_folder(record)
    if not _NAME.fullmatch(name):
        raise RecipeError(f"build.json: recipe.name {name!r} is not a name: use small letters, digits and dashes")
    said = {path: entry["digest"] for path, entry in record["files"].items() if path.startswith(f"{folder}/")}
    problems = [f"{path}: missing" for path in sorted(said.keys() - files.keys())]
    for path, found in sorted(files.items()):
        if path.startswith(f"{folder}/") and said and said.get(path) != str(found):
            problems.append(f"{path}: {'altered since the build' if path in said else 'not made by the build'}")
    problems.extend(_artifact_problems(artifact, {p.removeprefix(f"{folder}/"): d for p, d in files.items()}))
    if problems:
        raise RecipeError(*problems, f"{name}: this directory is not what its build.json says; build again, then publish")
    one = next((c for c in record["candidates"] if c["id"] == chosen), None)
    where = {"candidate": chosen, "target": one["target"] if one else None, "arch": one["arch"] if one else None}
    return Manifest(name=name, artifact=where | artifact, files=files, tags=record["recipe"]["tags"])


def artifact_folder(record: Record) -> str:
    """The folder of the chosen artifact, `artifacts/<id>`, relative to the build's directory.

    NothingChosenError when there is none, RecipeError when it is elsewhere.
    """
    name, chosen, artifact = record["recipe"]["name"], record["chosen"], record["artifact"]
    if chosen is None or artifact is None:
        raise NothingChosenError(
            f"{name}: the build chose no candidate, so there is nothing to publish; report.md says what exceeds which budget"
        )
    path = artifact["path"]
    parts = PurePosixPath(path).parts
    if not is_inside(path) or len(parts) < 2 or parts[:2] != ("artifacts", chosen):
        raise RecipeError(f"build.json: artifact.path {path!r} is not below artifacts/{chosen}")
    return f"artifacts/{chosen}"


def _artifact_problems(artifact: Mapping[str, Any], inside: Mapping[str, Digest]) -> Iterable[str]:
    """Whether the artifact's own digest follows from the files in its folder."""
    kind, expected = artifact["kind"], artifact["digest"]
    if kind == "image":
        yield from _image_problems(expected, {p.removeprefix("image/"): d for p, d in inside.items() if p.startswith("image/")})
        return
    names = {"zip": ("function.zip",), "layer-zip": ("function.zip", "layer.zip")}.get(kind)
    if names is None:
        yield f"build.json: artifact.kind {kind!r} is not one that this registry keeps"
        return
    missing = [name for name in names if name not in inside]
    yield from (f"{name}: missing" for name in missing)
    if not missing:
        made = inside[names[0]] if kind == "zip" else digest.of_json({name: str(inside[name]) for name in names})
        if str(made) != expected:
            yield f"{', '.join(names)}: digest {made}, but build.json says {expected}"


def _image_problems(expected: str, layout: Mapping[str, Digest]) -> Iterable[str]:
    """Whether the layout holds the manifest, and each of its blobs is what its name says."""
    if f"blobs/{expected.replace(':', '/')}" not in layout:
        yield f"image: the manifest {expected} is not in the layout"
    for required in ("index.json", "oci-layout"):
        if required not in layout:
            yield f"image/{required}: missing"
    for path, found in sorted(layout.items()):
        if path.startswith("blobs/") and path != f"blobs/{str(found).replace(':', '/')}":
            yield f"image/{path}: its bytes have the digest {found}"


def as_json(release: Release) -> dict[str, Any]:
    """A release for other programs: plain JSON values, stable keys."""
    return {
        "name": release.name,
        "version": release.version,
        "reference": f"{release.name}@{release.version}",
        "digest": str(release.digest),
        "created": release.created,
        "artifact": dict(release.artifact),
        "files": {path: str(named) for path, named in sorted(release.files.items())},
        "tags": dict(sorted(release.tags.items())),
    }


def text(release: Release) -> str:
    """A release for people."""
    artifact = release.artifact
    tags = ", ".join(f"{key}={value}" for key, value in sorted(release.tags.items()))
    rows = (
        ("release", f"{release.name}@{release.version}"),
        ("candidate", artifact["candidate"]),
        ("artifact", f"{artifact['kind']}, {words.size(artifact['size_bytes'])}, {artifact['digest']}"),
        ("digest", release.digest),
        ("created", release.created),
        ("tags", tags or words.UNKNOWN),
        ("files", words.count(len(release.files), "file")),
    )
    return "\n".join(f"{label:<10}{value}" for label, value in rows)
