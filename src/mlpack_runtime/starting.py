"""What makes a start short: an allocator that asks the kernel seldom, and work that is done beside other work.

Promises: nothing here changes an answer, and what a system does not have is left out without a word.
Will not: know models.
"""

import os
from _thread import allocate_lock, start_new_thread
from ctypes import CDLL, c_size_t, c_void_p
from time import perf_counter_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

AFTER_RESTORE: "list[Callable[[], object]]" = []
"""What to call in each instance that is made of a snapshot (`snapshot`): whoever keeps a connection, credentials or a time appends
what forgets them."""
_MIB = 1 << 20
_RESERVED = 64 * _MIB
"""Addresses, not memory: what loading an engine and a small model takes, and some more."""
_HUGE_PAGE = 2 * _MIB
_MADV_HUGEPAGE, _MADV_NOHUGEPAGE = 14, 15
_HUGE: "list[tuple[int, int]]" = []
"""Address and size of what is asked for in huge pages while a package loads."""
_TOP_PAD, _MMAP_THRESHOLD, _TRIM_THRESHOLD = -2, -3, -1  # numbers from glibc's malloc.h


def has_seconds() -> bool:
    """Whether Lambda ends this start after 10 s. Provisioned concurrency, snapshots and managed instances have 15 minutes, and
    other platforms as long as their probes let them. A function that is not told its kind of start (an emulator's, say) counts as
    on demand."""
    environment = os.environ
    return "AWS_LAMBDA_RUNTIME_API" in environment and environment.get("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand") == "on-demand"


def tune_allocator() -> None:
    """Let the allocator take much at once, in huge pages where the kernel has them, and keep what it has.

    Loading makes hundreds of thousands of small allocations. glibc by default asks the kernel for 128 KB at a time, and each page
    of 4 KB is a fault. MiniLM's cold start took 8,700 of them; 4,300 with this, which is 7 of its 72 ms of processor time.
    """
    library = CDLL(None)
    try:
        mallopt, sbrk = library.mallopt, library.sbrk
    except AttributeError:  # not glibc
        return
    mallopt(_MMAP_THRESHOLD, 32 * _MIB)
    mallopt(_TRIM_THRESHOLD, 256 * _MIB)
    mallopt(_TOP_PAD, _RESERVED)
    sbrk.restype = library.malloc.restype = c_void_p
    before = sbrk(c_size_t(0)) or 0
    library.free(c_void_p(library.malloc(c_size_t(_MIB))))
    after = sbrk(c_size_t(0)) or 0
    mallopt(_TOP_PAD, 16 * _MIB)
    first, last = -(-before // _HUGE_PAGE) * _HUGE_PAGE, after // _HUGE_PAGE * _HUGE_PAGE
    if last > first:  # a kernel without huge pages refuses, and nothing is lost
        library.madvise(c_void_p(first), c_size_t(last - first), _MADV_HUGEPAGE)
        _HUGE.append((first, last - first))


def settle() -> None:
    """Loading is done: what the heap has not touched yet comes in small pages again. Requests touch little of it at a time, and two
    megabytes for each little were 4 MB of MiniLM's peak."""
    while _HUGE:
        first, size_bytes = _HUGE.pop()
        CDLL(None).madvise(c_void_p(first), c_size_t(size_bytes), _MADV_NOHUGEPAGE)


def timed(stages: "dict[str, float]", stage: str, work: "Callable[[], Any]") -> "Any":
    """Do it, and note in `stages` how many milliseconds it took."""
    start = perf_counter_ns()
    result = work()
    stages[stage] = (perf_counter_ns() - start) / 1e6
    return result


class Beside:
    """One piece of work in a thread of its own. `result` gives its value, or raises what it raised; None if never started."""

    def __init__(self, work: "Callable[[], Any]") -> None:
        self._work = work
        self._value: Any = None
        self._error: BaseException | None = None
        self._done = allocate_lock()

    def start(self) -> None:
        """Begin."""
        self._done.acquire()
        start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:  # noqa: BLE001  (carried to the thread that asks)
            self._error = error
        finally:
            self._done.release()

    def wait(self) -> None:
        """Return when it is done, however it ended."""
        with self._done:
            pass

    def result(self) -> "Any":
        """Its value, when it is done. Raises what it raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._value
