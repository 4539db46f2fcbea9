"""Results on stdout: rows for people, values for scripts, JSON and documents for programs.

Promises: everything goes there by way of `sinks`, so no row begins a command of a CI system or moves a terminal. Whoever reads may
leave at any time (`| head`): the rest is then written nowhere, and the exit code stays what it would have been. A stdout that
cannot be written to, as on a full disk, is an MlpackError. The locale does not matter: what it cannot write is an escape in rows,
and UTF-8 in documents; paths come out as the bytes that they are.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, TextIO

from mlpack.core.text import sinks
from mlpack.errors import MlpackError, RecipeError

_left: list[bool] = []


def row(text: object) -> None:
    """One line for people."""
    rows(" ".join(str(text).splitlines()))


def rows(text: object) -> None:
    """Lines for people, whose parts are one line each already where somebody else named them."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    _put(f"{sinks.lines(text)}\n".encode(encoding, "backslashreplace"))


def value(text: str) -> None:
    """One value for scripts, exactly. RecipeError when it is not one line of characters that are seen: nothing else is printed."""
    if sinks.exact(text) is None:
        raise RecipeError(f"{text!r} cannot be printed as one line that a script could read; JSON can hold it: --json, --format")
    _put(f"{text}\n".encode("utf-8", "surrogateescape"))


def path(made: Path) -> None:
    """Where something lies, for scripts: the very path, see `printable`."""
    shown = printable(made)
    _put(os.fsencode(shown) + b"\n") if shown is not None else row(made)


def printable(made: Path) -> str | None:
    """The path as `path` prints it, None when no line can hold it: ask before the work. One that would begin a command of a CI
    system comes as `./`, which is the same path."""
    text = str(made)
    return sinks.exact(text) or sinks.exact(f"./{text}")


def json(value: Any) -> None:
    """A record."""
    _put(f"{sinks.json_text(value)}\n".encode("ascii"))


def document(text: str) -> None:
    """A text of our own that is a file's: a recipe, a template. Its parts were made fit when it was written."""
    _put(text.encode("utf-8", "backslashreplace"))


def reader_left() -> bool:
    """Whether nobody reads any more, so that a long list can end."""
    return bool(_left)


def end(stream: TextIO | None) -> None:
    """Write what others have left unwritten; what cannot be is nobody's error any more."""
    try:
        if stream is not None:
            stream.flush()
    except OSError:
        give_up(stream)


def give_up(stream: TextIO | None) -> None:
    """Let the stream's descriptor lead nowhere, so that what Python still holds of it is no error when the process ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if stream is not None:
            os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass  # a stream of a test's, or one that is closed: nothing of it is left to be written


def _put(data: bytes) -> None:
    stream = sys.stdout
    if stream is None:
        return  # closed before we began (`>&-`): whoever did that wants nothing
    try:
        stream.flush()
        if (binary := getattr(stream, "buffer", None)) is not None:
            binary.write(data)
        else:
            stream.write(data.decode("utf-8", "replace"))
        stream.flush()
    except BrokenPipeError:
        _left.append(True)
        give_up(stream)
    except OSError as error:
        give_up(stream)
        raise MlpackError(f"stdout cannot be written to ({error.strerror}): name another place, or free some space") from error
