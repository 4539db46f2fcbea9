"""What a run costs beside its tokens: found in the runs, and not said before it is known."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack_runtime.serving.run_cost import LEAST_RUNS, MOST_TOKENS, RunCost


def learned(runs: list[tuple[int, float]]) -> RunCost:
    cost = RunCost()
    for tokens, seconds in runs:
        cost.add(tokens, seconds)
    return cost


@given(st.floats(1e-6, 1), st.floats(1e-8, 1e-2), st.lists(st.integers(1, 8192), min_size=LEAST_RUNS, max_size=80))
def test_a_line_is_found_exactly_or_not_at_all(a: float, b: float, tokens: list[int]) -> None:
    found = learned([(each, a + b * each) for each in tokens]).of_a_run
    if found is not None:
        assert found == pytest.approx(min(MOST_TOKENS, a / b), rel=0.01, abs=0.5)
    else:
        assert max(tokens) < 2.5 * sum(tokens) / len(tokens) or a > 1e4 * b  # too much alike, or lost in rounding


@given(st.lists(st.tuples(st.integers(0, 1 << 30), st.floats(0, 1e5)), max_size=60))
def test_it_is_unknown_or_a_number_of_tokens(runs: list[tuple[int, float]]) -> None:
    found = learned(runs).of_a_run
    assert found is None or 0 <= found <= MOST_TOKENS
    assert len(runs) >= LEAST_RUNS or found is None


@pytest.mark.parametrize(
    "runs",
    [
        [(64, 0.01)] * 200,  # of one size
        [(n, 0.01 / n) for n in range(1, 200)],  # larger ones are quicker: something else decides
        [(0, 0.0)] * 200,
    ],
)
def test_runs_that_tell_nothing_leave_it_unknown(runs: list[tuple[int, float]]) -> None:
    assert learned(runs).of_a_run is None


def test_slow_runs_between_the_others_change_little() -> None:
    chance = Random(7)
    sizes = [chance.randrange(8, 600) for _ in range(400)]
    runs = [(n, (3e-4 + 8e-5 * n) * (20 if at % 50 == 49 else chance.uniform(0.95, 1.1))) for at, n in enumerate(sizes)]
    found = learned(runs).of_a_run
    assert found is not None
    assert found < 40  # 4 in truth; a single run of 20 times the others', counted whole, moves it by hundreds


def test_a_machine_that_changes_is_followed() -> None:
    sizes = [8 + 37 * at % 500 for at in range(1500)]
    cost = learned([(n, 1e-3 + 1e-5 * n) for n in sizes])
    assert cost.of_a_run == pytest.approx(100, rel=0.02)
    for n in sizes:
        cost.add(n, 4e-5 + 1e-5 * n)
    assert cost.of_a_run == pytest.approx(4, abs=1)
