"""Budgets held against one candidate: what is known, what is estimated, and what is neither."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.outcomes import estimate, measurement, on_gpu, result, unmeasured

from mlpack import budgets
from mlpack.records import Budgets

EVERY = Budgets(
    accuracy_drop=1.0, latency_p50_ms=1e9, latency_p95_ms=1e9, latency_p99_ms=1e9, cold_start_ms=1e9,
    package_size_bytes=10**12, peak_memory_bytes=10**12, cost_per_million_usd=1e9,
)  # fmt: skip


def test_every_budget_is_checked_once() -> None:
    broken, kept = budgets.checks(result("int8"), EVERY, None, itself=False)
    assert (broken, len(kept)) == ([], len(fields(Budgets)) - 1)  # all but accept_estimates
    broken, kept = budgets.checks(
        result("int8", measurement=None, artifact=None, cost_per_million_usd=None), EVERY, None, itself=False
    )
    assert kept == []
    assert not any(check.known for check in broken)


def test_a_memory_of_nought_is_one_that_was_not_measured() -> None:
    gpu = on_gpu("fp16")
    broken, _ = budgets.checks(gpu, Budgets(peak_memory_bytes=10**12), estimate(), itself=False)
    assert [check.known for check in broken] == [False]


@pytest.mark.parametrize(("accepted", "kept"), [(False, 2), (True, 6)])
def test_estimates_stand_for_latency_and_price_alone(accepted: bool, kept: int) -> None:
    gpu = on_gpu("fp16")
    broken, held = budgets.checks(gpu, replace(EVERY, accept_estimates=accepted), estimate(), itself=False)
    assert len(held) == kept
    assert {"cold start p50", "peak memory"} <= {check.text.split(" is not known")[0] for check in broken}
    assert all("estimated" in check.text for check in held if "latency" in check.text or "cost" in check.text)


def test_the_one_to_go_by_keeps_every_budget_then_is_cheap_or_quick() -> None:
    t4, l4, l40s = estimate(9.0, 0.05, "T4"), estimate(1.2, 0.08, "L4"), estimate(0.6, 0.2, "L40S")
    ranked = budgets.ranked((t4, l4, l40s), Budgets(), "cost")
    assert ranked == (t4, l4, l40s)
    assert budgets.ranked((t4, l4, l40s), Budgets(), "latency") == (l40s, l4, t4)
    assert budgets.ranked((t4, l4, l40s), Budgets(latency_p95_ms=5.0), "cost") == (l4, l40s, t4)
    assert budgets.ranked((t4, l4, l40s), Budgets(latency_p95_ms=5.0, cost_per_million_usd=0.06), "size")[0] == t4


def test_nothing_stands_for_what_was_measured() -> None:
    both = result("int8", estimates=(estimate(),))
    assert budgets.standing(both, Budgets(), "cost") is None
    assert budgets.standing(replace(both, measurement=unmeasured()), Budgets(), "cost") == estimate()
    assert budgets.standing(result("int8", measurement=None), Budgets(), "cost") is None


@given(st.permutations([estimate(9.0, 0.05, "T4"), estimate(1.2, 0.05, "L4"), estimate(1.2, 0.05, "L40S")]))
def test_the_order_does_not_depend_on_the_order(given_: list[budgets.Estimate]) -> None:
    assert [one.device for one in budgets.ranked(given_, Budgets(), "cost")] == ["L4", "L40S", "T4"]


def test_an_excess_is_a_share_of_the_limit() -> None:
    (check,), _ = budgets.checks(result("int8", measurement=measurement(10.0)), Budgets(latency_p50_ms=5.0), None, itself=False)
    assert 0.95 < check.excess < 1.05
