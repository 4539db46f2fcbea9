"""Tests of `mlpack.targets.prices`, against sums done by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.targets import TARGETS, Container, CpuWorker, GpuWorker, LambdaImage, LambdaZip, prices


def test_price_of_a_gigabyte_for_a_hundred_milliseconds() -> None:
    # 1 GB x 0.1 s x 1e6 requests = 100,000 GB-s at 0.0000166667, and 0.20 for the requests.
    assert prices.per_million_usd(1024, "x86_64", 100.0) == pytest.approx(1.66667 + 0.20)
    assert prices.per_million_usd(1024, "arm64", 100.0) == pytest.approx(1.33334 + 0.20)


def test_milliseconds_are_rounded_up() -> None:
    assert prices.per_million_usd(1769, "x86_64", 4.01) == prices.per_million_usd(1769, "x86_64", 5.0)
    assert prices.per_million_usd(1769, "x86_64", 0.2) == prices.per_million_usd(1769, "x86_64", 1.0)


@given(st.integers(128, 10_240), st.floats(0, 900_000))
def test_graviton_is_never_dearer_and_more_is_never_cheaper(memory_mb: int, latency_ms: float) -> None:
    price = prices.per_million_usd(memory_mb, "x86_64", latency_ms)
    assert prices.per_million_usd(memory_mb, "arm64", latency_ms) <= price
    assert prices.per_million_usd(memory_mb, "x86_64", latency_ms + 1) >= price
    assert prices.per_million_usd(memory_mb + 1, "x86_64", latency_ms) >= price


@pytest.mark.parametrize(
    ("memory_mb", "arch", "latency_ms"), [(0, "arm64", 1.0), (128, "riscv", 1.0), (128, "arm64", -1.0), (128, "arm64", math.inf)]
)
def test_impossible_request_has_no_price(memory_mb: int, arch: str, latency_ms: float) -> None:
    with pytest.raises(ValueError):
        prices.per_million_usd(memory_mb, arch, latency_ms)


def test_target_is_priced_by_its_memory() -> None:
    for kind, config in (("lambda-zip", LambdaZip(memory_mb=512)), ("lambda-image", LambdaImage(arch="arm64", memory_mb=512))):
        assert TARGETS[kind].price(config, 10, None) == prices.per_million_usd(512, config.arch, 10)
    assert TARGETS["gpu-worker"].price(GpuWorker(), 10, 100.0) is None


def test_a_worker_is_paid_by_the_hour_at_the_stated_use() -> None:
    # 2 vCPU (3,538 MB is two threads) and 4 GB: 2 x 0.04048 + 4 x 0.004445 an hour; 100 a second for half an hour.
    hour = 2 * 0.04048 + 4 * 0.004445
    assert prices.task_usd_per_hour(3538, "x86_64") == pytest.approx(hour)
    price, config = TARGETS["cpu-worker"].price, CpuWorker(memory_mb=3538)
    assert price(config, 10, 100.0) == pytest.approx(hour * 1e6 / (100 * 3600 * prices.UTILISATION))
    assert price(config, 10, None) is None
    assert price(config, 10, 0.0) is None


def test_a_container_is_priced_as_the_platform_that_it_names() -> None:
    # Cloud Run, 2 vCPU and 4 GiB: 2 x 0.000018 + 4 x 0.000002 a second.
    price, hour = TARGETS["container"].price, 3600 * (2 * 0.000018 + 4 * 0.000002)
    assert prices.service_usd_per_hour(3538, "x86_64") == pytest.approx(hour)
    served = 100 * 3600 * prices.UTILISATION
    assert price(Container(memory_mb=3538, priced_as="cloud-run"), 10, 100.0) == pytest.approx(hour * 1e6 / served)
    task = prices.task_usd_per_hour(3538, "x86_64")
    assert price(Container(memory_mb=3538), 10, 100.0) == pytest.approx(task * 1e6 / served)
    assert price(Container(), 10, None) is None
    with pytest.raises(ValueError, match="no Cloud Run instance"):
        prices.service_usd_per_hour(40_000, "x86_64")
    with pytest.raises(ValueError, match="no price"):
        prices.service_usd_per_hour(2048, "arm64")


@pytest.mark.parametrize(
    ("memory_mb", "vcpus", "billed_gb"),
    [(512, 1, 2), (1769, 1, 2), (2048, 1, 2), (2500, 1, 3), (3072, 2, 4), (10_240, 8, 16), (20_000, 16, 32)],
)
def test_task_is_smallest_that_has_the_threads_and_the_memory(memory_mb: int, vcpus: int, billed_gb: int) -> None:
    assert prices.task_usd_per_hour(memory_mb, "arm64") == pytest.approx(vcpus * 0.03238 + billed_gb * 0.00356)


def test_what_no_task_has_or_nobody_serves_has_no_price() -> None:
    with pytest.raises(ValueError, match="no Fargate task"):
        prices.task_usd_per_hour(100_000, "x86_64")
    with pytest.raises(ValueError, match="no price"):
        prices.task_usd_per_hour(2048, "riscv")
    for hourly, rate in ((-1.0, 1.0), (1.0, -1.0), (1.0, math.nan), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="no price"):
            prices.per_million_at(hourly, rate)
    assert prices.per_million_at(1.0, 0.0) == math.inf


@given(st.floats(0.01, 100), st.floats(0.01, 1e6), st.floats(0.01, 1e6))
def test_more_throughput_is_never_dearer(hourly: float, first: float, second: float) -> None:
    low, high = sorted((first, second))
    assert prices.per_million_at(hourly, high) <= prices.per_million_at(hourly, low)


def test_every_price_has_its_source_and_date() -> None:
    for row in (*prices.LAMBDA.values(), *prices.FARGATE.values(), *prices.CLOUD_RUN.values()):
        assert row.source.startswith("https://")
        assert row.verified_on >= "2026"
