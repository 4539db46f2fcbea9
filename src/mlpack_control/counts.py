"""Counts of requests, and bounds of the share that is bad among them. Pure.

Promises: any JSON value is read, and what is no pair of counts is None; a bound lies between 0 and 1.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeGuard

_MOST = 10**15
"""Nobody has more requests, and no rollout is later: beyond it a float no longer counts one by one."""


class Count(NamedTuple):
    """So many bad ones among so many requests."""

    bad: float
    total: float


def count_of(value: Any) -> Count | None:
    """The count that `[bad, total]` says; None where it is none: not two numbers, not finite, negative, or more bad than total."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    bad, total = value
    if not (is_number(bad) and is_number(total)) or not 0 <= bad <= total:
        return None
    return Count(bad, total)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a number that can be counted with: finite, not beyond all measure, and no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_MOST <= value <= _MOST


def lower(count: Count, z: float) -> float:
    """Wilson's lower bound of the share; 0 of no requests."""
    return max(0.0, _middle(count, z) - _half(count, z)) if count.total else 0.0


def upper(count: Count, z: float) -> float:
    """Wilson's upper bound of the share; 1 of no requests."""
    return min(1.0, _middle(count, z) + _half(count, z)) if count.total else 1.0


def _middle(count: Count, z: float) -> float:
    return (count.bad + z * z / 2) / (count.total + z * z)


def _half(count: Count, z: float) -> float:
    bad, total = count
    return z * math.sqrt(bad * (total - bad) / total + z * z / 4) / (total + z * z)
