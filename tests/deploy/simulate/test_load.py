"""Callers at a function of limited concurrency."""

from __future__ import annotations

import dataclasses

from mlpack.deploy.simulate.load import Place, simulate_load

PLACE = Place(p50_s=0.02, p95_s=0.05, cold_s=0.3, reserved=24, timeout_s=29.0, rate=50.0, burst=24)


def test_enough_of_everything_throttles_nobody() -> None:
    counts = simulate_load(PLACE, 40.0, 120.0)
    assert counts.throttled == counts.late == 0
    assert counts.sent == counts.answered + counts.refused + counts.throttled + counts.late
    assert 40 * 120 * 0.9 < counts.sent < 40 * 180
    assert counts.at_once <= PLACE.reserved


def test_gateway_refuses_what_comes_too_fast_before_lambda() -> None:
    counts = simulate_load(PLACE, 100.0, 60.0)
    assert counts.refused > 1000
    assert counts.throttled == 0


def test_too_few_environments_throttle() -> None:
    counts = simulate_load(dataclasses.replace(PLACE, reserved=1, rate=None), 40.0, 60.0)
    assert counts.throttled > 100
    assert counts.at_once == 1


def test_short_answers_are_bound_by_requests_a_second() -> None:
    quick = dataclasses.replace(PLACE, p50_s=0.001, p95_s=0.002, reserved=3, rate=None)
    assert simulate_load(quick, 100.0, 60.0).throttled > 1000


def test_slow_answers_meet_the_time_out() -> None:
    assert simulate_load(dataclasses.replace(PLACE, timeout_s=0.06), 10.0, 60.0).late > 5
