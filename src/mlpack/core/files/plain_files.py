"""Opens plain files of a directory that somebody else may have made: a build, a package, an export. There is no other way to them.

Promises:
- No link below the directory is followed, neither the last part of a path nor one above it.
- A pipe, a device or a socket is refused without being opened, so that no read waits for it.
- A file that changes while it is read is refused.

The directory itself is the user's choice, and may be a link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mlpack.core import digest
from mlpack.core.digest import Digest
from mlpack.errors import RecipeError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Should it become a pipe between the look and this, it is opened without waiting for its other end.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@contextmanager
def opened(root: Path, path: str) -> Iterator[BinaryIO]:
    """The file at this POSIX path below `root`, open. FileNotFoundError when it does not exist; RecipeError when it, or a folder
    above it, is something else, or when it has changed before it is closed."""
    *above, name = path.split("/")
    folder = _folder(root, above)
    try:
        _check(os.stat(name, dir_fd=folder, follow_symlinks=False), root / path)
        fd = os.open(name, _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    with os.fdopen(fd, "rb") as stream:
        before = os.fstat(fd)
        _check(before, root / path)
        yield stream
        if _stamp(os.fstat(fd)) != _stamp(before):
            raise RecipeError(f"{root / path}: changed while it was read: try again when nothing writes there")


def read(root: Path, path: str, most: int) -> bytes:
    """The file's bytes, as `opened`. RecipeError when there are more than `most`."""
    with opened(root, path) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise RecipeError(f"{root / path}: larger than {most:,} bytes, which is all that is read of such a file")
    return data


def digest_of(root: Path, path: str) -> Digest:
    """The file's digest, as `opened`."""
    with opened(root, path) as stream:
        return digest.of_stream(stream)


def is_there(root: Path, path: str) -> bool:
    """Whether anything has this name; RecipeError when a folder above it is something else."""
    *above, name = path.split("/")
    try:
        folder = _folder(root, above)
    except FileNotFoundError:
        return False
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    finally:
        os.close(folder)
    return True


def below(root: Path, path: str) -> Iterator[str]:
    """Every file of the folder at this path, relative to it, in sorted order. FileNotFoundError when there is no such folder;
    RecipeError for an entry that is neither a plain file nor a folder."""
    os.close(_folder(root, path.split("/")))
    for inside, entry in digest.entries(root / path):
        if not entry.is_dir(follow_symlinks=False):
            _check(entry.stat(follow_symlinks=False), root / path / inside)
            yield inside


def _folder(root: Path, parts: list[str]) -> int:
    """The folder, open, after each part of the path was checked."""
    there = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    so_far = root
    for part in parts:
        so_far /= part
        try:
            status = os.stat(part, dir_fd=there, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                raise RecipeError(f"{so_far}: {_kind(status)}, where a folder belongs: put the folder itself there")
            inner = os.open(part, _FOLDER, dir_fd=there)
        finally:
            os.close(there)
        there = inner
    return there


def _check(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise RecipeError(f"{path}: {_kind(status)}, not a file: put the file itself there; links are not followed")


def _kind(status: os.stat_result) -> str:
    kinds = ((stat.S_ISLNK, "a link"), (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in kinds if test(status.st_mode)), "a file" if stat.S_ISREG(status.st_mode) else "a device")


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino
