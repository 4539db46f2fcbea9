"""HTTP/1.1's heads between bytes and what they say: pure, strict, the same for requests and for answers.

Promises: one reading of every head. What RFC 9112 lets recipients read in two ways (two lengths, a length beside a coding, a space
before a colon, folded lines, bare line ends, control letters) is refused by a `MalformedError` that says why and with which status.
Will not: touch a socket, or read a body.

Sources: RFC 9112 (syntax, framing), RFC 9110 (names, values, Host, Expect).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_ALNUM = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_TOKEN = _ALNUM + b"!#$%&'*+-.^_`|~"
_VALUE = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
_VISIBLE = bytes(set(range(0x21, 0x7F)) - {ord("#")})
_HOST = _ALNUM + b"-._~!$&'()*+,;=%:[]"
_HEX = b"0123456789abcdefABCDEF"
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"))
_NEVER = frozenset(("CONNECT", "TRACE", "QUERY"))  # known, and nothing here takes them
_DIGITS = 15  # of a number that is still read: more is more than any limit
TOO_MANY = 10**_DIGITS
_LONGEST_DIGITS = 20  # as 64 bits have: more is no length of anything, and others may read it as a shorter one
_REASONS = {
    100: "Continue", 200: "OK", 202: "Accepted", 204: "No Content", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout", 411: "Length Required", 413: "Content Too Large",
    414: "URI Too Long", 415: "Unsupported Media Type", 417: "Expectation Failed", 422: "Unprocessable Content",
    429: "Too Many Requests", 431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented",
    502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}  # fmt: skip


class MalformedError(ValueError):
    """What came is not HTTP as we read it. `status`: what a server answers before it closes the connection."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Request:
    """A request's head. `path` as it was sent, with its query; `headers` by lower-case names, lines of one name put together;
    `length` of the body in bytes, None where it comes in chunks; `kept`: whether the connection stays open afterwards."""

    __slots__ = ("expects", "headers", "kept", "length", "method", "path", "version")

    def __init__(self, method: str, path: str, version: "tuple[int, int]", headers: "dict[str, str]") -> None:
        self.method = method
        self.path = path
        self.version = version
        self.headers = headers
        self.length = _request_length(headers, version)
        self.expects = False
        self.kept = _kept(headers, version)


class Status:
    """An answer's head. `length`: None where the body comes in chunks, -1 where the end of the connection ends it."""

    __slots__ = ("code", "headers", "kept", "length")

    def __init__(self, code: int, version: "tuple[int, int]", headers: "dict[str, str]") -> None:
        self.code = code
        self.headers = headers
        self.length = 0 if code < 200 or code in (204, 304) else _answer_length(headers, version)
        self.kept = self.length != -1 and _kept(headers, version)


def begins_well(byte: int) -> bool:
    """Whether a request can begin with it: what speaks TLS, or another protocol, is told so at once."""
    return byte in _TOKEN


def request(head: bytes, most: int) -> Request:
    """A request's head, without the empty line behind it, as what it says. `most`: header lines. Raises MalformedError."""
    first, *lines = head.split(b"\r\n")
    parts = first.split(b" ")
    if len(parts) != 3:
        raise MalformedError(f"{quoted(first)} is no request line: a method, a path and a version, with one space between them")
    method, target, version = parts[0], parts[1], _version(parts[2])
    if not method or method.translate(None, _TOKEN):
        raise MalformedError(f"{quoted(method)} is no method")
    if version[0] != 1:
        raise MalformedError(f"this is HTTP/1.1, not HTTP/{version[0]}.{version[1]}", 505)
    if method.decode() not in _METHODS:
        raise MalformedError(f"the method {quoted(method)} is not known here", 405 if method.decode() in _NEVER else 501)
    if not target or target.translate(None, _VISIBLE):
        raise MalformedError(f"{quoted(target)} is no path: spaces, '#', control letters and others than ASCII's are written %XX")
    headers = fields(lines, most)
    host = headers.get("host")
    if host is None and version != (1, 0):
        raise MalformedError("there is no Host")
    if host and host.encode("latin-1").translate(None, _HOST):
        raise MalformedError(f"{quoted(host)} is no Host")
    made = Request(method.decode(), _path(target), version, headers)
    expected = headers.get("expect")
    if expected is not None and version != (1, 0):  # RFC 9110, 10.1.1: one of HTTP/1.0 is passed over
        if expected.lower() != "100-continue":
            raise MalformedError(f"{quoted(expected)} is expected; only 100-continue is known here", 417)
        made.expects = True
    return made


def status(head: bytes, most: int) -> Status:
    """An answer's head, without the empty line behind it, as what it says. `most`: header lines. Raises MalformedError."""
    first, *lines = head.split(b"\r\n")
    version, _, rest = first.partition(b" ")
    code, _, reason = rest.partition(b" ")
    if len(code) != 3 or not code.isdigit() or not 100 <= int(code) <= 599 or reason.translate(None, _VALUE):
        raise MalformedError(f"{quoted(first)} is no status line: HTTP/1.1, a status from 100 to 599, a reason")
    told = _version(version)
    if told[0] != 1:
        raise MalformedError(f"this is HTTP/1.1, not HTTP/{told[0]}.{told[1]}")
    return Status(int(code), told, fields(lines, most))


