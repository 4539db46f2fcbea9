"""A private directory beside the destination. Files are made in it and then put in place as a whole.

Promises:
- Only this user can enter it. It is held open, and every access goes through that descriptor, never through a name that another
  user could have changed.
- It reuses what an interrupted attempt left only if that is this user's, was closed to others, and holds only the user's own
  files and directories. Otherwise it leaves the old directory alone and takes another name.
- Two processes never share one.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mlpack.core.files import atomically
from mlpack.errors import RecipeError, ServiceError, disk_of

_NAME_BYTES = 160
_OTHERS_WRITE = 0o022


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """A private directory. `path` leads to the directory itself, whatever happens to its name. `target`: the destination."""

    target: Path
    path: Path
    name: str
    _fd: int
    _parent: int

    def put(self, inside: str) -> None:
        """Rename this entry to the target atomically; an empty directory or a file there is replaced."""
        status = os.stat(inside, dir_fd=self._fd, follow_symlinks=False)
        self._rename(inside, self._fd, status)

    def become(self) -> None:
        """Rename the directory itself to the target atomically, with the mode that this user gives new directories."""
        os.fchmod(self._fd, self._usual_mode())
        self._rename(self.name, self._parent, os.fstat(self._fd))

    def _rename(self, name: str, folder: int, expected: os.stat_result) -> None:
        try:
            os.rename(name, self.target.name, src_dir_fd=folder, dst_dir_fd=self._parent)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise _occupied(self.target) from error
        except OSError as error:
            if os.path.lexists(self.target):  # ENOTEMPTY and EEXIST have one class, EBUSY none
                raise _occupied(self.target) from error
            raise
        os.fsync(self._parent)
        status = os.stat(self.target.name, dir_fd=self._parent, follow_symlinks=False)
        if (status.st_dev, status.st_ino) != (expected.st_dev, expected.st_ino):
            raise ServiceError(
                f"{self.target}: somebody else put something there at this moment; use a directory that nobody else may write to"
            )

    def _usual_mode(self) -> int:
        """The mode that the umask leaves. (Asking for the umask means setting it, which other threads would notice.)"""
        probe = f".{secrets.token_hex(8)}"
        os.mkdir(probe, 0o777, dir_fd=self._fd)
        try:
            return stat.S_IMODE(os.stat(probe, dir_fd=self._fd).st_mode)
        finally:
            os.rmdir(probe, dir_fd=self._fd)


def _occupied(target: Path) -> RecipeError:
    return RecipeError(f"{target}: already there, since a moment ago; give another name with --out")


@contextmanager
def beside(target: Path, name: str, keep: Callable[[BaseException], bool]) -> Iterator[Workplace]:
    """The workplace `.TARGET.name` beside `target`, whose parent is made. It is removed at the end, except after errors for which
    `keep` returns true. FullDiskError names the target when its disk is full."""
    target = target.absolute()
    with disk_of(target.parent, "free some there, or give a directory on a larger disk with --out"):
        target.parent.mkdir(parents=True, exist_ok=True)
        parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            usual = f".{os.fsencode(target.name)[:_NAME_BYTES].decode(errors='ignore')}.{name}"
            fd, alone = _take(parent, usual), False
            if fd is None:
                usual, alone = f"{usual}.{secrets.token_hex(8)}", True
                fd = _take(parent, usual)
            if fd is None:
                raise ServiceError(f"{target.parent}: others change what is made there: use one that nobody else may write to")
            work = Workplace(target=target, path=_path_of(fd, target.with_name(usual)), name=usual, _fd=fd, _parent=parent)
            try:
                yield work
            except BaseException as error:
                if alone or not keep(error):
                    _remove(work, parent, fd)
                raise
            else:
                _remove(work, parent, fd)
            finally:
                os.close(fd)
        finally:
            os.close(parent)


def is_own_file(path: Path) -> bool:
    """Whether this is a file of this user that nobody else may change and that has no other name."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return _is_own(status) and stat.S_ISREG(status.st_mode) and not status.st_mode & _OTHERS_WRITE


def _take(parent: int, name: str) -> int | None:
    """The directory of this name, open and locked; made if missing. None when this process may not have it."""
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        return None  # a link, a file, somebody else's
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_private(fd) and _is_still(parent, name, fd):
            os.fchmod(fd, 0o700)
            return fd
    except OSError:
        pass  # another process has it, or it is one that this user may not read
    os.close(fd)
    return None


def _is_private(fd: int) -> bool:
    """Whether the directory is this user's, and another user has made nothing in it, can change nothing, and sees nothing of it
    elsewhere."""
    top = os.fstat(fd)
    if not _is_own(top) or top.st_mode & _OTHERS_WRITE:
        return False
    closed = not top.st_mode & 0o077  # nobody else could ever enter
    for _, folders, files, here in os.fwalk(dir_fd=fd, follow_symlinks=False):
        for name in (*folders, *files):
            status = os.stat(name, dir_fd=here, follow_symlinks=False)
            plain = stat.S_ISDIR(status.st_mode) if name in folders else stat.S_ISREG(status.st_mode)
            if not plain or not _is_own(status) or (status.st_mode & _OTHERS_WRITE and not closed):
                return False
    return True


def _is_own(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and (stat.S_ISDIR(status.st_mode) or status.st_nlink == 1)


def _is_still(parent: int, name: str, fd: int) -> bool:
    there, opened = os.stat(name, dir_fd=parent, follow_symlinks=False), os.fstat(fd)
    return (there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino)


def _path_of(fd: int, path: Path) -> Path:
    """A path to the open directory that survives renames. Without /proc its name, which is as good where nobody else writes."""
    link = Path(f"/proc/self/fd/{fd}")
    return link if link.is_dir() else path


def _remove(work: Workplace, parent: int, fd: int) -> None:
    """Remove the directory with its content, unless it has become the target."""
    with suppress(OSError):
        if not _is_still(parent, work.name, fd):
            return
        for name in os.listdir(fd):
            if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                shutil.rmtree(name, dir_fd=fd)
            else:
                os.unlink(name, dir_fd=fd)
        os.rmdir(work.name, dir_fd=parent)


def sync_tree(root: Path) -> None:
    """Make the names in a tree survive a loss of power."""
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        atomically.sync(folder)
