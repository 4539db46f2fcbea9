"""How much each tenant may ask: requests a second, and a day, counted in this instance's memory.

Promises: what is refused costs nothing more, and its refusal says when to come again; tenants do not take one another's share.
Will not: know other instances. N of them let N times as much through, and a new one begins at nothing: a limit that has to hold
over all of them belongs into API Gateway's usage plans or a WAF.
"""

from _thread import allocate_lock
from time import monotonic, time

from mlpack_runtime.limits import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_MOST = 10_000
"""Tenants that are remembered; the one that has been silent for longest is forgotten first."""
_DAY_S = 86_400


class Rates:
    """`per_second` and `per_day` of each tenant, `burst` at once; `tenants` has those of single ones, by name."""

    def __init__(
        self, settings: "Mapping[str, Any]", clock: "Callable[[], float]" = monotonic, now: "Callable[[], float]" = time
    ) -> None:
        self._default = settings
        self._own: Mapping[str, Mapping[str, Any]] = settings.get("tenants") or {}
        self._clock = clock
        self._now = now
        self._lock = allocate_lock()
        self._known: dict[str, list[float]] = {}  # tokens left, when that was, the day, requests of that day

    def take(self, tenant: str) -> None:
        """Count a request of this tenant. Raises RequestError (429, with Retry-After) for one too many."""
        told = {**self._default, **self._own.get(tenant, {})}
        per_second, per_day = told.get("per_second"), told.get("per_day")
        with self._lock:
            now_s, today = self._clock(), self._now() // _DAY_S
            burst = float(told.get("burst") or max(1.0, per_second or 1.0))
            left, since_s, day, count = self._known.pop(tenant, [burst, now_s, today, 0.0])
            if day != today:
                day, count = today, 0.0
            left = min(burst, left + (now_s - since_s) * (per_second or 0.0))
            wait_s = 0.0
            if per_day is not None and count >= per_day:
                wait_s, what = (today + 1) * _DAY_S - self._now(), f"{per_day:g} requests a day"
            elif per_second is not None and left < 1:
                wait_s, what = (1 - left) / per_second, f"{per_second:g} requests a second"
            if not wait_s:
                left, count = left - 1, count + 1
            if len(self._known) >= _MOST:
                del self._known[next(iter(self._known))]
            self._known[tenant] = [left, now_s, day, count]
        if wait_s:
            raise RequestError(f"{what} are let through for a caller, and more came: try again later", 429, "RateLimited", wait_s)
