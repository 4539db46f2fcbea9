"""Opens foreign zips with a bound on the size of their directory.

Promises:
- Python's zipfile, which keeps an object for each entry, gets no directory of more than `DIRECTORY_BYTES` or `MAX_ENTRIES`,
  whichever end record says where it is.
- Entries that share bytes are refused, so that the sum of all entries stays in proportion to the file.

Will not: bound the inflated size of one entry. Whoever reads an entry has a limit of his own.

Source: PKWARE APPNOTE 6.3.10, sections 4.3.12, 4.3.14 to 4.3.16.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

DIRECTORY_BYTES = 16 << 20
MAX_ENTRIES = 0xFFFF
"""The most entries that a zip without the zip64 extension can state."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""An entry packed by LZMA says itself how much memory it takes to unpack it, up to 4 GiB."""
_ENTRY = b"PK\x01\x02"

DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error, OverflowError,
)  # fmt: skip
"""The exceptions of zipfile for archives that are broken, encrypted (RuntimeError) or packed in unusual ways."""


class _Guarded:
    """A file that refuses single reads larger than a directory, as long as it is guarded."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.guarded = True
        self.seek, self.tell = stream.seek, stream.tell

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self.guarded:
            return self._stream.read(size)
        data = self._stream.read(min(size, DIRECTORY_BYTES + 1) if size >= 0 else DIRECTORY_BYTES + 1)
        if len(data) > DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its directory has more than the {DIRECTORY_BYTES:,} bytes that are read of one")
        if data.count(_ENTRY) > MAX_ENTRIES:
            raise zipfile.BadZipFile(f"its directory has more than {MAX_ENTRIES:,} entries")
        return data


@contextmanager
def opened(stream: BinaryIO) -> Iterator[zipfile.ZipFile]:
    """The zip in a seekable file. BadZipFile, or another of `DAMAGE`, for one that is damaged or beyond a limit."""
    size = stream.seek(0, os.SEEK_END)
    guard = _Guarded(stream)
    try:
        archive = zipfile.ZipFile(guard)  # reads and seeks, which is all that it asks for
    except (ValueError, IndexError, UnicodeError) as error:  # a directory that begins before the file, names that are no text
        raise zipfile.BadZipFile(str(error)) from None
    with archive:
        guard.guarded = False
        if odd := next((entry for entry in archive.infolist() if entry.compress_type not in _METHODS), None):
            raise zipfile.BadZipFile(f"it is packed by method {odd.compress_type}, and only 0 (stored) and 8 (deflate) are read")
        if sum(max(entry.compress_size, 0) for entry in archive.infolist()) > size:
            raise zipfile.BadZipFile("its entries share bytes: damaged, or a bomb")
        yield archive
