"""Cache directories for weights: files named by their digest, which several processes and machines may share.

    DIRECTORY/mlpack-weights/DIGEST                whole when it was put there; whoever uses it holds a shared lock on it
    DIRECTORY/mlpack-weights/DIGEST.RANDOM.part    being written; its writer holds a lock on it

Promises: a file gets its name only when all of it has been written and verified, and never over a file that another process
uses; two that write one at the same moment hinder neither each other nor whoever reads; what a process that was killed left is
taken on by the next one, part by part. What is used is never evicted.
Will not: trust what it finds. Whoever opens a file verifies it.
"""

import os
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock

from mlpack_runtime.remote.manifest import WeightsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = "mlpack-weights"
_PART = ".part"
_SPARE_BYTES = 16 << 20
"""What is left free beside the weights: hooks and libraries write to /tmp too."""


class Fresh:
    """A file that is being written. `fd` is open for reading and writing, of the weights' size, and locked."""

    def __init__(self, path: str, fd: int, *, is_left: bool) -> None:
        self.path = path
        self.fd = fd
        self.is_left = is_left
        """Whether somebody who is gone began it, so that some parts may be in it."""

    def discard(self) -> None:
        """Give its room back. The descriptor stays open."""
        _remove(self.path)


class Place:
    """One cache directory. `limit_bytes`: the most that it may hold of weights; 0: as much as there is room for."""

    def __init__(self, directory: str, limit_bytes: int = 0) -> None:
        self.directory = directory
        self.folder = os.path.join(directory, FOLDER)
        self._limit_bytes = limit_bytes

    def open(self, digest: str, size_bytes: int) -> "int | None":
        """A descriptor of the file of this digest, with a shared lock; None where there is none of this size."""
        path = os.path.join(self.folder, digest)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        if os.fstat(fd).st_size != size_bytes or not _locked(fd, LOCK_SH):
            os.close(fd)
            return None
        try:
            os.utime(path)  # used now
        except OSError:
            pass  # somebody else's file, or a mount that is read-only
        return fd

    def begin(self, digest: str, size_bytes: int) -> Fresh:
        """A new file to write the weights to, or one that a process left that is gone. Raises OSError (no such directory, not
        writable), WeightsError where there is no room."""
        try:
            os.mkdir(self.folder)  # not its parent: a mount that is missing would become a folder of the root's disk
        except FileExistsError:
            pass
        left = self._adopt(digest)
        there = 0 if left is None else os.fstat(left.fd).st_blocks * 512
        try:
            self._make_room(size_bytes - there, digest)
        except BaseException:
            if left is not None:
                os.close(left.fd)
            raise
        if left is None:
            path = os.path.join(self.folder, f"{digest}.{os.urandom(8).hex()}{_PART}")
            left = Fresh(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), is_left=False)
            _locked(left.fd, LOCK_EX)
        os.truncate(left.fd, size_bytes)
        return left

    def publish(self, fresh: Fresh, digest: str, damaged: "int | None" = None) -> None:
        """Give a file that is whole its name, where no other process was first. `damaged`: a descriptor of the file there, which is
        not what its name says, and is replaced. The descriptor holds a shared lock from then on."""
        path = os.path.join(self.folder, digest)
        _locked(fresh.fd, LOCK_SH)
        os.utime(fresh.fd)
        if damaged is not None and _same(damaged, path):
            os.replace(fresh.path, path)
            return
        try:
            os.link(fresh.path, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            if not os.path.exists(path):
                os.replace(fresh.path, path)
                return
        _remove(fresh.path)

    def _adopt(self, digest: str) -> "Fresh | None":
        """A file of this digest that nobody writes any more, locked by us."""
        for name, path in self._entries():
            if name.startswith(f"{digest}.") and name.endswith(_PART):
                try:
                    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                except OSError:
                    continue
                if _locked(fd, LOCK_EX) and _same(fd, path):  # else its writer has just given it its name
                    return Fresh(path, fd, is_left=True)
                os.close(fd)
        return None

    def _entries(self) -> "Iterator[tuple[str, str]]":
        try:
            names = sorted(os.listdir(self.folder))
        except OSError:
            return
        for name in names:
            yield name, os.path.join(self.folder, name)

    def _make_room(self, size_bytes: int, digest: str) -> None:
        """Evict what was used longest ago, until `size_bytes` more fit. WeightsError where they do not."""
        rows = []
        for name, path in self._entries():
            try:
                status = os.stat(path, follow_symlinks=False)
            except OSError:
                continue
            rows.append((not name.endswith(_PART), status.st_mtime_ns, status.st_blocks * 512, path))
        total = sum(row[2] for row in rows)
        for _, _, held, path in sorted(rows):  # what killed processes left first, then the oldest
            if self._fits(size_bytes, total):
                return
            if not os.path.basename(path).startswith(digest) and _evict(path):
                total -= held
        if not self._fits(size_bytes, total):
            raise WeightsError(self._too_small(size_bytes, total))

    def _fits(self, size_bytes: int, total: int) -> bool:
        return size_bytes + _SPARE_BYTES <= _free(self.directory) and (
            not self._limit_bytes or total + size_bytes <= self._limit_bytes
        )

    def _too_small(self, size_bytes: int, total: int) -> str:
        free = _free(self.directory)
        if size_bytes + _SPARE_BYTES <= free:
            return (
                f"{self.directory} may hold {self._limit_bytes:,} bytes of weights (MLPACK_WEIGHTS_CACHE_MB), has {total:,} in "
                f"use, and {size_bytes:,} more are needed"
            )
        return f"{self.directory} has {free:,} bytes free, and the weights need {size_bytes + _SPARE_BYTES:,}"


def _free(directory: str) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def _locked(fd: int, kind: int) -> bool:
    try:
        flock(fd, kind | LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: as if each were alone, which costs a second download at most
        return kind == LOCK_SH
    return True


def _same(fd: int, path: str) -> bool:
    """Whether a path still leads to this open file."""
    try:
        here, there = os.fstat(fd), os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _evict(path: str) -> bool:
    """Remove a file that nobody uses; whether it is gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return _locked(fd, LOCK_EX) and _remove(path)
    finally:
        os.close(fd)


def _remove(path: str) -> bool:
    try:
        os.remove(path)
    except OSError:
        return False
    return True
