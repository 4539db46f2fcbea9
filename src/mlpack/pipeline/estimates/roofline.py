"""How long a graph would take on a GPU that is not here: a roofline. Pure.

Promises: for each kernel the longer of its arithmetic and its memory traffic, at stated shares of the device's peaks, and after
that launches, the call itself and the copies to the device and back; never faster than the peaks allow, never faster for
more work. It is an estimate and nothing else: no number of it was ever held against a device, and `basis` says so.

It knows nothing of tails, clocks that fall when a card is warm, small products that leave most of a card idle, or other tenants.
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
"""Of a card's memory that weights and the largest kernel's tensors may take; the rest is the runtime's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What the model takes for granted: shares of peaks, and seconds. Chosen to be slow rather than fast, on the day of the table;
    none was measured."""

    fp32: float = 0.5
    """Of the peak, in products of fp32 and in everything that tensor cores do not do. TF32 is not counted on."""
    tensor: float = 0.35
    """Of the dense peak of tensor cores, in products of fp16, bf16 and int8: batch 1 fills them badly."""
    bandwidth: float = 0.6
    """Of the memory's bandwidth."""
    launch_s: float = 5e-6
    """To start a kernel, without CUDA graphs: the order of microseconds that NVIDIA's documentation names."""
    call_s: float = 100e-6
    """Of the host for a call: enqueueing, waiting, and the runtime around it."""
    sample_s: float = 200e-6
    """Of the host for each sample: its JSON read and its answer written, in Python."""
    pcie_bytes_s: float = 6e9
    """From host to device and back, through ordinary memory: about half of what PCIe 3 x16 carries."""

    def said(self) -> str:
        """The numbers in words, for `basis`."""
        return (
            f"{_percent(self.fp32)} of peak fp32, {_percent(self.tensor)} of dense tensor peaks, {_percent(self.bandwidth)} of "
            f"bandwidth, {self.launch_s * 1e6:.0f} µs a launch, {self.call_s * 1e6:.0f} µs a call and "
            f"{self.sample_s * 1e6:.0f} µs a sample of the host, {self.pcie_bytes_s / 1e9:.0f} GB/s of copies"
        )


ASSUMED = Assumptions()


def estimate(
    one: GraphWork, batched: GraphWork, samples: int, gpus: Sequence[Device], *, precision: str, assumed: Assumptions = ASSUMED
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
        alone, full = seconds(one, device, 1, assumed), seconds(batched, device, samples, assumed)
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
                basis=_basis(one, samples, precision, assumed),
            )
        )
    return tuple(sorted(estimates, key=lambda e: (e.cost_per_million_usd, e.latency_ms, e.device)))


def seconds(work: GraphWork, device: Device, samples: int, assumed: Assumptions = ASSUMED) -> float | None:
    """One call of this work, which holds `samples`; None when the device cannot do an element type of it."""
    total = assumed.call_s + samples * assumed.sample_s + (work.input_bytes + work.output_bytes) / assumed.pcie_bytes_s
    for kernel in work.kernels:
        took = _kernel(kernel, device, assumed)
        if took is None:
            return None
        total += took
    return total


def _kernel(kernel: KernelWork, device: Device, assumed: Assumptions) -> float | None:
    """The longer of arithmetic and traffic, and its launches. Fused vector work waits for the product: that errs to the slow
    side."""
    vector = (device.peak("fp32") or 0.0) * assumed.fp32
    peak = device.peak(kernel.dtype)
    if kernel.matrix_flops and peak is None:
        return None
    matrix = (peak or 0.0) * (assumed.fp32 if kernel.dtype == "fp32" else assumed.tensor)
    arithmetic = (kernel.matrix_flops / matrix if kernel.matrix_flops else 0.0) + kernel.vector_flops / vector
    traffic = (kernel.weight_bytes + kernel.activation_bytes) / (device.bandwidth.value * assumed.bandwidth)
    return max(arithmetic, traffic) + kernel.launches * assumed.launch_s


def _fits(work: GraphWork, device: Device) -> bool:
    largest = max((kernel.activation_bytes for kernel in work.kernels), default=0.0)
    return work.weight_bytes + largest <= _MEMORY_SHARE * device.memory_bytes.value


def _basis(work: GraphWork, samples: int, precision: str, assumed: Assumptions) -> str:
    matrix = sum(kernel.matrix_flops for kernel in work.kernels)
    unknown = f"; not known, counted as elementwise: {', '.join(work.unknown)}" if work.unknown else ""
    return (
        f"roofline, not measured: {precision}, {words.count(work.launches, 'kernel')}, {words.number(matrix / 1e9)} GFLOP and "
        f"{words.size(work.weight_bytes + work.activation_bytes)} a call at batch 1, throughput at batch {samples}; "
        f"{assumed.said()}; {_percent(prices.UTILISATION)} of an hour used; device table of {READ_ON}{unknown}; "
        "never checked on a device"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
