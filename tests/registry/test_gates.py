"""The gates of a promotion: budgets of the alias, what is live, and whatever else is asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.outcomes import IMAGE, MACHINE, accuracy, artifact, estimate, measurement, on_gpu, outcome, result, wave
from tests.support.registry.builds import build

from mlpack.core.records import Budgets, Proof, Result
from mlpack.errors import ServiceError
from mlpack.registry import Place
from mlpack.registry.aliases.gates import Gate, GateError, budget_gates, judge, regression_gates
from mlpack.registry.aliases.policies import Policy
from mlpack.registry.local import directory
from mlpack.registry.records import Release
from mlpack.report.record import BaselineRecord, BuildRecord
from mlpack.report.record.candidates import StageRecord
from mlpack.report.record.sizes import SizeRecord, SizingRecord
from mlpack.report.recording import build_record

POLICY = Policy(subject="minilm:prod")
PROOF = "proof that its accuracy holds on every processor of the target"


def record(*results: Result, chosen: str | None = None, **other: Any) -> BuildRecord:
    made = build_record(outcome(results, Budgets(), **other))
    return replace(made, chosen=chosen or made.chosen)


def by_name(gates: Iterable[Gate]) -> dict[str, Gate]:
    return {gate.gate: gate for gate in gates}


def regressions(live: BuildRecord, new: BuildRecord, policy: Policy = POLICY) -> dict[str, Gate]:
    return by_name(regression_gates(live, new, policy))


@pytest.mark.parametrize(
    ("budgets", "said"),
    [
        (Budgets(latency_p95_ms=10.0), "latency p95 10."),
        (Budgets(latency_p50_ms=9.9), "latency p50 10."),
        (Budgets(latency_p99_ms=10.0), "latency p99"),
        (Budgets(cold_start_ms=80.0), "cold start p50 8"),
        (Budgets(package_size_bytes=39_999_999), "package size 40.000000 MB exceeds the budget of 39.999999 MB (minilm:prod)"),
        (Budgets(peak_memory_bytes=90_000_000), "peak memory 91.0 MB exceeds the budget of 90 MB"),
        (Budgets(cost_per_million_usd=0.4), "cost per million $0.500 exceeds the budget of $0.400"),
        (Budgets(accuracy_drop=0.001), "accuracy drop 0.0020 exceeds the budget of 0.001"),
    ],
)
def test_each_budget_of_the_alias_is_held_against_the_chosen(budgets: Budgets, said: str) -> None:
    made = record(result("int8", measurement=measurement(accuracy=accuracy(0.002))))
    (gate,) = budget_gates(made, replace(POLICY, budgets=budgets))
    assert not gate.ok
    assert said in gate.detail
    loose = Budgets(**dict.fromkeys(("accuracy_drop", gate.gate.removeprefix("budget.")), 1e9))  # type: ignore[arg-type]
    assert all(gate.ok for gate in budget_gates(made, replace(POLICY, budgets=loose)))


def test_an_estimate_counts_only_where_the_alias_accepts_it() -> None:
    made = record(on_gpu("fp16", estimate(1.2, 0.08)))
    limits = Budgets(latency_p95_ms=5.0, cost_per_million_usd=0.05)
    refused = by_name(budget_gates(made, replace(POLICY, budgets=limits)))
    assert [gate.ok for gate in refused.values()] == [False, False]
    assert "latency p95 is estimated (L4: 1.20 ms), not measured, so the budget of 5 ms" in refused["budget.latency_p95_ms"].detail
    accepting = by_name(budget_gates(made, replace(POLICY, budgets=replace(limits, accept_estimates=True))))
    assert accepting["budget.latency_p95_ms"] == Gate(
        gate="budget.latency_p95_ms", ok=True, detail="latency p95 1.20 ms, estimated (L4), fits the budget of 5 ms (minilm:prod)"
    )
    assert not accepting["budget.cost_per_million_usd"].ok
    assert "estimated (L4), exceeds" in accepting["budget.cost_per_million_usd"].detail


def test_a_package_for_another_memory_is_held_to_its_numbers() -> None:
    """`memory_mb: auto` compares candidates at one vCPU, and ships for 512 MB, where a call takes longer."""
    made = record(result("int8", measurement=measurement(accuracy=accuracy(0.0))))
    stage = {"p50": 8.0, "p95": 9.0, "n": 20}
    stages = {"infer": StageRecord(**stage), "features": StageRecord(**stage)}
    made = replace(made, candidates=tuple(replace(one, stages_ms=stages) for one in made.candidates))

    def size(memory_mb: int, times: float, *, measured: bool) -> SizeRecord:
        return SizeRecord(
            memory_mb=memory_mb, measured=measured, basis="by hand", threads=1, latency_p50_ms=10 * times,
            latency_p95_ms=12 * times, latency_n=20, cold_start_ms=80 * times, peak_memory_bytes=90_000_000,
            cost_per_million_usd=0.5, problems=(),
        )  # fmt: skip

    def gates(taken: bool, proposed_mb: int = 512, measured: bool = True, **budgets: Any) -> list[Gate]:
        sizes = (size(512, 3.5, measured=measured), size(1769, 1, measured=True))
        trail = SizingRecord(candidate=made.chosen or "", proposed_mb=proposed_mb, taken=taken, quota="q", sizes=sizes)
        return list(budget_gates(replace(made, sizing=trail), replace(POLICY, budgets=Budgets(**budgets))))

    for budgets in ({"latency_p50_ms": 20.0}, {"latency_p95_ms": 20.0}, {"cold_start_ms": 100.0}, {"stages_ms": {"infer": 20.0}}):
        assert [gate.ok for gate in gates(True, **budgets)] == [False]
        assert [gate.ok for gate in gates(False, **budgets)] == [True]  # it was only proposed
        assert [gate.ok for gate in gates(True, 1769, **budgets)] == [True]
    (gate,) = gates(True, latency_p95_ms=20.0)
    assert gate.detail == "latency p95 at 512 MB 42.0 ms exceeds the budget of 20 ms (minilm:prod)"
    (gate,) = gates(True, latency_p99_ms=1e9)
    assert (gate.ok, gate.detail.startswith("latency p99 at 512 MB is not known")) == (False, True)
    assert all(gate.ok for gate in gates(True, stages_ms={"infer": 40.0, "features": 9.5}, package_size_bytes=10**9))
    (gate,) = gates(True, measured=False, latency_p95_ms=50.0)
    assert not gate.ok
    assert "latency p95 at 512 MB is estimated (by hand: 42.0 ms), not measured" in gate.detail
    assert [gate.ok for gate in gates(True, measured=False, latency_p95_ms=50.0, accept_estimates=True)] == [True]
    (gate,) = gates(True, measured=False, stages_ms={"infer": 40.0})
    assert not gate.ok
    assert "stage infer p95 at 512 MB is estimated (by hand: 31.5 ms), not measured" in gate.detail
    for limit, ok in ((40.0, True), (20.0, False)):
        (gate,) = gates(True, measured=False, stages_ms={"infer": limit}, accept_estimates=True)
        assert (gate.ok, "31.5 ms, estimated (by hand)" in gate.detail) == (ok, True)
    (gate,) = gates(True, measured=False, stages_ms={"features": 9.5})  # a wait is as long whatever the memory
    assert gate.ok


def test_an_alias_may_say_how_sure_a_drop_has_to_be() -> None:
    sure = replace(POLICY, budgets=Budgets(accuracy_drop=0.01, confidence=0.95))
    (kept,) = budget_gates(record(result("int8", measurement=measurement(accuracy=accuracy(0.002, -0.001, 0.005)))), sure)
    assert kept == Gate(
        gate="budget.accuracy_drop", ok=True,
        detail="accuracy drop at most 0.0050 with 95 % confidence fits the budget of 0.01 (minilm:prod)",
    )  # fmt: skip
    (broken,) = budget_gates(record(result("int8", measurement=measurement(accuracy=accuracy(0.002, -0.001, 0.015)))), sure)
    assert not broken.ok
    assert "at most 0.0150 with 95 % confidence exceeds the budget of 0.01" in broken.detail
    surer = replace(POLICY, budgets=Budgets(accuracy_drop=0.01, confidence=0.99))
    (unknown,) = budget_gates(record(result("int8", measurement=measurement(accuracy=accuracy(0.002, -0.001, 0.005)))), surer)
    assert not unknown.ok
    assert "with 99 % confidence cannot be shown: the build's intervals are less sure" in unknown.detail
    (itself,) = budget_gates(record(result("fp32", measurement=measurement(accuracy=accuracy(0.0)))), sure)
    assert (itself.ok, itself.detail) == (True, "the float itself, which every drop is from (minilm:prod)")
    old = record(result("int8", measurement=measurement(accuracy=accuracy(0.002, -0.001, 0.005))))
    ones = tuple(replace(one, accuracy=replace(one.accuracy, interval=None)) for one in old.candidates)
    old = replace(old, candidates=ones)
    assert not next(budget_gates(old, sure)).ok


@pytest.mark.parametrize(
    ("proof", "ok", "detail"),
    [
        (Proof(how="static", why="no product can overflow"), True, "accuracy is proven (static): no product can overflow"),
        (Proof(how=None, why="no emulator is here"), False, "accuracy is not proven: no emulator is here"),
        (None, False, f"the build has no {PROOF}: say budgets.isa in the recipe"),
    ],
)
def test_an_alias_may_ask_for_proof(proof: Proof | None, ok: bool, detail: str) -> None:
    made = record(result("int8", measurement=measurement(accuracy=replace(accuracy(0.0), proof=proof))))
    (gate,) = budget_gates(made, replace(POLICY, budgets=Budgets(isa="proven")))
    assert gate == Gate(gate="budget.isa", ok=ok, detail=f"{detail} (minilm:prod)")


def test_a_build_without_accuracy_has_no_proof() -> None:
    (gate,) = budget_gates(record(on_gpu("fp16")), replace(POLICY, budgets=Budgets(isa="proven")))
    assert not gate.ok


def test_what_is_not_estimated_fits_no_budget_of_any_alias() -> None:
    budgets = Budgets(cold_start_ms=1e9, peak_memory_bytes=10**12, accept_estimates=True)
    gates = list(budget_gates(record(on_gpu("fp16")), replace(POLICY, budgets=budgets)))
    assert [gate.ok for gate in gates] == [False, False]
    assert all("is not known" in gate.detail for gate in gates)


def test_no_regression_is_seen_in_what_was_never_measured() -> None:
    """From a CPU to a GPU and between two GPU releases: latency and cold start are not known, which refuses nothing."""
    cpu, first, second = record(result("int8")), record(on_gpu("fp16", estimate(1.0))), record(on_gpu("fp16", estimate(9.0)))
    for live, new in ((cpu, first), (first, cpu), (first, second)):
        gates = regressions(live, new)
        assert gates["regression.latency"].ok
        assert "unknown" in gates["regression.latency"].detail
        assert gates["regression.cold_start"].ok


def test_the_limit_itself_fits() -> None:
    (gate,) = budget_gates(record(result("int8")), replace(POLICY, budgets=Budgets(package_size_bytes=40_000_000)))
    assert gate.ok


def test_a_number_that_is_missing_fits_no_budget() -> None:
    made = record(result("int8", measurement=None, cost_per_million_usd=None))
    gates = list(
        budget_gates(made, replace(POLICY, budgets=Budgets(latency_p95_ms=1e9, accuracy_drop=1.0, cost_per_million_usd=1e9)))
    )
    assert [gate.ok for gate in gates] == [False, False, False]
    assert all("cannot be shown to hold" in gate.detail for gate in gates)


def test_a_p99_of_few_samples_fits_no_budget() -> None:
    made = record(result("int8", measurement=measurement(n=499)))
    (gate,) = budget_gates(made, replace(POLICY, budgets=Budgets(latency_p99_ms=1e9)))
    assert not gate.ok


def test_a_release_does_not_regress_from_itself() -> None:
    one = record(result("int8"))
    found = regressions(one, one)
    assert list(found) == ["regression.size", "regression.latency", "regression.cold_start", "regression.accuracy"]
    assert all(gate.ok for gate in found.values())
    unknown = record(result("int8", measurement=None))
    assert regressions(unknown, unknown)["regression.latency"].detail == "none → none  unknown"


@pytest.mark.parametrize(
    ("name", "worse"),
    [
        ("size", {"artifact": artifact(41_000_000)}),
        ("latency", {"measurement": measurement(14.0)}),
        ("cold_start", {"measurement": measurement(cold_start_ms=wave(120, 9))}),
        ("accuracy", {"measurement": measurement(accuracy=accuracy(0.02))}),
    ],
)
def test_each_regression_refuses_unless_the_policy_lets_it_pass(name: str, worse: dict[str, Any]) -> None:
    live, new = record(result("int8")), record(result("int8", **worse))
    failed = [gate for gate in regressions(live, new).values() if not gate.ok]
    assert [gate.gate for gate in failed] == [f"regression.{name}"]
    assert " → " in failed[0].detail
    assert "worse" in failed[0].detail
    lax = replace(POLICY, refuses=())
    passed = regressions(live, new, lax)[f"regression.{name}"]
    assert passed.ok
    assert "worse, which minilm:prod lets pass" in passed.detail
    better = regressions(new, live, lax)
    assert all(gate.ok and "lets pass" not in gate.detail for gate in better.values())


def test_candidates_of_other_names_are_compared_all_the_same() -> None:
    live = record(result("int8"))
    slim = record(result("fp32"), result("slim", artifact=artifact(50_000_000)), chosen="slim@lambda-zip-x86_64")
    assert not regressions(live, slim)["regression.size"].ok


def test_growth_within_what_counts_as_equal_is_no_regression() -> None:
    live = record(result("int8", artifact=artifact(40_000_000)))
    near = regressions(live, record(result("int8", artifact=artifact(40_390_000))))["regression.size"]
    assert near.ok
    assert "within what counts as equal" in near.detail
    assert not regressions(live, record(result("int8", artifact=artifact(40_410_000))))["regression.size"].ok


def test_noise_is_no_regression() -> None:
    live, near = record(result("int8")), record(result("int8", measurement=measurement(10.02)))
    assert all(gate.ok for gate in regressions(live, near).values())


def test_times_of_different_machines_are_called_incomparable() -> None:
    live = record(result("int8"))
    elsewhere = record(result("int8", measurement=measurement(30.0, machine=replace(MACHINE, cpu="another"))))
    found = regressions(live, elsewhere)["regression.latency"]
    assert found.ok
    assert found.detail.endswith("incomparable (measured on different machines)")


def test_a_machine_that_became_slower_is_not_the_releases_fault() -> None:
    """The float of both builds is the same package and moved as much."""

    def made(factor: float) -> BuildRecord:
        fp32 = result("fp32", artifact=artifact(90_000_000), measurement=measurement(20.0 * factor))
        int8 = result("int8", measurement=measurement(10.0 * factor, 0.5))
        return record(fp32, int8, chosen="int8@lambda-zip-x86_64")

    assert regressions(made(1.0), made(1.5))["regression.latency"].ok


def test_lower_is_better_where_the_metric_says_so() -> None:
    def made(value: float, drop: float) -> BuildRecord:
        said = accuracy(drop, metric="mae", value=value)
        built = record(result("int8", measurement=measurement(accuracy=said)), chosen="int8@lambda-zip-x86_64")
        return replace(built, baseline=BaselineRecord(metric="mae", value=None, targets={}))

    assert not regressions(made(1.0, 0.0), made(1.2, 0.2))["regression.accuracy"].ok
    assert regressions(made(1.2, 0.2), made(1.0, 0.0))["regression.accuracy"].ok


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return directory.open_registry(tmp_path / "registry").place


def released(place: Place, folder: Path, **how: Any) -> Release:
    from mlpack.registry.releases.releases import Registry

    return Registry(place).publish(build(folder, **how))


def test_the_evidence_is_what_was_published(place: Place, tmp_path: Path) -> None:
    live, new = released(place, tmp_path / "a"), released(place, tmp_path / "b", content=b"larger " * 1000)
    first = by_name(judge(place, POLICY, live, None))
    assert first == {"regression": Gate(gate="regression", ok=True, detail="nothing else is live")}
    assert not by_name(judge(place, POLICY, new, live))["regression.size"].ok
    strict = replace(POLICY, budgets=Budgets(package_size_bytes=1000))
    assert [gate.gate for gate in judge(place, strict, new, None) if not gate.ok] == ["budget.package_size_bytes"]


def test_more_may_be_asked(place: Place, tmp_path: Path) -> None:
    release = released(place, tmp_path / "a")

    def signed(asked: Release, evidence: BuildRecord) -> Iterable[Gate]:
        yield Gate(gate="signature", ok=False, detail=f"{asked.name} has none; it was built by {evidence.mlpack_version}")

    assert judge(place, POLICY, release, None, (signed,))[-1].detail == "minilm has none; it was built by 0.1.0"


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"{}")])
def test_evidence_that_is_lost_or_damaged_is_services_failure(place: Place, tmp_path: Path, damage: Any) -> None:
    release = released(place, tmp_path / "a")
    damage(Path(place.blobs.uri(release.files["build.json"])))
    with pytest.raises(ServiceError, match="damaged"):
        judge(place, POLICY, release, None)


def test_a_zip_and_an_image_can_be_compared() -> None:
    found = regressions(record(result("int8")), record(result("int8", IMAGE, artifact=artifact(60_000_000, "image"))))
    assert not found["regression.size"].ok


def test_the_error_lists_every_failure() -> None:
    failed = [Gate(gate=name, ok=False, detail=f"{name} is too much") for name in ("a", "b")]
    said = str(GateError("the promotion", failed))
    assert said.splitlines()[1:3] == ["  a: a is too much", "  b: b is too much"]
    assert "refused by 2 gates" in said
