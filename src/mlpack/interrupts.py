"""Ctrl-C and SIGTERM, remembered: an interrupt must end the process even when a library swallows the exception.

torch's exporters catch every exception somewhere in the middle and go on another way: an interrupt then came out as an
error of theirs (RecursionError), or not at all, with a result that an uninterrupted run might not have given. So what
is done in a foreign library is followed by `check`. One flag for the process, because signals are the process's.
"""

from __future__ import annotations

import signal
from types import FrameType

_seen: list[int] = []


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


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _seen.append(number)
    raise KeyboardInterrupt
