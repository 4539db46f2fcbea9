"""The records of a registry. They build on `core.records`; only the registry and the rooms that show it use them.

Promises:
- Frozen values without behaviour. A release never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlpack.core.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Who published, from where, and from which sources. It is no part of a release's content. None: not known."""

    label: str | None = None
    """A semantic version or what `git describe` says."""
    commit: str | None = None
    dirty: bool | None = None
    who: str | None = None
    where: str | None = None
    """The CI run's URL, or the machine's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePackage:
    """One package of a release.

    Attributes:
        candidate: The id of the candidate that it was made for.
        kind: zip, layer-zip, image, or the form that a plug-in's target has.
        digest: Of a zip's bytes, or of an image's manifest.
        size_bytes: Everything that ships, uncompressed, without a container's base.
        compressed_bytes: Everything that ships, as it is transferred; None where a release of before does not say it.
        target: The kind of target; None where a release of before does not say it.
        arch: x86_64 or arm64; None where a release of before does not say it.
        path: Of the chosen package: where it lies below the build's directory.
        manifest: The same as the release's manifest has it. The release's digest is made of it, so it keeps keys of other versions.
    """

    candidate: str
    kind: str
    digest: Digest
    size_bytes: int
    compressed_bytes: int | None
    target: str | None
    arch: str | None
    path: str | None
    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseHead:
    """What lists show of a release.

    Attributes:
        version: Its number.
        digest: Of the release's manifest.
        created: When it was published: UTC, ISO 8601.
        kind: zip, layer-zip, image, or the form that a plug-in's target has.
        size_bytes: Everything that ships of the chosen package, uncompressed, without a container's base.
        target: The kind of target; None where a release of before does not say it.
        arch: x86_64 or arm64; None where a release of before does not say it.
        provenance: Who published, and from where.
    """

    version: int
    digest: Digest
    created: str
    kind: str
    size_bytes: int
    target: str | None
    arch: str | None
    provenance: Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release: an artifact with its evidence, under a version that never changes."""

    name: str
    version: int
    digest: Digest
    """Of the release's manifest: the digests of every file published with it."""
    created: str
    """When it was published: UTC, ISO 8601."""
    artifact: ReleasePackage
    """The chosen package."""
    files: Mapping[str, Digest]
    tags: Mapping[str, str]
    packages: Mapping[str, ReleasePackage]
    """Every package that was published with it, by candidate; none in releases of the first schema."""
    recipe: str | None
    models: str | None
    """The digest of the set of models that the build made."""
    images: Mapping[str, str]
    """By candidate, `host/name@sha256:...` of what was pushed to a container registry."""
    provenance: Provenance
