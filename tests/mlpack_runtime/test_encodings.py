"""Compressed bodies: what is taken, what is refused, and that neither costs more than a body may."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies

from mlpack_runtime.encodings import TAKEN, decoded
from mlpack_runtime.limits import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 4 << 20
NOISE = random.Random(4).randbytes(1_000_000)


def gzipped(data: bytes) -> bytes:
    """Without the time in it: names of tests hold it, and have to be the same in each process that collects them."""
    return gzip.compress(data, mtime=0)


def raw(data: bytes, window: int = 15, level: int = 6) -> bytes:
    """Deflate without zlib's head, as some senders understand the word."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -window)
    return compressor.compress(data) + compressor.flush()


FORMS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    (" GZip ", gzip.compress),
    ("x-gzip", gzip.compress),
    ("gzip", lambda data: gzipped(data[:7]) + gzipped(b"") + gzipped(data[7:])),
    ("deflate", zlib.compress),
    ("deflate", raw),
    ("identity", bytes),
    ("", bytes),
]


@pytest.mark.parametrize(("coding", "compress"), FORMS)
@pytest.mark.parametrize("data", [b"{}", NOISE, bytes(MOST)])
def test_a_body_comes_out_as_it_was(coding: str, compress: Callable[[bytes], bytes], data: bytes) -> None:
    assert decoded(coding, memoryview(compress(data)), MOST) == data


@given(data=strategies.binary(max_size=200), window=strategies.integers(9, 15), level=strategies.integers(0, 9))
def test_raw_deflate_is_told_from_zlibs(data: bytes, window: int, level: int) -> None:
    assert decoded("deflate", raw(data, window, level), MOST) == data


def test_an_empty_body_has_no_encoding() -> None:
    assert decoded("br", b"", MOST) == b""  # a GET, or a body that was not received


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "gzip, identity", "x" * 5000, "gzip;q=1", "chunked"])
def test_what_is_not_known_is_refused_with_what_is(coding: str) -> None:
    with pytest.raises(RequestError, match="Content-Encoding is") as refusal:
        decoded(coding, b"\x1f\x8b", MOST)
    assert (refusal.value.status, refusal.value.kind) == (415, "UnsupportedMediaType")
    assert refusal.value.headers == {"accept-encoding": TAKEN}
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("coding", "body", "message"),
    [
        ("gzip", b"{}", "the body is not gzip"),
        ("gzip", b"\x1f", "ends in the middle of its gzip"),
        ("gzip", gzipped(NOISE)[:-1], "ends in the middle of its gzip"),
        ("gzip", gzipped(NOISE)[:-9] + b"12345678", "the body is not gzip"),  # the checksum
        ("gzip", gzipped(NOISE) + b"more", "the body is not gzip"),
        ("gzip", gzipped(b"") * 5000, "bytes are behind the end of the body's gzip"),
        ("deflate", b"{}", "the body"),
        ("deflate", gzipped(b"{}"), "the body is not deflate"),
        ("deflate", zlib.compress(b"{}") + b"more", "4 bytes are behind the end of the body's deflate"),
        ("deflate", zlib.compress(b"{}")[:-1], "ends in the middle of its deflate"),
    ],
)
def test_what_is_damaged_is_refused(coding: str, body: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message) as refusal:
        decoded(coding, body, MOST)
    assert (refusal.value.status, refusal.value.kind) == (400, "InvalidRequest")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_bomb_costs_no_more_than_a_body_may_have(coding: str) -> None:
    compress: Any = gzip.compress if coding == "gzip" else zlib.compress
    body = compress(bytes(64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="MLPACK_LIMIT_BODY_BYTES") as refusal:
            decoded(coding, body, MOST)
        assert tracemalloc.get_traced_memory()[1] < 3 * MOST
    finally:
        tracemalloc.stop()
    assert (refusal.value.status, refusal.value.kind) == (413, "PayloadTooLarge")


def test_what_comes_out_is_counted_on_the_way() -> None:
    sizes: list[int] = []
    decoded("gzip", gzipped(bytes(MOST)), MOST, sizes.append)
    assert sizes == sorted(sizes)
    assert (len(sizes) >= 4, sizes[-1]) == (True, MOST)

    def stop(size: int) -> None:
        raise RequestError(f"{size} are too many just now", 503, "Overloaded")

    with pytest.raises(RequestError, match="too many just now"):
        decoded("gzip", gzipped(bytes(MOST)), MOST, stop)
