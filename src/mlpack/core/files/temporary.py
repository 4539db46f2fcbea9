"""Temporary directories that clean up after killed processes: what a killed mlpack left goes when the next one makes its own.

Promises:
- A directory is locked (flock) as long as its maker lives, in whatever container of this machine.
- Only directories with names of our form, of our own user, that no living process has locked are removed. Links are not
  followed.
- The place is the system's (TMPDIR) unless the caller passes another, as an absolute path.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "mlpack-held-"
_YOUNG_S = 5.0
"""A directory is empty for the microseconds between its making and its lock."""
_swept: set[Path] = set()


@contextmanager
def directory(what: str, place: Path | None = None) -> Iterator[Path]:
    """A new directory that only this user can read; it is removed at the end with its content. `what`: a word for its name.
    `place`: the folder in which it is made, so that its files can be renamed into that folder (the directory itself, too)."""
    place = (place or Path(tempfile.gettempdir())).absolute()
    if place not in _swept:
        _swept.add(place)
        sweep(place)
    with marked(place, f"{_PREFIX}{what}-") as work:
        yield work


@contextmanager
def marked(folder: Path, prefix: str) -> Iterator[Path]:
    """A new directory in `folder`, marked until the block ends; then it is removed with all that is in it. Nothing is swept:
    `is_left` tells what was left there, and who owns the folder removes it."""
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
    descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # without locks a leftover cannot be told, and stays
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield work
    finally:
        _remove(work)
        os.close(descriptor)


def is_left(path: Path) -> bool:
    """Whether nobody works in this directory any more: no process that lives, in whatever container of this machine, has marked it
    or is about to. OSError when that cannot be told, and for a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        return _is_free(descriptor)
    finally:
        os.close(descriptor)


def sweep(place: Path) -> None:
    """Remove what ended mlpack processes of this user left in `place`."""
    with suppress(OSError):
        for entry in os.scandir(place):
            if entry.name.startswith(_PREFIX):
                # Others may sweep at the same moment: an entry that is gone is what we want.
                with suppress(OSError):
                    _sweep_one(Path(entry.path))


def _sweep_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid() and _is_free(descriptor):
            _remove(path)  # nobody can mark it meanwhile: it is locked until it is closed
    finally:
        os.close(descriptor)


def _is_free(descriptor: int) -> bool:
    """Whether nobody has marked this open directory or is about to; if so, it is locked."""
    if abs(time.time() - os.fstat(descriptor).st_ctime) < _YOUNG_S and not os.listdir(descriptor):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(path: Path) -> None:
    """Remove a tree, sealed directories included."""
    for folder, folders, _ in os.walk(path):
        for name in (".", *folders):
            inside = os.path.join(folder, name)
            with suppress(OSError):
                if not stat.S_ISLNK(os.lstat(inside).st_mode):
                    os.chmod(inside, stat.S_IRWXU)
    shutil.rmtree(path, ignore_errors=True)
