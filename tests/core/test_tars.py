"""Tars that somebody else made: one header at a time, and nothing that grows without bound."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from tests.support.images.raw_tars import header

from mlpack.core.files import tars


def written(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


class Forwards(io.BytesIO):
    def seekable(self) -> bool:
        return False


FILES = {"a": b"1" * 511, "./b/c": b"2" * 512, "b/" + "d" * 150: b"", "é/" * 60 + "f": b"4" * 1500}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("of", [io.BytesIO, Forwards])
def test_contents_are_as_python_reads_them(form: int, of: type[io.BytesIO]) -> None:
    tar = tars.Tar(of(written(FILES, form)))
    found = {}
    for number, member in enumerate(tar):
        content = tar.content()
        found[member.path] = content.read() if number % 2 else content.read(7) + content.read()
        assert (member.kind, member.mode) == ("file", 0o644)
    assert found == FILES
    half = [member.path for member in tars.Tar(of(written(FILES, form)))]
    assert half == list(FILES)


def test_an_index_gives_places_of_what_is_wanted() -> None:
    data = written(FILES)
    found = tars.index(io.BytesIO(data), lambda path: path in {"a", "b/c"})
    assert {path: data[start : start + size] for path, (start, size) in found.items()} == {"a": FILES["a"], "b/c": FILES["./b/c"]}


@pytest.mark.parametrize("size", [1 << 20, 1 << 40, 1 << 62])
def test_content_beyond_the_end_is_refused_without_reading(size: int) -> None:
    for of in (io.BytesIO, Forwards):
        with pytest.raises(tars.TarError, match="ends too early"):
            list(tars.Tar(of(header(b"f", size=size) + b"x" * 100)))


def test_contents_are_passed_over_by_seeking(tmp_path: Path) -> None:
    asked: list[int] = []

    class Counted(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            asked.append(size or 0)
            return super().read(size)

    with (tmp_path / "big.tar").open("wb") as file:
        for name in (b"one", b"two"):
            file.write(header(name, size=1 << 40))
            file.seek(1 << 40, 1)
        file.write(bytes(1024))
    with Counted(tmp_path / "big.tar") as file:
        assert [member.path for member in tars.Tar(file)] == ["one", "two"]  # type: ignore[arg-type]  # reads and seeks
    assert sum(asked) < 10_000


@pytest.mark.slow
def test_an_index_keeps_nothing_of_what_nobody_wants() -> None:
    data = b"".join(header(b"x%d" % number) for number in range(20_000)) + bytes(1024)
    stream = io.BytesIO(data)
    tracemalloc.start()
    try:
        assert tars.index(stream, lambda path: False) == {}
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_an_index_has_a_most() -> None:
    data = b"".join(header(b"x%d" % number) for number in range(6)) + bytes(1024)
    assert len(tars.index(io.BytesIO(data), lambda path: True, 6)) == 6
    with pytest.raises(tars.TarError, match="more than 5 files"):
        tars.index(io.BytesIO(data), lambda path: True, 5)


@pytest.mark.parametrize(
    ("member", "kind"),
    [
        (header(b"d/", b"5"), "dir"),
        (header(b"d/", b"\0"), "dir"),
        (header(b"l", b"2", link=b"/etc/passwd"), "link"),
        (header(b"l", b"1", link=b"x"), "hardlink"),
        (header(b"p", b"6"), "device"),
        (header(b"c", b"3"), "device"),
        (header(b"f", b"7"), "file"),
    ],
)
def test_kinds_are_told_apart(member: bytes, kind: str) -> None:
    assert [each.kind for each in tars.Tar(io.BytesIO(member))] == [kind]


@pytest.mark.parametrize("mode", [b"\0" * 8, b"99999999", b"\xff" * 8, b"-000644\0"])
def test_a_mode_that_is_none_allows_nothing(mode: bytes) -> None:
    assert [each.mode for each in tars.Tar(io.BytesIO(header(b"f", mode=mode)))] == [0]


def test_what_begins_like_a_tar_is_told_from_its_first_header(tmp_path: Path) -> None:
    path = tmp_path / "f"
    for data, tar, packed in (
        (written(FILES), True, False),
        (bytes(10240), True, False),
        (b"\x1f\x8b" + bytes(600), False, True),
        (b"x" * 600, False, False),
        (b"", False, False),
        (header(b"p", b"x", 1 << 40), True, False),
    ):
        path.write_bytes(data)
        assert (tars.is_tar(path), tars.is_packed(path)) == (tar, packed)
