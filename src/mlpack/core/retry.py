"""Trying again what others get in the way of: how often, after which pause, and of what.

Promises: attempts are bounded; there is no pause before the first and none after the last. Whoever calls says what is worth another
attempt and how long to wait for it; an error that is not, and that of the last attempt, come out as they were raised. It does not
wait until something has happened: that takes a deadline, and is its caller's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

Pause = Callable[[int], float]
"""Seconds to wait after so many attempts (1 and more)."""
Again = Callable[[Exception, int], float | None]
"""Seconds to wait after this error of this attempt (1 and more); None where another attempt would not help."""
Sleep = Callable[[float], object]

_DOUBLINGS = 32
"""More would be no number of seconds that anybody waits."""


def spread(first_s: float, most_s: float, *, least: float = 0.0) -> Pause:
    """Pauses that double, each cut short by chance: clients that met once do not meet again at the end of the same pause.

    Args:
        first_s: The longest that the first may be, in seconds.
        most_s: The longest that any may be, in seconds.
        least: The share of its longest that a pause is at least, 0 to 1.
    """

    def pause(number: int) -> float:
        longest = min(first_s * 2.0 ** min(number - 1, _DOUBLINGS), most_s)
        return longest * random.uniform(least, 1.0)  # this random number protects nothing

    return pause


def attempts(most: int, pause: Pause, *, sleep: Sleep | None = None) -> Iterator[int]:
    """The numbers of attempts from 1 to `most`, with a pause between two: leave the loop when one succeeds.

    Args:
        most: How many there are.
        pause: How long to wait after each.
        sleep: What waits; None: `time.sleep`.
    """
    for number in range(1, most + 1):
        if number > 1:
            (sleep or time.sleep)(pause(number - 1))
        yield number


def call(work: Callable[[], T], most: int, again: Again, *, sleep: Sleep | None = None) -> T:
    """Calls `work` until it raises nothing.

    Args:
        work: An attempt; it may be made again after an error of its own.
        most: How many attempts there are.
        again: Which errors another attempt could help, and after how long.
        sleep: What waits; None: `time.sleep`.

    Returns:
        What `work` returned.

    Raises:
        Exception: That of the last attempt, or the first for which `again` gives None.
    """
    for number in range(1, most):
        try:
            return work()
        except Exception as error:
            pause = again(error, number)
            if pause is None:
                raise
        (sleep or time.sleep)(pause)
    return work()
