"""Deciding, by literals only."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.outcomes import (
    IMAGE,
    MACHINE,
    ZIP,
    accuracy,
    artifact,
    estimate,
    measurement,
    on_an_estimate,
    on_gpu,
    result,
    unmeasured,
)

from mlpack.core.records import Budgets, Decision, Machine, Result, Status
from mlpack.decide.choose import PREFERENCES, decide

NONE = Budgets()


def judged(decision: Decision, name: str) -> tuple[Status, str]:
    """Status and all reasons of one variant."""
    verdict = next(v for v in decision.verdicts if v.candidate_id.startswith(f"{name}@"))
    return verdict.status, "\n".join(verdict.reasons)


def choose(*results: Result, budgets: Budgets = NONE, prefer: str = "cost", sizes: dict[str, int] | None = None) -> Decision:
    """The decision, the variant fp32 of each target being its float."""
    floats = {r.candidate.target.id: r.measurement for r in results if r.candidate.variant == "fp32" and r.measurement}
    return decide(results, floats, budgets, prefer, sizes or {})


def test_a_budget_that_is_exceeded_is_named_with_both_numbers() -> None:
    decision = choose(result("int8", measurement=measurement(61.2, n=400)), budgets=Budgets(latency_p95_ms=50))
    status, reasons = judged(decision, "int8")
    assert (decision.chosen, status) == (None, Status.OVER_BUDGET)
    assert "latency p95 63.4 ms exceeds the budget of 50 ms (n=400)" in reasons


def test_every_exceeded_budget_is_named_not_only_the_first() -> None:
    tight = Budgets(
        accuracy_drop=0.001,
        latency_p50_ms=1,
        latency_p95_ms=1,
        latency_p99_ms=1,
        cold_start_ms=1,
        package_size_bytes=1,
        peak_memory_bytes=1,
        cost_per_million_usd=0.01,
    )
    bad = result("int8", measurement=measurement(10, accuracy=accuracy(0.02, 0.01, 0.03)))
    _, reasons = judged(choose(bad, budgets=tight), "int8")
    assert reasons.count("exceeds the budget") == 8


def test_what_fits_says_by_how_much() -> None:
    _, reasons = judged(choose(result("int8"), budgets=Budgets(package_size_bytes=100_000_000)), "int8")
    assert "package size 40.0 MB fits the budget of 100 MB, 60 % below it" in reasons


def test_a_number_exactly_at_its_budget_fits() -> None:
    assert choose(result("int8"), budgets=Budgets(package_size_bytes=40_000_000)).chosen is not None


def test_p99_is_refused_below_five_hundred_samples() -> None:
    budgets = Budgets(latency_p99_ms=1000)
    few, enough = result("few", measurement=measurement(n=499)), result("enough", measurement=measurement(n=500))
    decision = choose(few, enough, budgets=budgets)
    status, reasons = judged(decision, "few")
    assert status is Status.OVER_BUDGET
    assert "latency p99 is refused below 500 samples (n=499)" in reasons
    assert judged(decision, "enough")[0] is Status.OK


@pytest.mark.parametrize(
    "budgets",
    [Budgets(accuracy_drop=1), Budgets(latency_p95_ms=1e9), Budgets(cold_start_ms=1e9), Budgets(peak_memory_bytes=10**12)],
)
def test_what_was_not_measured_never_fits(budgets: Budgets) -> None:
    status, reasons = judged(choose(result("int8", measurement=None), budgets=budgets), "int8")
    assert status is Status.OVER_BUDGET
    assert "cannot be shown to hold" in reasons


def test_a_price_that_is_not_known_or_nan_never_fits() -> None:
    budgets = Budgets(cost_per_million_usd=5)
    for cost in (None, float("nan")):
        assert choose(result("int8", cost_per_million_usd=cost), budgets=budgets).chosen is None
    broken = result("int8", measurement=measurement(accuracy=accuracy(float("nan"))))
    assert choose(broken, budgets=Budgets(accuracy_drop=0.01)).chosen is None


def test_accuracy_is_judged_by_its_value_and_doubt_is_told() -> None:
    budgets = Budgets(accuracy_drop=0.01)
    within = result("within", measurement=measurement(accuracy=accuracy(0.004, -0.002, 0.009)))
    maybe = result("maybe", measurement=measurement(accuracy=accuracy(0.004, -0.004, 0.012)))
    beyond = result("beyond", measurement=measurement(accuracy=accuracy(0.011, 0.002, 0.02)))
    decision = choose(within, maybe, beyond, budgets=budgets)
    assert "not certain" not in judged(decision, "within")[1]
    assert judged(decision, "maybe")[0] is Status.OK
    assert "(95 % interval -0.0040 to 0.0120, n=2000); not certain: the interval reaches beyond" in judged(decision, "maybe")[1]
    assert judged(decision, "beyond")[0] is Status.OVER_BUDGET
    assert "n=2,000 is too small to tell, about 162,000 samples would do" in judged(decision, "beyond")[1]


def test_failures_limits_and_skips_keep_their_own_words() -> None:
    none = {"artifact": None, "measurement": None, "cost_per_million_usd": None}
    skipped = result("skipped", **none)
    skipped = replace(skipped, candidate=replace(skipped.candidate, skipped="nothing to gain"))
    decision = choose(
        result("failed", failure="prune: nothing to remove", **none),
        result("huge", over_limit="301 MB unzipped, the limit is 262 MB", **none),
        skipped,
        result("hollow", **none),
        budgets=Budgets(latency_p95_ms=50),
    )
    assert decision.chosen is None
    assert judged(decision, "failed") == (Status.FAILED, "prune: nothing to remove")
    assert judged(decision, "huge") == (Status.OVER_BUDGET, "301 MB unzipped, the limit is 262 MB")
    assert judged(decision, "skipped") == (Status.SKIPPED, "nothing to gain")
    assert judged(decision, "hollow")[0] is Status.FAILED


def test_the_cheapest_wins_and_the_loser_says_why() -> None:
    dear, cheap = result("dear", cost_per_million_usd=1.2), result("cheap", cost_per_million_usd=0.5)
    decision = choose(dear, cheap)
    assert decision.chosen == cheap.candidate.id
    assert "lost to cheap@lambda-zip-x86_64 by cost per million requests: $1.20 (" in judged(decision, "dear")[1]
    assert "against $0.500 (" in judged(decision, "dear")[1]
    assert "chosen by cost per million requests" in judged(decision, "cheap")[1]


def test_difference_within_noise_leaves_it_to_the_next_measure() -> None:
    """A tenth of a percent cheaper, but a third larger: not the winner."""
    thrifty = result("a", cost_per_million_usd=0.5000, measurement=measurement(10.00), artifact=artifact(60_000_000))
    small = result("b", cost_per_million_usd=0.5005, measurement=measurement(10.01), artifact=artifact(40_000_000))
    decision = choose(thrifty, small)
    assert decision.chosen == small.candidate.id
    assert "by package size: 60.0 MB against 40.0 MB; no clear difference in cost and latency" in judged(decision, "a")[1]


def test_packages_a_few_kilobytes_apart_are_equal() -> None:
    first = result("a", artifact=artifact(40_010_000))
    second = result("b", artifact=artifact(40_000_000))
    assert choose(second, first, prefer="size").chosen == first.candidate.id


def test_complete_equality_is_settled_by_id_and_said() -> None:
    decision = choose(result("b"), result("a"))
    assert decision.chosen == "a@lambda-zip-x86_64"
    assert "equal in every measure within noise" in judged(decision, "b")[1]


def test_accuracy_preferred_needs_more_than_its_interval() -> None:
    clear = result("clear", measurement=measurement(20, accuracy=accuracy(0.001, 0.000, 0.002)), cost_per_million_usd=1.0)
    worse = result("worse", measurement=measurement(10, accuracy=accuracy(0.008, 0.006, 0.010)), cost_per_million_usd=0.5)
    vague = result("vague", measurement=measurement(10, accuracy=accuracy(0.004, 0.001, 0.007)), cost_per_million_usd=0.6)
    decision = choose(clear, worse, vague, prefer="accuracy")
    assert decision.chosen == vague.candidate.id
    assert "accuracy drop" in judged(decision, "worse")[1]
    assert "cost per million" in judged(decision, "clear")[1]


def test_a_loser_put_out_by_a_third_says_by_whom() -> None:
    best = result("best", cost_per_million_usd=0.50, artifact=artifact(90_000_000), measurement=measurement(10, 0.5))
    winner = result("win", cost_per_million_usd=0.504, measurement=measurement(10, 0.5))
    edge = result("edge", cost_per_million_usd=0.508, artifact=artifact(30_000_000), measurement=measurement(10, 0.5))
    decision = choose(best, winner, edge)
    assert decision.chosen == winner.candidate.id
    assert "of best@lambda-zip-x86_64, which the winner equals within noise" in judged(decision, "edge")[1]


def test_slower_than_its_float_cannot_win_by_latency_or_cost() -> None:
    fp32 = result("fp32", measurement=measurement(10.0), artifact=artifact(90_000_000), cost_per_million_usd=0.5)
    int8 = result("int8", measurement=measurement(10.3, 1.03), cost_per_million_usd=0.5)
    for prefer in ("cost", "latency"):
        decision = choose(fp32, int8, prefer=prefer)
        assert decision.chosen == fp32.candidate.id
        assert (
            "slower than its float: median latency 1.03 × the float's (1.02 to 1.04, 20 interleaved blocks)"
            in judged(decision, "int8")[1]
        )
        assert "its float fits the budgets too and is faster" in judged(decision, "int8")[1]
    assert choose(fp32, int8, prefer="size").chosen == int8.candidate.id


def test_slower_than_its_float_wins_where_the_float_fits_not() -> None:
    fp32 = result("fp32", measurement=measurement(10.0), artifact=artifact(90_000_000))
    int8 = result("int8", measurement=measurement(11.0, 1.1))
    decision = choose(fp32, int8, budgets=Budgets(package_size_bytes=50_000_000))
    assert decision.chosen == int8.candidate.id
    assert "slower than its float" in judged(decision, "int8")[1]


def test_larger_than_its_float_says_so_and_does_not_win_by_size() -> None:
    fp32 = result("fp32", artifact=artifact(40_000_000), measurement=measurement(20))
    int8 = result("int8", artifact=artifact(40_150_000), measurement=measurement(10, 0.5), cost_per_million_usd=0.3)
    decision = choose(fp32, int8, prefer="size")
    assert decision.chosen == fp32.candidate.id
    assert "larger than its float: 40.1 MB against 40 MB" in judged(decision, "int8")[1]
    assert choose(fp32, int8, prefer="cost").chosen == int8.candidate.id


def test_float_that_is_no_candidate_has_a_size_to_compare_with() -> None:
    _, reasons = judged(choose(result("int8"), sizes={ZIP.id: 39_000_000}), "int8")
    assert "larger than its float: 40.0 MB against 39 MB" in reasons


def test_an_unclear_ratio_is_neither_faster_nor_slower() -> None:
    fp32 = result("fp32", measurement=measurement(10.0))
    _, reasons = judged(choose(fp32, result("int8", measurement=measurement(10.0, 1.001))), "int8")
    assert "no faster and no slower than its float, within noise" in reasons


def test_a_measure_that_is_not_known_loses_to_one_that_is() -> None:
    decision = choose(result("a", cost_per_million_usd=None), result("b", cost_per_million_usd=9.0))
    assert decision.chosen == "b@lambda-zip-x86_64"
    assert "cost per million requests: not known against $9.00" in judged(decision, "a")[1]


def test_times_of_different_machines_are_not_compared() -> None:
    other = Machine(cpu="Neoverse-N1", arch="arm64", isa="neon-dotprod", flags=(), cores=2, memory_bytes=10**9, os="Debian")
    slow = result(
        "slow", IMAGE, measurement=measurement(50.0, machine=other), cost_per_million_usd=5.0, artifact=artifact(30_000_000)
    )
    fast = result("fast", ZIP, measurement=measurement(10.0, machine=MACHINE), cost_per_million_usd=0.5)
    assert choose(slow, fast, prefer="latency").chosen == slow.candidate.id


def test_an_unknown_preference_is_refused() -> None:
    with pytest.raises(ValueError, match="prefer"):
        choose(result("a"), prefer="speed")


def test_no_results_are_no_choice() -> None:
    assert choose() == Decision(chosen=None, verdicts=())


candidates = st.builds(
    lambda i, p50, cost, size, drop: result(
        f"v{i}",
        measurement=measurement(p50, p50 / 10, n=40, accuracy=accuracy(drop, drop - 0.002, drop + 0.002)),
        cost_per_million_usd=cost,
        artifact=artifact(size),
    ),
    st.integers(0, 10**6),
    st.floats(0.1, 100),
    st.none() | st.floats(0.01, 10),
    st.integers(10**6, 10**8),
    st.floats(-0.01, 0.05),
)


@given(st.lists(candidates, min_size=1, max_size=6, unique_by=lambda r: r.candidate.id), st.sampled_from(PREFERENCES))
def test_the_order_of_candidates_never_matters(results: list[Result], prefer: str) -> None:
    budgets = Budgets(accuracy_drop=0.02)
    first = choose(*results, budgets=budgets, prefer=prefer)
    shuffled = sorted(results, key=lambda r: r.candidate.id, reverse=True)
    second = choose(*shuffled, budgets=budgets, prefer=prefer)
    assert first.chosen == second.chosen
    assert {v.candidate_id: v for v in first.verdicts} == {v.candidate_id: v for v in second.verdicts}
    assert [v.candidate_id for v in first.verdicts] == [r.candidate.id for r in results]
    assert all(v.reasons for v in first.verdicts)


def test_large_drop_that_no_budget_looks_at_loses_to_the_float() -> None:
    slim = result("slim", measurement=measurement(4.0, 0.1, accuracy=accuracy(0.84, 0.8, 0.88)), artifact=artifact(1_000_000))
    float_ = result("fp32", measurement=measurement(31.0))
    decision = choose(slim, float_, budgets=Budgets())
    assert decision.chosen == "fp32@lambda-zip-x86_64"
    status, said = judged(decision, "slim")
    assert status is Status.OVER_BUDGET
    assert "top1 is 0.0815 and the float's 0.9215: a drop of 0.8400 (95 % interval 0.8000 to 0.8800, n=2000)" in said
    assert "no more than 0.0461 (5 % of the float's) is accepted without a budget: set budgets.accuracy_drop" in said
    assert choose(slim, float_, budgets=Budgets(accuracy_drop=0.9)).chosen == "slim@lambda-zip-x86_64"
    # Nor is it chosen where nothing else fits: that is for a person to say.
    assert choose(slim, float_, budgets=Budgets(package_size_bytes=2_000_000)).chosen is None


def test_the_float_is_never_worse_than_itself() -> None:
    float_ = result("fp32", measurement=measurement(31.0, accuracy=accuracy(0.5, 0.4, 0.6)))
    assert choose(float_, budgets=Budgets()).chosen == "fp32@lambda-zip-x86_64"


def test_a_drop_that_may_be_large_is_warned_of() -> None:
    slim = result("slim", measurement=measurement(4.0, accuracy=accuracy(0.06, 0.01, 0.11)))
    float_ = result("fp32", measurement=measurement(31.0))
    decision = choose(slim, float_, budgets=Budgets())
    assert decision.chosen == "slim@lambda-zip-x86_64"
    said = judged(decision, "slim")[1]
    assert "warning: its top1 is 0.8615, worse than the float's by 0.0600, and no budget says how much worse it may be" in said
    assert "warning" not in judged(choose(slim, float_, budgets=Budgets(accuracy_drop=0.9)), "slim")[1]
    assert "warning" not in judged(choose(result("int8", measurement=measurement(4.0)), float_, budgets=Budgets()), "int8")[1]


SLOW = Budgets(latency_p95_ms=5.0)
ACCEPTING = replace(SLOW, accept_estimates=True)


def test_estimate_holds_no_budget_unless_the_recipe_accepts_it() -> None:
    decision = choose(result("fp32", measurement=measurement(31.0)), on_gpu("fp16"), budgets=SLOW)
    assert decision.chosen is None
    status, reasons = judged(decision, "fp16")
    assert status is Status.OVER_BUDGET
    assert (
        "latency p95 is estimated (L4: 1.20 ms), not measured, so the budget of 5 ms cannot be shown to hold: "
        "say budgets.accept_estimates: true, or measure on a GPU"
    ) in reasons


def test_estimated_one_is_chosen_where_all_measured_ones_miss() -> None:
    slow, slower = result("int8", measurement=measurement(11.0)), result("fp32", measurement=measurement(31.0))
    decision = choose(slow, slower, on_gpu("fp16"), budgets=ACCEPTING)
    assert decision.chosen == "fp16@gpu-worker-x86_64"
    status, reasons = judged(decision, "fp16")
    assert status is Status.OK
    assert "chosen on an estimate" in reasons
    assert "no candidate that was measured fits, and this one may fit: latency 1.20 ms" in reasons
    assert "both estimated on L4 (g6.xlarge at $0.805 an hour); it was not run on a GPU" in reasons
    assert "int8@lambda-zip-x86_64 misses: latency p95 11.4 ms exceeds the budget of 5 ms (n=500), 128 % above it" in reasons
    assert "fp32@lambda-zip-x86_64 misses: latency p95 32.1 ms exceeds" in reasons
    assert "latency p95 1.20 ms, estimated (L4 in g6.xlarge), fits the budget of 5 ms, 76 % below it" in reasons
    assert "never checked on a device" in reasons


def test_measured_candidate_that_fits_beats_any_estimate() -> None:
    """The GPU would be ten times cheaper and faster, if the estimate is right."""
    for prefer in PREFERENCES:
        decision = choose(result("int8", measurement=measurement(4.0)), on_gpu("fp16"), budgets=ACCEPTING, prefer=prefer)
        assert decision.chosen == "int8@lambda-zip-x86_64"
        status, reasons = judged(decision, "fp16")
        assert status is Status.OK
        assert "lost to int8@lambda-zip-x86_64: that was measured and fits every budget" in reasons
        assert "only estimated: 1.20 ms estimated (L4), $0.0800 estimated (L4) per million" in reasons


def test_an_estimate_above_its_budget_exceeds_it() -> None:
    status, reasons = judged(choose(on_gpu("fp16", estimate(7.0)), budgets=ACCEPTING), "fp16")
    assert status is Status.OVER_BUDGET
    assert "latency p95 7.00 ms, estimated (L4 in g6.xlarge), exceeds the budget of 5 ms" in reasons


def test_device_that_keeps_every_budget_stands_for_candidate() -> None:
    """The cheapest is too slow, the fastest too dear."""
    budgets = replace(ACCEPTING, cost_per_million_usd=0.1)
    many = on_gpu("fp16", estimate(9.0, 0.05, "T4"), estimate(1.2, 0.08, "L4"), estimate(0.6, 0.2, "L40S"))
    status, reasons = judged(choose(many, budgets=budgets), "fp16")
    assert status is Status.OK
    assert "L4 in g6.xlarge" in reasons
    assert "L40S" not in reasons


def test_what_is_never_estimated_is_not_known_and_says_so() -> None:
    for budgets in (replace(ACCEPTING, cold_start_ms=1e9), replace(ACCEPTING, peak_memory_bytes=10**12)):
        status, reasons = judged(choose(on_gpu("fp16"), budgets=budgets), "fp16")
        assert status is Status.OVER_BUDGET
        assert "is not known" in reasons
        assert "no estimate is made of it: leave this budget out for a GPU, or measure on one" in reasons


def test_among_estimates_preference_decides_beyond_their_band() -> None:
    small, large = on_gpu("int8", estimate(1.0, 0.05)), on_gpu("fp32", estimate(2.0, 0.10))
    assert choose(small, large, budgets=ACCEPTING).chosen == small.candidate.id
    # Within the band the next measures decide: here the accuracy.
    worse = on_gpu("int8", estimate(1.0, 0.05), measurement=unmeasured(accuracy=accuracy(0.009, 0.008, 0.010)))
    near = on_gpu("fp16", estimate(1.1, 0.055), measurement=unmeasured(accuracy=accuracy(0.0, 0.0, 0.0)))
    decision = choose(worse, near, budgets=ACCEPTING)
    assert decision.chosen == near.candidate.id
    assert "by accuracy drop" in judged(decision, "int8")[1]


def test_estimate_may_be_all_where_no_budget_asks_for_more() -> None:
    decision = choose(on_gpu("fp16"), budgets=NONE)
    assert decision.chosen == "fp16@gpu-worker-x86_64"
    assert "no candidate was measured, and this one may fit" in judged(decision, "fp16")[1]


def test_candidate_without_loss_is_not_taken_for_its_float() -> None:
    """Only the accuracy of both was measured, and it is the same."""
    exact = accuracy(0.0, 0.0, 0.0)
    fp32 = on_gpu("fp32", measurement=unmeasured(accuracy=exact))
    half = on_gpu("fp16", measurement=unmeasured(accuracy=exact))
    assert fp32.measurement == half.measurement
    decision = choose(fp32, half, budgets=Budgets(accuracy_drop=0.01))
    assert "the float itself" in judged(decision, "fp32")[1]
    assert "the float itself" not in judged(decision, "fp16")[1]


def test_an_estimate_never_replaces_what_was_measured() -> None:
    both = result("int8", measurement=measurement(11.0), estimates=(estimate(0.1),))
    assert choose(both, budgets=ACCEPTING).chosen is None


@given(st.floats(0.01, 100), st.floats(0.001, 10), st.booleans())
def test_accepting_estimates_lets_only_what_is_below_fit(latency: float, cost: float, accepted: bool) -> None:
    budgets = Budgets(latency_p50_ms=5.0, latency_p99_ms=5.0, cost_per_million_usd=1.0, accept_estimates=accepted)
    fits = accepted and latency <= 5.0 and cost <= 1.0
    assert (choose(on_gpu("fp16", estimate(latency, cost)), budgets=budgets).chosen is not None) == fits


def test_refusing_estimates_in_a_whole_outcome_chooses_nothing() -> None:
    assert on_an_estimate(accepted=True).decision.chosen == "fp16@gpu-worker-x86_64"
    assert on_an_estimate(accepted=False).decision.chosen is None
