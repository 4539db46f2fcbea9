"""Copies the files of a release from the registry into a directory or a file.

Promises:
- Every byte is verified, and only verified bytes are put in place, all of them or none.
- An interrupted pull resumes.
- It neither uses nor follows what others put beside the destination (`workplace`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.errors import MlpackError, RecipeError, ServiceError
from mlpack.registry import Moved
from mlpack.registry.parallel import side_by_side
from mlpack.registry.records import Release
from mlpack.registry.releases.workplace import beside, is_own_file, sync_tree
from mlpack.registry.rows import rows

if TYPE_CHECKING:
    from mlpack.registry import Images, Place


class ReleaseSource(Protocol):
    """The part of a `Registry` that reads the bytes of releases."""

    place: Place
    images: Images | None


def pull(registry: ReleaseSource, release: Release, folder: Path, moved: Moved = lambda _: None) -> None:
    """See `Registry.pull`."""
    check_free(folder)
    with beside(folder, f"{release.digest.hex[:16]}.partial", may_go_on) as work:
        fill(registry, release, work.path, moved)
        work.become()


def fetch(registry: ReleaseSource, release: Release, path: str, out: Path, moved: Moved = lambda _: None) -> None:
    """See `Registry.fetch`."""
    blob = release.files.get(path)
    if blob is None:
        raise RecipeError(f"{release.name}@{release.version} has no {path}; it has {', '.join(sorted(release.files))}")
    if out.is_dir() and not out.is_symlink():
        raise RecipeError(f"{out}: a directory; say what the file is to be called")
    if is_own_file(out) and digest.of_file(out) == blob:
        return
    with beside(out, f"{blob.hex[:16]}.partial", may_go_on) as work, _unless_collected(registry, release):
        _fetch(registry, blob, work.path / "file", path, moved)
        work.put("file")


def fill(registry: ReleaseSource, release: Release, fresh: Path, moved: Moved = lambda _: None) -> None:
    """Write every file of a release into a directory of a workplace, and remove whatever else earlier attempts left there."""
    with _unless_collected(registry, release):
        fresh.mkdir(exist_ok=True)
        _tidy(fresh, release, begun=True)
        _fetch_images(registry, release, fresh)
        stored = rows.stored_files(release)
        for parent in {(fresh / path).parent for path in stored}:
            parent.mkdir(parents=True, exist_ok=True)
        side_by_side(partial(_fetch, registry, blob, fresh / path, path, moved) for path, blob in stored.items())
    _tidy(fresh, release)
    sync_tree(fresh)


def _tidy(fresh: Path, release: Release, *, begun: bool = False) -> None:
    """Remove files that are no part of the release, and begun parts (`ranged`) of files that are complete."""
    folders = {parent.as_posix() for path in release.files for parent in PurePosixPath(path).parents}
    for path in sorted(fresh.rglob("*"), reverse=True):
        inside = path.relative_to(fresh).as_posix()
        if path.is_dir():
            if inside in release.files or (inside not in folders and not any(path.iterdir())):
                shutil.rmtree(path)
        elif inside not in release.files and not (begun and path.name.startswith(".") and inside not in folders):
            path.unlink()


def may_go_on(error: BaseException) -> bool:
    """Whether an attempt is worth resuming: not when its bytes are wrong, and not on a disk that it keeps full."""
    if isinstance(error, ServiceError):
        return error.retryable
    return not isinstance(error, (OSError, MlpackError))


def check_free(folder: Path) -> None:
    """Raise RecipeError when a release cannot be pulled to there."""
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise RecipeError(f"{folder}: already there and not an empty directory; give another one with --out")


@contextmanager
def _unless_collected(registry: ReleaseSource, release: Release) -> Iterator[None]:
    """A context in which a failure is reported as garbage collection when that removed the release meanwhile. (A reader may write
    nothing, so it cannot make a collection wait.)"""
    try:
        yield
    except ServiceError as error:
        if not _is_gone(registry, release):
            raise
        raise ServiceError(
            f"{release.name}@{release.version} was removed by `mlpack gc` while it was pulled: pull {release.name} again, or an "
            "alias, which lead to what stays; a version is kept by a tag (gc --tag) or an alias of its own"
        ) from error


def _is_gone(registry: ReleaseSource, release: Release) -> bool:
    try:
        return registry.place.table.get(rows.release_key(release.name, release.version)) is None
    except ServiceError:
        return False  # that is not known; the first failure says more


def _fetch(registry: ReleaseSource, blob: Digest, path: Path, what: str, moved: Moved) -> None:
    if path.is_file() and digest.of_file(path) == blob:
        return  # an earlier attempt fetched it
    try:
        registry.place.blobs.fetch(blob, path, moved)
    except ServiceError as error:
        raise ServiceError(f"{what}: {error}", retryable=error.retryable) from error


def _fetch_images(registry: ReleaseSource, release: Release, folder: Path) -> None:
    if not release.images:
        return
    if registry.images is None:
        raise ServiceError(f"{release.name}@{release.version} has images in a container registry, and none can be asked here")
    for id_, reference in sorted(release.images.items()):
        layout = f"artifacts/{id_}/image/"
        registry.images.fetch(reference, folder / layout, rows.image_files(release, id_))
