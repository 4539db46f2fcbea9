"""Tars by hand, header by header: what no well-behaved writer would make."""

from __future__ import annotations


def header(name: bytes, kind: bytes = b"0", size: int = 0, link: bytes = b"", mode: bytes = b"0000644\0") -> bytes:
    """One header."""
    made = bytearray(512)
    made[: len(name)] = name
    made[100:108], made[136:148] = mode, b"0" * 11 + b"\0"
    made[124:136] = b"%011o\0" % size if size < 8 << 30 else b"\x80" + size.to_bytes(11, "big")
    made[156:157], made[157 : 157 + len(link)], made[257:265] = kind, link, b"ustar\x0000"
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


def content(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(**records: bytes) -> bytes:
    body = b""
    for key, value in records.items():
        record = b" " + key.encode() + b"=" + value + b"\n"
        body += b"%07d" % (len(record) + 7) + record
    return header(b"p", b"x", len(body)) + content(body)


def gnu(kind: bytes, value: bytes) -> bytes:
    return header(b"././@LongLink", kind, len(value)) + content(value)
