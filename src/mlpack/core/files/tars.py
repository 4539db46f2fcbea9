"""Reads a foreign tar member by member, in bounded memory.

Promises:
- It reads forwards once and holds one header at a time. Contents are skipped, by seeking where the stream can.
- Each header is checked (checksum, size). An extension header has at most 256 KiB, at most 16 of them precede a member, and
  members are counted.
- Names and link targets that no Linux could hold are refused, and so are sparse files.

Will not: extract anything, or refuse a path that leaves its folder: callers do.

Python's own tarfile is not used for foreign archives: it reads sparse maps and chains of extension headers of any length into
memory, and keeps all members.

Source: POSIX pax; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

Kind = Literal["dir", "file", "link", "hardlink", "device"]

MAX_MEMBERS = 2_000_000
MAX_EXTENSION_BYTES = 256 << 10
MAX_EXTENSIONS = 16
"""The most extension headers before one member: pax and GNU have two kinds each."""
MAX_PATH_BYTES = 4096
"""PATH_MAX of Linux (limits.h): no longer path can be unpacked, and no link to one followed."""
MAX_NAME_BYTES = 255
"""NAME_MAX of Linux, for each part of a path."""
MAX_INDEXED = 200_000
"""The most files in an index: some 70 MB of names."""

_BLOCK_BYTES = 512
_BUFFER_BYTES = 1 << 20
_WITHOUT_CONTENT = b"123456"
_KINDS: dict[bytes, Kind] = {
    b"\0": "file", b"0": "file", b"7": "file", b"1": "hardlink", b"2": "link",
    b"3": "device", b"4": "device", b"5": "dir", b"6": "device",
}  # fmt: skip
_ESCAPED = re.compile(r"\\x[0-9a-f]{2}")
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


class TarError(ValueError):
    """The tar is damaged; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TarMember:
    """One header, and the offset of its content in the stream. `path` is as in the archive."""

    path: str
    kind: Kind
    target: str
    mode: int
    size_bytes: int
    start: int


