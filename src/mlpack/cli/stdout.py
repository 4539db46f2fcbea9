"""Results on stdout: rows for people, values for scripts, JSON and documents for programs.

Promises:
- Everything passes through `sinks`, so no row starts a command of a CI system or moves a terminal's cursor.
- The reader may leave at any time (`| head`): the rest is dropped, and the exit code does not change.
- A stdout that cannot be written to, as on a full disk, is an MlpackError.
- The locale does not matter: rows escape what it cannot write, documents are UTF-8, and paths come out byte for byte.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, TextIO

from mlpack.core.text import sinks
from mlpack.errors import MlpackError, RecipeError

_broken_pipes: list[bool] = []


def row(text: object) -> None:
    """Print one line for people."""
    rows(" ".join(str(text).splitlines()))


def rows(text: object) -> None:
    """Print lines for people. The caller has put names of others on one line each."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    _write(f"{sinks.lines(text)}\n".encode(encoding, "backslashreplace"))


def value(text: str) -> None:
    """Print one value for scripts, exactly. RecipeError, and no output, unless it is one line of printable characters."""
    if sinks.exact(text) is None:
        raise RecipeError(f"{text!r} cannot be printed as one line that a script could read; JSON can hold it: --json, --format")
    _write(f"{text}\n".encode("utf-8", "surrogateescape"))


def path(place: Path) -> None:
    """Print a path for scripts, exactly: see `printable`."""
    text = printable(place)
    _write(os.fsencode(text) + b"\n") if text is not None else row(place)


def printable(place: Path) -> str | None:
    """The path as `path` prints it; None when it does not fit into one line, which callers check before the work. One that would
    start a command of a CI system gets a `./` before it."""
    text = str(place)
    return sinks.exact(text) or sinks.exact(f"./{text}")


def json(value: Any) -> None:
    """Print a record as JSON."""
    _write(f"{sinks.json_text(value)}\n".encode("ascii"))


def document(text: str) -> None:
    """Print the text of a file (a recipe, a template). Its author has escaped the parts."""
    _write(text.encode("utf-8", "backslashreplace"))


def has_reader_gone() -> bool:
    """Whether the reader has left, so that a long list can end."""
    return bool(_broken_pipes)


def end(stream: TextIO | None) -> None:
    """Flush the stream at the end of the process, without errors."""
    try:
        if stream is not None:
            stream.flush()
    except OSError:
        give_up(stream)


def give_up(stream: TextIO | None) -> None:
    """Point the stream's descriptor at the null device, so that Python's last flush at the end of the process does not fail."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if stream is not None:
            os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass  # a closed stream, or one of a test: nothing is left to write


def _write(data: bytes) -> None:
    stream = sys.stdout
    if stream is None:
        return  # closed by the caller (`>&-`), who wants no output
    try:
        stream.flush()
        if (binary := getattr(stream, "buffer", None)) is not None:
            binary.write(data)
        else:
            stream.write(data.decode("utf-8", "replace"))
        stream.flush()
    except BrokenPipeError:
        _broken_pipes.append(True)
        give_up(stream)
    except OSError as error:
        give_up(stream)
        raise MlpackError(f"stdout cannot be written to ({error.strerror}): name another place, or free some space") from error
