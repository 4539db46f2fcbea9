"""The ladder's counts and promises, whatever comes out of its evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpack.decide import ladder
from mlpack.decide.ladder import Ladder, NumberFormat, Rung, RungOutcome

OPTIONS = ("scales by channel", "smoothed channels", "clipped ranges", "corrected biases")


def driven(made: Ladder, judge: Callable[[Rung], RungOutcome]) -> tuple[list[Rung], Rung | None]:
    """What a climb asks, the bottom first, and what it ends with."""
    asked = [Rung()]
    climb = ladder.climb(made, judge(Rung()))
    try:
        rung = next(climb)
        while True:
            asked.append(rung)
            rung = climb.send(judge(rung))
    except StopIteration as end:
        return asked, end.value


damages = st.lists(st.one_of(st.floats(0, 1e9), st.just(math.inf)), max_size=300).map(lambda d: tuple(sorted(d, reverse=True)))
ladders = st.builds(
    Ladder,
    damage=damages,
    options=st.integers(0, 4).map(lambda n: OPTIONS[:n]),
    tops=st.sampled_from([(), (NumberFormat.FP16,), (NumberFormat.FLOAT,), (NumberFormat.FP16, NumberFormat.FLOAT)]),
    first_fit=st.booleans(),
    reach=st.one_of(st.none(), st.integers(0, 300)),
)
outcomes = st.builds(
    RungOutcome,
    accurate=st.booleans(),
    lean=st.booleans(),
    drop=st.one_of(st.none(), st.floats(-1, 1), st.just(math.nan)),
    pace=st.one_of(st.none(), st.floats(0.1, 9)),
)


@given(made=ladders, data=st.data())
def test_never_more_than_log2_of_layers_and_five_evaluations(made: Ladder, data: st.DataObject) -> None:
    """Any number of layers, any ranking, outcomes that follow no rule."""
    known: dict[Rung, RungOutcome] = {}

    def judge(rung: Rung) -> RungOutcome:
        assert rung not in known
        known[rung] = data.draw(outcomes)
        return known[rung]

    asked, taken = driven(made, judge)
    assert len(asked) <= math.log2(max(1, len(made.damage))) + 5
    assert len(asked) <= ladder.most(len(made.damage))
    assert NumberFormat.FLOAT not in {rung.form for rung in asked}
    assert made.reach is None or all(rung.float_layers <= made.reach for rung in asked if not rung.options)
    assert all(0 <= rung.float_layers < max(1, len(made.damage)) for rung in asked)
    assert taken is None or taken.form is NumberFormat.FLOAT or known[taken].fits
    if taken is None:
        assert NumberFormat.FLOAT not in made.tops


@given(layers=st.integers(1, 5000), needed=st.integers(0, 5000), spread=st.booleans(), options=st.integers(0, 4))
def test_bisection_finds_the_fewest_layers_if_loss_is_monotone(layers: int, needed: int, spread: bool, options: int) -> None:
    needed = min(needed, layers)
    damage = (1.0,) * layers if spread else (100.0,) * needed + (1.0,) * (layers - needed)
    made = Ladder(damage=damage, options=OPTIONS[:options])

    def judge(rung: Rung) -> RungOutcome:
        return RungOutcome(accurate=rung.float_layers >= needed, lean=True, drop=max(0, needed - rung.float_layers) / layers)

    asked, taken = driven(made, judge)
    assert len(asked) <= math.log2(layers) + 5
    if needed == 0:
        assert asked == [Rung()]
    if needed == layers:
        assert taken is None
    else:
        assert taken is not None
        assert taken.float_layers == needed


def test_one_bad_layer_of_many_costs_two_evaluations() -> None:
    made = Ladder(damage=(0.5, *(0.001,) * 99), options=OPTIONS)
    asked, taken = driven(
        made, lambda rung: RungOutcome(accurate=rung.float_layers >= 1, lean=True, drop=0.0 if rung.float_layers else 0.3)
    )
    assert [rung.float_layers for rung in asked] == [0, 1]
    assert taken == Rung(float_layers=1)


def test_three_of_them_are_found_with_their_neighbour() -> None:
    made = Ladder(damage=(0.5, 0.4, 0.3, *(0.001,) * 97))
    asked, taken = driven(made, lambda rung: RungOutcome(accurate=rung.float_layers >= 3, lean=True, drop=0.1))
    assert [rung.float_layers for rung in asked] == [0, 3, 2]
    assert taken == Rung(float_layers=3)


def test_spread_damage_tries_options_first_and_keeps_what_helps() -> None:
    drops = {(): 0.05, OPTIONS[:1]: 0.06, OPTIONS[1:2]: 0.03, OPTIONS[1:3]: 0.02}
    made = Ladder(damage=tuple(1 - i / 100 for i in range(16)), options=OPTIONS[:3])

    def judge(rung: Rung) -> RungOutcome:
        drop = drops[rung.options] * (1 - rung.float_layers / 16)
        return RungOutcome(accurate=drop <= 0.01, lean=True, drop=drop)

    asked, taken = driven(made, judge)
    assert [rung.options for rung in asked[:4]] == [(), OPTIONS[:1], OPTIONS[1:2], OPTIONS[1:3]]
    assert all(rung.options == OPTIONS[1:3] for rung in asked[4:])
    assert taken == Rung(float_layers=8, options=OPTIONS[1:3])


def test_an_option_that_does_ends_it() -> None:
    made = Ladder(damage=(1.0,) * 8, options=OPTIONS)
    asked, taken = driven(made, lambda rung: RungOutcome(accurate=OPTIONS[0] in rung.options, lean=True, drop=0.02))
    assert taken == Rung(options=OPTIONS[:1])
    assert len(asked) == 2


def test_too_slow_with_many_float_layers_tries_fewer() -> None:
    made = Ladder(damage=(1.0,) * 6 + (0.001,) * 10, options=OPTIONS)

    def judge(rung: Rung) -> RungOutcome:
        return RungOutcome(
            accurate=rung.float_layers >= 6 or bool(rung.options), lean=rung.float_layers < 5, drop=0.5 - rung.float_layers / 100
        )

    _, taken = driven(made, judge)
    assert taken == Rung(float_layers=3, options=OPTIONS[:1])


def test_what_is_only_slow_is_not_tried_with_options() -> None:
    made = Ladder(damage=(1.0,) * 16, options=OPTIONS)
    asked, taken = driven(made, lambda rung: RungOutcome(accurate=True, lean=rung.float_layers >= 5, drop=0.0))
    assert taken == Rung(float_layers=5)
    assert all(not rung.options for rung in asked)


def test_what_gains_nothing_is_not_asked_for() -> None:
    """With more than five of 64 layers in float conversions cost more than integers save."""
    made = Ladder(damage=(1.0,) * 64, reach=5)
    asked, taken = driven(made, lambda rung: RungOutcome(accurate=rung.float_layers >= 20, lean=True, drop=0.1))
    assert taken is None
    assert [rung.float_layers for rung in asked] == [0, 3, 4, 5]


def slow_with_more(needed: int, pace: Callable[[int], float]) -> Callable[[Rung], RungOutcome]:
    def judge(rung: Rung) -> RungOutcome:
        accurate = rung.float_layers >= needed
        timed = pace(rung.float_layers) if accurate or not rung.float_layers else None
        return RungOutcome(
            accurate=accurate, lean=accurate and pace(rung.float_layers) <= 1, drop=0.0 if accurate else 0.3, pace=timed
        )

    return judge


def test_bisection_ends_where_quick_enough_loses_too_much() -> None:
    """The float's latency is reached with 30 of 64 layers in float at most, and 40 are needed: one accurate form tells."""
    made = Ladder(damage=(1.0,) * 64)
    asked, taken = driven(made, slow_with_more(40, lambda kept: 0.7 + 0.01 * kept))
    assert taken is None
    assert [rung.float_layers for rung in asked] == [0, 32, 48]


