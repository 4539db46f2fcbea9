"""Which pieces are the next batch: near in length, fair between callers, and at what cost, counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.runtime.batches import IMAGE, LEFT, TEXT, model, text

from mlpack_runtime.backend import Shapes
from mlpack_runtime.serving.batching import Layout, Unit, cut, fitted, join
from mlpack_runtime.serving.waiting import WASTE, Waiting
from mlpack_runtime.tensor import Tensor

texts = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 12)), min_size=1, max_size=20)


def owned(unit: Unit, owner: object, place: int = 0) -> Unit:
    unit.owner, unit.place = owner, place
    return unit


def waits(units: list[Unit], **options: Any) -> Waiting:
    """Each the call of somebody else."""
    made = Waiting(**options)
    for at, unit in enumerate(units):
        made.add([owned(unit, at)])
    return made


def of(caller: str, lengths: list[int]) -> list[Unit]:
    return [owned(text(TEXT, 1, length), caller, place) for place, length in enumerate(lengths)]


@given(texts, st.integers(3, 16), st.floats(0, 1), st.booleans())
def test_every_call_gets_what_it_would_have_got_alone(sizes: list[tuple[int, int]], most: int, waste: float, left: bool) -> None:
    layout = LEFT if left else TEXT
    units = [text(layout, rows, length, first=100 * at) for at, (rows, length) in enumerate(sizes)]
    waiting, left_over = waits(units, waste=waste), list(units)
    done: list[Unit] = []
    while waiting:
        chosen = waiting.take(most)
        assert chosen[0] is left_over[0]  # each caller has one piece: who waits longest is always chosen
        assert sum(unit.rows for unit in chosen) <= most
        rows, length = fitted(layout, Shapes(), chosen)
        padding = rows * length - sum(unit.rows * unit.length for unit in chosen)
        assert padding <= waste * rows * length
        for unit, own in zip(chosen, cut(layout, chosen, model(join(layout, chosen, rows, length)), length), strict=True):
            alone = model(dict(unit.feeds))
            assert {name: (made.shape, made.tolist()) for name, made in own.items()} == {
                name: (made.shape, made.tolist()) for name, made in alone.items()
            }
        left_over = [unit for unit in left_over if unit not in chosen]
        assert waiting.rows == sum(unit.rows for unit in left_over)
        assert waiting.nbytes == sum(unit.nbytes for unit in left_over)
        done += chosen
    assert len(done) == len(set(map(id, done))) == len(sizes)


def test_the_nearest_lengths_run_together() -> None:
    lengths = (5, 50, 6, 49, 4, 5, 51)

    def first(most: int, **options: float) -> list[int]:
        return [unit.length for unit in waits([text(TEXT, 1, length) for length in lengths], **options).take(most)]

    assert sorted(first(8)) == [4, 5, 5, 6]
    assert first(2) == [5, 5]
    assert len(first(7, waste=1.0)) == 7


def image(rows: int, *shape: int) -> Unit:
    size = rows
    for axis in shape:
        size *= axis
    return Unit(IMAGE, {"x": Tensor("FP32", (rows, *shape), bytes(4 * size))})


def test_images_of_one_size_run_together() -> None:
    chosen = waits([image(1, 3, 8), image(1, 3, 9), image(2, 3, 8), image(0, 3, 8), image(1, 3, 8)]).take(8)
    assert [unit.feeds["x"].shape for unit in chosen] == [(1, 3, 8), (2, 3, 8), (1, 3, 8)]
    assert join(IMAGE, chosen, 4, 0)["x"].shape == (4, 3, 8)


def test_batch_keeps_to_its_tokens_but_whoever_leads_runs() -> None:
    waiting = waits([text(TEXT, 1, 10) for _ in range(8)], most_tokens=35)
    assert [len(waiting.take(8)) for _ in range(3)] == [3, 3, 2]
    assert len(waits([text(TEXT, 1, 10), text(TEXT, 1, 10)], most_tokens=3).take(8)) == 1


@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=30), min_size=1, max_size=8), st.integers(1, 8))
def test_turns_go_round(callers: list[list[int]], most: int) -> None:
    """A call of n pieces is over after n rounds at the latest, and a round has as many batches as there were callers."""
    waiting = Waiting()
    for at, lengths in enumerate(callers):
        waiting.add([owned(text(TEXT, 1, length), at, place) for place, length in enumerate(lengths)])
    left = {at: len(lengths) for at, lengths in enumerate(callers)}
    batches = 0
    while waiting:
        for unit in waiting.take(most):
            left[unit.owner] -= 1  # type: ignore[index]
        batches += 1
        for at, lengths in enumerate(callers):
            if batches >= len(callers) * len(lengths):
                assert left[at] == 0
    assert not any(left.values())


def test_many_texts_of_one_caller_do_not_make_another_wait() -> None:
    waiting = Waiting()
    waiting.add(of("many", [8] * 20_000))
    assert all(unit.owner == "many" for unit in waiting.take(8))
    waiting.add(of("one", [300]))  # a length that fills no batch of the others
    owners = [{unit.owner for unit in waiting.take(8)} for _ in range(2)]
    assert {"one"} in owners


@pytest.mark.parametrize("number", [200, 20_000])
def test_a_batch_costs_what_it_takes_and_not_what_waits(number: int) -> None:
    waiting = Waiting()
    waiting.add(of("many", [1 + at % 400 for at in range(number)]))
    for _ in range(5):
        before = waiting.looked_at
        taken = waiting.take(8)
        assert waiting.looked_at - before <= 2 * len(taken) + 2
    while waiting:
        waiting.take(8)
    assert waiting.looked_at <= 4 * number
    assert not waiting._kinds  # nothing is kept of what is gone
    assert not waiting._led
    assert (waiting.rows, waiting.nbytes) == (0, 0)


def test_lengths_of_many_texts_are_as_near_as_if_all_sorted() -> None:
    waiting = Waiting()
    waiting.add(of("many", [1 + at * 7919 % 400 for at in range(4000)]))
    padded = own = batches = 0
    while waiting:
        taken = waiting.take(8)
        batches += 1
        padded += len(taken) * max(unit.length for unit in taken)
        own += sum(unit.length for unit in taken)
    assert padded - own < 0.02 * own  # some per mille: WASTE is for when little waits
    assert batches < 1.1 * 4000 / 8
    assert WASTE == 0.25


def test_what_failed_is_forgotten_and_the_others_stay() -> None:
    waiting = Waiting()
    waiting.add(of("bad", [1, 2, 3]))
    waiting.add(of("good", [1, 2]))
    waiting.take(1)
    waiting.drop("bad")
    waiting.drop("nobody")
    assert waiting.rows == 2
    assert {unit.owner for unit in waiting.take(8)} == {"good"}
    waiting.add(of("last", [5]))
    assert waiting.clear() == ["last"] or "last" in waiting.clear()
    assert not waiting


def test_who_had_a_turn_does_not_wait_for_company_again() -> None:
    waiting = Waiting()
    units = of("many", [1, 300])
    for unit in units:
        unit.arrived = 100.0
    waiting.add(units)
    assert waiting.due_s(5.0) == 105.0
    waiting.take(8)
    assert waiting.due_s(5.0) == 0.0


def test_rows_that_are_not_answered_each_by_itself_run_alone() -> None:
    alone = Layout(batched=False)
    waiting = waits([Unit(alone, unit.feeds) for unit in (image(3, 8), image(3, 8))])
    assert [len(waiting.take(0)) for _ in range(2)] == [1, 1]


@pytest.mark.parametrize(("waste", "batch"), [(0.0, 1), (0.1, 3), (WASTE, 3), (1.0, 7)])
def test_less_padding_is_more_batches(waste: float, batch: int) -> None:
    waiting = waits([text(TEXT, 1, length) for length in (10, 11, 12, 40, 41, 90, 200)], waste=waste)
    assert len(waiting.take(16)) == batch
