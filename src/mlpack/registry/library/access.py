"""A registry as one caller has it: where it is, whom it tells, who he is, and where its images are."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlpack.core.environment import AnyPath, Environment
from mlpack.core.progress import Progress
from mlpack.errors import MlpackError
from mlpack.registry import places

if TYPE_CHECKING:
    from mlpack.oci.distribution.keychain import Keychain
    from mlpack.registry.records import Release
    from mlpack.registry.releases.releases import Registry

Damaged = Callable[[MlpackError], None]
"""Told of rows that cannot be read; they are passed over then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What every verb of a registry needs. `images`: the container registry that the caller names for images."""

    where: str
    images: str | None
    progress: Progress
    environment: Environment
    opened: Registry = field(repr=False)

    def to_publish(self) -> Registry:
        """The registry with the container registry that images go to: the given one, else the one it was created with."""
        return places.with_images(self.opened, self.images, self._keychain())

    def to_look(self) -> Registry:
        """The registry with whatever container registries the images of its releases are in."""
        return places.with_recorded_images(self.opened, self.images, self._keychain())

    def to_pull(self, release: Release) -> Registry:
        """The registry with the container registry that this release's images are in."""
        return places.with_images_of(self.opened, release, self._keychain())

    def who(self) -> str | None:
        """Who is at work, for histories; None where nobody knows."""
        from mlpack.registry.releases import provenance

        return provenance.who(self.environment.variables, Path.cwd())

    def _keychain(self) -> Keychain:
        from mlpack.oci.distribution import keychain

        return keychain.of_environment(self.environment.variables, self.environment.home)


def open_access(where: AnyPath | None, images: str | None, progress: Progress, environ: Mapping[str, str] | None) -> Access:
    """Access to the registry of this name, else to the one that the environment names."""
    environment = Environment(environ)
    name = environment.registry if where is None else os.fspath(where)
    return Access(where=name, images=images, progress=progress, environment=environment, opened=places.open_registry(name))


def in_thousandths(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """A bar that is told how many of how many, as one that is told what was just done."""
    shown = 0

    def tell(done: int, total: int) -> None:
        nonlocal shown
        now = 1000 * done // max(total, 1)
        advance(max(0, now - shown))
        shown = max(now, shown)

    return tell
