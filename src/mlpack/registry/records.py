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
class Release:
    """A release: an artifact with its evidence, under a version that never changes."""

    name: str
    version: int
    digest: Digest
    """Of the release's manifest: the digests of every file published with it."""
    created: str
    """When it was published: UTC, ISO 8601."""
    artifact: Mapping[str, Any]
    """The chosen package: candidate, target, arch, kind, path, digest, sizes."""
    files: Mapping[str, Digest]
    tags: Mapping[str, str]
    packages: Mapping[str, Mapping[str, Any]]
    """Every package published with it, by candidate: target, arch, kind, digest, sizes."""
    recipe: str | None
    models: str | None
    """The digest of the set of models that the build made."""
    images: Mapping[str, str]
    """By candidate, `host/name@sha256:...` of what was pushed to a container registry."""
    provenance: Provenance
