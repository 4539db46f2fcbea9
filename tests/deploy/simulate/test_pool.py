"""A worker pool on a virtual clock: figure 13 in small, and that no message is lost whatever Spot takes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpack.deploy.simulate.pool import MINUTE, Loss, Pool, simulate_pool

POOL = Pool(least=1, most=8, rate=2.0, in_cooldown_s=600.0)


def test_backlog_is_answered_within_its_wait() -> None:
    run = simulate_pool(POOL, 0.0, 900.0, backlog=1000)
    assert (run.left, run.dead) == (0, 0)
    assert run.wait(0.95) <= 300 * 1.5
    assert max(count for _, count in run.counts) > 1


def test_pool_of_none_wakes_within_two_metric_periods() -> None:
    run = simulate_pool(Pool(least=0, most=4, rate=5.0), 0.5, 600.0)
    asleep, woken = run.counts[:2]
    assert asleep == (0.0, 0)
    assert woken[1] == 1
    assert woken[0] <= 2 * MINUTE


def test_constant_load_finds_its_number_of_tasks() -> None:
    run = simulate_pool(POOL, 7.0, 5400.0, seed=3)
    assert run.reversals(1800.0) <= 2
    assert run.minutes[-1][2] in (4, 5, 6)


def test_idle_pool_goes_back_to_its_least() -> None:
    run = simulate_pool(POOL, 0.0, 3600.0, backlog=2000)
    assert run.counts[-1][1] == POOL.least


@pytest.mark.parametrize("notice", [True, False])
def test_spot_loses_no_message(notice: bool) -> None:
    losses = (Loss(at_s=300.0, share=0.5, notice=notice),)
    run = simulate_pool(POOL, 0.0, 1800.0, backlog=2000, losses=losses)
    assert run.lost_tasks
    assert (run.left, run.dead) == (0, 0)
    assert len(run.waits) == run.sent == 2000


def test_message_that_every_task_dies_of_is_a_dead_letter() -> None:
    pool = Pool(least=1, most=1, rate=0.01, batch=1, visibility_s=30.0, receives=2)
    losses = tuple(Loss(at_s=at, share=1.0, notice=False) for at in (10.0, 130.0, 250.0))
    run = simulate_pool(pool, 0.0, 3600.0, backlog=1, losses=losses)
    assert (run.dead, len(run.waits), run.left) == (1, 0, 0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3), st.floats(0.1, 20), st.integers(0, 300), st.lists(st.floats(0, 900), max_size=3), st.integers(0, 9))
def test_every_message_is_counted_once(least: int, rate: float, backlog: int, lost: list[float], seed: int) -> None:
    pool = Pool(least=least, most=4, rate=rate)
    losses = tuple(Loss(at_s=at, share=0.5, notice=bool(at % 2 > 1)) for at in lost)
    run = simulate_pool(pool, 0.2, 600.0, backlog=backlog, losses=losses, seed=seed)
    assert run.sent == len(run.waits) + run.dead + run.left
    assert run.left >= 0
    assert all(pool.least <= count <= pool.most for _, count in run.counts)
    assert run.waits == simulate_pool(pool, 0.2, 600.0, backlog=backlog, losses=losses, seed=seed).waits
