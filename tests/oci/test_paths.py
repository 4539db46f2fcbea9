"""What files an image has: layers on one another, as a container engine unpacks them; hostile archives."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from mlpack.core.digest import of_bytes
from mlpack.core.files import tars
from mlpack.errors import PackError
from mlpack.oci import image, media
from mlpack.oci.compression import InflatedTar
from mlpack.oci.image import Image, Layer
from mlpack.oci.layers import paths, scan
from mlpack.oci.layers.paths import Paths

if TYPE_CHECKING:
    from pathlib import Path

    from mlpack.oci.base import Base


def member(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", data: bytes = b"", **pax: str
) -> tuple[tarfile.TarInfo, bytes]:
    """An entry for `archive`."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.pax_headers = kind, target, len(data), pax
    return info, data


def archive(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar by Python's own writer."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as opened:
        for info, data in members:
            opened.addfile(info, io.BytesIO(data))
    return out.getvalue()


def folder(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.DIRTYPE)


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.SYMTYPE, target)


def layer_of(data: bytes) -> Layer:
    stored = gzip.compress(data, mtime=0)
    return Layer(
        digest=of_bytes(stored),
        diff_id=of_bytes(data),
        size_bytes=len(stored),
        media_type=media.OCI.gzip,
        open=lambda: io.BytesIO(stored),
    )


def stack(*layers: bytes) -> Image:
    """An image of these tars."""
    made = image.empty("amd64")
    for number, data in enumerate(layers):
        made = image.append(made, layer_of(data), f"layer {number}")
    return made


def listed(*layers: bytes) -> list[str]:
    """The paths of an image of these tars."""
    return [path for path, _, _ in paths.base_paths(stack(*layers)).walk()]


def read(data: bytes) -> scan.Index:
    return scan.read(InflatedTar(io.BytesIO(data), media.OCI.tar))


def test_whiteout_removes_what_is_below_only() -> None:
    lower = archive(folder("a"), member("a/x"), member("a/y"), folder("b"), member("b/z"))
    upper = archive(member("a/x"), member("a/.wh.x"), member("a/.wh.y"), member(".wh.b"))
    assert listed(lower, upper) == ["a", "a/x"]


def test_opaque_directory_hides_what_is_below_only() -> None:
    lower = archive(folder("a"), member("a/x"), folder("a/sub"), member("a/sub/y"))
    upper = archive(folder("a"), member("a/new"), member("a/.wh..wh..opq"))
    assert listed(lower, upper) == ["a", "a/new"]


def test_directory_over_a_link_replaces_it_a_file_does_not() -> None:
    lower = archive(folder("usr"), folder("usr/lib"), member("usr/lib/libc.so"), link("lib", "usr/lib"))
    through = paths.base_paths(stack(lower, archive(member("lib/new.so"))))
    assert through.kind("usr/lib/new.so") == "file"
    assert through.kind("lib") == "link"
    replaced = paths.base_paths(stack(lower, archive(folder("lib"), member("lib/new.so"))))
    assert replaced.kind("lib") == "dir"
    assert replaced.names("lib") == ("new.so",)


def test_file_over_directory_and_directory_over_file_replace() -> None:
    assert listed(archive(folder("a"), member("a/x")), archive(member("a"))) == ["a"]
    assert listed(archive(member("a")), archive(folder("a"), member("a/x"))) == ["a", "a/x"]


