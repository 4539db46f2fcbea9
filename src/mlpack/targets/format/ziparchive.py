"""A zip whose bytes follow from names and contents alone.

Promises:
- Names are sorted. Every entry has the date 1980-01-01, Unix as its system, mode 0644 and no extra field. Directories have none.
- libdeflate compresses at a fixed level, so the system's zlib does not matter. What hardly compresses is stored.
- The file appears whole or not at all. `zipfile`, another implementation, has read it back first.
- Files are below 4 GiB; Lambda's limit is a sixteenth of that.

Source: PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12, 4.3.16.
"""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mlpack.core.digest import Digest
from mlpack.core.files import atomically
from mlpack.errors import PackError

LEVEL = 6
"""The level of libdeflate: on the engine's library, level 9 takes twice the time for 1 % less."""
DENSE_RATIO = 0.9
"""Files that deflate to more than this are stored: weights deflate to 0.92 of their size at 20 MB/s, and inflate slower than a disk
reads."""

_CHUNK_BYTES = 1 << 20
_SAMPLE_BYTES = 64 << 10
_SAMPLES = 16
_DATE = 0x0021
_MADE_BY = 3 << 8 | 20
_UTF8 = 0x0800
_ATTRIBUTES = 0o100644 << 16
_MAX_BYTES = 0xFFFFFFFF
_LOCAL = struct.Struct("<IHHHHHIIIHH")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_END = struct.Struct("<IHHHHIIH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file, and its name in the archive."""

    name: str
    source: Path
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    name: bytes
    method: int
    crc: int
    compressed_bytes: int
    size_bytes: int

    @property
    def fields(self) -> tuple[int, ...]:
        """From `version needed to extract` to `uncompressed size`: the same in both headers."""
        flags = 0 if self.name.isascii() else _UTF8
        return 20, flags, self.method, 0, _DATE, self.crc, self.compressed_bytes, self.size_bytes


def write(members: Iterable[Member], path: Path) -> Digest:
    """Write the archive; returns the digest of its bytes. PackError when a source changes meanwhile or a name does not fit a
    zip."""
    ordered = sorted(members, key=lambda each: each.name.encode())
    state = hashlib.sha256()
    with atomically.replacing(path) as fresh:
        with fresh.open("wb") as file:
            for chunk in _archive(ordered):
                state.update(chunk)
                file.write(chunk)
        _verify(fresh, ordered)
    return Digest("sha256:" + state.hexdigest())


def is_dense(path: Path) -> bool:
    """Whether deflating the file is not worth it, by sixteen samples across it, so that equal files are treated alike."""
    import deflate

    size = path.stat().st_size
    if size < _SAMPLE_BYTES:
        return False
    step = max(_SAMPLE_BYTES, size // _SAMPLES)
    read_bytes = deflated_bytes = 0
    with path.open("rb") as file:
        for start in range(0, size, step):
            file.seek(start)
            sample = file.read(_SAMPLE_BYTES)
            read_bytes += len(sample)
            deflated_bytes += len(deflate.deflate_compress(sample, 1))
    return deflated_bytes > DENSE_RATIO * read_bytes


def _archive(members: list[Member]) -> Iterator[bytes]:
    directory, offset = [], 0
    for member in members:
        packed, chunks = _pack(member)
        header = _LOCAL.pack(0x04034B50, *packed.fields, len(packed.name), 0)
        yield header + packed.name
        yield from chunks
        directory.append((packed, offset))
        offset += len(header) + len(packed.name) + packed.compressed_bytes
    start = offset
    for packed, at in directory:
        if at > _MAX_BYTES:
            raise PackError("the zip would be larger than 4 GiB, which this writer and every target refuse")
        entry = _CENTRAL.pack(0x02014B50, _MADE_BY, *packed.fields, len(packed.name), 0, 0, 0, 0, _ATTRIBUTES, at)
        yield entry + packed.name
        offset += len(entry) + len(packed.name)
    if len(directory) > 0xFFFF:
        raise PackError(f"{len(directory)} files are more than the 65,535 that a zip holds")
    yield _END.pack(0x06054B50, 0, 0, len(directory), len(directory), offset - start, start, 0)


def _pack(member: Member) -> tuple[_Entry, Iterator[bytes]]:
    name, size = member.name.encode(), member.source.stat().st_size
    if size > _MAX_BYTES or len(name) > 0xFFFF:
        raise PackError(f"{member.name}: a zip without extensions holds neither files above 4 GiB nor names above 65,535 bytes")
    if not is_dense(member.source):
        import deflate

        data = member.source.read_bytes()
        squeezed = bytes(deflate.deflate_compress(data, LEVEL))
        if len(squeezed) < len(data):
            packed = _Entry(name=name, method=8, crc=zlib.crc32(data), compressed_bytes=len(squeezed), size_bytes=len(data))
            return packed, iter((squeezed,))
    crc = 0
    with member.source.open("rb") as file:
        for chunk in _chunks(file):
            crc = zlib.crc32(chunk, crc)
    return _Entry(name=name, method=0, crc=crc, compressed_bytes=size, size_bytes=size), _stream(member.source)


def _stream(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from _chunks(file)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def _verify(path: Path, members: list[Member]) -> None:
    """PackError unless `zipfile` reads the same names and contents, with every checksum right."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.namelist() != [each.name for each in members]:
                raise PackError("the zip was read back with other names than it was given")
            for member in members:
                state = hashlib.sha256()
                with archive.open(member.name) as stream:
                    while chunk := stream.read(_CHUNK_BYTES):
                        state.update(chunk)
                if state.hexdigest() != member.digest.hex:
                    raise PackError(f"{member.source} changed while it was packed: build again while no program writes to it")
    except (zipfile.BadZipFile, zlib.error) as error:
        raise PackError(
            f"the zip could not be read back ({error}): a source changed while it was packed, or the disk fails"
        ) from None
