"""Weights as a mapping of this process: out of a cache directory that has them whole, else from their source, part by part.

Promises: every byte that the engine sees was held against the SHA-256 of its part in this process; a part that is damaged is
fetched again, alone; a connection that breaks is tried again with pauses that double; what did arrive survives a kill. Nothing is
copied: the mapping is the cache file itself, or the memory that was written to. While parts come, each connection has some hundred
kilobytes in memory, however large a part is.
Will not: choose between sources, or know the engine.
"""

import os
from _thread import allocate_lock, start_new_thread
from errno import ENOSPC
from hashlib import sha256
from mmap import MADV_DONTNEED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap
from time import monotonic, sleep

from mlpack_runtime.remote import places, sources
from mlpack_runtime.remote.manifest import MEMORY, Weights, WeightsError
from mlpack_runtime.starting import has_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from mlpack_runtime.remote.sources import Source

    Put = Callable[[int, bytes | memoryview], None]

ATTEMPTS = 7
"""At a connection that breaks: some 6 s of pauses, so that a failure is told within Lambda's 10 s for a start."""
DAMAGED_ATTEMPTS = 3
_PAUSE_S, _LONGEST_S = 0.1, 3.2
_INIT_S = 8.0
_NO_RESERVE = 0x4000  # Linux: a private mapping of a file is not counted as memory that may be needed
_CHUNK_BYTES = 1 << 20


class Held:
    """The weights, mapped. `mapping` stays as long as the engine; `fd` holds the cache file's lock; `origin`: where they were."""

    def __init__(self, mapping: mmap, fd: int, origin: str, fetched_parts: int) -> None:
        self.mapping = mapping
        self.fd = fd
        self.origin = origin
        self.fetched_parts = fetched_parts

    def forget_pages(self) -> None:
        """Give the memory of a file's pages back, which stay in the page cache. The engine only reads them, so nothing is lost."""
        if self.fd >= 0:
            self.mapping.madvise(MADV_DONTNEED)

    def close(self) -> None:
        """Let go of the cache file, and of the mapping where nobody looks at it."""
        try:
            self.mapping.close()
        except BufferError:
            pass  # it goes when who looks at it goes
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def obtain(weights: Weights, source: "Source | None" = None, warn: "Callable[[str], None]" = lambda _: None) -> Held:
    """The weights, from the first cache directory that has them whole, else from their source. Raises WeightsError."""
    caches = [places.Place(place, weights.limit_bytes) for place in weights.cache if place != MEMORY]
    copies: list[tuple[places.Place, int, list[int]]] = []
    try:
        for place in caches:
            fd = place.open(weights.digest, weights.size_bytes)
            if fd is None:
                continue
            bad = damaged(weights, fd)
            if not bad:
                return Held(_mapped(weights, fd), fd, place.directory, 0)
            total = len(weights.parts)
            warn(f"{len(bad)} of {total} parts of the weights in {place.directory} are damaged: they are fetched again")
            copies.append((place, fd, bad))
        source = source or sources.open_source(weights)
        try:
            return _fetched(weights, _Fetch(weights, source, warn), caches, copies)
        finally:
            source.close()
    finally:
        for _, fd, _ in copies:
            os.close(fd)


def _fetched(
    weights: Weights, fetch: "_Fetch", caches: "list[places.Place]", copies: "list[tuple[places.Place, int, list[int]]]"
) -> Held:
    refused = []
    for place in caches:
        try:
            fresh = place.begin(weights.digest, weights.size_bytes)
        except (OSError, WeightsError) as error:
            refused.append(_told(place, error))
            continue
        try:
            count = _fill(weights, fetch, fresh, copies)
            old = next((fd for other, fd, _ in copies if other is place), None)
            place.publish(fresh, weights.digest, old)
            return Held(_mapped(weights, fresh.fd), fresh.fd, fetch.where, count)
        except OSError as error:  # the disk is full after all, or failed
            fresh.discard()
            os.close(fresh.fd)
            refused.append(_told(place, error))
        except BaseException:
            os.close(fresh.fd)  # what is in it stays, for the next start
            raise
    if MEMORY in weights.cache:
        memory = mmap(-1, weights.size_bytes)

        def put(offset: int, body: "bytes | memoryview") -> None:
            memory[offset : offset + len(body)] = body

        return Held(memory, -1, fetch.where, fetch.run(list(range(len(weights.parts))), put))
    raise WeightsError(
        f"the weights have {weights.size_bytes:,} bytes, and no cache takes them: {'; '.join(refused) or 'none is named'}. Give "
        "the function more ephemeral storage (512 to 10,240 MB), name another directory (MLPACK_WEIGHTS_CACHE), or "
        f"`{MEMORY}` beside it"
    )


