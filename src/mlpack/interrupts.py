"""Ctrl-C and SIGTERM, remembered: an interrupt must end the process even when a library swallows the exception.

torch's exporters catch every exception somewhere in the middle and go on another way: an interrupt then came out as an
error of theirs (RecursionError), or not at all, with a result that an uninterrupted run might not have given. So what
is done in a foreign library is followed by `check`. One flag for the process, because signals are the process's.
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from importlib import import_module
from types import FrameType

_seen: list[int] = []
_held: list[str] = []
"""Modules that are being loaded."""


def listen() -> None:
    """Turn SIGINT and SIGTERM into a remembered KeyboardInterrupt. For the main thread of a command."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def seen() -> bool:
    """Whether the process was asked to stop since `listen`."""
    return bool(_seen)


def check() -> None:
    """Raise KeyboardInterrupt when the process was asked to stop, whatever became of the exception then."""
    if _seen:
        raise KeyboardInterrupt


def load(name: str) -> None:
    """Import a module whole: the first interrupt waits until it is there, a second one does not. Native libraries are not made to
    be left half loaded: an interrupt while torch was ended the process with a segmentation fault. One that is not installed is
    left to whoever needs it."""
    if name in sys.modules:
        return
    _held.append(name)
    try:
        with suppress(ModuleNotFoundError):
            import_module(name)
    finally:
        _held.pop()
    check()


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _seen.append(number)
    if not _held or len(_seen) > 1:
        raise KeyboardInterrupt
