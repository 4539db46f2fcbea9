"""Writes canonical tar: the same entries give the same bytes on every machine.

Promises:
- Entries are sorted by the bytes of their paths. Owners are 0:0 without names. There are no extended attributes and no device
  numbers, and times are whole seconds that the caller gives.
- A PAX record is written only for what ustar cannot hold (long or non-ASCII names, 8 GiB and more).
- A file is streamed and must have the size of its entry.
- Headers are built field by field, never from the file system, which would bring owners, fractions of seconds and links.

Source: POSIX pax; OCI image-spec 1.1 `layer.md`.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal

from mlpack.errors import PackError
from mlpack.oci import media

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_READ_BYTES = 1 << 20
_TYPES = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE}


@dataclass(frozen=True, slots=True, kw_only=True)
class TarEntry:
    """One path in an archive. `path` has no leading or trailing slash; `target` is a link's; `source` opens a file's bytes."""

    path: str
    kind: Literal["file", "dir", "symlink", "hardlink"]
    mode: int
    mtime_s: int = 0
    size_bytes: int = 0
    target: str = ""
    source: Callable[[], BinaryIO] | None = None


def chunks(entries: Iterable[TarEntry]) -> Iterator[bytes]:
    """The archive, in pieces. PackError when a path is given twice or cannot be stored, or a file changed meanwhile."""
    last = None
    for entry in sorted(entries, key=lambda each: each.path.encode("utf-8", "surrogateescape")):
        if entry.path == last:
            raise PackError(f"two files would lie at /{entry.path} in the image: one of them has to go")
        last = entry.path
        yield _header(entry)
        if entry.source is not None and entry.size_bytes:
            yield from _content(entry.path, entry.source, entry.size_bytes)
            yield b"\0" * (-entry.size_bytes % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def check_name(path: str) -> None:
    """PackError for a path that a layer cannot hold: not UTF-8, with control characters, or in the form of a whiteout."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise PackError(f"the name {path!r} is not UTF-8: rename it") from None
    if not media.is_printable(path):
        raise PackError(f"the name {path!r} has control characters: rename it")
    if any(part.startswith(".wh.") for part in path.split("/")):
        raise PackError(f"the name {path!r} begins with '.wh.', which deletes files in an image: rename it")


def _header(entry: TarEntry) -> bytes:
    info = tarfile.TarInfo(entry.path)
    info.type = _TYPES[entry.kind]
    info.mode = entry.mode
    info.mtime = entry.mtime_s
    info.size = entry.size_bytes
    info.linkname = entry.target
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _content(path: str, source: Callable[[], BinaryIO], size_bytes: int) -> Iterator[bytes]:
    try:
        with source() as file:
            remaining = size_bytes
            while remaining:
                chunk = file.read(min(remaining, _READ_BYTES))
                if not chunk:
                    raise PackError(f"{path} became shorter while it was packed: build again, with nobody writing to it")
                remaining -= len(chunk)
                yield chunk
            if file.read(1):
                raise PackError(f"{path} became longer while it was packed: build again, with nobody writing to it")
    except OSError as error:
        raise PackError(f"{error.filename or path} cannot be read: {error.strerror}") from error
