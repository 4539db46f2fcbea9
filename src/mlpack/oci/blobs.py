"""Bytes on disk under their own digest: `<directory>/sha256/<hex>`, the form in which an OCI layout keeps its blobs.

Promises:
- A blob appears whole or not at all: it is written beside its place and then renamed.
- `BlobWriter.commit` accepts only bytes of the expected digest and size.
- Files that are there already are left alone, so several processes may share a directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mlpack.core.digest import Digest
from mlpack.core.files import atomically
from mlpack.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import WriteableBuffer as Buffer

CHUNK_BYTES = 1 << 20


def path_of(directory: Path, digest: Digest) -> Path:
    """The path of a blob, which need not exist."""
    return directory / "sha256" / digest.hex


def holds(directory: Path, digest: Digest, size_bytes: int) -> bool:
    """Whether a blob of that name and size exists. It is not read: `image.validate` does that."""
    try:
        return path_of(directory, digest).stat().st_size == size_bytes
    except OSError:
        return False


def used(path: Path) -> None:
    """Record that a file of a cache was used now: the file that was not used for longest goes first."""
    with contextlib.suppress(OSError):
        os.utime(path)


class BlobWriter:
    """A new blob: write to it, then `commit`. It counts and hashes the bytes; `restart` begins again."""

    def __init__(self, file: BinaryIO, directory: Path, temporary: Path) -> None:
        self._file = file
        self._directory = directory
        self._temporary = temporary
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`."""
        self._file.write(data)
        self._sha256.update(data)
        self.size_bytes += len(data)

    def restart(self) -> None:
        """Forget every byte and begin again."""
        self._file.seek(0)
        self._file.truncate()
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def digest(self) -> Digest:
        """The digest of the bytes that were written so far."""
        return Digest("sha256:" + self._sha256.hexdigest())

    def commit(self, expected: Digest | None = None) -> Digest:
        """Rename the file to its digest. PackError, and no blob, when it is not the `expected` one."""
        actual = self.digest()
        if expected is not None and actual != expected:
            raise PackError(f"the bytes of {expected} have the digest {actual}: they were damaged or exchanged")
        self._file.close()
        final = path_of(self._directory, actual)
        atomically.put(self._temporary, final)
        return actual


@contextlib.contextmanager
def incoming(directory: Path) -> Iterator[BlobWriter]:
    """A new blob below `directory`, which is made if missing. A blob that was not committed is removed at the end."""
    folder = directory / "sha256"
    folder.mkdir(parents=True, exist_ok=True)
    with atomically.unfinished(folder, ".incoming-") as fresh, fresh.open("w+b") as file:
        yield BlobWriter(file, directory, fresh)


class VerifyingReader(io.RawIOBase):
    """Reads a blob's bytes for another place; PackError at their end when their digest is not `digest`. It closes its source."""

    def __init__(self, source: BinaryIO, digest: Digest) -> None:
        super().__init__()
        self._source = source
        self._digest = digest
        self._sha256 = hashlib.sha256()

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer` as far as there are bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        chunk = self._source.read(len(view))
        self._sha256.update(chunk)
        if not chunk and self._sha256.hexdigest() != self._digest.hex:
            raise PackError(f"the bytes of {self._digest} have another digest ({self._sha256.hexdigest()}): damaged or exchanged")
        view[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        """Close the source too."""
        self._source.close()
        super().close()


def put(directory: Path, data: bytes) -> Digest:
    """Store `data`; returns its digest."""
    with incoming(directory) as blob:
        blob.write(data)
        return blob.commit()


def copy(source: BinaryIO, directory: Path, digest: Digest, size_bytes: int) -> None:
    """Store the bytes of `source` under `digest`, unless that blob exists. PackError when digest or size differ."""
    if holds(directory, digest, size_bytes):
        return
    with incoming(directory) as blob:
        while chunk := source.read(CHUNK_BYTES):
            blob.write(chunk)
            if blob.size_bytes > size_bytes:
                break
        if blob.size_bytes != size_bytes:
            raise PackError(f"{digest} should have {size_bytes} bytes and has {blob.size_bytes} or more: damaged or exchanged")
        blob.commit(digest)
