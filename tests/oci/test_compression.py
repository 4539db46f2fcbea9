"""Gzip that depends on nothing but the content, and reading that is bounded."""

from __future__ import annotations

import gzip
import io
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.core.digest import of_bytes
from mlpack.errors import PackError
from mlpack.oci import compression, media

WRITERS = [compression.gzip_stored, compression.gzip_deflated, compression.gzip_streamed]
TEXT = b"the quick brown fox jumps over the lazy dog. " * 4000


@pytest.mark.parametrize("writer", WRITERS)
@given(data=st.lists(st.binary(max_size=200), max_size=20), big=st.integers(0, 200_000))
def test_gzip_round_trip(writer, data: list[bytes], big: int) -> None:
    chunks = [*data, bytes(big)]
    stored = b"".join(writer(chunks))
    assert gzip.decompress(stored) == b"".join(chunks)
    assert stored[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


@pytest.mark.parametrize("writer", WRITERS)
@given(cuts=st.lists(st.integers(0, len(TEXT)), max_size=10))
def test_bytes_do_not_depend_on_how_content_is_cut(writer, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(TEXT)]
    pieces = [TEXT[start:end] for start, end in itertools.pairwise(edges)]
    if writer is compression.gzip_streamed:  # zlib flushes nothing early, so this holds for it too
        assert zlib.decompress(b"".join(writer(pieces)), 31) == TEXT
    assert b"".join(writer(pieces)) == b"".join(writer([TEXT]))


def test_golden_bytes_of_stored_and_deflated() -> None:
    # `stored` is fixed for ever; `deflate` for a version of libdeflate: a new value here belongs in the CHANGELOG.
    assert of_bytes(b"".join(compression.gzip_stored([TEXT]))).short == "986f70deb7dc"
    assert of_bytes(b"".join(compression.gzip_deflated([TEXT]))).short == "4753a2fe7506"


def test_stored_costs_less_than_a_thousandth() -> None:
    data = bytes(10_000_000)
    assert len(b"".join(compression.gzip_stored([data]))) < 10_000_000 * 1.0001


def test_deflate_of_large_content_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "IN_MEMORY_BYTES", 10)
    assert b"".join(compression.gzipped([TEXT], "deflate", len(TEXT))) == b"".join(compression.gzip_streamed([TEXT]))
    assert b"".join(compression.gzipped([TEXT], "deflate", 10)) == b"".join(compression.gzip_deflated([TEXT]))


def test_inflating_stops_at_the_limit() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    inflated = compression.InflatedTar(io.BytesIO(bomb), media.OCI.gzip, limit_bytes=1_000_000)
    with pytest.raises(PackError, match="bomb"):
        inflated.drain()
    assert inflated.tally.size_bytes <= 3_000_000


_ZIPPED = gzip.compress(TEXT, mtime=0)


@pytest.mark.parametrize(
    "stored", [b"not gzip", _ZIPPED[:-1], _ZIPPED[:20], _ZIPPED + b"rest"], ids=["other", "cut", "cut early", "more"]
)
def test_damaged_gzip_is_refused(stored: bytes) -> None:
    with pytest.raises(PackError, match="damaged"):
        compression.InflatedTar(io.BytesIO(stored), media.OCI.gzip).drain()


def test_zstd_is_refused_with_a_way_out() -> None:
    with pytest.raises(PackError, match="skopeo"):
        compression.InflatedTar(io.BytesIO(), media.ZSTD_LAYER)
