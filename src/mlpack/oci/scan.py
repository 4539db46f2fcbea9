"""What a tar that somebody else made has in it: its entries' paths, kinds and link targets, in memory bounded by construction.

Promises: reads forwards once, skips contents, holds one header at a time; a header is checked (checksum, size), an extension
header is at most 256 KiB, entries are counted, paths that leave the image or that no Linux could hold are refused, and what is
remembered of all of them stays in proportion to the bytes that were sent (`Allowance`). Python's own tarfile is not used here:
it reads sparse maps and chains of extension headers of any length into memory. Extracts nothing.
Source: POSIX pax; GNU tar manual, "Basic Tar Format"; OCI image-spec 1.1 `layer.md` (which forbids sparse files).
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal

from mlpack.errors import PackError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlpack.digest import Digest
    from mlpack.oci.compression import Inflated

Kind = Literal["dir", "file", "link"]

MAX_ENTRIES = 2_000_000
MAX_EXTENSION_BYTES = 256 << 10
MAX_EXTENSIONS = 16
"""Extension headers before one entry: pax and GNU have two kinds each."""
MAX_PATH_BYTES = 4096
"""PATH_MAX of Linux (limits.h): nobody could unpack a longer one, or follow a link to it."""
MAX_NAME_BYTES = 255
"""NAME_MAX of Linux, for each part of a path."""

_BLOCK_BYTES = 512
_BUFFER_BYTES = 1 << 20
_FILES, _LINK, _DIR = b"\x0007", b"2", b"5"
_WITHOUT_CONTENT = b"123456"
_ESCAPED = re.compile(r"\\x[0-9a-f]{2}")
_ENTRY_BYTES = 200
"""What an entry takes beside its path and link target: two strings and a tuple."""


class Allowance:
    """How much memory may be spent on knowing an image, and how much of it was.

    A few kilobytes of gzip can hold gigabytes of paths. Entries of real layers take less memory than the bytes that they were
    sent in (Debian's: 0.1 to 0.3 of them, empty files and links alone: 8 times), so 32 times is far above any, and small layers
    get 24 MiB in any case.
    """

    FLOOR_BYTES = 24 << 20
    TIMES = 32

    def __init__(self, sent_bytes: int) -> None:
        self._left = self.limit_bytes = self.FLOOR_BYTES + self.TIMES * sent_bytes

    def spend(self, size_bytes: int) -> None:
        """PackError when there is less than that left."""
        self._left -= size_bytes
        if self._left < 0:
            raise _damaged(
                f"its paths take more than {self.limit_bytes >> 20} MiB of memory, {self.TIMES} times the bytes that were sent "
                f"and {self.FLOOR_BYTES >> 20} MiB"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What reading a layer once has shown. `entries` are (path, kind, link target), in the order of the archive."""

    diff_id: Digest
    uncompressed_bytes: int
    entries: tuple[tuple[str, Kind, str], ...]


def read(inflated: Inflated, sent_bytes: int = 0) -> Index:
    """What the tar holds, read to its end; `sent_bytes`: how long the stored layer is. PackError when it is damaged, sparse or
    hostile."""
    stream: BinaryIO = io.BufferedReader(inflated, _BUFFER_BYTES)
    entries = tuple(_entries(stream, Allowance(sent_bytes)))
    while rest := stream.read(_BUFFER_BYTES):
        if rest.strip(b"\0"):
            raise _damaged("there is more after its end")
    return Index(diff_id=inflated.tally.digest(), uncompressed_bytes=inflated.tally.size_bytes, entries=entries)


def clean_path(path: str) -> str:
    """The path below the image's root, without `./` and slashes around it. PackError when it leaves the image."""
    _check_length(path)
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise PackError(f"a layer has the path {path!r:.200}, which leaves the image: damaged or hostile")
    if any(_longer(part, MAX_NAME_BYTES) for part in parts):
        raise _damaged(f"a name of more than {MAX_NAME_BYTES} bytes (NAME_MAX of Linux) in the path {path!r:.100}")
    return "/".join(parts)


def _check_length(path: str) -> None:
    if _longer(path, MAX_PATH_BYTES):
        raise _damaged(f"a path of more than {MAX_PATH_BYTES} bytes (PATH_MAX of Linux), {path!r:.100} ...")


def _longer(text: str, limit_bytes: int) -> bool:
    """Whether a name has more bytes than `limit_bytes` in the archive: what is not UTF-8 there is four letters here (`_text`)."""
    return len(text) > limit_bytes // 3 and len(_ESCAPED.sub("?", text).encode()) > limit_bytes


def _entries(stream: BinaryIO, allowance: Allowance) -> Iterator[tuple[str, Kind, str]]:
    count = 0
    while found := _entry(stream):
        count += 1
        if count > MAX_ENTRIES:
            raise _damaged(f"it has more than {MAX_ENTRIES} entries")
        if found[0]:
            allowance.spend(_ENTRY_BYTES + len(found[0]) + len(found[2]))
            yield found


def _entry(stream: BinaryIO) -> tuple[str, Kind, str] | None:
    """The next entry, its content skipped; None at the end."""
    known: dict[str, str] = {}
    for _ in range(MAX_EXTENSIONS):
        header = stream.read(_BLOCK_BYTES)
        if not header.strip(b"\0"):
            if known:
                raise _damaged("it ends after an extension header")
            return None
        if len(header) != _BLOCK_BYTES or not _is_sound(header):
            raise _damaged("a header is cut short or has a wrong checksum")
        kind, size = header[156:157], _number(header[124:136])
        if kind not in b"xgLKX":
            return _finished(stream, header, known)
        if size > MAX_EXTENSION_BYTES:
            raise _damaged(f"an extension header of {size} bytes")
        content = _content(stream, size)
        if kind in b"xX":
            known |= _records(content)
        elif kind != b"g":
            known["path" if kind == b"L" else "linkpath"] = _text(content)
    raise _damaged(f"more than {MAX_EXTENSIONS} extension headers for one entry")


def _finished(stream: BinaryIO, header: bytes, known: dict[str, str]) -> tuple[str, Kind, str]:
    kind = header[156:157]
    if kind not in _FILES + _WITHOUT_CONTENT or any(key.startswith("GNU.sparse") for key in known):
        raise _damaged(f"an entry of type {kind!r} or a sparse file, which layers may not have")
    name = known.get("path") or _name(header)
    if kind not in _WITHOUT_CONTENT:
        _skip(stream, _decimal(known["size"]) if "size" in known else _number(header[124:136]))
    if kind == _LINK:
        target = known.get("linkpath") or _text(header[157:257])
        _check_length(target)
        return clean_path(name), "link", target
    is_folder = kind == _DIR or (kind == b"\0" and name.endswith("/"))
    return clean_path(name), "dir" if is_folder else "file", ""


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
            raise _damaged("a pax record is malformed")
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
        raise _damaged(f"{text!r:.40} is not a length")
    return int(text)


def _negative() -> int:
    raise _damaged("a number in a header is malformed or negative")


def _content(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(_padded(size))
    if len(content) != _padded(size):
        raise _damaged("it ends too early")
    return content[:size]


def _skip(stream: BinaryIO, size: int) -> None:
    """Pass over `size` bytes and their padding, which archives that were never closed lack at their end (umoci insert 0.4.7)."""
    padding, left = _padded(size) - size, size
    while left:
        chunk = stream.read(min(left, _BUFFER_BYTES))
        if not chunk:
            raise _damaged("it ends too early")
        left -= len(chunk)
    stream.read(padding)


def _padded(size: int) -> int:
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _damaged(why: str) -> PackError:
    return PackError(f"a layer is not a sound tar archive: {why}; it is damaged or hostile. Choose another base image")
