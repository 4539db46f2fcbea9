"""HTTP/1.1 as RFC 9112 has it, read strictly and without looking at our own code: what a server may take for a request, and what it
answered. Whoever reads less strictly than this may be made to see another request than the proxy before it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests_slow.fuzzing.oracle import check

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(rb"[!-~]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?")


@dataclass
class Asked:
    """The requests that a connection's bytes are. `rest`: what follows them: "" for nothing, else "cut" or "malformed"; `closed`:
    after the last one the connection ends, whatever follows; `left`: the bytes that are no whole request."""

    requests: list[tuple[str, str]] = field(default_factory=list)  # (method, target)
    rest: str = ""
    closed: bool = False
    left: bytes = b""


def asked(data: bytes) -> Asked:
    """Read a connection's bytes to their end, or to what is no request."""
    found = Asked()
    while data.startswith(b"\r\n"):
        data = data[2:]
    while data and not found.closed:
        head, end, after = data.partition(b"\r\n\r\n")
        if not end:
            found.rest, found.left = "cut" if _could_begin(data) else "malformed", data
            return found
        read = _head(head)
        if read is None:
            found.rest, found.left = "malformed", data
            return found
        method, target, fields, version = read
        size = _body(fields, version, after)
        if size is None or size < 0:
            found.rest, found.left = "malformed" if size is None else "cut", data
            return found
        found.requests.append((method, target))
        wanted = fields.get(b"connection", b"").lower()
        found.closed = b"close" in wanted or version == b"HTTP/1.0"
        data = after[size:]
        while data.startswith(b"\r\n"):
            data = data[2:]
    return found


def _could_begin(data: bytes) -> bool:
    """Whether more bytes could make a request of it, as far as whole lines say."""
    lines = data.split(b"\r\n")[:-1]
    if any(b"\n" in line or b"\r" in line for line in lines):
        return False
    return not lines or _first(lines[0]) is not None


def _first(line: bytes) -> tuple[bytes, bytes, bytes] | None:
    parts = line.split(b" ")
    if (
        len(parts) != 3
        or not _TOKEN.fullmatch(parts[0])
        or not _TARGET.fullmatch(parts[1])
        or not re.fullmatch(rb"HTTP/1\.\d", parts[2])
    ):
        return None
    return parts[0], parts[1], parts[2]


def _head(head: bytes) -> tuple[str, str, dict[bytes, bytes], bytes] | None:
    lines = head.split(b"\r\n")
    first = _first(lines[0])
    if first is None:
        return None
    fields: dict[bytes, bytes] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            return None
        name, value = name.lower(), value.strip(b" \t")
        if name in fields and name in (b"content-length", b"host", b"transfer-encoding"):
            return None
        fields[name] = fields[name] + b", " + value if name in fields else value
    return first[0].decode(), first[1].decode(), fields, first[2]


def _body(fields: dict[bytes, bytes], version: bytes, after: bytes) -> int | None:
    """How many bytes of `after` are the body; -1 where they are not all there, None where nobody can say."""
    stated, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if coding is not None:
        if stated is not None or coding.lower() != b"chunked" or version == b"HTTP/1.0":
            return None
        return _chunks(after)
    if stated is None:
        return 0
    if not re.fullmatch(rb"[0-9]+", stated):
        return None
    size = int(stated) if len(stated.lstrip(b"0")) < 19 else 1 << 62
    return size if size <= len(after) else -1


def _chunks(after: bytes) -> int | None:
    at = 0
    while True:
        end = after.find(b"\r\n", at)
        if end < 0:
            return -1
        line = _CHUNK.fullmatch(after[at:end])
        if line is None:
            return None
        size, at = int(line[1], 16), end + 2
        if size == 0:
            break
        if at + size + 2 > len(after):
            return -1
        if after[at + size : at + size + 2] != b"\r\n":
            return None
        at += size + 2
    while True:  # trailers
        end = after.find(b"\r\n", at)
        if end < 0:
            return -1
        if end == at:
            return at + 2
        name, colon, value = after[at:end].partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            return None
        at = end + 2


@dataclass
class Answered:
    """One answer: its status, headers by lower-case names, and body."""

    status: int
    headers: dict[str, str]
    body: bytes


def answered(data: bytes, expected: Asked) -> list[Answered]:
    """The answers in what a server sent to that. Raises Broken for what is no answer."""
    methods = [method for method, _ in expected.requests]
    headless = expected.left.startswith(b"HEAD ")  # no request, but the server may have seen that nobody wants a body
    found: list[Answered] = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        check(end, "half an answer", head[:300])
        first, *lines = head.split(b"\r\n")
        status = re.fullmatch(rb"HTTP/1\.1 ([1-5]\d\d) [ -~]*", first)
        check(status, "a status line", first[:300])
        assert status is not None
        if status[1] == b"100":
            continue
        fields = _head(b"GET / HTTP/1.1\r\n" + b"\r\n".join(lines))
        check(fields is not None, "an answer's headers", lines)
        assert fields is not None
        headers = {name.decode(): value.decode("latin-1") for name, value in fields[2].items()}
        bodiless = methods[len(found)] == "HEAD" if len(found) < len(methods) else headless
        if bodiless and data and int(status[1]) >= 400 and headers.get("connection", "").lower() == "close":
            bodiless = False  # refused before anybody looked at its method: the connection's end is the answer's
        size = 0 if bodiless else int(headers["content-length"])
        check(len(data) >= size, "half an answer's body", data[:300])
        found.append(Answered(int(status[1]), headers, data[:size]))
        data = data[size:]
    return found
