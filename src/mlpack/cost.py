"""What a candidate costs to run: the price of a million requests at a Lambda target. Pure.

Promises: list prices in us-east-1, first tier, with source and date; no free tier, no discounts, no data transfer. A
cold start is billed too, but how often one happens is not known here: the price is that of warm requests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlpack.records import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """US dollars. `gb_second` is for 1,024 MB held for a second; durations are billed by the millisecond, rounded
    up.
    """

    gb_second_usd: float
    million_requests_usd: float
    source: str
    verified_on: str


_SOURCE = "https://aws.amazon.com/lambda/pricing/ (us-east-1, first tier)"

LAMBDA: dict[str, Prices] = {
    "x86_64": Prices(gb_second_usd=0.0000166667, million_requests_usd=0.20, source=_SOURCE, verified_on="2026-05"),
    "arm64": Prices(gb_second_usd=0.0000133334, million_requests_usd=0.20, source=_SOURCE, verified_on="2026-05"),
}


def per_million_usd(memory_mb: int, arch: str, latency_p50_ms: float) -> float:
    """Dollars for a million warm requests of this median duration. Raises ValueError for an unknown arch or a negative
    number.
    """
    if arch not in LAMBDA or memory_mb <= 0 or not 0 <= latency_p50_ms < math.inf:
        raise ValueError(f"no price for {memory_mb} MB, {arch}, {latency_p50_ms} ms")
    prices = LAMBDA[arch]
    billed_ms = max(1, math.ceil(round(latency_p50_ms, 6)))
    gb_seconds = memory_mb / 1024 * billed_ms / 1000 * 1_000_000
    return gb_seconds * prices.gb_second_usd + prices.million_requests_usd


def of_target(target: Target, latency_p50_ms: float) -> float | None:
    """The same for a target; None where it has no memory that is billed (no Lambda)."""
    memory_mb = getattr(target.config, "memory_mb", None)
    if not target.kind.startswith("lambda-") or memory_mb is None:
        return None
    return per_million_usd(memory_mb, target.arch, latency_p50_ms)