def fields(lines: "list[bytes]", most: int) -> "dict[str, str]":
    """Header lines by lower-case names, values without the space around them; those of one name are one list. MalformedError."""
    if len(lines) > most:
        raise MalformedError(f"there are {len(lines)} header lines; {most} are read", 431)
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        # An empty name, a space before the colon and a line that goes on from the one before are all no token.
        if not colon or not name or name.translate(None, _TOKEN):
            raise MalformedError(f"{quoted(line)} is no header line: a name, a colon right after it, a value")
        if value.translate(None, _VALUE):
            raise MalformedError(f"the value of {quoted(name)} holds a control letter")
        key, text = name.decode().lower(), value.strip(b" \t").decode("latin-1")
        if key in found:
            if key in ("content-length", "host"):
                raise MalformedError(f"{key} is there twice")
            text = f"{found[key]}, {text}"
        found[key] = text
    return found


def chunk_size(line: bytes) -> int:
    """The size that a chunk's first line says; extensions are passed over. Raises MalformedError."""
    size, semicolon, extension = line.partition(b";")
    if semicolon:
        size = size.rstrip(b" \t")
    if not size or size.translate(None, _HEX) or extension.translate(None, _VALUE):
        raise MalformedError(f"{quoted(line)} is no size of a chunk")
    if len(size) > _LONGEST_DIGITS:
        raise MalformedError(f"the size of a chunk has {len(size)} digits; {_LONGEST_DIGITS} are read")
    size = size.lstrip(b"0")
    return TOO_MANY if len(size) > 12 else int(size or b"0", 16)


def answer(code: int, headers: "Mapping[str, str]", *more: str) -> bytes:
    """The head of an answer; `more`: header lines. Whatever the values are, they stay within their lines and in Latin-1."""
    lines = [f"HTTP/1.1 {code} {_REASONS.get(code, 'Unknown')}", *more, *(f"{name}: {clean(headers[name])}" for name in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def clean(value: str, longest: int = 8192) -> str:
    """A header's value that can only be one: no line ends or other control letters, not beyond Latin-1, not without end."""
    value = value[:longest]
    if value.isascii() and value.isprintable():
        return value
    return "".join(letter if letter.isprintable() and letter <= "\xff" else "?" for letter in value)


def quoted(text: "bytes | str", longest: int = 60) -> str:
    """What somebody sent, short enough and plain enough for an error's message."""
    given = text[: longest + 1]
    shown = given if isinstance(given, str) else given.decode("latin-1")
    return ascii(shown[:longest]) + ("..." if len(shown) > longest else "")


def _version(text: bytes) -> "tuple[int, int]":
    if len(text) == 8 and text.startswith(b"HTTP/") and text[6:7] == b"." and (text[5:6] + text[7:]).isdigit():
        return text[5] - 48, text[7] - 48
    raise MalformedError(f"{quoted(text)} is no version of HTTP")


def _path(target: bytes) -> str:
    """The path of a target in any of its forms (RFC 9112, 3.2): `/a?b`, `http://host/a?b`, `*`."""
    text = target.decode()
    if text.startswith("/") or text == "*":
        return text
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise MalformedError(f"{quoted(target)} is no path: it begins with '/'")
    ends = [at for at in (rest.find("/"), rest.find("?")) if at >= 0]
    authority = rest[: min(ends)] if ends else rest
    if not authority or authority.encode().translate(None, _HOST):
        raise MalformedError(f"{quoted(target)} names no host")
    path = rest[len(authority) :]
    return path if path.startswith("/") else f"/{path}"


def _request_length(headers: "Mapping[str, str]", version: "tuple[int, int]") -> "int | None":
    """RFC 9112, 6.3, for requests: None for chunks. A body that two could measure differently is nobody's."""
    coding, stated = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is None:
        return 0 if stated is None else _number(stated)
    if stated is not None:
        raise MalformedError("Content-Length and Transfer-Encoding are both there: which says how long the body is?")
    _check_chunked(coding, version)
    return None


def _answer_length(headers: "Mapping[str, str]", version: "tuple[int, int]") -> "int | None":
    if "transfer-encoding" not in headers and "content-length" not in headers:
        return -1
    return _request_length(headers, version)


def _check_chunked(coding: str, version: "tuple[int, int]") -> None:
    if version == (1, 0):
        raise MalformedError("HTTP/1.0 has no Transfer-Encoding")
    codings = [part.strip(" \t").lower() for part in coding.split(",")]
    if codings[-1] != "chunked" or codings.count("chunked") > 1:
        raise MalformedError(f"Transfer-Encoding is {quoted(coding)}: chunked has to be its last, and once")
    if len(codings) > 1:
        raise MalformedError(f"Transfer-Encoding is {quoted(coding)}: only chunked is known here", 501)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise MalformedError(f"Content-Length is {quoted(text)}, not a number of bytes")
    if len(text) > _LONGEST_DIGITS:
        raise MalformedError(f"Content-Length has {len(text)} digits; {_LONGEST_DIGITS} are read")
    text = text.lstrip("0")
    return TOO_MANY if len(text) > _DIGITS else int(text or "0")


def _kept(headers: "Mapping[str, str]", version: "tuple[int, int]") -> bool:
    wanted = {part.strip(" \t").lower() for part in headers.get("connection", "").split(",")}
    return "close" not in wanted and (version != (1, 0) or "keep-alive" in wanted)
