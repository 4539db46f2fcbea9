"""Files that appear whole or not at all: made under another name beside their place, then renamed.

Promises: who reads the place meanwhile finds what was there before, or nothing. Two writers of one place do not meet, and the file
of the later one stays. An error leaves the place as it was and nothing beside it; a killed process may leave a file there, whose
name begins with a dot. A `durable` file survives a loss of power, and so does its name, once the call has returned. It makes files
only: a directory that is to appear whole is made in `temporary.directory`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME_BYTES = 200
"""As much of the name stands in the other one; a file system takes 255 bytes."""
_MODE = 0o644
"""A temporary file is its user's alone; what it becomes, its folder protects."""


@contextmanager
def replacing(path: Path, *, mode: int = _MODE, durable: bool = False) -> Iterator[Path]:
    """Makes a file that takes the place of `path`, or of what is there, when the block ends.

    Args:
        path: Its place. The folder has to be there; a link there is replaced, and not followed.
        mode: Its permissions, whatever the umask is.
        durable: Whether it has to survive a loss of power.

    Yields:
        The path of an empty file in the same folder, for the block to write.
    """
    name = os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES])
    with unfinished(path.parent, f".{name}-") as fresh:
        yield fresh
        put(fresh, path, mode=mode, durable=durable)


def write(path: Path, data: bytes, *, mode: int = _MODE, durable: bool = False) -> None:
    """Writes a file of these bytes. Arguments as of `replacing`."""
    with replacing(path, mode=mode, durable=durable) as fresh:
        fresh.write_bytes(data)


@contextmanager
def unfinished(folder: Path, prefix: str) -> Iterator[Path]:
    """Makes an empty file whose place is known later: `put` it there, or it is removed when the block ends.

    Args:
        folder: Where it is made: on the disk where its place will be.
        prefix: What its name begins with.

    Yields:
        Its path. Only this user may read it.
    """
    handle, name = tempfile.mkstemp(prefix=prefix, dir=folder)
    os.close(handle)
    fresh = Path(name)
    try:
        yield fresh
    finally:
        fresh.unlink(missing_ok=True)


def put(fresh: Path, path: Path, *, mode: int | None = _MODE, durable: bool = False) -> None:
    """Renames `fresh`, a whole file, to `path`. `mode`: as of `replacing`; None leaves it as it is. `durable`: as there."""
    if mode is not None:
        fresh.chmod(mode)
    if durable:
        sync(fresh)
    fresh.replace(path)
    if durable:
        sync(path.parent)


def sync(path: Path) -> None:
    """Makes a file's bytes, or the names in a folder, survive a loss of power."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
