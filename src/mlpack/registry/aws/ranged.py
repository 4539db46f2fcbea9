"""Downloads a large blob into a file, in parts, several at once, and resumes after a kill.

    .NAME.DIGEST.part      the bytes, each part at its offset
    .NAME.DIGEST.parts     which parts are there: a line with size and version, then the number of each part once it is written

Promises:
- The file is whole and verified, or it is not there.
- Memory does not grow with the file. An interrupt ends the download between two chunks.
- Two processes that fetch the same file at once use different partial files.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import BoundedSemaphore

from mlpack.core import interrupts
from mlpack.core.digest import Digest
from mlpack.errors import ServiceError
from mlpack.registry import Moved

PART_BYTES = 8 << 20
"""boto3's own size of a part: so large that the cost of a request is nothing beside its bytes."""
CHUNK_BYTES = 1 << 20
PARALLEL = 8


class ChangedError(ServiceError):
    """The object has changed since the first part was read."""


@dataclass(frozen=True, slots=True)
class OpenRange:
    """A range of an object: the object's size and version, and the bytes until it is closed."""

    total: int
    version: str
    chunks: Iterator[bytes]
    close: Callable[[], object]


Open = Callable[[int, int, str | None], OpenRange]
"""Opens a range from its first byte to before its last one, of this version (else ChangedError) or of any."""


def fetch(open_: Open, blob: Digest, path: Path, moved: Moved, slots: BoundedSemaphore) -> str | None:
    """Write the bytes to `path`. When they have another digest, it is returned and no file is left.

    `slots` limits the parts that are read at once by all callers that share it.
    """
    with _partial(path, blob) as partial:
        while True:
            begun_before = bool(partial.done)
            try:
                version = _fill(partial, open_, moved, slots)
            except ChangedError:
                partial.forget()
                if not begun_before:
                    raise
                continue
            if version == blob.hex:
                os.fsync(partial.stream)
                partial.journal.unlink()
                partial.path.replace(path)
                partial.moved = True
                return None
            partial.forget()
            if not begun_before:
                return f"sha256:{version}"


@dataclass(slots=True)
class _PartialFile:
    """The file under construction and the record of its parts."""

    path: Path
    journal: Path
    stream: int
    size: int | None = None
    version: str | None = None
    done: set[int] = field(default_factory=set)
    moved: bool = False
    """Whether it is where it was meant to be; what has its name now is another's."""

    def note(self, line: str) -> None:
        """Record a part, so that a kill does not lose it."""
        with self.journal.open("a", encoding="ascii") as stream:
            stream.write(line + "\n")

    def recall(self) -> None:
        """Read what an earlier attempt recorded; nothing when that makes no sense."""
        try:
            first, *rest = self.journal.read_text(encoding="ascii").splitlines()
            state = json.loads(first)
            self.size, self.version = int(state["size"]), str(state["version"])
            self.done = {int(line) for line in rest}
            if os.fstat(self.stream).st_size != self.size or any(not 0 <= part < parts(self.size) for part in self.done):
                raise ValueError("not of this file")
        except (OSError, ValueError, KeyError, TypeError):
            self.forget()

    def begin(self, size: int, version: str) -> None:
        """Set the length of the file and reserve its space."""
        self.size, self.version = size, version
        os.ftruncate(self.stream, size)
        self.note(json.dumps({"size": size, "version": version}))

    def forget(self) -> None:
        """Begin again."""
        self.size, self.version, self.done = None, None, set()
        self.journal.unlink(missing_ok=True)
        os.ftruncate(self.stream, 0)


def parts(size: int) -> int:
    """The number of parts."""
    return -(-size // PART_BYTES)


@contextmanager
def _partial(path: Path, blob: Digest) -> Iterator[_PartialFile]:
    """The partial file, which no other process has. It stays after a failure so that the next attempt resumes, but not on a full
    disk, and not when its name is this process's own."""
    name = f".{path.name}.{blob.hex[:16]}"
    partial, ours = _take(path, name), False
    if partial is None:
        partial, ours = _take(path, f"{name}.{secrets.token_hex(8)}"), True
    assert partial is not None
    keep = False
    try:
        partial.recall()
        yield partial
    except BaseException as error:
        keep = bool(partial.done) and not ours and not isinstance(error, OSError)
        raise
    finally:
        if not keep and not partial.moved:
            partial.path.unlink(missing_ok=True)
            partial.journal.unlink(missing_ok=True)
        os.close(partial.stream)  # closing releases the lock


def _take(path: Path, name: str) -> _PartialFile | None:
    """The file, locked; None when another process has it."""
    part = path.with_name(f"{name}.part")
    stream = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(part).st_ino == os.fstat(stream).st_ino:
            return _PartialFile(part, path.with_name(f"{name}.parts"), stream)
    except (BlockingIOError, FileNotFoundError):
        pass  # another process has it, or has just finished with it
    os.close(stream)
    return None


def _fill(partial: _PartialFile, open_: Open, moved: Moved, slots: BoundedSemaphore) -> str:
    """Read the missing parts. Returns the digest of the whole."""
    first: OpenRange | None = None
    if partial.size is None:
        with slots:
            first = open_(0, PART_BYTES, None)
        partial.begin(first.total, first.version)
    assert partial.size is not None
    for part in sorted(partial.done):
        moved(_length(partial, part))
    stop = threading.Event()
    get = functools.partial(_get, partial, open_, slots, stop)
    state, hashed = hashlib.sha256(), 0
    pool = ThreadPoolExecutor(max_workers=PARALLEL, thread_name_prefix="fetch")
    try:
        missing = [part for part in range(parts(partial.size)) if part not in partial.done]
        pending: set[Future[int]] = {pool.submit(get, part, first if part == 0 else None) for part in missing}
        while True:
            interrupts.check()
            while hashed in partial.done:
                _hash(partial, hashed, state)
                hashed += 1
            if not pending:
                return state.hexdigest()
            ended, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in ended:
                part = future.result()
                partial.done.add(part)
                partial.note(str(part))
                moved(_length(partial, part))
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        if first is not None:
            first.close()


def _get(
    partial: _PartialFile, open_: Open, slots: BoundedSemaphore, stop: threading.Event, part: int, opened: OpenRange | None
) -> int:
    """Write a part at its offset."""
    at = part * PART_BYTES
    with slots:
        if not stop.is_set():
            opened = opened or open_(at, at + _length(partial, part), partial.version)
            try:
                for chunk in opened.chunks:
                    interrupts.check()
                    if stop.is_set():
                        break
                    os.pwrite(partial.stream, chunk, at)
                    at += len(chunk)
            finally:
                opened.close()
    return part


def _length(partial: _PartialFile, part: int) -> int:
    assert partial.size is not None
    return min(PART_BYTES, partial.size - part * PART_BYTES)


def _hash(partial: _PartialFile, part: int, state: hashlib._Hash) -> None:
    """The digest of the file, which is still in the page cache."""
    at, end = part * PART_BYTES, part * PART_BYTES + _length(partial, part)
    while at < end:
        chunk = os.pread(partial.stream, min(CHUNK_BYTES, end - at), at)
        if not chunk:
            return  # the file was cut off: the digest will differ
        state.update(chunk)
        at += len(chunk)