def test_it_goes_on_where_there_is_room() -> None:
    made = Ladder(damage=(1.0,) * 64)
    asked, taken = driven(made, slow_with_more(40, lambda kept: 0.7 + 0.007 * kept))
    assert taken == Rung(float_layers=40)
    assert len(asked) <= math.log2(64) + 5


@pytest.mark.parametrize("tops", [(NumberFormat.FLOAT,), (NumberFormat.FP16, NumberFormat.FLOAT)])
def test_float_is_the_last_rung_and_costs_nothing(tops: tuple[NumberFormat, ...]) -> None:
    made = Ladder(damage=(1.0, 1.0), tops=tops)
    asked, taken = driven(made, lambda _: RungOutcome(accurate=False, lean=False))
    assert taken == Rung(form=NumberFormat.FLOAT)
    assert [rung.form for rung in asked[2:]] == [form for form in tops if form is not NumberFormat.FLOAT]


@pytest.mark.parametrize(
    ("damage", "count"),
    [
        ((), 0),
        ((1.0,), 0),
        ((1.0, 1.0), 0),
        ((8.0, 1.0), 1),
        ((3.9, 1.0), 0),
        ((math.inf, 5.0, 1.0, 1.0), 1),
        ((1.0, 0.0), 1),
        ((0.0, 0.0), 0),
        ((math.inf, math.inf), 0),
        ((9.0, 8.0, 1.0, 0.9, 0.001), 2),
        ((2.0, 2.0, 2.0, 0.1), 0),
    ],
)
def test_who_stands_out(damage: tuple[float, ...], count: int) -> None:
    assert ladder.standing_out(damage) == count