def _told(place: "places.Place", error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{place.directory} cannot be written to ({error.strerror or error})"
    return str(error)


def _fill(weights: Weights, fetch: "_Fetch", fresh: "places.Fresh", copies: "list[tuple[places.Place, int, list[int]]]") -> int:
    """Write every part; how many were fetched."""
    wanted = damaged(weights, fresh.fd) if fresh.is_left else list(range(len(weights.parts)))

    def put(offset: int, body: "bytes | memoryview") -> None:
        view = memoryview(body)
        while view:
            written = os.pwrite(fresh.fd, view, offset)
            if not written:
                raise OSError(ENOSPC, os.strerror(ENOSPC))
            view, offset = view[written:], offset + written

    for _, fd, bad in copies:
        for index in [each for each in wanted if each not in bad]:
            offset, size = weights.span(index)
            body = os.pread(fd, size, offset)
            if sha256(body).hexdigest() == weights.parts[index]:
                put(offset, body)
                wanted.remove(index)
    return fetch.run(wanted, put)


def damaged(weights: Weights, fd: int) -> "list[int]":
    """The parts of an open file that are not what they should be."""
    bad: list[int] = []

    def look(index: int) -> None:
        offset, size = weights.span(index)
        state = sha256()
        while size:
            chunk = os.pread(fd, min(size, _CHUNK_BYTES), offset)
            if not chunk:
                break
            state.update(chunk)
            size, offset = size - len(chunk), offset + len(chunk)
        if state.hexdigest() != weights.parts[index]:
            bad.append(index)

    # Digests and reads let other threads run: two keep a vCPU busy while the disk is waited for, and two vCPUs both.
    _side_by_side(range(len(weights.parts)), 2, look)
    return sorted(bad)


def _mapped(weights: Weights, fd: int) -> mmap:
    # Private, so that the engine could write without the file's knowing; nothing is copied until somebody does.
    return mmap(fd, weights.size_bytes, flags=MAP_PRIVATE | _NO_RESERVE, prot=PROT_READ | PROT_WRITE)


class _PutError(Exception):
    """What stopped a piece from being written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _Landing:
    """Where the pieces of a part go, which are written and digested as they come: `sources.Landing`."""

    def __init__(self, offset: int, size: int, put: "Put") -> None:
        self.received = 0
        self._offset = offset
        self._size = size
        self._put = put
        self._state = sha256()

    def __call__(self, piece: "bytes | memoryview") -> None:
        if self.received + len(piece) > self._size:
            raise WeightsError("more came than was asked for: the source does not take ranges; take another server", passing=True)
        try:
            self._put(self._offset + self.received, piece)
        except OSError as error:
            raise _PutError(error) from None
        self._state.update(piece)
        self.received += len(piece)

    @property
    def digest(self) -> str:
        return self._state.hexdigest()


class _Fetch:
    """Parts from a source, side by side."""

    def __init__(self, weights: Weights, source: "Source", warn: "Callable[[str], None]") -> None:
        self._weights, self._source, self._warn = weights, source, warn
        self.where = source.where
        self._began_s = monotonic()
        self._done = 0
        self._slow = not has_seconds()  # told once, and only where a start is ended

    def run(self, wanted: "Sequence[int]", put: "Put") -> int:
        """Fetch and write these parts; their number. Raises WeightsError, and what `put` raises."""
        self._done = len(self._weights.parts) - len(wanted)
        _side_by_side(wanted, self._weights.connections, lambda index: self._part(index, put))
        return len(wanted)

    def _part(self, index: int, put: "Put") -> None:
        offset, size = self._weights.span(index)
        broken = wrong = 0
        while True:
            try:
                landing = _Landing(offset, size, put)
                self._source.read(offset, size, landing)
                if (found := landing.digest) == self._weights.parts[index]:
                    break
                wrong += 1
                error = self._damage(index, found)
            except _PutError as failed:  # no network's: a full disk is no reason to try again
                raise failed.error from None
            except WeightsError as failed:
                if not failed.passing:
                    raise
                broken, error = broken + 1, failed
            spent_s = monotonic() - self._began_s
            if wrong >= DAMAGED_ATTEMPTS or broken >= ATTEMPTS or spent_s > self._weights.patience_s:
                here = f"{self._done} of {len(self._weights.parts)} parts are here"
                tried = f"tried {broken + wrong} times in {spent_s:.1f} s; {here}"
                raise WeightsError(f"{error} ({tried})", passing=not wrong) from None
            sleep(min(_LONGEST_S, _PAUSE_S * 2 ** (broken + wrong - 1)) * (0.5 + os.urandom(1)[0] / 512))
        self._done += 1
        self._tell_slowness()

    def _damage(self, index: int, found: str) -> WeightsError:
        weights, (offset, size) = self._weights, self._weights.span(index)
        return WeightsError(
            f"{self.where}: part {index + 1} of {len(weights.parts)} (bytes {offset} to {offset + size - 1}) has the SHA-256 "
            f"{found[:12]}... and not {weights.parts[index][:12]}...: what is there is not what was built; {weights.hint}"
        )

    def _tell_slowness(self) -> None:
        """Say once that Lambda's time for a start will not do."""
        spent_s, total = monotonic() - self._began_s, len(self._weights.parts)
        if not self._slow and spent_s > _INIT_S and self._done < total:
            self._slow = True
            self._warn(
                f"{self._done} of {total} parts of the weights are here after {spent_s:.0f} s; Lambda ends a start after 10 s and "
                "begins it again in the first request, with what is here. Provisioned concurrency has 15 minutes for a start, and "
                "more memory has more network"
            )


def _side_by_side(items: "Sequence[int]", most: int, work: "Callable[[int], None]") -> None:
    """Do `work` for each item in up to `most` threads; raise the first error once all have come to their end."""
    left = list(reversed(items))
    errors: list[BaseException] = []
    waits: list[Any] = []

    def loop(finished: "Any") -> None:
        try:
            while not errors:
                try:
                    item = left.pop()
                except IndexError:
                    break
                work(item)
        except BaseException as error:  # noqa: BLE001  (raised again by whoever waits)
            errors.append(error)
        finally:
            if finished is not None:
                finished.release()

    for _ in range(min(most, len(left)) - 1):
        finished = allocate_lock()
        finished.acquire()
        waits.append(finished)
        start_new_thread(loop, (finished,))
    loop(None)
    for finished in waits:
        finished.acquire()
    if errors:
        raise errors[0]
