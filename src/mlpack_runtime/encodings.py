"""Compressed bodies, decoded within the limits.

Promises: a body is decoded piece by piece and not beyond what a body may have, whatever it would become. One that ends early, that
has bytes behind its end, or that is not what its Content-Encoding says, is refused, and never taken for a shorter body.
Will not: be loaded by a function whose bodies are not compressed.

Source: RFC 9110, 8.4.1: gzip, x-gzip, and deflate, which is zlib's format. Some senders leave zlib's head out; they are understood.
"""

from zlib import MAX_WBITS, decompressobj
from zlib import error as ZlibError

from mlpack_runtime.limits import RequestError, quoted, variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Buffer = bytes | bytearray | memoryview

HEADER = "content-encoding"
TAKEN = "gzip, deflate"
"""What `Accept-Encoding` names beside a refusal."""
_GZIP, _ZLIB, _RAW = MAX_WBITS + 16, MAX_WBITS, -MAX_WBITS
_PIECE_BYTES = 1 << 16
_STEP_BYTES = 1 << 20
_MEMBERS, _MEMBER_BYTES = 64, 4096  # a gzip file may have many members, but not many that are next to empty: each costs a decoder


def decoded(coding: str, body: "Buffer", most: int, count: "Callable[[int], None] | None" = None) -> "Buffer":
    """A body without its Content-Encoding; one without bytes is none.

    Args:
        coding: the header's value.
        body: what came.
        most: bytes that may come out, `MLPACK_LIMIT_BODY_BYTES`.
        count: told how many bytes are out before more are; it may raise.

    Raises:
        RequestError: 415 for an encoding that is not known here, 413 for more than `most` bytes, 400 for what is not so encoded.
    """
    name = coding.strip().lower()
    if name in ("", "identity") or not len(body):
        return body
    if name not in ("gzip", "x-gzip", "deflate"):
        raise _unknown(coding)
    given = memoryview(body).cast("B")
    # zlib's first byte says its method and window; a raw stream that looks like that by chance fails at the next ones.
    wbits = _GZIP if name != "deflate" else _ZLIB if _has_zlib_head(given) else _RAW
    out, at, members = bytearray(), 0, 0

    def keep(piece: bytes) -> None:
        nonlocal out
        out += piece
        if len(out) > most:
            message = f"the body's {name} becomes more than the {most} bytes that are taken here ({variable('body_bytes')})"
            raise RequestError(message, 413, "PayloadTooLarge")
        if count is not None:
            count(len(out))

    while at < len(given):
        members += 1
        at = _member(name, decompressobj(wbits), given, at, keep)
        if at < len(given) and (wbits != _GZIP or members > _MEMBERS + len(out) // _MEMBER_BYTES):
            raise RequestError(f"{len(given) - at} bytes are behind the end of the body's {name}")
    return out


def _member(name: str, decoder: "Any", given: memoryview, at: int, keep: "Callable[[bytes], None]") -> int:
    """One stream that begins at `at`, decoded; where the next one would begin."""
    tail = b""
    while not decoder.eof:
        part, at = (tail, at) if tail else (given[at : at + _PIECE_BYTES], min(at + _PIECE_BYTES, len(given)))
        try:
            piece = decoder.decompress(part, _STEP_BYTES)
        except ZlibError as error:
            raise RequestError(f"the body is not {name}, which its Content-Encoding says: {error}") from None
        tail = decoder.unconsumed_tail
        if not piece and not tail and at == len(given) and not decoder.eof:
            raise RequestError(f"the body ends in the middle of its {name}")
        keep(piece)
    return at - len(decoder.unused_data)


def _has_zlib_head(given: memoryview) -> bool:
    return len(given) > 1 and given[0] & 15 == 8 and (given[0] << 8 | given[1]) % 31 == 0


def _unknown(coding: str) -> RequestError:
    error = RequestError(f"Content-Encoding is {quoted(coding)}; {TAKEN} and none are taken here", 415, "UnsupportedMediaType")
    error.headers["accept-encoding"] = TAKEN
    return error
