"""Budgets held against one candidate: what is known, what is estimated, and what is neither."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.outcomes import ZIP, accuracy, estimate, measurement, on_gpu, result, unmeasured

from mlpack.core.records import Budgets, Proof, Result, Target
from mlpack.decide import budgets

EVERY = Budgets(
    accuracy_drop=1.0, latency_p50_ms=1e9, latency_p95_ms=1e9, latency_p99_ms=1e9, cold_start_ms=1e9,
    package_size_bytes=10**12, peak_memory_bytes=10**12, cost_per_million_usd=1e9,
)  # fmt: skip


def test_every_budget_is_checked_once() -> None:
    every = replace(EVERY, stages_ms={"infer": 5.0})
    staged = result("int8", measurement=measurement(accuracy=accuracy(0.001), stages_ms={"infer": (1.0, 2.0, 3.0)}))
    broken, kept = budgets.checks(staged, every, None, itself=False)
    assert (broken, len(kept)) == ([], len(fields(Budgets)) - 3)  # all but accept_estimates, confidence and isa
    broken, kept = budgets.checks(
        result("int8", measurement=None, artifact=None, cost_per_million_usd=None), every, None, itself=False
    )
    assert kept == []
    assert not any(check.known for check in broken)


def _stage(limits: dict[str, float], **stages: tuple[float, ...]) -> tuple[list[budgets.Check], list[budgets.Check]]:
    staged = result("int8", measurement=measurement(accuracy=accuracy(0.001), stages_ms=stages))
    return budgets.checks(staged, Budgets(stages_ms=limits), None, itself=False)


def test_a_stage_is_held_by_its_95th_percentile() -> None:
    samples = tuple(float(number) for number in range(1, 101))
    (broken,), (kept,) = _stage({"infer": 60.0, "decode": 100.0}, infer=samples, decode=samples)
    assert broken.text == "stage infer p95 95.0 ms exceeds the budget of 60 ms (n=100)"
    assert broken.excess == pytest.approx(95.05 / 60 - 1, abs=0.01)
    assert kept.text.startswith("stage decode p95 95.0 ms fits the budget of 100 ms")


def test_a_stage_that_did_not_take_place_keeps_no_budget() -> None:
    (broken,), kept = _stage({"tokenize": 10.0}, decode=(1.0,), infer=(2.0,))
    assert (kept, broken.known) == ([], False)
    assert "it did not take place in the requests that were measured (decode, infer)" in broken.text
    (broken,), _ = _stage({"tokenize": 10.0})
    assert "stage tokenize p95 is not known" in broken.text


PROVEN = Proof(how="static", why="its graph has no such product")
UNPROVEN = Proof(how=None, why="2 integer products may overflow, and no emulator is here")


def with_proof(proof: Proof | None, target: Target = ZIP) -> Result:
    return result("int8", target, measurement=measurement(accuracy=replace(accuracy(0.001), proof=proof)))


@pytest.mark.parametrize(
    ("proof", "fits", "said"),
    [
        (PROVEN, True, "accuracy is proven (static): its graph has no such product"),
        (UNPROVEN, False, "accuracy is not proven (isa: proven): 2 integer products may overflow, and no emulator is here"),
        (None, False, "accuracy is not known"),
    ],
)
def test_a_proof_is_a_budget_of_its_own(proof: Proof | None, fits: bool, said: str) -> None:
    broken, kept = budgets.checks(with_proof(proof), Budgets(isa="proven"), None, itself=False)
    (check,) = kept if fits else broken
    assert check.text.startswith(said)
    assert budgets.checks(with_proof(proof), Budgets(), None, itself=False) == ([], [])


def test_emulated_accuracy_counts_where_estimates_are_accepted() -> None:
    arm = with_proof(replace(PROVEN, how="run"), replace(ZIP, arch="arm64"))
    wanted = Budgets(accuracy_drop=0.01, isa="proven")
    (broken,), (kept,) = budgets.checks(arm, wanted, None, itself=False)
    assert "emulated arm64" in broken.text
    assert "accept_estimates" in broken.text
    assert "proven" in kept.text
    assert budgets.checks(arm, replace(wanted, accept_estimates=True), None, itself=False)[0] == []
    other = with_proof(UNPROVEN, replace(ZIP, arch="arm64"))
    broken_ones, _ = budgets.checks(other, Budgets(accuracy_drop=0.01, accept_estimates=True), None, itself=False)
    assert ["same graph here" in check.text for check in broken_ones] == [True]


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


def test_one_to_go_by_keeps_every_budget_then_is_cheap_or_quick() -> None:
    t4, l4, l40s = estimate(9.0, 0.05, "T4"), estimate(1.2, 0.08, "L4"), estimate(0.6, 0.2, "L40S")
    ranked = budgets.rank((t4, l4, l40s), Budgets(), "cost")
    assert ranked == (t4, l4, l40s)
    assert budgets.rank((t4, l4, l40s), Budgets(), "latency") == (l40s, l4, t4)
    assert budgets.rank((t4, l4, l40s), Budgets(latency_p95_ms=5.0), "cost") == (l4, l40s, t4)
    assert budgets.rank((t4, l4, l40s), Budgets(latency_p95_ms=5.0, cost_per_million_usd=0.06), "size")[0] == t4


def test_nothing_stands_for_what_was_measured() -> None:
    both = result("int8", estimates=(estimate(),))
    assert budgets.substitute(both, Budgets(), "cost") is None
    assert budgets.substitute(replace(both, measurement=unmeasured()), Budgets(), "cost") == estimate()
    assert budgets.substitute(result("int8", measurement=None), Budgets(), "cost") is None


@given(st.permutations([estimate(9.0, 0.05, "T4"), estimate(1.2, 0.05, "L4"), estimate(1.2, 0.05, "L40S")]))
def test_the_order_does_not_depend_on_the_order(given_: list[budgets.Estimate]) -> None:
    assert [one.device for one in budgets.rank(given_, Budgets(), "cost")] == ["L4", "L40S", "T4"]


def test_an_excess_is_a_share_of_the_limit() -> None:
    (check,), _ = budgets.checks(result("int8", measurement=measurement(10.0)), Budgets(latency_p50_ms=5.0), None, itself=False)
    assert 0.95 < check.excess < 1.05


SURE = Budgets(accuracy_drop=0.01, confidence=0.95)


def judged(budgets_: Budgets, **given: object) -> budgets.Check:
    """What becomes of a candidate's accuracy; a check that keeps nothing where there is none."""
    made = result("int8", measurement=measurement(accuracy=accuracy(**given)))
    broken, kept = budgets.checks(made, budgets_, None, itself=False)
    ruined = budgets.certain_loss(made, budgets_)
    return [*broken, *([] if ruined is None else [ruined]), *kept, budgets.Check(fits=True, known=True, text="")][0]


