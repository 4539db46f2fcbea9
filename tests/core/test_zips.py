"""Zips that somebody else made: a directory is read up to a limit, whatever its end records say."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from mlpack.core.files import zips

ENTRY = struct.Struct("<IHHHHHHIIIHHHHHII")


def zipped(count: int = 2, method: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for number in range(count):
            archive.writestr(f"f{number}", b"x" * 100)
    return made.getvalue()


def end(size: int, start: int, count: int = 1, comment: bytes = b"") -> bytes:
    return struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, size, start, len(comment)) + comment


def end64(at: int, size: int, start: int) -> bytes:
    """A zip64 end record, its locator, and the plain one that points to them."""
    record = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, 1, 1, size, start)
    return record + struct.pack("<IIQI", 0x07064B50, 0, at, 1) + end(0xFFFFFFFF, 0xFFFFFFFF, 0xFFFF)


def listed(name: bytes = b"a", at: int = 0, packed: int = 0) -> bytes:
    return ENTRY.pack(0x02014B50, 20, 20, 0, 0, 0, 0, 0, packed, packed, len(name), 0, 0, 0, 0, 0, at) + name


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_honest_zip_is_read(method: int) -> None:
    with zips.opened(io.BytesIO(zipped(5, method))) as archive:
        assert archive.namelist() == [f"f{number}" for number in range(5)]
        assert archive.testzip() is None


def test_as_many_entries_as_a_zip_can_say_are_read() -> None:
    data = listed() * zips.MAX_ENTRIES
    with zips.opened(io.BytesIO(data + end(len(data), 0))) as archive:
        assert len(archive.infolist()) == zips.MAX_ENTRIES


def big(path: Path, size: int, tail: bytes) -> Path:
    """A file that takes no disk, but for its end."""
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(tail)
    return path


DIRECTORIES = {
    "2 GB": (2 << 30, end(2 << 30, 0)),
    "4 GB by zip64": (4 << 30, end64(4 << 30, 4 << 30, 0)),
    "1 TB by zip64": (1 << 40, end64(1 << 40, 1 << 40, 0)),
    "behind a comment": (1 << 30, end(1 << 30, 0, comment=b"c" * 65_535)),
    "one byte more than is read": (zips.DIRECTORY_BYTES + 1, end(zips.DIRECTORY_BYTES + 1, 0)),
}


@pytest.mark.parametrize("kind", DIRECTORIES)
def test_directory_beyond_the_limit_is_refused_in_little_memory(kind: str, tmp_path: Path) -> None:
    path = big(tmp_path / "bomb.zip", *DIRECTORIES[kind])
    tracemalloc.start()
    try:
        with (
            path.open("rb") as file,
            pytest.raises(zipfile.BadZipFile, match=f"more than the {zips.DIRECTORY_BYTES:,} bytes"),
            zips.opened(file),
        ):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * zips.DIRECTORY_BYTES


@pytest.mark.parametrize("said", [0, 1, 0xFFFF])
def test_entries_are_counted_whatever_the_end_record_says(said: int) -> None:
    data = listed() * (zips.MAX_ENTRIES + 1)
    stream = io.BytesIO(data + end(len(data), 0, said))
    with pytest.raises(zipfile.BadZipFile, match="more than 65,535 entries"), zips.opened(stream):
        pass


def test_entries_that_share_bytes_are_refused() -> None:
    body = bytes(50_000)
    directory = b"".join(listed(b"f%d" % number, packed=len(body)) for number in range(50))
    stream = io.BytesIO(body + directory + end(len(directory), len(body)))
    with pytest.raises(zipfile.BadZipFile, match="share bytes"), zips.opened(stream):
        pass


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99])
def test_only_stored_and_deflated_entries_are_read(method: int) -> None:
    data = bytearray(zipped(1))
    data[data.rindex(b"PK\x01\x02") + 10] = method
    with pytest.raises(zipfile.BadZipFile, match=f"method {method}"), zips.opened(io.BytesIO(data)):
        pass


@pytest.mark.parametrize("damage", range(0, 140, 7))
def test_a_damaged_zip_is_one_of_the_named_errors(damage: int) -> None:
    data = bytearray(zipped())
    data[-1 - damage] ^= 0xFF
    try:
        with zips.opened(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                archive.read(entry)
    except zips.DAMAGE:
        pass


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06", b"x" * 100, zipped()[:-5], zipped()[30:-22]])
def test_what_is_no_zip_is_one_of_the_named_errors(data: bytes) -> None:
    with pytest.raises(zips.DAMAGE), zips.opened(io.BytesIO(data)):
        pass
