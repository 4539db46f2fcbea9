"""Sizes of a function's memory: judged, proposed, and estimated where they were not measured."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mlpack.core.records import Budgets
from mlpack.core.sizes import MB_PER_VCPU, SIZES_MB, SizePoint
from mlpack.decide import sizing
from mlpack.targets import limits, prices

MIB = 1 << 20


def price(memory_mb: int, p50_ms: float) -> float:
    return prices.per_million_usd(memory_mb, "x86_64", p50_ms)


def point(memory_mb: int, latency_ms: float, start_ms: float = 100.0, **more: Any) -> SizePoint:
    given: dict[str, Any] = {
        "measured": True,
        "basis": "by hand",
        "threads": max(1, round(memory_mb / 1769)),
        "latency_ms": (latency_ms,) * 20,
        "cold_start_ms": (start_ms,),
        "peak_memory_bytes": 100 * MIB,
        "cost_per_million_usd": price(memory_mb, latency_ms),
    }
    return SizePoint(memory_mb=memory_mb, **(given | more))


def test_the_cheapest_size_without_a_problem_is_proposed() -> None:
    points = [point(3538, 6), point(512, 40), point(1769, 10), point(1024, 18)]
    verdicts = sizing.judge(points, Budgets(latency_p95_ms=20))
    assert [each.point.memory_mb for each in verdicts] == [512, 1024, 1769, 3538]
    assert [bool(each.problems) for each in verdicts] == [True, False, False, False]
    costs = {each.memory_mb: each.cost_per_million_usd for each in points}
    assert costs[1769] < costs[1024] < costs[3538]  # 18 ms of 1,024 MB are more than 10 ms of 1,769
    assert sizing.propose(verdicts) == 1769
    assert sizing.propose(sizing.judge(points, Budgets(latency_p95_ms=7))) == 3538
    assert sizing.propose(sizing.judge(points, Budgets(latency_p95_ms=5))) is None
    assert sizing.propose([]) is None


def test_a_stage_is_slower_where_calls_are() -> None:
    """Stages are measured at one size: a smaller one that keeps the budgets of whole calls may break those of stages."""
    points = [point(3538, 6), point(512, 36, cost_per_million_usd=0.1), point(1769, 10), point(1024, 18, cost_per_million_usd=0.2)]
    stages_ms = {"tokenize": (1.0,) * 20, "features": (8.0,) * 20, "infer": (9.0,) * 20}

    def problems(**limits: float) -> list[tuple[str, ...]]:
        return [each.problems for each in sizing.judge(points, Budgets(stages_ms=limits), stages_ms, 1769)]

    assert problems(infer=20.0)[0] == ("stage infer p95 32.4 ms is more than the budget of 20.0 ms",)
    assert [len(each) for each in problems(infer=20.0)] == [1, 0, 0, 0]
    assert [len(each) for each in problems(infer=10.0, tokenize=1.5)] == [2, 2, 0, 0]
    assert [len(each) for each in problems(features=9.0)] == [0, 0, 0, 0]  # a table is not slower for it
    assert [len(each) for each in problems(postprocess=1.0)] == [0, 0, 0, 0]  # it did not take place
    assert [len(each) for each in problems(infer=8.0)] == [1, 1, 1, 1]  # nor faster than it was measured
    assert sizing.propose(sizing.judge(points, Budgets(stages_ms={"infer": 20.0}), stages_ms, 1769)) == 1024
    assert sizing.propose(sizing.judge(points, Budgets(stages_ms={"infer": 20.0}))) == 512


def test_of_equal_prices_the_faster_size_is_proposed() -> None:
    # A millisecond is the least that is billed: both pay for one.
    points = [point(512, 0.9, cost_per_million_usd=1.0), point(1024, 0.4, cost_per_million_usd=1.0)]
    assert sizing.propose(sizing.judge(points, Budgets())) == 1024


@pytest.mark.parametrize(
    ("budgets", "more", "words"),
    [
        (Budgets(latency_p50_ms=9), {}, "latency p50 10.0 ms is more than the budget of 9.00 ms"),
        (Budgets(latency_p99_ms=9), {}, "latency p99 10.0 ms"),
        (Budgets(cold_start_ms=90), {}, "cold start p50 100 ms is more than the budget of 90.0 ms"),
        (Budgets(cost_per_million_usd=0.3), {}, "a million is more than the budget of $0.300"),
        (Budgets(), {"peak_memory_bytes": 1600 * MIB}, "is more than 90 % of 1,769 MB"),
        (Budgets(peak_memory_bytes=99 * MIB), {}, "its peak of 105 MB is more than the budget of 104 MB"),
        (Budgets(), {"cold_start_ms": (8100.0,)}, "Lambda ends an initialisation after 10 s"),
    ],
)
def test_each_problem_of_a_size_is_said(budgets: Budgets, more: dict[str, Any], words: str) -> None:
    (verdict,) = sizing.judge([point(1769, 10, **more)], budgets)
    assert words in verdict.problems[0]
    assert len(verdict.problems) == 1


def test_a_start_within_the_margin_has_no_problem() -> None:
    assert limits.INIT.value == sizing.INIT_S
    assert limits.MEMORY_PER_VCPU.value == MB_PER_VCPU
    assert sizing.init_problem(8000, 512) is None
    problem = sizing.init_problem(8001, 512)
    assert problem is not None
    assert "at 512 MB" in problem
    assert "more memory" in problem


def test_less_than_a_vcpu_takes_processor_time_by_its_share() -> None:
    made = sizing.extrapolated(point(1769, 10), 512, price)
    assert made.latency_ms == pytest.approx([10 * 1769 / 512] * 20, rel=1e-3)
    assert made.cold_start_ms == pytest.approx([100 * 1769 / 512], rel=1e-3)
    assert (made.measured, made.threads, made.peak_memory_bytes) == (False, 1, 100 * MIB)
    assert made.basis == "estimated from 1,769 MB: 28.9 % of a vCPU"
    assert made.cost_per_million_usd == pytest.approx(price(512, made.latency_ms[0]))


def test_two_threads_share_a_part_of_the_work() -> None:
    made = sizing.extrapolated(point(1769, 10), 3538, price)
    assert made.latency_ms[0] == pytest.approx(10 * (1 - sizing.PARALLEL_SHARE / 2))
    assert made.cold_start_ms == (100,)  # a start is one thread's work
    assert "2 threads, which share 80 % of the work" in made.basis
    back = sizing.extrapolated(dataclasses.replace(made, measured=True), 1769, price)
    assert back.latency_ms[0] == pytest.approx(10)


def test_estimates_of_all_sizes_hold_their_order() -> None:
    whole = point(1769, 10)
    made = [whole if size == 1769 else sizing.extrapolated(whole, size, price) for size in SIZES_MB]
    medians = [each.latency_ms[0] for each in made]
    assert medians == sorted(medians, reverse=True)
    # The same work costs the same at each share of a vCPU, but for the rounding to milliseconds.
    assert made[0].cost_per_million_usd == pytest.approx(made[2].cost_per_million_usd, rel=0.03)