def test_the_float_keeps_the_budget_of_its_own_drop() -> None:
    itself = result("fp32", measurement=measurement(accuracy=accuracy(drop=0.0)))
    broken, (kept,) = budgets.checks(itself, SURE, None, itself=True)
    assert broken == []
    assert kept == budgets.Check(
        fits=True, known=True, text="the float itself: top1 0.9215 (n=2000), which every drop is from",
    )  # fmt: skip


def test_what_is_not_known_keeps_no_budget() -> None:
    (broken,), kept = budgets.checks(
        result("int8", cost_per_million_usd=None), Budgets(cost_per_million_usd=0.4), None, itself=False
    )
    assert list(kept) == []
    assert (broken.fits, broken.known) == (False, False)
    assert "is not known, so the budget of $0.400 cannot be shown to hold" in broken.text


def test_a_confidence_wants_the_upper_end_within_the_budget() -> None:
    within = judged(SURE, drop=0.004, low=-0.001, high=0.009)
    assert within.fits
    assert "top1 drop 0.0040, at most 0.0090 with 95 % confidence: within the budget of 0.01 (95 % interval -0.0010" in within.text
    maybe = judged(SURE, drop=0.004, low=-0.002, high=0.012)
    assert not maybe.fits
    assert maybe.known
    assert "drop 0.0040, at most 0.0120 with 95 % confidence: the budget of 0.01 is not certain to hold" in maybe.text
    assert "n=2,000 is too small to tell, about 3,556 samples would do" in maybe.text
    assert maybe.excess == pytest.approx(0.2)
    beyond = judged(SURE, drop=0.02, low=0.009, high=0.03)
    assert not beyond.fits
    assert "exceeds the budget of 0.01" in beyond.text
    assert judged(replace(SURE, confidence=None), drop=0.004, low=-0.002, high=0.012).fits


