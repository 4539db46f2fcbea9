"""What the platforms charge, each number with its source, and the price of a million requests. Pure.

Promises:
- Prices are list prices in us-east-1, first tier, with source and date: no free tier, no discount, no data transfer.

A cold start is billed too, but how often one happens is not known here: the price is that of warm requests. Lambda bills use. A
worker is paid by the hour whether requests come or not, so its price assumes `UTILISATION`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """US dollars. `gb_second`: 1,024 MB for a second. Durations are billed by the millisecond, rounded up."""

    gb_second_usd: float
    million_requests_usd: float
    source: str
    verified_on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPrices:
    """US dollars an hour for a task of containers: for each vCPU and each GB of memory that it asks for."""

    vcpu_hour_usd: float
    gb_hour_usd: float
    source: str
    verified_on: str


_SOURCE = "https://aws.amazon.com/lambda/pricing/ (us-east-1, first tier)"
_CLOUD_RUN_SOURCE = "https://cloud.google.com/run/pricing (tier 1, instance-based billing: CPU always allocated)"
_FARGATE_SOURCE = "https://aws.amazon.com/fargate/pricing/ (us-east-1, Linux)"

LAMBDA: dict[str, Prices] = {
    "x86_64": Prices(gb_second_usd=0.0000166667, million_requests_usd=0.20, source=_SOURCE, verified_on="2026-05"),
    "arm64": Prices(gb_second_usd=0.0000133334, million_requests_usd=0.20, source=_SOURCE, verified_on="2026-05"),
}

FARGATE: dict[str, TaskPrices] = {
    "x86_64": TaskPrices(vcpu_hour_usd=0.04048, gb_hour_usd=0.004445, source=_FARGATE_SOURCE, verified_on="2026-11"),
    "arm64": TaskPrices(vcpu_hour_usd=0.03238, gb_hour_usd=0.00356, source=_FARGATE_SOURCE, verified_on="2026-11"),
}

CLOUD_RUN: dict[str, TaskPrices] = {
    # By the second: 0.000018 for a vCPU, 0.000002 for a GiB. There are no Arm processors.
    "x86_64": TaskPrices(vcpu_hour_usd=0.0648, gb_hour_usd=0.0072, source=_CLOUD_RUN_SOURCE, verified_on="2026-11"),
}

CLOUD_RUN_SIZES: tuple[tuple[float, int, int], ...] = ((1, 1, 4), (2, 1, 8), (4, 2, 16), (6, 4, 24), (8, 4, 32))
"""vCPUs of an instance, and the least and most GiB that it can have with them; parts of a vCPU and of a GiB are not counted with.
From https://cloud.google.com/run/docs/configuring/services/memory-limits."""

FARGATE_SIZES: tuple[tuple[float, int, int], ...] = ((1, 2, 8), (2, 4, 16), (4, 8, 30), (8, 16, 60), (16, 32, 120))
"""vCPUs of a task, and the least and most GB with them. Tasks below one vCPU are left out: an engine's thread needs one. From
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html."""

UTILISATION = 0.5
"""Share of an hour in which a worker has requests: an assumption, the same for every worker. With a queue that is always full a
request costs half of what mlpack shows, with one that is mostly empty many times that."""

MB_PER_VCPU = 1769
"""Memory for each vCPU, by which the runtime counts threads: Lambda's rule, used for workers too."""


def per_million_usd(memory_mb: int, arch: str, latency_p50_ms: float) -> float:
    """Dollars for a million warm requests of this median duration. ValueError for an unknown arch or a negative number."""
    if arch not in LAMBDA or memory_mb <= 0 or not 0 <= latency_p50_ms < math.inf:
        raise ValueError(f"no price for {memory_mb} MB, {arch}, {latency_p50_ms} ms")
    prices = LAMBDA[arch]
    billed_ms = max(1, math.ceil(round(latency_p50_ms, 6)))
    gb_seconds = memory_mb / 1024 * billed_ms / 1000 * 1_000_000
    return gb_seconds * prices.gb_second_usd + prices.million_requests_usd


def per_million_at(usd_per_hour: float, throughput_per_s: float) -> float:
    """Dollars for a million requests on a machine paid by the hour and in use `UTILISATION` of it; infinite at no throughput.

    Raises ValueError for a negative number.
    """
    if not 0 <= usd_per_hour < math.inf or not throughput_per_s >= 0:
        raise ValueError(f"no price for {usd_per_hour} dollars an hour at {throughput_per_s} a second")
    served = throughput_per_s * 3600 * UTILISATION
    return math.inf if served == 0 else usd_per_hour * 1_000_000 / served


def task_usd_per_hour(memory_mb: int, arch: str) -> float:
    """Dollars an hour for the smallest Fargate task that has this memory and the vCPUs that come with it. Raises ValueError for an
    unknown arch, or more than any task has."""
    if arch not in FARGATE or memory_mb <= 0:
        raise ValueError(f"no price for {memory_mb} MB, {arch}")
    return _usd_per_hour(memory_mb, FARGATE[arch], FARGATE_SIZES, "Fargate task")


def service_usd_per_hour(memory_mb: int, arch: str) -> float:
    """Dollars an hour for the smallest Cloud Run instance that has this memory and the vCPUs that come with it. Raises ValueError
    as `task_usd_per_hour`."""
    if arch not in CLOUD_RUN or memory_mb <= 0:
        raise ValueError(f"no price for {memory_mb} MB, {arch}")
    return _usd_per_hour(memory_mb, CLOUD_RUN[arch], CLOUD_RUN_SIZES, "Cloud Run instance")


def _usd_per_hour(memory_mb: int, prices: TaskPrices, sizes: tuple[tuple[float, int, int], ...], what: str) -> float:
    threads, size = max(1, round(memory_mb / MB_PER_VCPU)), math.ceil(memory_mb / 1024)
    for vcpus, least, most in sizes:
        if vcpus >= threads and most >= size:
            return vcpus * prices.vcpu_hour_usd + max(least, size) * prices.gb_hour_usd
    raise ValueError(f"no {what} has {memory_mb} MB with {threads} vCPUs")


def of_function(config: Any, latency_p50_ms: float, _throughput_per_s: float | None) -> float:
    """Dollars for a million requests to a Lambda function: the `price` of a target whose config has `arch` and `memory_mb`."""
    return per_million_usd(config.memory_mb, config.arch, latency_p50_ms)


def of_task(config: Any, _latency_p50_ms: float, throughput_per_s: float | None) -> float | None:
    """Dollars for a million requests to a task of containers; None where its throughput is not known."""
    return per_million_at(task_usd_per_hour(config.memory_mb, config.arch), throughput_per_s) if throughput_per_s else None


def unknown(_config: Any, _latency_p50_ms: float, _throughput_per_s: float | None) -> None:
    """The price of a target without a list price: None. (A GPU's price comes with its estimate.)"""
