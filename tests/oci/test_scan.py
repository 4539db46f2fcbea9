"""Archives that are made to take memory or time: refused after little of either."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from collections.abc import Callable

import pytest
from tests.support.images.raw_tars import gnu, header, pax

from mlpack.core.digest import of_bytes
from mlpack.core.files import bounded
from mlpack.errors import PackError
from mlpack.oci import image, media
from mlpack.oci.compression import InflatedTar
from mlpack.oci.image import Image, Layer
from mlpack.oci.layers import paths, scan


def image_of(tar: bytes) -> Image:
    stored = gzip.compress(tar, 9, mtime=0)
    layer = Layer(
        digest=of_bytes(stored),
        diff_id=of_bytes(tar),
        size_bytes=len(stored),
        media_type=media.OCI.gzip,
        open=lambda: io.BytesIO(stored),
    )
    return image.append(image.empty("amd64"), layer, "a stranger's")


def deep(number: int) -> bytes:
    return pax(path=b"%06d/" % number + b"a/" * 2000 + b"f") + header(b"f")


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "deep path by pax": (lambda: pax(path=b"a/" * 60_000 + b"f") + header(b"f"), "more than 4096 bytes"),
    "deep path by GNU": (lambda: gnu(b"L", b"a/" * 60_000) + header(b"f"), "more than 4096 bytes"),
    "slashes only": (lambda: pax(path=b"/" * 5000 + b"f") + header(b"f"), "more than 4096 bytes"),
    "link target by pax": (lambda: pax(linkpath=b"a/" * 3000) + header(b"f", b"2"), "more than 4096 bytes"),
    "link target by GNU": (lambda: gnu(b"K", b"a/" * 3000) + header(b"f", b"2"), "more than 4096 bytes"),
    "one long name": (lambda: pax(path=b"a" * 256) + header(b"f"), "more than 255 bytes"),
    "long name of other letters": (lambda: pax(path="é".encode() * 128) + header(b"f"), "more than 255 bytes"),
    "long name, not UTF-8": (lambda: pax(path=b"\xff" * 256) + header(b"f"), "more than 255 bytes"),
    "long whiteout": (lambda: pax(path=b"a/" * 3000 + b".wh.f") + header(b"f"), "more than 4096 bytes"),
    "extension header of 1 GiB": (lambda: header(b"p", b"x", 1 << 30), "extension header"),
    "GNU name of 8 GiB": (lambda: header(b"p", b"L", (8 << 30) - 1), "extension header"),
    "chain of extension headers": (lambda: pax(comment=b"c") * 20 + header(b"f"), "extension headers"),
    "chain of global headers": (lambda: header(b"g", b"g") * 20 + header(b"f"), "extension headers"),
    "deep folders, many": (lambda: b"".join(deep(number) for number in range(400)), "memory"),
    "sparse by GNU": (lambda: header(b"f", b"S"), "sparse"),
    "sparse by pax": (lambda: pax(**{"GNU.sparse.map": b"0,1," * 9000}) + header(b"f"), "sparse"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_in_little_memory(bomb: str) -> None:
    make, says = BOMBS[bomb]
    made = image_of(make() + header(b"usr/bin/python3.13") + bytes(1024))
    assert made.layers[0].size_bytes < 20_000
    tracemalloc.start()
    try:
        with pytest.raises(PackError, match=says):
            paths.base_paths(made)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50e6, f"{peak / 1e6:.0f} MB"


def test_names_as_long_as_linux_takes_them_are_read() -> None:
    name = b"a" * 255
    path = b"/".join([b"d" * 255] * 15 + [b"e" * 255])
    tar = b"".join(pax(path=each) + header(b"f") for each in (name, path, "é".encode() * 127, b"\xff" * 255, b"a/" * 2000 + b"f"))
    found = list(paths.base_paths(image_of(tar + bytes(1024))).walk())
    assert (name.decode(), "file", "") in found
    assert (path.decode(), "file", "") in found


def test_links_through_links_end_after_so_many_steps() -> None:
    chain = b"".join(pax(path=b"l%d" % i, linkpath=b"l%d/" % (i + 1) + b"./x/../" * 400) + header(b"l", b"2") for i in range(39))
    tar = chain + b"".join(header(b"l0/%d/y" % number) for number in range(2_000))
    with pytest.raises(PackError, match="memory"):
        paths.base_paths(image_of(tar + bytes(1024)))


def test_a_large_honest_layer_is_read() -> None:
    """Ten thousand files in two thousand folders, empty but for their names: far more names than bytes."""
    tar = b"".join(header(b"usr/share/d%d/" % n, b"5") for n in range(2_000))
    tar += b"".join(header(b"usr/share/d%d/f%d" % (n % 2_000, n)) for n in range(10_000))
    assert sum(1 for _ in paths.base_paths(image_of(tar + bytes(1024))).walk()) == 12_002


def test_allowance_grows_with_what_was_sent() -> None:
    scan.MemoryBudget(0).spend(scan.MemoryBudget.FLOOR_BYTES)
    scan.MemoryBudget(10).spend(scan.MemoryBudget.FLOOR_BYTES + 320)
    with pytest.raises(PackError, match="32 times the bytes that were sent"):
        scan.MemoryBudget(10).spend(scan.MemoryBudget.FLOOR_BYTES + 321)


def test_what_a_layer_may_inflate_to_is_a_setting() -> None:
    stored = gzip.compress(bytes(3 << 20), mtime=0)
    bounded.configure({"MLPACK_MAX_LAYER_MB": "2"})
    try:
        with pytest.raises(PackError, match=r"2097152 bytes \(MLPACK_MAX_LAYER_MB\)"):
            InflatedTar(io.BytesIO(stored), media.OCI.gzip).drain()
    finally:
        bounded.configure({})
    InflatedTar(io.BytesIO(stored), media.OCI.gzip).drain()


def test_many_members_of_gzip_are_one_stream_under_one_limit() -> None:
    stored = gzip.compress(bytes(1 << 20), mtime=0) * 5
    with pytest.raises(PackError, match="inflates to more than"):
        InflatedTar(io.BytesIO(stored), media.OCI.gzip, 4 << 20).drain()
