"""How long searches may take: as is said, or by what the float's build took."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import ladder_models

from mlpack.core.trails import SearchBudget
from mlpack.pipeline.search import allowance
from mlpack.pipeline.search.allowance import Allowance


def known(*floats: float) -> Allowance:
    """Without `minutes`, for floats that took so long."""
    made = Allowance(SearchBudget())
    made._floats.update({str(number): seconds for number, seconds in enumerate(floats)})
    return made


@pytest.mark.parametrize(
    ("floats", "seconds"), [((), 20), ((2.0,), 20), ((10.0,), 30), ((10.0, 12.0), 66), ((99.0,), 297), ((1000.0,), 300)]
)
def test_it_is_three_float_builds_within_bounds(floats: tuple[float, ...], seconds: float) -> None:
    assert known(*floats).seconds == seconds


@given(minutes=st.floats(0.001, 1e4), spent=st.lists(st.floats(0, 1e3), max_size=20))
def test_minutes_that_are_said_are_those(minutes: float, spent: list[float]) -> None:
    made = Allowance(SearchBudget(minutes=minutes, said=True))
    for seconds in spent:
        made.spend(seconds)
    assert made.seconds == 60 * minutes
    assert bool(made.over()) == (sum(spent) >= 60 * minutes)
    assert not made.over() or made.over().startswith(f"the search's {minutes:g} minutes were over")


@given(took=st.floats(0, 500), spent=st.lists(st.floats(0.01, 100), max_size=30))
def test_it_is_exceeded_by_no_more_than_the_longest_form(took: float, spent: list[float]) -> None:
    made = known(took)
    total = longest = 0.0
    for seconds in spent:
        if made.over():
            break
        made.spend(seconds)
        total, longest = total + seconds, max(longest, seconds)
    assert total <= made.seconds + longest
    if spent and total + longest > made.seconds:
        assert "times what the float's build takes, would be over" in made.over()


@pytest.mark.slow
def test_it_is_taken_once_and_kept(tmp_path: Path) -> None:
    """What a build spent is in the store: a search that is cached ends where the first one did."""
    made = ladder_models.chain(tmp_path / "project", ladder_models.PLAIN)
    made.build()

    def paces() -> list[float]:
        kept = [json.loads(path.read_bytes()) for path in (made.store.root / "actions").iterdir()]
        trees = [each["tree"] for each in kept if each["action"]["kind"] == "pace"]
        folders = [next(made.store.root.glob(f"trees/{tree.removeprefix('sha256:')}*")) for tree in trees]
        return [json.loads((folder / "seconds.json").read_bytes())["seconds"] for folder in folders]

    (first,) = paces()
    made.build()
    assert paces() == [first]
    assert 0 < first < 60
    assert allowance.LEAST_S <= known(first).seconds <= 300
