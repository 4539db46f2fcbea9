"""Which coding a caller gets."""

from __future__ import annotations

import gzip
import os
import zlib

import pytest

from mlpack_runtime.serving.gzipped import chosen, compressed

BODY = b'{"data":[0.1,0.2]}' * 100


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "x-gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", "gzip"),
        ("gzip;q=0.5, deflate;q=0.9", "deflate"),
        ("gzip;q=0", ""),
        ("gzip;q=0, *", "deflate"),
        ("*", "gzip"),
        ("*;q=0", ""),
        ("identity", ""),
        ("identity;q=1, gzip;q=0.5", ""),
        ("identity;q=0.5, gzip;q=1", "gzip"),
        ("br", ""),
        ("", ""),
        (",,;;=,", ""),
        ("gzip;q=nan", ""),
        ("gzip;q=2", ""),
        ("gzip;q=", ""),
        ("gzip ; q=1", "gzip"),
        ("a," * 100_000 + "gzip", ""),
    ],
)
def test_the_caller_chooses(accepted: str, coding: str) -> None:
    assert chosen(accepted) == coding


def test_bodies_come_back_and_caches_are_told() -> None:
    for accepted, read in (("gzip", gzip.decompress), ("deflate", zlib.decompress)):
        status, headers, body = compressed((200, {"a": "b"}, BODY), accepted, 1000)
        assert (status, headers) == (200, {"a": "b", "vary": "accept-encoding", "content-encoding": accepted})
        assert read(body) == BODY
        assert len(body) < len(BODY) / 10


def test_what_is_short_or_gets_no_shorter_stays_as_it_is() -> None:
    assert compressed((200, {}, BODY), "gzip", 10_000) == (200, {}, BODY)
    assert compressed((200, {}, BODY), "gzip", 0) == (200, {}, BODY)
    assert compressed((200, {}, BODY), "", 1) == (200, {"vary": "accept-encoding"}, BODY)
    noise = os.urandom(2000)
    assert compressed((200, {}, noise), "gzip", 1)[2] == noise
    assert compressed((200, {"content-encoding": "br"}, BODY), "gzip", 1) == (200, {"content-encoding": "br"}, BODY)
