"""Callers at a gateway and a function of limited concurrency, request by request: who is answered, and who stops the others.

Promises: the same callers, limits and seed give the same counts; a request is counted once.
Will not: know a graph: `facts` takes the numbers out of one.

Source: Lambda developer guide, "Understanding Lambda function scaling": an environment has one request at a time, a function at
most its reserved concurrency, ten requests a second of each, and 1,000 environments more every ten seconds.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass

REQUESTS_EACH = 10
"""Requests a second for each environment that a function may have."""
SCALE, SCALE_S = 1000, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What callers meet. `reserved`: environments; `rate` and `burst`: of the gateway, None without one; times in seconds."""

    p50_s: float
    p95_s: float
    cold_s: float
    reserved: int
    timeout_s: float
    rate: float | None = None
    burst: int | None = None


@dataclass(slots=True, kw_only=True)
class Counts:
    """Of requests: `refused` by the gateway (429), `throttled` by Lambda (callers see 5xx), `late`: beyond the time-out."""

    sent: int = 0
    answered: int = 0
    refused: int = 0
    throttled: int = 0
    late: int = 0
    cold: int = 0
    at_once: int = 0


def simulate_load(place: Place, rps: float, seconds: float, *, ramp_s: float = 60.0, seed: int = 0) -> Counts:
    """Callers who come by chance, from none to `rps` within `ramp_s` and then for `seconds`."""
    chance, counts = random.Random(seed), Counts()
    spread = math.log(max(place.p95_s / place.p50_s, 1.05)) / 1.6449
    busy: list[float] = []
    idle = 0
    tokens, asked, made = float(place.burst or 0), float(place.reserved * REQUESTS_EACH), float(SCALE)
    at = before = 0.0
    while True:
        at += chance.expovariate(rps)
        if at >= ramp_s + seconds:
            return counts
        if at < ramp_s and chance.random() > at / ramp_s:
            continue
        counts.sent += 1
        passed, before = at - before, at
        while busy and busy[0] <= at:
            heapq.heappop(busy)
            idle += 1
        asked = min(place.reserved * REQUESTS_EACH, asked + passed * place.reserved * REQUESTS_EACH)
        made = min(SCALE, made + passed * SCALE / SCALE_S)
        if place.rate is not None:
            tokens = min(float(place.burst or 1), tokens + passed * place.rate)
            if tokens < 1:
                counts.refused += 1
                continue
            tokens -= 1
        if len(busy) >= place.reserved or asked < 1 or (not idle and made < 1):
            counts.throttled += 1
            continue
        asked -= 1
        spent = place.p50_s * math.exp(chance.gauss(0, spread))
        if idle:
            idle -= 1
        else:
            spent, made = spent + place.cold_s, made - 1
            counts.cold += 1
        counts.late += spent > place.timeout_s
        counts.answered += spent <= place.timeout_s
        heapq.heappush(busy, at + min(spent, place.timeout_s))
        counts.at_once = max(counts.at_once, len(busy))
