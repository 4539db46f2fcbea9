"""Rollouts in a storm of crashes, second controllers, people and brakes: never two movers of one revision, never a third version,
and always an end. `tests_slow/test_rollout_storms.py` plays ten thousand."""

from __future__ import annotations

from tests.support.rollouts.storm import problems


def test_a_few_storms_end_well() -> None:
    assert problems(range(40)) == {}
