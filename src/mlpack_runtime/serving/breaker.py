"""A circuit breaker: after some failures of the device in a row nothing is tried, until one probe shows that it works again.

    closed ──`failures` in a row──▶ open ──cool-down over──▶ half-open: one probe ──succeeds──▶ closed
                                     ▲                                     └──────fails──────▶ open, for twice as long

Promises: pure but for the clock that it is given (seconds, monotonic); safe from any thread; never two probes at once, and no
probe before its time. Will not: know what a device is, or wait.
"""

from _thread import allocate_lock
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"


class Breaker:
    """`failures` in a row open it for `cooldown_s`; each probe that fails doubles that, up to `longest_s`."""

    def __init__(
        self, failures: int = 3, cooldown_s: float = 10.0, longest_s: float = 300.0, clock: "Callable[[], float]" = monotonic
    ) -> None:
        self._lock = allocate_lock()
        self._clock = clock
        self._limit = failures
        self._first_s = cooldown_s
        self._longest_s = longest_s
        self._state = CLOSED
        self._failed = 0
        self._cooldown_s = cooldown_s
        self._until = 0.0

    @property
    def state(self) -> str:
        """CLOSED, OPEN or HALF_OPEN."""
        return self._state

    @property
    def closed(self) -> bool:
        """Whether work may be taken."""
        return self._state == CLOSED

    @property
    def wait_s(self) -> float:
        """How long until a probe is let through; 0 when one may be now, or nothing is open."""
        return max(0.0, self._until - self._clock()) if self._state == OPEN else 0.0

    def admit(self) -> bool:
        """Whether the device may be tried now. True once after a cool-down: that try is the probe, and its outcome must be told."""
        with self._lock:
            if self._state == OPEN and self._clock() >= self._until:
                self._state = HALF_OPEN
                return True
            return self._state == CLOSED

    def succeeded(self) -> None:
        """A try that was admitted worked. One that began before the breaker opened changes nothing."""
        with self._lock:
            self._failed = 0
            if self._state == HALF_OPEN:
                self._state, self._cooldown_s = CLOSED, self._first_s

    def failed(self) -> None:
        """A try that was admitted failed, by the device's fault."""
        with self._lock:
            self._failed += 1
            if self._state == HALF_OPEN:
                self._cooldown_s = min(self._cooldown_s * 2, self._longest_s)
            elif self._state == OPEN or self._failed < self._limit:
                return
            self._state, self._until = OPEN, self._clock() + self._cooldown_s

    def released(self) -> None:
        """A try that was admitted told nothing of the other side. A probe is given back: the next try is one."""
        with self._lock:
            if self._state == HALF_OPEN:
                self._state = OPEN