class Tar:
    """The members of a tar, in their order. TarError for one that is damaged, sparse or beyond a limit; other errors as the stream
    raises them."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._seekable = stream.seekable()
        self._at = stream.tell() if self._seekable else 0
        self._left = self._padding = 0

    def __iter__(self) -> Iterator[TarMember]:
        count = 0
        while member := self._next():
            count += 1
            if count > MAX_MEMBERS:
                raise TarError(f"it has more than {MAX_MEMBERS} entries")
            yield member
            self._skip()

    def content(self, refuse: Callable[[str], Exception] = TarError) -> BinaryIO:
        """The content of the current member, read forwards; `refuse` makes the error for a stream that ends too early."""
        return io.BufferedReader(_Content(self, refuse), _BUFFER_BYTES)

    def take(self, size: int) -> bytes:
        """Up to so many bytes of the remaining content; b"" at its end."""
        chunk = self._stream.read(min(size, self._left))
        self._at += len(chunk)
        if not chunk and min(size, self._left):
            raise TarError("it ends too early")
        self._left -= len(chunk)
        return chunk

    def _next(self) -> TarMember | None:
        """The next member; None at the end."""
        extended: dict[str, str] = {}
        for _ in range(MAX_EXTENSIONS):
            header = self._read(_BLOCK_BYTES)
            if not header.strip(b"\0"):
                if extended:
                    raise TarError("it ends after an extension header")
                return None
            if len(header) != _BLOCK_BYTES or not _is_sound(header):
                raise TarError("a header is cut short or has a wrong checksum")
            kind, size = header[156:157], _number(header[124:136])
            if kind not in b"xgLKX":
                return self._member(header, extended)
            if size > MAX_EXTENSION_BYTES:
                raise TarError(f"an extension header of {size} bytes")
            content = self._read(padded(size))
            if len(content) != padded(size):
                raise TarError("it ends too early")
            if kind in b"xX":
                extended |= _records(content[:size])
            elif kind != b"g":
                extended["path" if kind == b"L" else "linkpath"] = _text(content[:size])
        raise TarError(f"more than {MAX_EXTENSIONS} extension headers for one entry")

    def _member(self, header: bytes, extended: dict[str, str]) -> TarMember:
        type_ = header[156:157]
        if type_ not in _KINDS or any(key.startswith("GNU.sparse") for key in extended):
            raise TarError(f"an entry of type {type_!r} or a sparse file, which layers may not have")
        name = extended.get("path") or _name(header)
        check_path(name)
        kind, size, target = _KINDS[type_], 0, ""
        if type_ not in _WITHOUT_CONTENT:
            size = _decimal(extended["size"]) if "size" in extended else _number(header[124:136])
        if kind in {"link", "hardlink"}:
            target = extended.get("linkpath") or _text(header[157:257])
            check_path(target)
        if type_ == b"\0" and name.endswith("/"):
            kind = "dir"
        self._left, self._padding = size, padded(size) - size
        digits = header[100:108].strip(b" \0")
        mode = int(digits, 8) & 0o7777 if re.fullmatch(rb"[0-7]+", digits) else 0  # an invalid mode means no permission
        return TarMember(path=name, kind=kind, target=target, mode=mode, size_bytes=size, start=self._at)

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._at += len(data)
        return data

    def _skip(self) -> None:
        """Skip the remaining content and its padding, which archives that were never closed lack at their end (umoci insert
        0.4.7)."""
        if self._seekable and self._left:
            end = self._stream.seek(0, os.SEEK_END)
            if end - self._at < self._left:
                raise TarError("it ends too early")
            self._at = self._stream.seek(self._at + self._left)
            self._left = 0
        while self._left:
            self.take(_BUFFER_BYTES)
        self._read(self._padding)
        self._padding = 0


class _Content(io.RawIOBase):
    def __init__(self, tar: Tar, refuse: Callable[[str], Exception]) -> None:
        super().__init__()
        self._tar, self._refuse = tar, refuse

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        try:
            chunk = self._tar.take(len(view))
        except TarError as error:
            raise self._refuse(str(error)) from None
        view[: len(chunk)] = chunk
        return len(chunk)


def index(stream: BinaryIO, is_wanted: Callable[[str], bool], most: int = MAX_INDEXED) -> dict[str, tuple[int, int]]:
    """Offset and size of the files in a seekable tar whose path (without `./`) is `is_wanted`. TarError also for a file that occurs
    twice, or for more than `most`."""
    places: dict[str, tuple[int, int]] = {}
    for member in Tar(stream):
        path = member.path.removeprefix("./")
        if member.kind != "file" or not is_wanted(path):
            continue
        if path in places:
            raise TarError(f"it has {path} twice: two readers could see two different ones")
        if len(places) >= most:
            raise TarError(f"it has more than {most:,} files")
        places[path] = (member.start, member.size_bytes)
    return places


class Slice(io.RawIOBase):
    """A part of a file as a file of its own; closes the whole with it."""

    def __init__(self, whole: BinaryIO, start: int, size: int) -> None:
        super().__init__()
        self._whole, self._start, self._size, self._at = whole, start, size, 0

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As of files."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def tell(self) -> int:
        """As of files."""
        return self._at

    def readinto(self, buffer: Buffer, /) -> int:
        """As of files."""
        view = memoryview(buffer).cast("B")
        self._whole.seek(self._start + self._at)
        chunk = self._whole.read(min(len(view), max(0, self._size - self._at)))
        view[: len(chunk)] = chunk
        self._at += len(chunk)
        return len(chunk)

    def close(self) -> None:
        """Close the slice and the whole file."""
        self._whole.close()
        super().close()


def is_tar(path: Path) -> bool:
    """Whether a file begins as a tar does; only its first header is read. OSError as the file raises it."""
    head = _head(path)
    try:
        return len(head) == _BLOCK_BYTES and (not head.strip(b"\0") or _is_sound(head))
    except TarError:
        return False


def is_packed(path: Path) -> bool:
    """Whether a file begins as the output of gzip, bzip2, xz or zstd. OSError as the file raises it."""
    return _head(path).startswith(_PACKED)


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_BLOCK_BYTES)


def check_path(path: str) -> None:
    """TarError for a path that no Linux could hold."""
    if _longer(path, MAX_PATH_BYTES):
        raise TarError(f"a path of more than {MAX_PATH_BYTES} bytes (PATH_MAX of Linux), {path!r:.100} ...")


def check_names(path: str, parts: list[str]) -> None:
    """TarError for a path with a part that no Linux could hold."""
    if any(_longer(part, MAX_NAME_BYTES) for part in parts):
        raise TarError(f"a name of more than {MAX_NAME_BYTES} bytes (NAME_MAX of Linux) in the path {path!r:.100}")


def padded(size: int) -> int:
    """The bytes in a tar of a content of this size."""
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES


def _longer(text: str, limit_bytes: int) -> bool:
    """Whether a name has more bytes than `limit_bytes` in the archive, where a byte that is not UTF-8 has four letters here
    (`_text`)."""
    return len(text) > limit_bytes // 3 and len(_ESCAPED.sub("?", text).encode()) > limit_bytes


def _name(header: bytes) -> str:
    name, prefix = _text(header[:100]), _text(header[345:500])
    return f"{prefix}/{name}" if prefix and header[257:263] == b"ustar\0" else name


def _records(content: bytes) -> dict[str, str]:
    """The records `length key=value\\n` of a pax header."""
    records, start = {}, 0
    while start < len(content):
        digits, space, _ = content[start : start + 20].partition(b" ")
        length = _decimal(_text(digits))
        record = content[start + len(digits) + 1 : start + length]
        key, equals, value = record.partition(b"=")
        if not space or not equals or not value.endswith(b"\n"):
            raise TarError("a pax record is malformed")
        records[_text(key)] = _text(value[:-1])
        start += length
    return records


def _is_sound(header: bytes) -> bool:
    return sum(header) - sum(header[148:156]) + 8 * 32 == _number(header[148:156])


def _number(field: bytes) -> int:
    """Octal digits, or GNU's base 256 where the first bit is set."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x3F]) + field[1:], "big") if not field[0] & 0x40 else _negative()
    digits = field.strip(b" \0")
    try:
        return int(digits, 8) if digits.isdigit() else 0 if not digits else _negative()
    except ValueError:
        return _negative()


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise TarError(f"{text!r:.40} is not a length")
    return int(text)


def _negative() -> int:
    raise TarError("a number in a header is malformed or negative")


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")
