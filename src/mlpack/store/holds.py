"""Holds: which process uses what in a shared directory, told by locks on single bytes of one file.

Promises:
- A hold ends with the process that took it, however that process ends. Nothing is written, and nothing has to be cleaned up.
- Taking a hold waits while another process has that entry exclusively, which lasts as long as a removal.
- A system without locks of open files (`F_OFD_SETLK`: Linux has them from 3.15) holds nothing and grants nothing exclusively.
  Nothing is removed there.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BUSY = (errno.EAGAIN, errno.EACCES)
_OFFSET_BYTES = 7
"""So many bytes of a name's SHA-256 are the offset, since an offset in a file has 63 bits. Two names of one offset are held
together, which protects more than needed."""


class Holds:
    """The holds of one user of the directory whose lock file is `path` (made at its first use). Two `Holds` of one process exclude
    each other as two processes do."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._closing: weakref.finalize[[int], Holds] | None = None

    def hold(self, name: str) -> None:
        """Prevent exclusive use of `name` by others, until `release`, or until this process and its forks have ended."""
        self._lock(fcntl.F_RDLCK, name, wait=True)

    def release(self) -> None:
        """End all holds. A process that was forked meanwhile keeps them as long as it lives."""
        if self._closing is not None:
            self._closing()
        self._file = self._closing = None

    @contextmanager
    def alone(self, name: str, *, wait: bool = False) -> Iterator[bool]:
        """Whether no other process holds `name`; if so, none can until the end of the block. `wait`: wait until that is so."""
        has = self._lock(fcntl.F_WRLCK, name, wait=wait)
        try:
            yield has
        finally:
            if has:
                self._lock(fcntl.F_UNLCK, name, wait=False)

    def _lock(self, kind: int, name: str, *, wait: bool) -> bool:
        """Whether the lock was granted. OSError for faults of the disk or the directory."""
        if self._file is None:
            # Locks belong to the open file and not to the process: they outlive other descriptors of it, and forks share them.
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._closing = weakref.finalize(self, os.close, self._file)
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:_OFFSET_BYTES], "big")
        request = struct.pack("hhqqi4x", kind, os.SEEK_SET, place, 1, 0)  # struct flock of 64-bit Linux
        try:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, request)
        except OSError as error:
            if error.errno in (*_BUSY, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                return False
            raise
        return True
