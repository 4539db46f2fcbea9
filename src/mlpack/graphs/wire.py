"""Reads protobuf's wire form, as far as an ONNX graph without the weights in the same file needs it.

Promises:
- The result is the message of the file without the bytes of its large initializers, and where those bytes are.
- A file in which they cannot be told apart (damaged, or in an unusual form) gives None; it must be read whole.
- No length field makes it allocate memory.

Source: protobuf.dev, "Encoding"; onnx.proto for the numbers of fields.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
_NODE, _INPUT, _OUTPUT, _OPERATOR = 1, 1, 2, 4
_PASSING = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
_DEPTH = 16
_METADATA, _KEY, _VALUE = 14, 1, 2
_METADATA_BYTES = 1 << 20
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
"""A tensor that has the first, or the second other than 0, has its weights elsewhere."""
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5

Bytes = bytes | memoryview
Part = tuple[int, int]
"""Where bytes begin, and where they end."""


class _UnusualFormError(ValueError):
    """The file is not in the plain form."""


@contextmanager
def mapped(path: Path) -> Iterator[memoryview]:
    """A file's bytes while the block runs; only what is looked at is read. OSError, or ValueError for an empty file."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages, memoryview(pages) as view:
        yield view


def without_weights(data: memoryview, larger_than: int) -> tuple[bytes, dict[int, Part]] | None:
    """The message without the raw bytes of initializers of more than `larger_than`, and where these bytes are, by the initializer's
    number. None where there are none, or where that cannot be told."""
    parts: dict[int, Part] = {}
    chunks: list[Bytes] = []
    try:
        for number, start, content, end in _fields(data, 0, len(data)):
            if number != _GRAPH:
                chunks.append(data[start:end])
            elif parts:
                return None  # two parts of one graph, which would be merged
            else:
                chunks += _nested(_GRAPH, _graph(data, content, end, larger_than, parts))
        return (b"".join(chunks), parts) if parts else None
    except (_UnusualFormError, IndexError):
        return None


def metadata(data: memoryview) -> dict[str, str]:
    """What an ONNX file says of itself beside its graph (`metadata_props`); empty where that cannot be told."""
    told: dict[str, str] = {}
    try:
        for _, start, content, end in _fields(data, 0, len(data)):
            if data[start] == _METADATA << 3 | _DELIMITED and end - content <= _METADATA_BYTES:
                pair = {number: bytes(data[first:last]) for number, _, first, last in _fields(data, content, end)}
                told[pair.get(_KEY, b"").decode("utf-8", "replace")] = pair.get(_VALUE, b"").decode("utf-8", "replace")
    except (_UnusualFormError, IndexError):
        return {}
    return told


def operator_behind(data: memoryview, output: str) -> str:
    """The operator whose numbers an output of the graph has: `Softmax`; "" where that cannot be told. Operators that give the
    numbers in another shape or type are looked through."""
    made: dict[bytes, tuple[str, bytes]] = {}
    try:
        for number, _, content, end in _fields(data, 0, len(data)):
            for inner, _, first, last in _fields(data, content, end) if number == _GRAPH else ():
                if inner == _NODE:
                    told = [
                        (part, bytes(data[begin:stop])) for part, _, begin, stop in _fields(data, first, last) if part <= _OPERATOR
                    ]
                    operator = next((value.decode("utf-8", "replace") for part, value in told if part == _OPERATOR), "")
                    given = next((value for part, value in told if part == _INPUT), b"")
                    made |= {value: (operator, given) for part, value in told if part == _OUTPUT}
    except (_UnusualFormError, IndexError):
        return ""
    name = output.encode()
    for _ in range(_DEPTH):
        operator, name = made.get(name, ("", b""))
        if operator not in _PASSING:
            return operator
    return ""


def _graph(data: memoryview, first: int, last: int, larger_than: int, parts: dict[int, Part]) -> list[Bytes]:
    chunks: list[Bytes] = []
    count = 0
    for number, start, content, end in _fields(data, first, last):
        if number != _INITIALIZER:
            chunks.append(data[start:end])
            continue
        raw = _raw(data, content, end) if end - content > larger_than else None
        if raw is None or raw[2] - raw[1] <= larger_than:
            chunks.append(data[start:end])
        else:
            parts[count] = raw[1:]
            chunks += _nested(_INITIALIZER, [data[content : raw[0]], data[raw[2] : end]])
        count += 1
    return chunks


def _raw(data: memoryview, first: int, last: int) -> tuple[int, int, int] | None:
    """Where a tensor's only `raw_data` begins, with its tag, where its bytes begin, and where they end; None for a tensor of
    another form."""
    raws = []
    for number, start, content, end in _fields(data, first, last):
        if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and _varint(data, content)[0]):
            return None
        if number == _RAW_DATA:
            raws.append((start, content, end))
    return raws[0] if len(raws) == 1 else None


def _fields(data: memoryview, first: int, last: int) -> Iterator[tuple[int, int, int, int]]:
    """Every field: its number, where it begins, where its content begins, and where it ends."""
    place = first
    while place < last:
        start = place
        tag, place = _varint(data, place)
        kind, content = tag & 7, place
        if kind == _VARINT:
            _, place = _varint(data, place)
        elif kind == _DELIMITED:
            length, content = _varint(data, place)
            place = content + length
        elif kind in (_FIXED64, _FIXED32):
            place += 8 if kind == _FIXED64 else 4
        else:
            raise _UnusualFormError  # groups, which ONNX has none of
        if place > last or not tag >> 3:
            raise _UnusualFormError
        # A number of another kind than it should be is no field of ours, and the parser passes over it.
        yield (tag >> 3 if kind == (_VARINT if tag >> 3 == _DATA_LOCATION else _DELIMITED) else 0), start, content, place


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
        if shift > 63:
            raise _UnusualFormError


def _nested(number: int, content: list[Bytes]) -> list[Bytes]:
    """A field that holds a message."""
    head = bytearray([number << 3 | _DELIMITED])
    length = sum(map(len, content))
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return [bytes(head), *content]
