"""Remembers Ctrl-C and SIGTERM, so that an interrupt ends the process even when a library swallows the exception.

torch's exporters catch every exception somewhere in the middle and continue in another way. An interrupt then came out as one
of their errors (RecursionError), or not at all, with a result that an uninterrupted run might not have given. So every call
into a foreign library is followed by `check`. There is one flag for the process, because signals belong to the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subprocess import Popen

_POLL_S = 0.005

_seen: list[int] = []
_held: list[str] = []
"""Modules that are being loaded."""


def listen() -> None:
    """Turn SIGINT and SIGTERM into a remembered KeyboardInterrupt. For the main thread of a command."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def pending() -> bool:
    """Whether the process was asked to stop since `listen`."""
    return bool(_seen)


def check() -> None:
    """Raise KeyboardInterrupt when the process was asked to stop, even if a library swallowed the first exception."""
    if _seen:
        raise KeyboardInterrupt


def load(name: str) -> None:
    """Import a module as a whole: the first interrupt waits until it is imported, a second one does not. Native libraries cannot be
    left half loaded: an interrupt during the import of torch ended the process with a segmentation fault. A missing module is no
    error here; its user reports it."""
    if name in sys.modules:
        return
    _held.append(name)
    try:
        with suppress(ModuleNotFoundError):
            import_module(name)
    finally:
        _held.pop()
    check()


class Guard:
    """Delays interrupts while something must not be left half done, such as a running child process. See `guarded`."""

    def __init__(self) -> None:
        self._open = self._over = False
        self._waiting: list[int] = []
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def let_in(self) -> None:
        """From here on the first interrupt is raised as usual, also one that has waited; later ones wait."""
        self._open = True
        self._pass_on()

    def keep_out(self) -> None:
        """From here on interrupts wait."""
        self._open = False

    def _install(self) -> None:
        for number, handler in self._before.items():
            if callable(handler):  # signals that the system handles, or ignores, stay
                signal.signal(number, self._take)

    def _restore(self) -> None:
        self._over = True  # a signal that arrives between the lines below is passed on
        for number, handler in self._before.items():
            if callable(handler):
                signal.signal(number, handler)
        self._open = True
        self._pass_on()

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._over or self._open:
            self._open = False
            self._handle(number, frame)
        else:
            self._waiting.append(number)

    def _pass_on(self) -> None:
        if self._waiting:
            self._open = False
            self._handle(self._waiting.pop(0), None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        handler = self._before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)


@contextmanager
def guarded() -> Iterator[Guard]:
    """Interrupts wait within the block, except where it lets them in. In threads, which get no interrupts, it changes nothing.

    The form for anything that must be ended, with no line at which an interrupt could leave it behind:

        with guarded() as guard:
            child = begin()
            try:
                try:
                    guard.let_in()
                    yield child
                finally:
                    guard.keep_out()
            finally:
                end(child)
    """
    guard = Guard()
    if threading.current_thread() is not threading.main_thread():
        yield guard
        return
    try:
        guard._install()
        yield guard
    finally:
        guard._restore()


def reap(process: Popen[bytes], timeout_s: float | None = None) -> bool:
    """Wait until a child has ended; False when it has not within that time.

    `Popen.wait` may wait for ever after an interrupt in `Popen.poll`: between taking its lock and the `try` that frees it.
    """
    until = None if timeout_s is None else time.monotonic() + timeout_s
    while process.returncode is None:
        try:
            pid, status = os.waitpid(process.pid, 0 if until is None else os.WNOHANG)
        except ChildProcessError:  # reaped, by a poll that was interrupted before it kept the status
            process.returncode = -signal.SIGKILL
            return True
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
        elif until is not None and time.monotonic() > until:
            return False
        else:
            time.sleep(_POLL_S)
    return True


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _seen.append(number)
    if not _held or len(_seen) > 1:
        raise KeyboardInterrupt
