"""The GPUs of estimates: numbers of their makers and of AWS, each with its source and the day it was read.

Promises:
- Rows are plain. Peaks are those of dense arithmetic, not the doubled ones of structured sparsity. Prices are list prices on demand
  in us-east-1.
- Where two sources disagree, the lower speed counts.

We measured nothing here and ran nothing on these devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

READ_ON = "2026-11-25"
"""The day on which every number of this table was last checked against its source. It is part of each estimate's `basis`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One number of a device, with its source."""

    value: float
    source: str
    read_on: str = READ_ON


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A GPU and the smallest AWS instance with it.

    `peaks`: operations a second by element type, without types that its tensor cores lack. `bandwidth`: bytes a second.
    `usd_per_hour`: for the whole instance.
    """

    name: str
    sm: str
    instance: str
    peaks: Mapping[str, Number]
    bandwidth: Number
    memory_bytes: Number
    usd_per_hour: Number

    def peak(self, dtype: str) -> float | None:
        """Operations a second of this element type; None where the tensor cores lack it."""
        peak = self.peaks.get(dtype)
        return None if peak is None else peak.value


_T4 = "NVIDIA T4 data sheet, https://www.nvidia.com/en-us/data-center/tesla-t4/"
_A10G = (
    "NVIDIA A10G in Amazon EC2 G5, https://www.baseten.co/blog/nvidia-a10-vs-a10g-for-ml-model-inference/ "
    "(tensor cores at half of an A10's rate)"
)
_A10 = "NVIDIA A10 data sheet, https://www.nvidia.com/en-us/data-center/products/a10-gpu/ (the A10G is printed with 31 to 35)"
_L4 = "NVIDIA L4 data sheet, https://www.nvidia.com/en-us/data-center/l4/ (tensor rates halved: printed with sparsity)"
_L40S = "NVIDIA L40S data sheet, https://www.nvidia.com/en-us/data-center/l40s/ (dense rates)"
_EC2 = "https://aws.amazon.com/ec2/pricing/on-demand/ (Linux, us-east-1)"


def _peaks(source: str, **flops: float) -> dict[str, Number]:
    return {dtype: Number(value=value, source=source) for dtype, value in flops.items()}


DEVICES: tuple[Device, ...] = (
    Device(
        name="T4",
        sm="sm75",
        instance="g4dn.xlarge",
        peaks=_peaks(_T4, fp32=8.1e12, fp16=65e12, int8=130e12),
        bandwidth=Number(value=320e9, source=_T4),
        memory_bytes=Number(value=16e9, source=_T4),
        usd_per_hour=Number(value=0.526, source=_EC2),
    ),
    Device(
        name="A10G",
        sm="sm86",
        instance="g5.xlarge",
        peaks=_peaks(_A10, fp32=31.2e12) | _peaks(_A10G, fp16=70e12, bf16=70e12, int8=140e12),
        bandwidth=Number(value=600e9, source=_A10G),
        memory_bytes=Number(value=24e9, source=_A10G),
        usd_per_hour=Number(value=1.006, source=_EC2),
    ),
    Device(
        name="L4",
        sm="sm89",
        instance="g6.xlarge",
        peaks=_peaks(_L4, fp32=30.3e12, fp16=121e12, bf16=121e12, int8=242e12),
        bandwidth=Number(value=300e9, source=_L4),
        memory_bytes=Number(value=24e9, source=_L4),
        usd_per_hour=Number(value=0.8048, source=_EC2),
    ),
    Device(
        name="L40S",
        sm="sm89",
        instance="g6e.xlarge",
        peaks=_peaks(_L40S, fp32=91.6e12, fp16=362e12, bf16=362e12, int8=733e12),
        bandwidth=Number(value=864e9, source=_L40S),
        memory_bytes=Number(value=48e9, source=_L40S),
        usd_per_hour=Number(value=1.861, source=_EC2),
    ),
)
"""In the order of compute capability, then of price."""


def of_gpus(gpus: tuple[str, ...]) -> tuple[Device, ...]:
    """The devices of these compute capabilities (`sm89` is an L4 and an L40S), in the table's order. Unknown ones are left out."""
    return tuple(device for device in DEVICES if device.sm in gpus)
