"""The table of GPUs: whole, dated, and each number with its source."""

from __future__ import annotations

import datetime
from pathlib import Path

from mlpack.core.text import words
from mlpack.pipeline.estimates import devices
from mlpack.pipeline.estimates.devices import DEVICES, Number
from mlpack.pipeline.estimates.roofline import ASSUMPTIONS
from mlpack.targets import prices

PAGE = (Path(__file__).parent.parent.parent / "docs" / "estimates.md").read_text("utf-8")


def test_every_number_has_its_source_and_date() -> None:
    datetime.date.fromisoformat(devices.READ_ON)
    for device in DEVICES:
        numbers: list[Number] = [*device.peaks.values(), device.bandwidth, device.memory_bytes, device.usd_per_hour]
        for number in numbers:
            assert number.value > 0
            assert "https://" in number.source
            assert number.read_on == devices.READ_ON


def test_tensor_cores_are_faster_and_int8_is_faster_still() -> None:
    for device in DEVICES:
        fp32, fp16, int8 = (device.peak(dtype) for dtype in ("fp32", "fp16", "int8"))
        assert fp32 is not None
        assert fp16 is not None
        assert int8 is not None
        assert fp32 < fp16 < int8 <= 2.1 * fp16  # dense: sparsity would be twice that


def test_turing_has_no_bf16() -> None:
    assert {device.name for device in DEVICES if device.peak("bf16") is None} == {"T4"}


def test_a_compute_capability_is_every_device_that_has_it() -> None:
    assert [device.name for device in devices.of_gpus(("sm89",))] == ["L4", "L40S"]
    assert [device.name for device in devices.of_gpus(("sm86", "sm75", "sm90"))] == ["T4", "A10G"]
    assert devices.of_gpus(()) == ()


def test_the_page_has_the_same_numbers() -> None:
    for device in DEVICES:
        (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| {device.name} |"))
        tera = [peak / 1e12 for dtype in ("fp32", "fp16", "int8") if (peak := device.peak(dtype)) is not None]
        for number in (*tera, device.usd_per_hour.value, device.bandwidth.value / 1e9, device.memory_bytes.value / 1e9):
            assert f" {words.limit(words.number(number, 6))}" in row
        assert f"| {device.sm} | {device.instance} |" in row
    assert f"read on {devices.READ_ON}" in PAGE


def test_the_page_has_the_same_assumptions() -> None:
    for said in (
        f"{ASSUMPTIONS.launch_s * 1e6:.0f} µs", f"{ASSUMPTIONS.call_s * 1e6:.0f} µs a call",
        f"{ASSUMPTIONS.sample_s * 1e6:.0f} µs a sample",
        f"{ASSUMPTIONS.pcie_bytes_s / 1e9:.0f} GB/s", f"{100 * ASSUMPTIONS.tensor:.0f} % of the dense tensor peak",
        f"{100 * ASSUMPTIONS.fp32:.0f} % of the fp32 peak", f"{100 * ASSUMPTIONS.bandwidth:.0f} % of the bandwidth",
        f"3600 × {100 * prices.UTILISATION:.0f} %",
    ):  # fmt: skip
        assert said in PAGE
