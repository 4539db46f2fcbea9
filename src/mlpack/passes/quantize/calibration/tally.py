"""The values that calls reached in one tensor, in memory that does not grow with the calls.

Promises:
- The same calls in any order give the same tally.
- It holds the two furthest calls at each end and, on request, a histogram with fine bins: a value is off by at most a
  thousandth of itself.

Will not: choose a range. `cuts` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_FINE = 10
"""The bits of a float32's fraction that distinguish bins: 1,024 bins from a number to its double."""
_OCTAVES = 14
"""Doublings that the bins cover, up to the furthest value. Smaller values, a 16,000th of that, are treated as zero."""
_BINS = _OCTAVES << _FINE
_DROPPED = 23 - _FINE
_AT_A_TIME = 1 << 20


@dataclass(frozen=True, slots=True)
class Extreme:
    """The furthest value at one end, the call that reached it, and the furthest value of any other call."""

    value: float
    call: int
    other: float | None = None

    def with_(self, value: float, call: int, *, upwards: bool) -> Extreme:
        """The extreme after one more call."""
        if value > self.value if upwards else value < self.value:
            return Extreme(value, call, self.value)
        others = [value] if self.other is None else [value, self.other]
        return Extreme(self.value, self.call, max(others) if upwards else min(others))


@dataclass(slots=True)
class Tally:
    """The values of one tensor. `low` and `high` are None until a call had values in it."""

    detailed: bool = False
    """Whether a histogram is kept."""
    low: Extreme | None = None
    high: Extreme | None = None
    values: int = 0
    calls: int = 0
    """Those that had values in it."""
    broken: tuple[int, str] | None = None
    """The first call with a value that is not finite, and what that was."""
    broken_calls: int = 0
    _counts: Array | None = None
    _top: int = field(default=_OCTAVES)
    """The exponent, as float32 stores it, from which on there are no bins yet."""

    def add(self, values: Array, call: int) -> None:
        """Count the values of one call."""
        import numpy as np

        if not values.size:
            return
        least, most = float(values.min()), float(values.max())
        if not (np.isfinite(least) and np.isfinite(most)):
            what = "NaN" if np.isnan(least) or np.isnan(most) else "an infinite number"
            self.broken = self.broken or (call, what)
            self.broken_calls += 1
            return
        self.low = Extreme(least, call) if self.low is None else self.low.with_(least, call, upwards=False)
        self.high = Extreme(most, call) if self.high is None else self.high.with_(most, call, upwards=True)
        self.values += values.size
        self.calls += 1
        if self.detailed:
            self._count(values.astype(np.float32, copy=False), max(abs(least), abs(most)))

    def without(self, call: int) -> tuple[float, float] | None:
        """The range of all other calls, None where there is none."""
        ends = [end.other if end.call == call else end.value for end in (self.low, self.high) if end is not None]
        return None if len(ends) < 2 or ends[0] is None or ends[1] is None else (ends[0], ends[1])

    def histogram(self) -> tuple[Array, Array]:
        """Middles of the bins that are not empty, from the lowest, and the number of values in each."""
        import numpy as np

        if self._counts is None:
            return np.zeros(0), np.zeros(0, np.int64)
        base = (self._top - _OCTAVES) << _FINE
        edges = ((np.arange(_BINS + 1) + base).astype(np.uint32) << _DROPPED).view(np.float32)
        edges = np.minimum(edges, np.finfo(np.float32).max).astype(np.float64)  # behind the last bin of all lies infinity
        middles = np.concatenate([[0.0], (edges[:-1] + edges[1:]) / 2])
        positive, negative = self._counts
        both = np.concatenate([-middles[:0:-1], middles])
        counts = np.concatenate([negative[:0:-1], positive])
        counts[_BINS] += negative[0]
        filled = counts > 0
        return both[filled], counts[filled]

    def _count(self, values: Array, furthest: float) -> None:
        import numpy as np

        if self._counts is None:
            self._counts = np.zeros((2, _BINS + 1), np.int64)
        self._grow(int(np.float32(furthest).view(np.uint32)) >> 23)
        base = (self._top - _OCTAVES) << _FINE
        flat = np.ascontiguousarray(values).reshape(-1)
        for start in range(0, flat.size, _AT_A_TIME):
            bits = flat[start : start + _AT_A_TIME].view(np.uint32)
            place = np.maximum(((bits & np.uint32(0x7FFFFFFF)) >> np.uint32(_DROPPED)).astype(np.int32) - (base - 1), 0)
            place += (bits >> np.uint32(31)).astype(np.int32) * np.int32(_BINS + 1)
            self._counts += np.bincount(place, minlength=2 * (_BINS + 1)).reshape(2, -1)

    def _grow(self, exponent: int) -> None:
        """Make room for values of this exponent. The lowest bins are merged into the count of values that are treated as zero."""
        by = (exponent + 1 - self._top) << _FINE
        if by <= 0 or self._counts is None:
            return
        moved = min(by, _BINS)
        self._counts[:, 0] += self._counts[:, 1 : 1 + moved].sum(axis=1)
        self._counts[:, 1 : 1 + _BINS - moved] = self._counts[:, 1 + moved :].copy()
        self._counts[:, 1 + _BINS - moved :] = 0
        self._top = exponent + 1