def test_parents_without_entries_are_directories() -> None:
    assert listed(archive(member("a/b/c"))) == ["a", "a/b", "a/b/c"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read_in_every_dialect(form: int) -> None:
    long = "d" * 80 + "/" + "f" * 90
    index = read(archive(member(long, data=b"1" * 700), link("l", "t" * 90), member("last"), form=form))
    assert [path for path, _, _ in index.entries] == [long, "l", "last"]
    assert index.entries[1] == ("l", "link", "t" * 90)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_very_long_and_foreign_names_are_read(form: int) -> None:
    long = "ü/" * 200 + "f"
    assert [path for path, _, _ in read(archive(member(long), link("l", long), form=form)).entries] == [long, "l"]


def test_leading_slashes_and_dots_mean_the_root() -> None:
    assert [path for path, _, _ in read(archive(folder("./"), member("./a"), member("/b"), member("c//./d"))).entries] == [
        "a",
        "b",
        "c/d",
    ]


def test_resolve_follows_links_as_a_kernel() -> None:
    tree = Paths(
        {"lib": "usr/lib", "usr": {"lib": {"x": "../../etc/y"}}, "etc": {"y": None}, "abs": "/usr", "up": "../../lib", "l": "l"}
    )
    assert tree.resolve("lib/x") == "etc/y"
    assert tree.resolve("/abs/lib/new/deep") == "usr/lib/new/deep"
    assert tree.resolve("up/n") == "usr/lib/n"
    assert tree.resolve("") == ""
    for bad in ("l", "l/x", "etc/y/z"):
        with pytest.raises(PackError):
            tree.resolve(bad)


@pytest.mark.parametrize(
    ("root", "found"),
    [
        ({"usr": {"bin": {"python3": "python3.11", "python3.11": None, "python3.9": None}}}, ("usr/bin/python3.11", "3.11")),
        ({"usr": {"bin": {"python3.9": None, "python3.11": None, "python3.11-config": None}}}, ("usr/bin/python3.11", "3.11")),
        ({"usr": {"bin": {"python3": "python3.9", "python3.9": None, "python3.11": None}}}, ("usr/bin/python3.9", "3.9")),
        (
            {"var": {"lang": {"bin": {"python3.13": None}}}, "usr": {"bin": {"python3.9": None}}},
            ("var/lang/bin/python3.13", "3.13"),
        ),
        ({"usr": {"local": {"bin": {"python3.12": None}}}, "bin": "usr/bin"}, ("usr/local/bin/python3.12", "3.12")),
    ],
)
def test_find_python(root: dict[str, paths.Node], found: tuple[str, str]) -> None:
    assert paths.find_python(Paths(root)) == found


def test_base_without_python_is_said() -> None:
    with pytest.raises(PackError, match="no Python"):
        paths.find_python(Paths({"usr": {"bin": {}}}))


def test_index_is_remembered_and_a_damaged_memory_is_a_miss(base: Base, tmp_path: Path) -> None:
    cache = tmp_path / "memory"
    only = base.image.layers[0]
    first = paths.index(only, cache)
    blind = image.Layer(
        digest=only.digest, diff_id=only.diff_id, size_bytes=only.size_bytes, media_type=only.media_type, open=_unread
    )
    assert paths.index(blind, cache) == first
    for damage in (b"", b"[", b"{}", b"[1,2,3]", b'["sha256:' + b"0" * 64 + b'",1,[]]'):
        next(cache.rglob("*.json")).write_bytes(damage)
        assert paths.index(only, cache) == first


def _unread() -> Any:
    raise AssertionError("was read again")


def test_uncompressed_size_is_the_tars_together(base: Base) -> None:
    known = base.image.layers[0].uncompressed_bytes
    assert paths.uncompressed_size(base.image) == known
    parsed = image.parse(base.image.manifest_bytes, base.image.config_bytes, lambda name: base.image.layers[0].open())
    assert parsed.layers[0].uncompressed_bytes is None
    assert paths.uncompressed_size(parsed) == known
    assert paths.with_sizes(parsed).layers[0].uncompressed_bytes == known


def test_layer_with_another_diff_id_is_refused() -> None:
    one, two = layer_of(archive(member("a"))), layer_of(archive(member("b")))
    forged = Layer(digest=one.digest, diff_id=two.diff_id, size_bytes=one.size_bytes, media_type=one.media_type, open=one.open)
    with pytest.raises(PackError, match="forged"):
        paths.index(forged)


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/../evil", "a/.."])
def test_path_that_leaves_the_image_is_refused(name: str) -> None:
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with pytest.raises(PackError, match="leaves the image"):
            read(archive(member(name), form=form))


def test_traversal_in_an_extension_header_is_refused() -> None:
    with pytest.raises(PackError, match="leaves the image"):
        read(archive(member("fine", path="../evil")))


def test_link_out_of_the_image_stays_inside() -> None:
    evil = archive(link("out", "../../../etc"), member("out/passwd"))
    assert listed(evil) == ["etc", "etc/passwd", "out"] or listed(evil) == ["etc", "out", "etc/passwd"]


def with_header(info: tarfile.TarInfo, **fields: bytes) -> bytes:
    """A header with raw fields and a right checksum."""
    raw = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    places = {"size": 124, "mtime": 136, "name": 0, "type": 156}
    for key, value in fields.items():
        raw[places[key] : places[key] + len(value)] = value
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


END = bytes(1024)
GOOD = archive(member("a", data=b"x" * 600))


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 512,
        GOOD[:300],
        GOOD[:700],
        bytes([GOOD[0] ^ 1]) + GOOD[1:],
        GOOD + b"trailing" + bytes(504),
        with_header(tarfile.TarInfo("a"), size=b"\xff" * 12) + END,
        with_header(tarfile.TarInfo("a"), size=b"-0000000001\0") + END,
        with_header(tarfile.TarInfo("a"), size=b"9999999999\0\0") + END,
        with_header(tarfile.TarInfo("a"), size=b"\x80" + b"\xff" * 11) + END,
        with_header(tarfile.TarInfo("a"), type=b"S") + END,
        with_header(tarfile.TarInfo("a"), type=b"V") + END,
        with_header(tarfile.TarInfo("a"), type=b"x", size=b"77777777777\0") + END,
        with_header(tarfile.TarInfo("a"), type=b"L", size=b"77777777777\0") + END,
        with_header(tarfile.TarInfo("a"), type=b"x", size=b"00000000010\0") + b"5 a=b\nxx".ljust(512, b"\0") + END,
        with_header(tarfile.TarInfo("a"), type=b"x", size=b"00000000006\0") + b"0 a=b\n".ljust(512, b"\0") + END,
        with_header(tarfile.TarInfo("a"), type=b"x", size=b"00000000006\0") + b"6 a=b\n".ljust(512, b"\0") + END,
        with_header(tarfile.TarInfo("a"), type=b"x", size=b"00000000006\0") + b"6 a=b\n".ljust(512, b"\0"),
        archive(member("a", **{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})),
        archive(member("a", size="-5")),
        archive(member("a", size="99999999999999999999999")),
        (with_header(tarfile.TarInfo("a"), type=b"g") * 100) + GOOD,
    ],
)
def test_damaged_or_hostile_tar_is_refused(data: bytes) -> None:
    with pytest.raises(PackError, match="not a sound tar"):
        read(data)


def test_endless_entries_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "MAX_MEMBERS", 10)
    with pytest.raises(PackError, match="more than 10 entries"):
        read(archive(*(member(str(number)) for number in range(11))))


def test_decompression_bomb_in_a_base_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = layer_of(archive(member("big", data=bytes(5_000_000))))
    assert bomb.size_bytes < 20_000
    monkeypatch.setattr(InflatedTar.__init__, "__defaults__", (1_000_000,))
    with pytest.raises(PackError, match="bomb"):
        paths.index(bomb)


def test_archive_that_was_never_closed_is_read_as_others_do() -> None:
    unclosed = archive(member("a", data=b"x" * 600))[: 512 + 600]
    assert [path for path, _, _ in read(unclosed).entries] == ["a"]
    with pytest.raises(PackError, match="too early"):
        read(unclosed[:-1])


def test_empty_tar_has_no_paths() -> None:
    assert read(END).entries == ()
    assert read(b"").entries == ()
