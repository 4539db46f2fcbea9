"""What `plan` says of a step's time beside what simulated rollouts take (figure 11; bench/deploy/decision_time.py prints more)."""

from __future__ import annotations

import statistics

import pytest

from mlpack.deploy.simulate.rollouts import Side, World, simulate_rollout
from mlpack.deploy.simulate.waiting import decision_times
from mlpack_control import Policy, Rule

POLICY = Policy(rules=(Rule(metric="errors", limit=0.01, margin=0.005),))


def test_first_step_takes_what_the_simulator_takes() -> None:
    (computed, *_) = decision_times(POLICY, 5.0, {"errors": 0.001})
    side = Side(errors=0.001, slow=0.0, cold=0.0)
    runs = [simulate_rollout(POLICY, World(rps=lambda _: 5.0, old=side, new=side), seed) for seed in range(25)]
    simulated = statistics.median(run.shifts[1][0] - run.shifts[0][0] for run in runs)
    assert computed == pytest.approx(simulated, rel=0.2)


def test_much_traffic_waits_for_the_bake_alone() -> None:
    assert decision_times(POLICY, 500.0) == (600.0, 600.0, 600.0)


def test_ten_thousand_requests_a_day_take_hours() -> None:
    first, *_ = decision_times(POLICY, 10_000 / 86_400)
    assert first is not None
    assert 13 * 3600 < first < 24 * 3600


@pytest.mark.parametrize("rps", [0.0, 1e-6])
def test_no_traffic_is_never_decided(rps: float) -> None:
    assert decision_times(POLICY, rps) == (None, None, None)


def test_release_at_its_limit_is_never_decided() -> None:
    assert decision_times(POLICY, 1.0, {"errors": 0.05})[0] is None


def test_slowest_rule_decides() -> None:
    both = Policy(rules=(*POLICY.rules, Rule(metric="cold", limit=0.0005, margin=0.0)))
    assert (decision_times(both, 50.0)[0] or 0) > (decision_times(POLICY, 50.0)[0] or 0)
