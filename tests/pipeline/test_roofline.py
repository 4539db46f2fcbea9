"""The roofline: sums done by hand, and what must hold whatever the graph."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.graphs.facts.graph_work import GraphWork, KernelWork
from mlpack.pipeline.estimates import roofline
from mlpack.pipeline.estimates.devices import DEVICES, Device
from mlpack.pipeline.estimates.roofline import ASSUMPTIONS, Assumptions
from mlpack.targets import prices

T4, A10G, L4, L40S = DEVICES
IDLE = Assumptions(fp32=1.0, tensor=1.0, bandwidth=1.0, launch_s=0.0, call_s=0.0, sample_s=0.0, pcie_bytes_s=1e30)
"""Nothing but the roof."""

counts = st.floats(0, 1e13)
kernels = st.builds(
    KernelWork,
    name=st.just("k"),
    operator=st.just("MatMul"),
    dtype=st.sampled_from(["fp32", "fp16", "bf16", "int8"]),
    matrix_flops=counts,
    vector_flops=counts,
    weight_bytes=st.floats(0, 1e9),
    activation_bytes=st.floats(0, 1e9),
    launches=st.integers(1, 20),
)
works = st.builds(
    GraphWork, kernels=st.lists(kernels, max_size=5).map(tuple), input_bytes=st.floats(0, 1e8), output_bytes=st.floats(0, 1e8)
)


def kernel(**given: float | str) -> KernelWork:
    """A kernel that does nothing but what is given."""
    plain = {"name": "k", "operator": "MatMul", "dtype": "fp16", "matrix_flops": 0.0, "vector_flops": 0.0, "weight_bytes": 0.0}
    return KernelWork(**(plain | {"activation_bytes": 0.0} | given))  # type: ignore[arg-type]


def work(*made: KernelWork) -> GraphWork:
    return GraphWork(kernels=made, input_bytes=0.0, output_bytes=0.0)


def test_call_takes_the_longer_of_each_kernels_times() -> None:
    """On an L4: 121 TFLOPS and 300 GB/s; one kernel bound by arithmetic, one by memory."""
    heavy, wide = kernel(matrix_flops=121e9), kernel(activation_bytes=3e8)
    assert roofline.seconds(work(heavy, wide), L4, 1, IDLE) == pytest.approx(0.001 + 0.001)
    loaded = replace(IDLE, tensor=0.5, bandwidth=0.25, launch_s=1e-5, call_s=1e-4, sample_s=1e-6, pcie_bytes_s=1e9)
    both = replace(work(heavy, wide), input_bytes=5e5, output_bytes=5e5)
    assert roofline.seconds(both, L4, 8, loaded) == pytest.approx(0.002 + 0.004 + 2e-5 + 1e-4 + 8e-6 + 0.001)


def test_the_price_is_of_an_hour_half_used() -> None:
    busy = work(kernel(matrix_flops=121e9))
    (found,) = roofline.estimate(busy, busy, 4, [L4], precision="fp16", assumptions=IDLE)
    assert (found.device, found.instance, found.usd_per_hour) == ("L4", "g6.xlarge", 0.8048)
    assert found.latency_ms == pytest.approx(1.0)
    assert found.throughput_per_s == pytest.approx(4000)
    assert found.cost_per_million_usd == pytest.approx(0.8048 * 1e6 / (4000 * 3600 * 0.5))
    assert found.cost_per_million_usd == prices.per_million_at(0.8048, found.throughput_per_s)


def test_basis_says_what_was_assumed_and_that_nobody_checked() -> None:
    busy = replace(work(kernel(matrix_flops=2e9)), unknown=("Mystery",))
    (found,) = roofline.estimate(busy, busy, 16, [L4], precision="int8")
    for said in ("not measured", "int8", "1 kernel,", "2.00 GFLOP", "batch 16", "35 % of dense tensor peaks", "60 % of bandwidth",
                 "5 µs a launch", "50 % of an hour used", "table of 2026-", "Mystery", "never checked on a device"):  # fmt: skip
        assert said in found.basis


def test_device_without_element_type_or_the_memory_is_left_out() -> None:
    brain = work(kernel(dtype="bf16", matrix_flops=1.0))
    assert {e.device for e in roofline.estimate(brain, brain, 1, DEVICES, precision="bf16")} == {"A10G", "L4", "L40S"}
    large = work(kernel(weight_bytes=20e9))
    assert {e.device for e in roofline.estimate(large, large, 1, DEVICES, precision="fp16")} == {"A10G", "L4", "L40S"}
    assert roofline.estimate(brain, brain, 1, [T4], precision="bf16") == ()


def test_the_cheapest_comes_first() -> None:
    busy = work(kernel(matrix_flops=1e10))
    found = roofline.estimate(busy, busy, 8, DEVICES, precision="fp16")
    assert [e.cost_per_million_usd for e in found] == sorted(e.cost_per_million_usd for e in found)
    assert len(found) == 4


def test_a_call_without_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        roofline.estimate(work(), work(), 0, DEVICES, precision="fp32")


@given(works, st.sampled_from(DEVICES), st.integers(1, 64))
def test_never_faster_than_the_peaks(made: GraphWork, device: Device, samples: int) -> None:
    took = roofline.seconds(made, device, samples)
    if took is None:
        assert device.peak("bf16") is None
        assert "bf16" in made.flops
        return
    products = sum(k.matrix_flops / (device.peak(k.dtype) or 1.0) for k in made.kernels if k.matrix_flops)
    assert took >= products * (1 - 1e-9)
    assert took >= (made.weight_bytes + made.activation_bytes) / device.bandwidth.value * (1 - 1e-9)
    assert took >= ASSUMPTIONS.call_s + made.launches * ASSUMPTIONS.launch_s


@given(
    works, kernels, st.sampled_from(DEVICES), st.sampled_from(["matrix_flops", "vector_flops", "weight_bytes", "activation_bytes"])
)
def test_more_work_never_takes_less_time(made: GraphWork, one: KernelWork, device: Device, key: str) -> None:
    with_one = replace(made, kernels=(*made.kernels, one))
    more = replace(made, kernels=(*made.kernels, replace(one, **{key: getattr(one, key) * 2 + 1})))
    times = [roofline.seconds(each, device, 1) for each in (made, with_one, more)]
    known = [time for time in times if time is not None]
    assert known == sorted(known)


@given(works, st.integers(1, 64))
def test_the_same_work_gives_the_same_estimates(made: GraphWork, samples: int) -> None:
    found = roofline.estimate(made, made, samples, DEVICES, precision="fp16")
    assert found == roofline.estimate(made, made, samples, DEVICES[::-1], precision="fp16")


def test_every_assumption_slows_down() -> None:
    busy = replace(work(kernel(matrix_flops=1e9, activation_bytes=1e6)), input_bytes=1e6)
    base = roofline.seconds(busy, L4, 1) or 0.0
    for harder in (
        replace(ASSUMPTIONS, tensor=ASSUMPTIONS.tensor / 2),
        replace(ASSUMPTIONS, launch_s=ASSUMPTIONS.launch_s * 2),
        replace(ASSUMPTIONS, call_s=ASSUMPTIONS.call_s * 2),
        replace(ASSUMPTIONS, sample_s=ASSUMPTIONS.sample_s * 2),
        replace(ASSUMPTIONS, pcie_bytes_s=ASSUMPTIONS.pcie_bytes_s / 2),
    ):
        assert (roofline.seconds(busy, L4, 1, harder) or 0.0) > base
