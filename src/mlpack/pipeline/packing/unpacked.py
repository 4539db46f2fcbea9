"""Packages as they lie at /var/task, for whatever measures or compares them.

Promises: the trees are read-only, and gone when their block ends. Will not: make a package, or change one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mlpack.pipeline.packing import pack

if TYPE_CHECKING:
    from mlpack.core.records import Artifact
    from mlpack.store.local import Store

TASK = "task"
"""The folder of a package that is a bare directory: it is never packed, and lies there as it would be unpacked."""
_KEPT_BYTES = 2 << 30
"""The disk that unpacked packages may have beside the store while a build runs."""


class Packed(Protocol):
    """A package in the store."""

    @property
    def artifact(self) -> Artifact:
        """What it is, with its size."""

    @property
    def dir(self) -> Path:
        """Its directory."""


@dataclass(slots=True, kw_only=True)
class _Kept:
    """Packages that stay unpacked in `place`: the tree of each by its directory, and what they come to."""

    place: Path
    trees: dict[Path, Path] = field(default_factory=dict)
    size_bytes: int = 0


class Trees:
    """The unpacked packages of one build, on the disk of its store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: _Kept | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Unpack a package once while the block runs, however often it is asked for: a build asks five to seven times. What comes
        to more than `_KEPT_BYTES` together is unpacked each time."""
        with self._store.scratch() as work:
            self._kept = _Kept(place=work)
            try:
                yield
            finally:
                self._kept = None

    @contextmanager
    def of(self, packages: Mapping[str, Packed]) -> Iterator[dict[str, Path]]:
        """The tree of each package, while the block runs. PackError for one that is damaged."""
        with self._store.scratch() as work:
            yield {id_: self._tree(package, work / str(index)) for index, (id_, package) in enumerate(packages.items())}

    def _tree(self, package: Packed, place: Path) -> Path:
        """The package's files: where it is a bare directory or was unpacked before, else in `place`, which goes with its block."""
        if (package.dir / TASK).is_dir():
            return package.dir / TASK
        kept, size = self._kept, package.artifact.size_bytes
        if kept is None or (package.dir not in kept.trees and kept.size_bytes + size > _KEPT_BYTES):
            return pack.unpack(package.dir, place)
        if package.dir not in kept.trees:
            kept.trees[package.dir] = pack.unpack(package.dir, Path(tempfile.mkdtemp(dir=kept.place)))
            kept.size_bytes += size
        return kept.trees[package.dir]
