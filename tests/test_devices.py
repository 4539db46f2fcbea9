"""The table of GPUs: whole, dated, and each number with its source."""

from __future__ import annotations

import datetime

from mlpack import devices
from mlpack.devices import DEVICES, Number


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
