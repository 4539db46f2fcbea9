"""A registry in a directory on a local disk.

    registry.sqlite                the table: see `mlpack.registry`
    blobs/sha256/ab/abcdef...      every file of every release, each content once
    tmp/                           files that are being written; a publisher removes what killed publishers left

Promises:
- Several processes of one machine may publish at once.
- After a kill at any moment either the whole release is visible or none of it, and a second run finishes the work.

Will not: work on network file systems, because SQLite's locks do not hold there.
"""

from __future__ import annotations

import hashlib
import io
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.core.files import plain_files
from mlpack.errors import RecipeError, ServiceError, disk_of
from mlpack.registry import Images, Moved, Place, StoredBlob
from mlpack.registry.local.disk import Disk
from mlpack.registry.local.sqlite import SqliteTable
from mlpack.registry.releases.releases import Registry

if TYPE_CHECKING:
    pass

_ABANDONED_S = 24 * 3600
_CHUNK_BYTES = 1 << 20


def open_registry(root: Path, disk: Disk | None = None, images: Images | None = None) -> Registry:
    """The registry in this directory, which the first `publish` makes. RecipeError for places that are not directories."""
    if root.exists() and not root.is_dir():
        raise RecipeError(f"{root}: not a directory; give the directory of a registry")
    disk = disk or Disk()
    place = Place(where=str(root), table=SqliteTable(root, disk), blobs=Files(root, disk), now=time.time)
    return Registry(place, images)


class Files:
    """Blobs as files. It implements `mlpack.registry.Blobs`."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self._root = root
        self._disk = disk
        self._swept = False

    def size(self, blob: Digest) -> int | None:
        """See `Blobs.size`."""
        try:
            return self._path(blob).stat().st_size
        except FileNotFoundError:
            return None

    def put(self, expected: Digest, source: Path | bytes, moved: Moved = lambda _: None) -> bool:
        """See `Blobs.put`. A damaged blob is replaced."""
        blob = self._path(expected)
        if blob.is_file() and digest.of_file(blob) == expected:
            return False
        fresh = self._root / "tmp" / secrets.token_hex(16)
        with disk_of(self._root, "free some there, or use a registry on a larger disk with --registry"):
            self._disk.make_folder(fresh.parent)
            self._sweep()
            try:
                self._disk.write(
                    fresh, _checked(_read(source, moved), expected, lambda is_there: _changed(source, expected, is_there))
                )
                self._disk.make_folder(blob.parent)
                self._disk.move(fresh, blob)
            finally:
                fresh.unlink(missing_ok=True)
        return True

    def read(self, blob: Digest) -> bytes:
        """See `Blobs.read`."""
        return b"".join(self._verified(blob, lambda _: None))

    def fetch(self, blob: Digest, path: Path, moved: Moved = lambda _: None) -> None:
        """See `Blobs.fetch`. Nothing is gone on with: a local copy takes no longer than the check of half of one."""
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            self._disk.write(fresh, self._verified(blob, moved))
            self._disk.move(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)

    def check(self, blob: Digest) -> str | None:
        """See `Blobs.check`."""
        try:
            actual = plain_files.digest_of(self._path(blob).parent, blob.hex)
        except FileNotFoundError:
            return "missing"
        except RecipeError as error:
            return f"damaged: {error}"
        return None if actual == blob else f"damaged: its bytes have the digest {actual}"

    def list(self) -> Iterator[StoredBlob]:
        """See `Blobs.list`."""
        folder = self._root / "blobs" / "sha256"
        for path in sorted(folder.glob("??/*")):
            try:
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    yield StoredBlob(digest=Digest(f"sha256:{path.name}"), size_bytes=status.st_size, modified=status.st_mtime)
            except (FileNotFoundError, ValueError):
                continue  # removed meanwhile, or not a blob

    def delete(self, blob: Digest) -> None:
        """See `Blobs.delete`."""
        self._disk.remove(self._path(blob))

    def uri(self, blob: Digest) -> str:
        """See `Blobs.uri`: as `--zip-file fileb://` takes it."""
        return str(self._path(blob).absolute())

    def presign(self, blob: Digest, seconds: int) -> str:  # noqa: ARG002 - the protocol's
        """See `Blobs.presign`."""
        raise RecipeError(f"{self._root} is a directory: there are no URLs to sign; its files can be read where they are")

    def _path(self, blob: Digest) -> Path:
        return self._root / "blobs" / "sha256" / blob.hex[:2] / blob.hex

    def _verified(self, expected: Digest, moved: Moved) -> Iterator[bytes]:
        """The bytes of a blob; after the last one ServiceError when they have another digest."""
        blob = self._path(expected)

        def damaged(actual: str) -> ServiceError:
            return ServiceError(
                f"the blob {blob} is damaged ({actual} instead of {expected}); "
                "publish the same build again to repair it, or restore the registry from a backup"
            )

        try:
            yield from _checked(_read(blob, moved), expected, damaged)
        except FileNotFoundError as error:
            raise damaged("missing") from error
        except RecipeError as error:
            raise damaged(str(error)) from error

    def _sweep(self) -> None:
        """Remove files that publishers which were killed a day ago or earlier left."""
        if self._swept:
            return
        self._swept = True
        folder = self._root / "tmp"
        for entries in () if folder.is_symlink() else folder.iterdir():
            # Another publisher may remove the file meanwhile. An entry that is no file is not the registry's.
            with suppress(OSError):
                if time.time() - entries.lstat().st_mtime > _ABANDONED_S:
                    entries.unlink()


def _read(source: Path | bytes, moved: Moved) -> Iterator[bytes]:
    with plain_files.opened(source.parent, source.name) if isinstance(source, Path) else io.BytesIO(source) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
            moved(len(chunk))


def _checked(chunks: Iterable[bytes], blob: Digest, wrong: Callable[[str], Exception]) -> Iterator[bytes]:
    """These bytes. After the last one, the error that `wrong` makes of their digest is raised when it is not `blob`."""
    state = hashlib.sha256()
    for chunk in chunks:
        state.update(chunk)
        yield chunk
    if state.hexdigest() != blob.hex:
        raise wrong(f"sha256:{state.hexdigest()}")


def _changed(source: Path | bytes, blob: Digest, actual: str) -> RecipeError:
    what = source if isinstance(source, Path) else "these bytes"
    return RecipeError(f"{what}: changed while it was published ({blob}, then {actual}); publish when the build has ended")
