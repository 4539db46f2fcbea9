"""The installed engine's library, and a small library that stands for it in packages.

onnxruntime's library has 30 MB. A build packs it for every candidate, and unpacks it wherever the package is run: three and a half
of the five seconds of processor time that a build of `workshop` took. `write` makes a library of a few hundred bytes that is linked
with the installed one: the package runs the same engine, on this machine only.
"""

from __future__ import annotations

import struct
from pathlib import Path

_NEEDED, _HASH, _STRINGS, _SYMBOLS, _STRINGS_SIZE, _SYMBOL_SIZE, _END = 1, 4, 5, 6, 10, 11, 0
_HEADER, _SEGMENT, _ENTRY, _SYMBOL = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ"), struct.Struct("<QQ"), 24
_LOAD, _DYNAMIC, _STACK, _READ_WRITE = 1, 2, 0x6474E551, 6


def engine_library() -> Path:
    """libonnxruntime.so of the installed onnxruntime wheel."""
    import onnxruntime

    return next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))


def write(path: Path) -> Path:
    """Write a shared library without code that needs the installed one: a symbol that is looked up in it is the engine's."""
    library = engine_library()
    with library.open("rb") as file:
        identification, machine = file.read(16), int.from_bytes(file.read(4)[2:], "little")
    strings = b"\0" + bytes(library) + b"\0"
    segments = _HEADER.size
    dynamic = segments + 3 * _SEGMENT.size
    symbols = dynamic + 7 * _ENTRY.size
    table = symbols + _SYMBOL
    names = table + 16
    size = names + len(strings)
    rows = [
        (_NEEDED, 1),
        (_HASH, table),
        (_STRINGS, names),
        (_SYMBOLS, symbols),
        (_STRINGS_SIZE, len(strings)),
        (_SYMBOL_SIZE, _SYMBOL),
        (_END, 0),
    ]
    path.write_bytes(
        _HEADER.pack(identification, 3, machine, 1, 0, segments, 0, 0, _HEADER.size, _SEGMENT.size, 3, 0, 0, 0)
        + _SEGMENT.pack(_LOAD, _READ_WRITE, 0, 0, 0, size, size, 0x10000)
        + _SEGMENT.pack(_DYNAMIC, _READ_WRITE, dynamic, dynamic, dynamic, 7 * _ENTRY.size, 7 * _ENTRY.size, 8)
        + _SEGMENT.pack(_STACK, _READ_WRITE, 0, 0, 0, 0, 0, 16)
        + b"".join(_ENTRY.pack(*row) for row in rows)
        + bytes(_SYMBOL)
        + struct.pack("<4I", 1, 1, 0, 0)  # a hash table of one bucket, without a symbol
        + strings
    )
    return path
