"""A manifest that comes in gzip, as it was before: in chunks, however much it becomes.

Promises: no more than a chunk of it is held; several members one after the other are one text, as gzip has it; one that ends early
or is damaged is a BatchError. Will not: begin in the middle, which gzip cannot.
"""

import zlib

from mlpack_runtime.batch.errors import BatchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 1 << 20
_GZIP = 31


def unzipped(chunks: "Iterable[bytes]", uri: str) -> "Iterator[bytes]":
    """The text of these chunks. Raises BatchError."""
    member = zlib.decompressobj(_GZIP)
    begun = False
    try:
        for chunk in chunks:
            data = chunk
            while data:
                if member.eof:
                    data = data.lstrip(b"\0")  # tar and tapes fill up with these
                    if not data:
                        break
                    member, begun = zlib.decompressobj(_GZIP), False
                begun = True
                text = member.decompress(data, _CHUNK_BYTES)
                data = member.unused_data if member.eof else member.unconsumed_tail
                if text:
                    yield text
        if begun and not member.eof:
            raise BatchError(f"{uri} ends in the middle of its gzip: was it written whole?")
    except zlib.error as error:
        raise BatchError(f"{uri} is damaged gzip: {error}") from None
