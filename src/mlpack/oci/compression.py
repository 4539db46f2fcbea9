"""Gzip whose bytes depend on nothing but the content, and bounded reading of layers that others compressed.

Promises:
- `stored` (gzip of stored blocks, about 1 GB/s; for dense weights, of which deflate would save 7 % at 20 MB/s) gives the same
  bytes on every machine, in every version.
- `deflate` (libdeflate, level 6) gives the same bytes for one version of the `deflate` distribution, whatever zlib the system
  has.
- Both write one gzip member with a fixed header: no time, no name, no system.
- Above `IN_MEMORY_BYTES`, `deflate` uses the system's zlib as a stream. The stored digest may then differ between systems; the
  diff_id may not.
- Reading never inflates past a limit.

Source: RFC 1951, RFC 1952.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from typing import TYPE_CHECKING, BinaryIO, Literal

from mlpack.core.digest import Digest
from mlpack.core.files import bounded
from mlpack.errors import PackError
from mlpack.oci import media

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed import WriteableBuffer as Buffer

Compression = Literal["deflate", "stored"]

LEVEL = 6
IN_MEMORY_BYTES = 512 << 20
"""The largest content that `deflate` holds in memory, since libdeflate has no stream interface."""

MAX_UNCOMPRESSED_BYTES = 20 << 30
"""A layer that inflates to more is refused: this is twice what Lambda takes for a whole image. MLPACK_MAX_LAYER_MB changes it."""

_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_BLOCK_BYTES = 0xFFFF
_READ_BYTES = 1 << 20


def gzip_stored(chunks: Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """A gzip stream of stored blocks. The sizes of `chunks` have no influence: blocks are filled to 65,535 bytes."""
    yield _HEADER
    crc, size, rest = 0, 0, b""
    for chunk in chunks:
        crc, size = zlib.crc32(chunk, crc), size + len(chunk)
        view = memoryview(rest + chunk if rest else chunk)
        full = len(view) // _BLOCK_BYTES * _BLOCK_BYTES
        for start in range(0, full, _BLOCK_BYTES):
            yield b"\x00\xff\xff\x00\x00"
            yield view[start : start + _BLOCK_BYTES]
        rest = bytes(view[full:])
    yield b"\x01" + len(rest).to_bytes(2, "little") + (len(rest) ^ 0xFFFF).to_bytes(2, "little")
    yield rest
    yield _trailer(crc, size)


def gzip_deflated(chunks: Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """A gzip stream by libdeflate. The whole content and the result are in memory."""
    import deflate

    data = bytearray()
    for chunk in chunks:
        data += chunk
    crc, size = zlib.crc32(data), len(data)
    yield _HEADER
    yield memoryview(deflate.deflate_compress(data, LEVEL))
    yield _trailer(crc, size)


def deflate_version() -> str:
    """The version on which the bytes of `gzip_deflated` depend: part of the key of any cache of them."""
    import deflate

    return str(deflate.__version__)


def gzip_streamed(chunks: Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """A gzip stream by the system's zlib, in constant memory."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    crc, size = 0, 0
    yield _HEADER
    for chunk in chunks:
        crc, size = zlib.crc32(chunk, crc), size + len(chunk)
        yield packer.compress(chunk)
    yield packer.flush()
    yield _trailer(crc, size)


def gzipped(chunks: Iterable[bytes], compression: Compression, size_bytes: int) -> Iterator[bytes | memoryview]:
    """`chunks`, of about `size_bytes` together, as one gzip member."""
    if compression == "stored":
        return gzip_stored(chunks)
    return gzip_deflated(chunks) if size_bytes <= IN_MEMORY_BYTES else gzip_streamed(chunks)


def _trailer(crc: int, size: int) -> bytes:
    return crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


class HashingCounter:
    """Counts and hashes the bytes that pass through it."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def through(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks, counted and hashed as they pass."""
        for chunk in chunks:
            self.add(chunk)
            yield chunk

    def add(self, chunk: bytes) -> None:
        """Count and hash one chunk."""
        self._sha256.update(chunk)
        self.size_bytes += len(chunk)

    def digest(self) -> Digest:
        """The digest of everything that passed."""
        return Digest("sha256:" + self._sha256.hexdigest())


class InflatedTar(io.RawIOBase):
    """The tar inside a stored layer, read forwards. PackError when it is damaged, or longer than `limit_bytes`
    (by default `MAX_UNCOMPRESSED_BYTES`).

    `tally` counts and hashes the inflated bytes that were read so far.
    """

    def __init__(self, stored: BinaryIO, media_type: str, limit_bytes: int | None = None) -> None:
        super().__init__()
        if media_type in media.GZIP_LAYERS:
            self._stream: BinaryIO = gzip.GzipFile(fileobj=stored, mode="rb")  # type: ignore[assignment]  # a BinaryIO in all but name
        elif media_type in media.TAR_LAYERS:
            self._stream = stored
        else:
            raise PackError(
                f"a layer of type {media_type!r:.200} cannot be read: only tar and gzip can. "
                "Recompress the image, for example with `skopeo copy --dest-compress-format gzip`"
            )
        self._limit_bytes = limit_bytes or bounded.setting("MLPACK_MAX_LAYER_MB", MAX_UNCOMPRESSED_BYTES)
        self.tally = HashingCounter()

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Up to 1 MiB of the tar; 0 at its end."""
        view = memoryview(buffer).cast("B")
        try:
            chunk = self._stream.read(min(len(view), _READ_BYTES))
        except (OSError, EOFError, zlib.error) as error:
            raise PackError(f"a layer is damaged: {error}") from error
        self.tally.add(chunk)
        if self.tally.size_bytes > self._limit_bytes:
            raise PackError(
                f"a layer inflates to more than {self._limit_bytes} bytes (MLPACK_MAX_LAYER_MB): too large for any target, or a "
                "decompression bomb"
            )
        view[: len(chunk)] = chunk
        return len(chunk)

    def drain(self) -> None:
        """Read to the end."""
        while self.read(_READ_BYTES):
            pass
