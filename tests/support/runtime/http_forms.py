"""Bytes that somebody may send to an HTTP server, and what we promise to answer: a table that any server can be held against.

Each form is sent with one more good request (`AFTER`) behind it, on the same connection. A form that is refused has one answer, and
what stands behind it has none; so nobody's body becomes somebody's request. A form is good, or the last of its connection, or
refused with one of some statuses.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

INNER = b"GET /inner HTTP/1.1\r\nHost: x\r\n\r\n"
AFTER = b"GET /after HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /echo HTTP/1.1\r\nHost: x\r\n"
N = b"%d" % len(INNER)
BAD = (400,)


@dataclass(frozen=True)
class Form:
    """`good`: how many answers of 200; `refused`: statuses of which the answer after them has one; neither: the last."""

    name: str
    data: bytes
    good: int = 0
    refused: tuple[int, ...] = ()
    last: bool = False

    @property
    def promised(self) -> list[int | tuple[int, ...]]:
        made: list[int | tuple[int, ...]] = [200] * self.good
        return [*made, self.refused] if self.refused else made if self.last else [*made, 200]


def post(lines: bytes, body: bytes = INNER) -> bytes:
    return POST + lines + b"\r\n\r\n" + body


def get(lines: bytes) -> bytes:
    return GET + lines + b"\r\n\r\n"


CHUNKED = b"Transfer-Encoding: chunked"
GOOD = [
    Form("a body", post(b"Content-Length: " + N), 1),
    Form("no body", GET + b"\r\n", 1),
    Form("a body of no bytes", post(b"Content-Length: 0", b""), 1),
    Form("POST without a length", POST + b"\r\n", 1),
    Form("a length with zeros before it", post(b"Content-Length: 000" + N), 1),
    Form("space around a value", post(b"Content-Length: \t " + N + b" \t"), 1),
    Form("no space before a value", post(b"Content-Length:" + N), 1),
    Form("an empty value", get(b"X:"), 1),
    Form("capitals", post(b"CONTENT-LENGTH: " + N), 1),
    Form("a value of Latin-1", get(b"X: \xe9t\xe9"), 1),
    Form("a value with a tab", get(b"X: a\tb"), 1),
    Form("every letter of a token", get(b"!#$%&'*+-.^_`|~09azAZ: a"), 1),
    Form("two lines of one name", get(b"Accept: a\r\nAccept: b"), 1),
    Form("pipelined", GET + b"\r\n" + post(b"Content-Length: 5", b"hello") + GET + b"\r\n", 3),
    Form("an empty line before a request", b"\r\n" + GET + b"\r\n", 1),
    Form("an empty line behind a body", post(b"Content-Length: 5", b"hello\r\n"), 1),
    Form("chunks", post(CHUNKED, b"5\r\nhello\r\n1F\r\n" + b"x" * 31 + b"\r\n0\r\n\r\n"), 1),
    Form("chunks with extensions", post(CHUNKED, b'5;a=b;c="d e"\r\nhello\r\n0;z\r\n\r\n'), 1),
    Form("chunks with trailers", post(CHUNKED, b"5\r\nhello\r\n0\r\nX: y\r\nZ: w\r\n\r\n"), 1),
    Form("chunks, in capitals", post(b"Transfer-Encoding: Chunked", b"0\r\n\r\n"), 1),
    Form("a query", b"GET /echo?a=b%20c&d=/?x HTTP/1.1\r\nHost: x\r\n\r\n", 1),
    Form("an absolute target", b"GET http://x/echo HTTP/1.1\r\nHost: x\r\n\r\n", 1),
    Form("an absolute target without a path", b"GET http://x?a=/ HTTP/1.1\r\nHost: x\r\n\r\n", 1),
    Form("an empty Host", b"GET /echo HTTP/1.1\r\nHost:\r\n\r\n", 1),
    Form("a Host with a port", b"GET /echo HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", 1),
    Form("a later HTTP/1", b"GET /echo HTTP/1.5\r\nHost: x\r\n\r\n", 1),
    Form("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 1),
    Form("PUT", b"PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 1),
    Form("100 headers", b"GET /echo HTTP/1.1\r\nHost: x\r\n" + b"".join(b"A%d: b\r\n" % at for at in range(99)) + b"\r\n", 1),
    Form("a header of 8 KB", get(b"Authorization: Bearer " + b"a" * 8192), 1),
    Form("HTTP/1.0, kept", b"GET /echo HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 1),
]
LAST = [
    Form("HTTP/1.0", b"GET /echo HTTP/1.0\r\n\r\n", 1, last=True),
    Form("HTTP/1.0 with an expectation", b"GET /echo HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", 1, last=True),
    Form("close", get(b"Connection: close"), 1, last=True),
    Form("close among others", get(b"Connection: x, CLOSE ,y"), 1, last=True),
    Form("close and kept", get(b"Connection: keep-alive\r\nConnection: close"), 1, last=True),
]
REFUSED = [
    # RFC 9112, 6.3: how long is the body?
    Form("two lengths, 0 first", post(b"Content-Length: 0\r\nContent-Length: " + N), 0, BAD),
    Form("two lengths, 0 last", post(b"Content-Length: " + N + b"\r\nContent-Length: 0"), 0, BAD),
    Form("one length twice", post(b"Content-Length: " + N + b"\r\nContent-Length: " + N), 0, BAD),
    Form("two lengths in a list", post(b"Content-Length: 0, " + N), 0, BAD),
    Form("one length twice in a list", post(b"Content-Length: " + N + b", " + N), 0, BAD),
    *(
        Form(f"length {text!r}", post(b"Content-Length: " + text), 0, BAD)
        for text in (
            b"",
            b"+5",
            b"-1",
            b"0x1F",
            b"3_1",
            b"3 1",
            b"31.0",
            b"1e3",
            b"31,",
            b",31",
            b"31;",
            b"'31'",
            b"\xb3\xb9",
            b"\xb2",
            b"31\x0b",
            b"\xd9\xa3\xd9\xa1",
            b"Infinity",
            b"0\x00",
            b"3\t1",
        )
    ),
    Form("a length of 5,000 digits", post(b"Content-Length: " + b"9" * 5000), 0, BAD),
    Form("a length with 5,000 zeros before it", post(b"Content-Length: " + b"0" * 5000 + N), 0, BAD),
    Form("a length of 20 digits", post(b"Content-Length: 18446744073709551616"), 0, (400, 413)),
    Form("a length of 2**63", post(b"Content-Length: 9223372036854775808"), 0, (400, 413)),
    Form("a length and chunks", post(b"Content-Length: 4\r\n" + CHUNKED, b"0\r\n\r\n" + INNER), 0, BAD),
    Form("chunks and a length", post(CHUNKED + b"\r\nContent-Length: " + N, b"0\r\n\r\n" + INNER), 0, BAD),
    Form(
        "chunks in HTTP/1.0", b"POST /echo HTTP/1.0\r\nConnection: keep-alive\r\n" + CHUNKED + b"\r\n\r\n0\r\n\r\n" + INNER, 0, BAD
    ),
    # 6.1: codings
    Form("chunked twice", post(b"Transfer-Encoding: chunked, chunked", b"0\r\n\r\n"), 0, (400, 501)),
    Form("chunked on two lines", post(CHUNKED + b"\r\n" + CHUNKED, b"0\r\n\r\n"), 0, (400, 501)),
    Form("chunked and then identity", post(CHUNKED + b"\r\nTransfer-Encoding: identity", b"0\r\n\r\n"), 0, (400, 501)),
    *(
        Form(f"coding {text!r}", post(b"Transfer-Encoding: " + text, b"0\r\n\r\n"), 0, (400, 501))
        for text in (
            b"",
            b"identity",
            b"gzip",
            b"gzip, chunked",
            b"chunked, gzip",
            b"xchunked",
            b"chunked;a",
            b"\x0bchunked",
            b"chunke\xc4\xa9d",
            b'"chunked"',
            b"chunked,",
            b",chunked",
            b"chun ked",
            b"chunked\x00",
        )
    ),
    # 7.1: chunks
    *(
        Form(f"chunk {text!r}", post(CHUNKED, text), 0, (400, 413, 431))
        for text in (
            b"\r\n\r\n",
            b"-1\r\nx\r\n0\r\n\r\n",
            b"+5\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"5_0\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
            b"5 5\r\nhello\r\n0\r\n\r\n",
            b"5\nhello\n0\n\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhelloXX0\r\n\r\n",
            b"5\r\nhello!\r\n0\r\n\r\n",
            b"3\r\nhello\r\n0\r\n\r\n",
            b"g\r\n",
            b";a\r\n",
            b"5;\x00\r\nhello\r\n0\r\n\r\n",
            b"5;\r\rhello\r\n0\r\n\r\n",
            b"\xd9\xa5\r\nhello\r\n0\r\n\r\n",
            b"0\r\nbad trailer\r\n\r\n",
            b"0\r\n a: b\r\n\r\n",
            b"0\r\nA : b\r\n\r\n",
        )
    ),
    Form("a chunk of 17 digits", post(CHUNKED, b"10000000000000005\r\nhello\r\n0\r\n\r\n"), 0, (400, 413)),
    Form("a chunk of 500 digits", post(CHUNKED, b"f" * 500 + b"\r\nhello\r\n0\r\n\r\n"), 0, BAD),
    Form("a chunk with 500 zeros before its size", post(CHUNKED, b"0" * 500 + b"5\r\nhello\r\n0\r\n\r\n"), 0, BAD),
    Form("a chunk of 5,000 digits", post(CHUNKED, b"f" * 5000 + b"\r\nhello\r\n0\r\n\r\n"), 0, (400, 413)),
    Form("a chunk's line without end", post(CHUNKED, b"5;" + b"a" * 70_000 + b"\r\nhello\r\n0\r\n\r\n"), 0, (400, 413, 431)),
    Form("trailers without end", post(CHUNKED, b"0\r\n" + b"A: b\r\n" * 20_000 + b"\r\n"), 0, (400, 413, 431)),
    # 5: header lines
    Form("a space before a colon", post(b"Foo : bar\r\nContent-Length: " + N), 0, BAD),
    Form("a space before the length's colon", post(b"Content-Length : " + N), 0, BAD),
    Form("a tab before a colon", post(b"Content-Length\t: " + N), 0, BAD),
    Form("a space before chunks' colon", post(b"Transfer-Encoding : chunked", b"0\r\n\r\n"), 0, BAD),
    Form("a line without a colon", post(b"bad line\r\nContent-Length: " + N), 0, BAD),
    Form("a line without a name", post(b": a\r\nContent-Length: " + N), 0, BAD),
    Form("a folded line", post(b"X: a\r\n b\r\nContent-Length: " + N), 0, BAD),
    Form("a length in a folded line", post(b"X: a\r\n Content-Length: " + N), 0, BAD),
    Form("a folded length", post(b"Content-Length:\r\n " + N), 0, BAD),
    Form("folded with a tab", get(b"X: a\r\n\tb"), 0, BAD),
    Form("a folded first line", b"GET /echo HTTP/1.1\r\n Host: x\r\n\r\n", 0, BAD),
    *(
        Form(f"name {text!r}", post(text + b": a\r\nContent-Length: " + N), 0, BAD)
        for text in (b"\x00", b"a\x00b", b"a b", b"a(b", b"a,b", b"a/b", b"\xe9", b"a\x7f", b"[a]", b"a;b", b'"a"', b"a\x0bb")
    ),
    *(
        Form(f"value {text!r}", post(b"X: " + text + b"\r\nContent-Length: " + N), 0, BAD)
        for text in (b"\x00", b"a\x00b", b"a\x01", b"\x1b[31m", b"a\x7fb", b"a\x0bb", b"a\rb", b"a\nb", b"a\r", b"\x0c")
    ),
    Form("a bare CR in a name", post(b"X\rContent-Length: 0\r\nContent-Length: " + N), 0, BAD),
    Form("bare line ends", b"GET /echo HTTP/1.1\nHost: x\n\n", 0, BAD),
    Form("a bare line end at the end", b"GET /echo HTTP/1.1\r\nHost: x\r\n\n", 0, BAD),
    Form("a bare line end in a chunked head", POST + b"X: y\n" + CHUNKED + b"\r\n\r\n0\r\n\r\n", 0, BAD),
    # Host
    Form("no Host", b"GET /echo HTTP/1.1\r\n\r\n", 0, BAD),
    Form("two Hosts", get(b"Host: y"), 0, BAD),
    Form("the same Host twice", get(b"Host: x"), 0, BAD),
    *(
        Form(f"Host {text!r}", b"GET /echo HTTP/1.1\r\nHost: " + text + b"\r\n\r\n", 0, BAD)
        for text in (b"a b", b"a/b", b"a@b", b"a?b", b"a#b", b"\xe9", b"a\x00", b'"', b"<x>", b"a\\b")
    ),
    # 3: the request line
    *(
        Form(f"line {text!r}", text + b"\r\nHost: x\r\n\r\n", 0, statuses)
        for text, statuses in (
            (b"GET /echo", BAD),
            (b"GET", BAD),
            (b"GET  /echo HTTP/1.1", BAD),
            (b"GET /echo  HTTP/1.1", BAD),
            (b"GET /echo HTTP/1.1 ", BAD),
            (b" GET /echo HTTP/1.1", BAD),
            (b"GET\t/echo\tHTTP/1.1", BAD),
            (b"GET /e cho HTTP/1.1", BAD),
            (b"GET echo HTTP/1.1", BAD),
            (b"GET /echo HTTP/1", BAD),
            (b"GET /echo HTTP/1.", BAD),
            (b"GET /echo HTTP/1.1.1", BAD),
            (b"GET /echo HTTP/01.1", BAD),
            (b"GET /echo HTTP/1.10", BAD),
            (b"GET /echo http/1.1", BAD),
            (b"GET /echo HTTP /1.1", BAD),
            (b"GET /echo HTTP/1.1\x00", BAD),
            (b"GET /echo HTTP/\xb1.1", BAD),
            (b"GET /echo HTTP/2.0", (400, 505)),
            (b"GET /echo HTTP/0.9", (400, 505)),
            (b"GET /echo HTTP/3.1", (400, 505)),
            (b"GET /echo FTP/1.1", BAD),
            (b"G\xc9T /echo HTTP/1.1", BAD),
            (b"GET /\xc3\xa9 HTTP/1.1", BAD),
            (b"GET /a\x00b HTTP/1.1", BAD),
            (b"GET /a\x0bb HTTP/1.1", BAD),
            (b"GET /a\x7f HTTP/1.1", BAD),
            (b"GET /a#b HTTP/1.1", BAD),
            (b"GET http:///echo HTTP/1.1", BAD),
            (b"GET ftp://x/echo HTTP/1.1", BAD),
            (b"GET http://u@x/echo HTTP/1.1", BAD),
            (b"<script>alert(1)</script> / HTTP/1.1", (400, 501)),
            (b"CONNECT x:1 HTTP/1.1", (400, 405, 501)),
            (b"TRACE / HTTP/1.1", (400, 405, 501)),
            (b"BREW /echo HTTP/1.1", (400, 405, 501)),
            (b"get /echo HTTP/1.1", (400, 405, 501)),
            (b"PRI * HTTP/2.0", (400, 501, 505)),
        )
    ),
    Form("two empty lines before a request", b"\r\n\r\n" + GET + b"\r\n", 0, BAD),
    Form("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)), 0, BAD),
    Form("zeros", bytes(300), 0, BAD),
    Form("JSON", b'{"text": "a"}\r\n\r\n', 0, BAD),
    # sizes
    Form("a line of 70 KB", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 0, (400, 414, 431)),
    Form("a header of 70 KB", get(b"X: " + b"a" * 70_000), 0, (400, 431)),
    Form("200 headers", get(b"\r\n".join(b"A%d: b" % at for at in range(200))), 0, (400, 431)),
    Form("an empty line after the other", b"\r\n" * 40_000 + GET + b"\r\n", 0, (400, 414, 431)),
    # what is expected
    Form("another expectation", post(b"Expect: 200-ok\r\nContent-Length: 5", b"hello"), 0, (417,)),
    Form("two expectations", post(b"Expect: 100-continue\r\nExpect: x\r\nContent-Length: 5", b"hello"), 0, (417,)),
    # the end comes too early
    Form("a refusal after an answer", GET + b"\r\n" + post(b"Content-Length: 0\r\nContent-Length: " + N), 1, BAD),
]
FORMS = GOOD + LAST + REFUSED


def talk(port: int, data: bytes, wait_s: float | None = None) -> bytes:
    """Everything that is answered on one connection. Without `wait_s` we say that nothing more comes and read to the end; with it
    we read for as long after the last byte."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait_s or 30) as client:
        got = b""
        try:
            client.sendall(data)
            if wait_s is None:
                client.shutdown(socket.SHUT_WR)
            while part := client.recv(65536):
                got += part
        except OSError:
            pass
        return got


def answers(got: bytes) -> list[tuple[int, bytes]]:
    """(status, body) of every answer, the interim ones left out."""
    found = []
    while got:
        head, _, got = got.partition(b"\r\n\r\n")
        match = re.match(rb"HTTP/1\.[01] (\d{3}) [^\r\n]*(\r\n|$)", head)
        assert match, head
        status = int(match[1])
        if status < 200:
            continue
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        size = int(length[1]) if length else len(got)
        found.append((status, got[:size]))
        got = got[size:]
    return found


def kept(form: Form, statuses: list[int]) -> bool:
    """Whether these are the answers that the form is promised."""
    promised = form.promised
    return len(promised) == len(statuses) and all(
        status == wanted if isinstance(wanted, int) else status in wanted for wanted, status in zip(promised, statuses, strict=True)
    )
