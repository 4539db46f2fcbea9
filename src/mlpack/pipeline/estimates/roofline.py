"""The time of a graph on a GPU that is not here, by a roofline model. Pure.

Promises:
- Each kernel takes the longer of its arithmetic and its memory traffic, at stated shares of the device's peaks. Launches, the call
  itself and the copies to the device and back are added.
- An estimate is never faster than the peaks allow, and never faster for more work.

No estimate was ever checked against a device, and `basis` says so. The model ignores tails, clocks that fall when a card is warm,
small products that leave most of a card idle, and other tenants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlpack.core.records import Estimate
from mlpack.core.text import words
from mlpack.graphs.facts.graph_work import GraphWork, KernelWork
from mlpack.pipeline.estimates.devices import READ_ON, Device
from mlpack.targets import prices

_MEMORY_SHARE = 0.9
"""The share of a card's memory for weights and the largest kernel's tensors; the rest is the runtime's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """The assumptions of the model: shares of peaks, and seconds. They were chosen on the day of the table, rather slow than fast;
    none was measured."""

    fp32: float = 0.5
    """Share of the fp32 peak, in products of fp32 and in everything outside tensor cores. TF32 is not assumed."""
    tensor: float = 0.35
    """Share of the dense peak of tensor cores, in products of fp16, bf16 and int8: batch 1 fills them badly."""
    bandwidth: float = 0.6
    """Share of the memory's bandwidth."""
    launch_s: float = 5e-6
    """Seconds to start a kernel, without CUDA graphs: NVIDIA's documentation names microseconds."""
    call_s: float = 100e-6
    """Seconds of the host for a call: enqueueing, waiting, and the runtime around it."""
    sample_s: float = 200e-6
    """Seconds of the host for each sample: reading its JSON and writing its answer, in Python."""
    pcie_bytes_s: float = 6e9
    """Bytes a second between host and device, through ordinary memory: about half of PCIe 3 x16."""

    def text(self) -> str:
        """The numbers in words, for `basis`."""
        return (
            f"{_percent(self.fp32)} of peak fp32, {_percent(self.tensor)} of dense tensor peaks, {_percent(self.bandwidth)} of "
            f"bandwidth, {self.launch_s * 1e6:.0f} µs a launch, {self.call_s * 1e6:.0f} µs a call and "
            f"{self.sample_s * 1e6:.0f} µs a sample of the host, {self.pcie_bytes_s / 1e9:.0f} GB/s of copies"
        )


ASSUMPTIONS = Assumptions()


def estimate(
    one: GraphWork,
    batched: GraphWork,
    samples: int,
    gpus: Sequence[Device],
    *,
    precision: str,
    assumptions: Assumptions = ASSUMPTIONS,
) -> tuple[Estimate, ...]:
    """An estimate for each device, the cheapest per million first, then the fastest.

    `one`: the work of one call of batch 1, whose time is the latency. `batched`: of a call of `samples`, for the throughput.
    `precision`: the graph's, in words; its arithmetic is what the work says. A device that lacks an element type (T4 has no bf16)
    or the memory is left out: where all are, there is no estimate.
    """
    if samples < 1:
        raise ValueError(f"a call has at least one sample, not {samples}")
    estimates = []
    for device in gpus:
        alone, full = seconds(one, device, 1, assumptions), seconds(batched, device, samples, assumptions)
        if alone is None or full is None or not _fits(batched, device):
            continue
        throughput = samples / full
        estimates.append(
            Estimate(
                device=device.name,
                instance=device.instance,
                latency_ms=alone * 1000,
                throughput_per_s=throughput,
                usd_per_hour=device.usd_per_hour.value,
                cost_per_million_usd=prices.per_million_at(device.usd_per_hour.value, throughput),
                basis=_basis(one, samples, precision, assumptions),
            )
        )
    return tuple(sorted(estimates, key=lambda e: (e.cost_per_million_usd, e.latency_ms, e.device)))


def seconds(work: GraphWork, device: Device, samples: int, assumptions: Assumptions = ASSUMPTIONS) -> float | None:
    """Seconds of one call with `samples`; None when the device lacks an element type of it."""
    total = assumptions.call_s + samples * assumptions.sample_s + (work.input_bytes + work.output_bytes) / assumptions.pcie_bytes_s
    for kernel in work.kernels:
        took = _kernel(kernel, device, assumptions)
        if took is None:
            return None
        total += took
    return total


def _kernel(kernel: KernelWork, device: Device, assumptions: Assumptions) -> float | None:
    """Seconds of one kernel: the longer of arithmetic and traffic, and its launches. Fused vector work is added to the product,
    which is rather slow than fast."""
    vector = (device.peak("fp32") or 0.0) * assumptions.fp32
    peak = device.peak(kernel.dtype)
    if kernel.matrix_flops and peak is None:
        return None
    matrix = (peak or 0.0) * (assumptions.fp32 if kernel.dtype == "fp32" else assumptions.tensor)
    arithmetic = (kernel.matrix_flops / matrix if kernel.matrix_flops else 0.0) + kernel.vector_flops / vector
    traffic = (kernel.weight_bytes + kernel.activation_bytes) / (device.bandwidth.value * assumptions.bandwidth)
    return max(arithmetic, traffic) + kernel.launches * assumptions.launch_s


def _fits(work: GraphWork, device: Device) -> bool:
    largest = max((kernel.activation_bytes for kernel in work.kernels), default=0.0)
    return work.weight_bytes + largest <= _MEMORY_SHARE * device.memory_bytes.value


def _basis(work: GraphWork, samples: int, precision: str, assumptions: Assumptions) -> str:
    matrix = sum(kernel.matrix_flops for kernel in work.kernels)
    unknown = f"; not known, counted as elementwise: {', '.join(work.unknown)}" if work.unknown else ""
    return (
        f"roofline, not measured: {precision}, {words.count(work.launches, 'kernel')}, {words.number(matrix / 1e9)} GFLOP and "
        f"{words.size(work.weight_bytes + work.activation_bytes)} a call at batch 1, throughput at batch {samples}; "
        f"{assumptions.text()}; {_percent(prices.UTILISATION)} of an hour used; device table of {READ_ON}{unknown}; "
        "never checked on a device"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
