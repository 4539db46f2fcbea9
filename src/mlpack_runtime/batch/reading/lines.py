"""Lines of a text in chunks, with their places.

Promises: a line ends with LF or CR LF, the last one also with the text; one that is longer than it may be is passed over and said,
whatever its length, and takes no memory. Will not: decode.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Line = tuple[bytes | None, int, int]


def lines(chunks: "Iterable[bytes]", offset: int, most: int) -> "Iterator[Line]":
    """(the line without its end, None for one of more than `most` bytes; where it begins; where the next one does).
    `offset`: of the first chunk."""
    held: list[bytes] = []
    size = 0  # of what is held, or was thrown away
    begin = offset
    for chunk in chunks:
        rows = chunk.split(b"\n")
        last = rows.pop()
        for row in rows:
            end = begin + size + len(row) + 1
            if size + len(row) > most + 1:
                yield None, begin, end
            else:
                line = b"".join((*held, row)) if held else row
                line = line.removesuffix(b"\r")
                yield (line if len(line) <= most else None), begin, end
            begin, size = end, 0
            held.clear()
        size += len(last)
        if size > most + 1:
            held.clear()
        elif last:
            held.append(last)
    if size:
        whole = b"".join(held).removesuffix(b"\r") if size <= most + 1 else None
        yield (whole if whole is None or len(whole) <= most else None), begin, begin + size