@pytest.mark.parametrize("more", [{"interval": "none"}, {"confidence": 0.9}])
def test_an_interval_that_says_nothing_shows_no_confidence(more: dict[str, object]) -> None:
    check = judged(SURE, drop=0.004, low=0.004, high=0.004, **more)
    assert not check.fits
    assert not check.known
    assert "so 95 % confidence cannot be shown: give more samples" in check.text


def test_no_sample_that_differs_needs_enough_to_bound_others() -> None:
    check = judged(SURE, drop=0.0, low=-0.0362, high=1 - 0.025 ** (1 / 100), n=100, interval="exact")
    assert not check.fits
    assert "at most 0.0362 with 95 % confidence" in check.text
    assert "about 368 samples would do" in check.text
    assert judged(SURE, drop=0.0, low=-0.01, high=1 - 0.025 ** (1 / 368), n=368, interval="exact").fits


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ({"metric": "agreement", "value": 0.08, "drop": 0.92, "low": 0.9, "high": 0.94, "compared_with": "float baseline"}, False),
        ({"metric": "cosine", "value": 0.93, "drop": 0.07, "low": 0.06, "high": 0.08, "compared_with": "float baseline"}, False),
        ({"metric": "cosine", "value": 0.97, "drop": 0.03, "low": 0.02, "high": 0.08, "compared_with": "float baseline"}, True),
        ({"metric": "fidelity", "value": 0.2, "drop": 0.8, "low": 0.7, "high": 0.9, "compared_with": "float baseline"}, False),
        ({"metric": "top1", "value": 0.07, "drop": 0.84, "low": 0.8, "high": 0.88}, False),
        ({"metric": "top1", "value": 0.87, "drop": 0.05, "low": 0.01, "high": 0.09}, True),  # perhaps; warned of
        ({"metric": "map_50", "value": 0.0, "drop": 0.5, "low": 0.4, "high": 0.6}, False),
        ({"metric": "mae", "value": 1.09, "drop": 0.09, "low": 0.08, "high": 0.1, "lower_is_better": True}, True),
        ({"metric": "mae", "value": 1.3, "drop": 0.3, "low": 0.2, "high": 0.4, "lower_is_better": True}, False),
        ({"metric": "mae", "value": 0.1, "drop": 0.1, "low": 0.1, "high": 0.1, "lower_is_better": True}, True),  # of nought
        ({"metric": "mine:loss", "value": 4.0, "drop": 2.0, "low": 1.5, "high": 2.5, "lower_is_better": True}, False),
        ({"metric": "mine:loglik", "value": -130.0, "drop": 20.0, "low": 18.0, "high": 22.0}, False),
        ({"metric": "mine:loglik", "value": -112.0, "drop": 2.0, "low": 1.0, "high": 3.0}, True),
    ],
)
def test_certainly_much_worse_needs_somebody_who_allows_it(given_: dict[str, object], kept: bool) -> None:
    check = judged(Budgets(), **given_)
    assert check.fits is kept
    assert kept or "is accepted without a budget: set budgets.accuracy_drop to allow it" in check.text
    assert judged(Budgets(accuracy_drop=50.0), **given_).fits


def test_budget_on_something_else_says_nothing_of_accuracy() -> None:
    """As a search holds a form against one kind of budget at a time."""
    ruined = result("int8", measurement=measurement(accuracy=accuracy(0.5, 0.4, 0.6)))
    broken, kept = budgets.checks(ruined, Budgets(package_size_bytes=10**9), None, itself=False)
    assert (broken, len(kept)) == ([], 1)
