"""A folder of results on this machine's disk.

Promises: as `folders.Folder` has it, by hard links, which refuse a name that is there, by one lock for replacements and for all
where there are no links. What a runner that was killed has left half written begins with a point, and goes when the next one comes.
Will not: keep notes, which the files themselves say.
"""

# ruff: noqa: PTH123 - pathlib is nothing that this runtime needs

import os
from errno import EINVAL, ENOSYS, ENOTSUP, EPERM
from hashlib import sha256

from mlpack_runtime.batch.errors import BatchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LOCK = ".lock"
_DRAFT = ".draft-"
_NO_LINKS = (EPERM, ENOTSUP, ENOSYS)
"""What FAT, and folders of other machines, say of a hard link."""


class LocalFolder:
    """Files below a directory. `describe`: what the bytes of a file say of it, in the place of notes."""

    def __init__(self, path: str, describe: "Callable[[bytes], dict[str, str]]") -> None:
        self.uri = os.path.abspath(path)
        self._describe = describe
        try:
            os.makedirs(self.uri, exist_ok=True)
        except OSError as error:
            raise BatchError(f"{self.uri} cannot be made: {error.strerror}. Name another place for the results") from None
        for name in os.listdir(self.uri):
            if name.startswith(_DRAFT) and not _runs(name):
                self._remove(name)

    def read(self, name: str) -> "tuple[bytes, str] | None":
        """The file, and the digest of what it holds."""
        try:
            with open(self._path(name), "rb") as stream:
                data = stream.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failure(name, error) from None
        return data, sha256(data).hexdigest()

    def held(self, name: str) -> "tuple[bytes, str, float | None] | None":
        """With the age by a file that is made beside it: a folder of another machine has that machine's clock."""
        probe = self._path(f"{_DRAFT}{os.urandom(8).hex()}-{os.getpid()}-{os.uname().nodename}")
        try:
            with open(self._path(name), "rb") as stream:
                data, written_s = stream.read(), os.fstat(stream.fileno()).st_mtime
            with open(probe, "xb") as stream:
                now_s = os.fstat(stream.fileno()).st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failure(name, error) from None
        finally:
            self._remove(os.path.basename(probe))
        return data, sha256(data).hexdigest(), now_s - written_s

    def note(self, name: str) -> "dict[str, str] | None":
        """Read anew from the file."""
        held = self.read(name)
        return None if held is None else self._describe(held[0])

    def put_new(self, name: str, data: bytes, note: "dict[str, str] | None" = None) -> bool:  # noqa: ARG002  (the file says it)
        """A link to what was written under another name."""
        path = self._path(name)
        if os.path.exists(path):
            return False
        draft = self._write(data)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            try:
                os.link(draft, path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if not self._moved(draft, path):
                    return False
            _settle(os.path.dirname(path))
        except FileExistsError:
            return False
        except OSError as error:
            raise self._failure(name, error) from None
        finally:
            self._remove(os.path.basename(draft))
        return True

    def _moved(self, draft: str, path: str) -> bool:
        """Where a file system has no links: under the folder's lock; False where there is one of this name."""
        from fcntl import LOCK_EX, flock

        with open(self._path(_LOCK), "ab") as lock:
            flock(lock, LOCK_EX)
            if os.path.exists(path):
                return False
            os.replace(draft, path)
            return True

    def replace(self, name: str, data: bytes, tag: str) -> bool:
        """Under the folder's lock, which ends with whoever holds it."""
        from fcntl import LOCK_EX, flock

        try:
            with open(self._path(_LOCK), "ab") as lock:
                flock(lock, LOCK_EX)
                held = self.read(name)
                if held is None or held[1] != tag:
                    return False
                os.replace(self._write(data), self._path(name))
                return True
        except OSError as error:
            raise self._failure(name, error) from None

    def names(self, prefix: str) -> "list[str]":
        """Of one directory."""
        folder, _, begin = prefix.rpartition("/")
        try:
            rows = os.listdir(self._path(folder) if folder else self.uri)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._failure(prefix, error) from None
        return sorted(f"{folder}/{name}" if folder else name for name in rows if name.startswith(begin) and name[0] != ".")

    def _write(self, data: bytes) -> str:
        draft = self._path(f"{_DRAFT}{os.urandom(8).hex()}-{os.getpid()}-{os.uname().nodename}")
        try:
            with open(draft, "xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            self._remove(os.path.basename(draft))
            raise self._failure(os.path.basename(draft), error) from None
        return draft

    def _remove(self, name: str) -> None:
        try:
            os.unlink(self._path(name))
        except OSError:
            return  # another runner was first

    def _path(self, name: str) -> str:
        return os.path.join(self.uri, name)

    def _failure(self, name: str, error: OSError) -> BatchError:
        return BatchError(f"{self._path(name)}: {error.strerror or error}", 4)


def _runs(draft: str) -> bool:
    """Whether the process that is writing a draft is there still, or may be, on another machine that shares the folder."""
    _, _, process = draft.removeprefix(_DRAFT).partition("-")
    number, _, machine = process.partition("-")
    return machine != os.uname().nodename or os.path.exists(f"/proc/{number}")


def _settle(folder: str) -> None:
    """That a name is there survives a loss of power, too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (EINVAL, ENOTSUP):  # of folders of other machines, which see to it themselves
            raise
    finally:
        os.close(handle)
