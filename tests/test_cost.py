"""Tests of `mlpack.cost`, against sums done by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack import cost
from mlpack.records import Target
from mlpack.targets import LambdaImage, LambdaZip


def test_price_of_a_gigabyte_for_a_hundred_milliseconds() -> None:
    # 1 GB x 0.1 s x 1e6 requests = 100,000 GB-s at 0.0000166667, and 0.20 for the requests.
    assert cost.per_million_usd(1024, "x86_64", 100.0) == pytest.approx(1.66667 + 0.20)
    assert cost.per_million_usd(1024, "arm64", 100.0) == pytest.approx(1.33334 + 0.20)


def test_milliseconds_are_rounded_up() -> None:
    assert cost.per_million_usd(1769, "x86_64", 4.01) == cost.per_million_usd(1769, "x86_64", 5.0)
    assert cost.per_million_usd(1769, "x86_64", 0.2) == cost.per_million_usd(1769, "x86_64", 1.0)


@given(st.integers(128, 10_240), st.floats(0, 900_000))
def test_graviton_is_never_dearer_and_more_is_never_cheaper(memory_mb: int, latency_ms: float) -> None:
    price = cost.per_million_usd(memory_mb, "x86_64", latency_ms)
    assert cost.per_million_usd(memory_mb, "arm64", latency_ms) <= price
    assert cost.per_million_usd(memory_mb, "x86_64", latency_ms + 1) >= price
    assert cost.per_million_usd(memory_mb + 1, "x86_64", latency_ms) >= price


@pytest.mark.parametrize(
    ("memory_mb", "arch", "latency_ms"), [(0, "arm64", 1.0), (128, "riscv", 1.0), (128, "arm64", -1.0), (128, "arm64", math.inf)]
)
def test_impossible_request_has_no_price(memory_mb: int, arch: str, latency_ms: float) -> None:
    with pytest.raises(ValueError):
        cost.per_million_usd(memory_mb, arch, latency_ms)


def test_target_is_priced_by_its_memory() -> None:
    zip_target = Target(kind="lambda-zip", arch="x86_64", config=LambdaZip(memory_mb=512))
    image = Target(kind="lambda-image", arch="arm64", config=LambdaImage(arch="arm64", memory_mb=512))
    assert cost.of_target(zip_target, 10) == cost.per_million_usd(512, "x86_64", 10)
    assert cost.of_target(image, 10) == cost.per_million_usd(512, "arm64", 10)
    assert cost.of_target(Target(kind="container", arch="x86_64", config=LambdaZip()), 10) is None


def test_every_price_has_its_source_and_date() -> None:
    for prices in cost.LAMBDA.values():
        assert prices.source.startswith("https://")
        assert prices.verified_on >= "2026"
