"""Reads foreign files, streams and JSON into memory up to a limit, and refuses larger ones.

Promises:
- Nothing is read or allocated beyond the limit, whatever a header, a directory or a length field says.
- A refusal names the limit, its value and how to change it. Its class is the one that the caller passes, because the class
  decides the exit code.
- A limit of the standards (a path of 4,096 bytes) cannot be changed. The others are settings, read from the environment once.

Will not: know any format.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from mlpack.errors import MlpackError, RecipeError

DOCUMENT_BYTES = 256 << 20
"""The largest JSON document that is read: a tokenizer of a million pieces has 60 MB."""
DEPTH = 64
"""The deepest nesting. Parsers and writers of JSON recurse, and each of them fails at another depth."""
FLOOR_BYTES = 256 << 20
"""Inputs below this size are read without asking for the free memory: any machine that builds packages has as much."""
_SMALL_DOCUMENT_BYTES = 4 << 20
"""Any machine can hold the values of such a document."""
_LIST_BYTES, _VALUE_BYTES = 72, 104
"""An empty list with its place in another has 64 bytes, an object 72; a text of one letter 80 and its place (CPython 3.11)."""
_MEMORY_SHARE = 0.8
_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

SETTINGS = {
    "MLPACK_MAX_DATA_MB": "memory that one file of data or weights may take when it is opened, MB [the memory that is free]",
    "MLPACK_MAX_LAYER_MB": "what one layer of a base image may inflate to, MB [20480]",
}
"""The settings, and what they mean."""

_set: dict[str, int] = {}


class SizeLimitError(ValueError):
    """The input is larger than the limit; the message says what it is, and the limit."""


def configure(environ: Mapping[str, str]) -> None:
    """Read the limits from the environment. RecipeError for a value that is no number of MB."""
    _set.clear()
    for name in SETTINGS:
        if text := environ.get(name):
            if not (text.isascii() and text.isdigit() and 0 < len(text) <= 9 and int(text)):
                raise RecipeError(f"{name}={text!r:.60} is not a whole number of MB")
            _set[name] = int(text) << 20


def setting(name: str, default: int) -> int:
    """A limit in bytes: the one from the environment, else `default`."""
    return _set.get(name, default)


def memory_bytes() -> int:
    """The memory that reading one file may take: the setting, else most of the memory that is free here."""
    return setting("MLPACK_MAX_DATA_MB", 0) or max(FLOOR_BYTES, int(min(_free()) * _MEMORY_SHARE))


def fits_in_memory(needed: int, what: str, refuse: type[MlpackError]) -> None:
    """Raise `refuse` when `what` would take more than `memory_bytes`."""
    if needed > (limit := memory_bytes()):
        raise refuse(
            f"{what} would take {-(-needed // 1_000_000):,} MB of memory and {limit // 1_000_000:,} MB may be used "
            "(MLPACK_MAX_DATA_MB, by default the memory that is free): use less of it, or a larger machine"
        )


def give_back() -> None:
    """Return freed memory to the machine. glibc keeps it otherwise (0.65 GB after weights of that size), and the next process needs
    it."""
    from ctypes import CDLL

    with suppress(AttributeError, OSError):  # another C library
        CDLL(None).malloc_trim(0)


def read(source: Path | BinaryIO, limit_bytes: int = DOCUMENT_BYTES) -> bytes:
    """All of a file or stream. SizeLimitError when there is more than `limit_bytes`; OSError as the file raises it."""
    if isinstance(source, Path):
        with source.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size > limit_bytes:
                raise _too_long(limit_bytes)
            return read(stream, limit_bytes)
    data = source.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise _too_long(limit_bytes)
    return data


def load_json(
    source: Path | BinaryIO | bytes | str,
    limit_bytes: int = DOCUMENT_BYTES,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
    constant: Callable[[str], Any] | None = None,
) -> Any:
    """The value of a JSON document. ValueError for any fault of it; OSError as the file raises it.

    A document that is nested deeper than `DEPTH` is a SizeLimitError, whatever the interpreter's own limit is. So is one that
    would take more memory than `memory_bytes`: `[[],[],[]...` becomes thirty times its bytes. `pairs` makes an object of its
    keys and values, `constant` a value of NaN and infinities, as in `json.loads`.
    """
    data = source if isinstance(source, bytes | str) else read(source, limit_bytes)
    if len(data) > limit_bytes:
        raise SizeLimitError(f"it has {len(data):,} bytes, more than the {limit_bytes:,} that are read of it")
    if len(data) > _SMALL_DOCUMENT_BYTES and (needed := _parsed_bytes(data)) > (limit := memory_bytes()):
        raise SizeLimitError(
            f"it would take {needed // 1_000_000:,} MB of memory and {limit // 1_000_000:,} MB may be used (MLPACK_MAX_DATA_MB, by "
            "default the memory that is free)"
        )
    try:
        value = json.loads(data, object_pairs_hook=pairs, parse_constant=constant)
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value)
    return value


def load_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file; {} where there is no such file, or it holds no object: who needs it says so."""
    try:
        value = load_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _parsed_bytes(data: bytes | str) -> int:
    """The most memory of a document as Python's objects, estimated from its marks: each list and object, each value with its key,
    each text."""
    lists, values = (
        sum(data.count(mark) if isinstance(data, str) else data.count(mark.encode()) for mark in marks) for marks in ("[{", ",:")
    )
    return 4 * len(data) + _LIST_BYTES * lists + _VALUE_BYTES * values


def _check_depth(value: Any) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEPTH):
        if not level:
            return
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for values in inner for each in values if isinstance(each, dict | list)]
    if level:
        raise _too_deep()


def _too_long(limit_bytes: int) -> SizeLimitError:
    return SizeLimitError(f"it has more than the {limit_bytes:,} bytes that are read of it")


def _too_deep() -> SizeLimitError:
    return SizeLimitError(f"its lists and objects are nested more than {DEPTH} deep")


def _free() -> list[int]:
    """The free memory according to each limit: the machine, the container, the process."""
    import resource

    limits = [1 << 40]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    for path in _GROUPS:
        text = _text(path).strip()
        limits += [int(text)] if text.isdigit() else []
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            limits.append(int(line.split()[1]) << 10)
    return limits


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
