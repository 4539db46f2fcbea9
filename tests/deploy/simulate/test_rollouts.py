"""Rollouts on a virtual clock, in small: the figures themselves are printed by bench/deploy/rollouts.py."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from mlpack.deploy.simulate.rollouts import Episode, Gap, RolloutRun, Side, World, simulate_rollout
from mlpack_control import Policy, Rule

POLICY = Policy(rules=(Rule(metric="errors", limit=0.01, margin=0.005), Rule(metric="slow", limit=0.05, margin=0.02)))


def world(**more: Any) -> World:
    return World(**{"rps": lambda _: 10.0, **more})


def test_healthy_release_gets_all_the_traffic() -> None:
    run = simulate_rollout(POLICY, world())
    assert run.outcome == "promoted"
    assert [percent for _, percent in run.shifts] == [5, 25, 50]
    assert run.decisions[-1][1] == "finalise"


def test_same_seed_is_the_same_run() -> None:
    assert simulate_rollout(POLICY, world(), 7).decisions == simulate_rollout(POLICY, world(), 7).decisions
    assert simulate_rollout(POLICY, world(), 7).minutes != simulate_rollout(POLICY, world(), 8).minutes


@pytest.mark.parametrize("side", [Side(errors=0.05), Side(crashes=0.05), Side(slow=0.4)])
def test_bad_release_is_stopped_at_the_first_step(side: Side) -> None:
    runs = [simulate_rollout(POLICY, world(new=side), seed) for seed in range(10)]
    assert {run.outcome for run in runs} == {"rolled back"}
    assert statistics.median(run.bad_answers for run in runs) < 20
    assert {run.percent for run in runs} == {5}


@pytest.mark.parametrize("kind", ["missing", "nan", "stale"])
def test_no_news_never_advances(kind: Any) -> None:
    run = simulate_rollout(POLICY, world(gaps=(Gap(begin_s=0.0, end_s=1e9, sources=("package",), kind=kind),), hours=4.0))
    assert run.outcome == "undecided"
    assert [percent for _, percent in run.shifts] == [5]
    assert run.asked


def test_no_traffic_never_advances() -> None:
    run = simulate_rollout(POLICY, world(rps=lambda _: 0.0, hours=4.0))
    assert (run.outcome, run.percent, run.requests) == ("undecided", 5, 0)


def test_sick_dependency_is_nobodys_fault() -> None:
    sick = world(episodes=(Episode(begin_s=300.0, end_s=1e9, shares={"errors": 0.2}),), hours=3.0)
    assert {simulate_rollout(POLICY, sick, seed).outcome for seed in range(10)} == {"undecided"}


def test_bursts_have_the_same_mean() -> None:
    def errors(bursts: float) -> float:
        unseen = world(bursts=bursts, hours=0.5, gaps=(Gap(begin_s=0, end_s=1e9),))
        runs: list[RolloutRun] = [simulate_rollout(POLICY, unseen, seed) for seed in range(40)]
        return sum(minute.counts["old"]["errors"]["package"][0] for run in runs for minute in run.minutes)

    assert errors(5.0) == pytest.approx(errors(1.0), rel=0.3)
