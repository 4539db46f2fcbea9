"""Scores and the intervals of their drops, against values by hand and scipy's beta and t distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlpack.core.records import Spread
from mlpack.errors import MeasureError
from mlpack.evaluation.metrics import scores
from mlpack.evaluation.metrics.scores import Range, Scores

RANDOM = np.random.default_rng(7)
T9, T19 = 2.262157162798205, 2.0930240544083087
"""scipy.stats.t.ppf(0.975, 9) and (0.975, 19)."""


def shares(hits: int, n: int = 1000) -> Scores:
    return scores.of(np.arange(n) < hits)


def whole(values: Any, n: int | None = None) -> Scores:
    """A metric that only the whole has: the mean of those that are left."""
    given = np.asarray(values, float)
    return Scores(value=float(given.mean()), per_sample=None, n=n or len(given), without=lambda kept: float(given[kept].mean()))


def test_a_value_is_the_mean_or_what_reduces_it() -> None:
    made = scores.of(np.array([1, 0, 0, 1, 1]), output="y", column=2, threshold=0.5)
    assert (made.value, made.n, made.output, made.column, made.threshold) == (0.6, 5, "y", 2, 0.5)
    rows = np.array([[1.0, 2.0], [3.0, 4.0]])

    def ratio(weights: Any) -> Any:
        sums = weights @ rows
        return sums[:, 0] / sums[:, 1]

    reduced = scores.of(rows, ratio)
    assert (reduced.value, reduced.n) == (pytest.approx(4 / 6), 2)
    weights = np.array([[2.0, 0.0], [1.0, 3.0]])
    np.testing.assert_allclose(scores.reduced(rows, weights, ratio), [0.5, 10 / 14])
    np.testing.assert_allclose(scores.reduced(np.array([1.0, 5.0]), weights, None), [1.0, 4.0])


@pytest.mark.parametrize(
    ("low", "high", "hull"),
    [
        (0.2, 0.4, Range(low=0.1, high=0.5, how="bootstrap")),
        (0.1, 0.5, Range(low=0.1, high=0.5, how="bootstrap")),
        (0.0, 0.4, Range(low=0.0, high=0.5, how="exact")),
        (0.2, 0.6, Range(low=0.1, high=0.6, how="exact")),
    ],
)
def test_a_hull_says_what_widened_it(low: float, high: float, hull: Range) -> None:
    begin = Range(low=0.1, high=0.5, how="bootstrap")
    assert begin.hull(low, high, "exact") == hull
    assert begin.hull(low, high) == Range(low=hull.low, high=hull.high, how="bootstrap")


def test_scores_of_other_samples_are_no_pair() -> None:
    with pytest.raises(MeasureError, match="scored on 10 samples and the candidate on 9: not a pair"):
        scores.spread(1.0, 0.0, shares(5, 10), shares(5, 9))


def test_one_sample_and_equal_scores_say_only_the_drop() -> None:
    assert scores.spread(1.0, 1.0, shares(1, 1), shares(0, 1)) == Spread(how="none")
    assert scores.spread(1.0, 0.0, shares(500), shares(500)) == Spread(how="bootstrap")
    assert scores.read(Spread(how="none"), 0.25, 0.95) == Range(low=0.25, high=0.25, how="none")


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_resamples_are_paired_and_vary_as_the_mean_does(sign: float) -> None:
    base, noise = RANDOM.normal(3, 1, 400), RANDOM.normal(0.5, 0.2, 400)
    drop = sign * float(noise.mean())
    estimate = scores.spread(sign, drop, scores.of(base), scores.of(base - noise))
    assert (len(estimate.drops), estimate.how, estimate.freedom, estimate.unseen) == (scores.RESAMPLES, "bootstrap", 0, None)
    assert list(estimate.drops) == sorted(estimate.drops)
    assert np.mean(estimate.drops) == pytest.approx(drop, abs=0.002)
    # Paired: the spread is the noise's alone, not that of what both have.
    assert np.std(estimate.drops) == pytest.approx(noise.std() / 20, rel=0.1)
    assert scores.spread(sign, drop, scores.of(base), scores.of(base - noise)) == estimate


@pytest.mark.parametrize(("n", "few"), [(29, True), (30, False)])
def test_few_samples_are_at_least_students(n: int, few: bool) -> None:
    base, other = RANDOM.normal(3, 1, n), RANDOM.normal(2.5, 1, n)
    drop = float(np.mean(base - other))
    estimate = scores.spread(1.0, drop, scores.of(base), scores.of(other))
    assert (estimate.freedom, estimate.error > 0) == ((n - 1, True) if few else (0, False))
    if few:
        assert estimate.error == pytest.approx(np.std(base - other, ddof=1) / np.sqrt(n), rel=0.05)
        bounds, narrow = (scores.read(one, drop, 0.95) for one in (estimate, Spread(how="bootstrap", drops=estimate.drops)))
        assert bounds.high - bounds.low > narrow.high - narrow.low


def test_students_interval_widens_and_never_narrows() -> None:
    drops = tuple(np.linspace(0.0, 1.0, 101))
    wide = scores.read(Spread(how="bootstrap", drops=drops, error=0.5, freedom=9), 0.5, 0.95)
    assert (wide.low, wide.high) == (pytest.approx(0.5 - 0.5 * T9), pytest.approx(0.5 + 0.5 * T9))
    same = scores.read(Spread(how="bootstrap", drops=drops, error=0.001, freedom=9), 0.5, 0.95)
    assert (same.low, same.high, same.how) == (pytest.approx(0.025), pytest.approx(0.975), "bootstrap")


def test_bounds_of_a_drop_hold_the_interval_but_not_the_drop() -> None:
    drops = tuple(np.linspace(-1.0, 1.0, 101))
    kept = scores.read(Spread(how="bootstrap", drops=drops, least=-0.2, most=0.3), 0.1, 0.95)
    assert (kept.low, kept.high) == (-0.2, 0.3)
    beyond = scores.read(Spread(how="bootstrap", drops=drops, least=0.2, most=0.05), 0.1, 0.95)
    assert (beyond.low, beyond.high) == (0.1, 0.1)
    nought = scores.read(Spread(how="bootstrap", drops=drops, least=0.0, most=0.0), 0.0, 0.95)
    assert (nought.low, nought.high) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("lost", "won", "low", "high"),
    [
        (6, 0, None, 0.013013423270974496),  # beta.ppf(0.975, 7, 994): all of those that differ are lost
        # beta.ppf(0.9875, 7, 994) differ at most, and of six of those 2 * beta.ppf(0.9875, 6, 1) - 1 more are lost than won.
        (5, 1, None, 0.014152705976363299 * (2 * 0.9979057323439707 - 1)),
        (1, 5, -0.014152705976363299 * (2 * 0.9979057323439707 - 1), None),
        (0, 0, None, 0.003682083896865671),  # beta.ppf(0.975, 1, 1000)
    ],
)
def test_few_that_differ_have_the_binomials_exact_bounds(lost: int, won: int, low: float | None, high: float | None) -> None:
    drop = (lost - won) / 1000
    exact = scores.read(Spread(how="bootstrap", unseen=(lost, won, 1000)), drop, 0.95)
    assert exact.how == "exact"
    assert low is None or exact.low == pytest.approx(low, rel=1e-9)
    assert high is None or exact.high == pytest.approx(high, rel=1e-9)
    assert exact.low <= drop <= exact.high
    mirrored = scores.read(Spread(how="bootstrap", unseen=(won, lost, 1000)), -drop, 0.95)
    assert (mirrored.low, mirrored.high) == (-exact.high, -exact.low)


def test_many_won_and_few_lost_is_certainly_no_loss() -> None:
    sure = scores.read(Spread(how="bootstrap", unseen=(10, 90, 1000)), -0.08, 0.95)
    # At least beta.ppf(0.0125, 100, 901) differ, and at most beta.ppf(0.9875, 11, 90) of those are lost.
    assert sure.high == pytest.approx(0.07975708664661023 * (2 * 0.1877745405731404 - 1), rel=1e-9)


@pytest.mark.parametrize(("differ", "counted"), [(0, (0, 0)), (9, (9, 0)), (10, None)])
def test_unseen_are_counted_where_few_differ(differ: int, counted: tuple[int, int] | None) -> None:
    wanted = None if counted is None else (*counted, 1000)
    for sign in (1.0, -1.0):
        base, other = (shares(500), shares(500 - differ)) if sign > 0 else (shares(500 - differ), shares(500))
        estimate = scores.spread(sign, differ / 1000, base, other, share=True)
        assert estimate.unseen == wanted
    turned = scores.spread(1.0, -differ / 1000, shares(500 - differ), shares(500), share=True)
    assert turned.unseen == (None if wanted is None else (0, differ, 1000))
    assert scores.spread(1.0, differ / 1000, shares(500), shares(500 - differ)).unseen is None


def test_unseen_of_shares_add_their_parts() -> None:
    base, other = np.full(1000, 0.5), np.full(1000, 0.5)
    other[:4] = (0.25, 0.0, 1.0, 0.75)
    assert scores.spread(1.0, 0.0, scores.of(base), scores.of(other), share=True).unseen == (0.75, 0.75, 1000)


@pytest.mark.parametrize(
    ("drop", "counted"), [(0.004, (4.0, 0.0)), (-0.004, (0.0, 4.0)), (1.5, (1000.0, 0.0)), (-2.0, (0.0, 1000.0))]
)
def test_unseen_of_what_is_no_mean_are_those_of_the_drop(drop: float, counted: tuple[float, float]) -> None:
    rows = np.zeros((1000, 2))
    other = rows.copy()
    other[:5, 1] = 1

    def reduce(weights: Any) -> Any:
        return weights.sum(axis=1)

    estimate = scores.spread(1.0, drop, scores.of(rows, reduce), scores.of(other, reduce), share=True)
    assert estimate.unseen == (*counted, 1000)


def test_rows_of_another_shape_all_differ() -> None:
    base, other = scores.of(np.zeros((1000, 2)), lambda w: w[:, 0]), scores.of(np.zeros((1000, 3)), lambda w: w[:, 0])
    assert scores.spread(1.0, 0.0, base, other, share=True).unseen is None


@pytest.mark.parametrize("n", [2, 10, 20])
def test_leaving_out_one_of_a_mean_is_students_interval(n: int) -> None:
    base, other = RANDOM.normal(3, 1, n), RANDOM.normal(2, 1, n)
    estimate = scores.spread(1.0, 1.0, whole(base), whole(other))
    assert (estimate.how, estimate.freedom, estimate.drops) == ("jackknife", n - 1, ())
    assert estimate.error == pytest.approx(np.std(base - other, ddof=1) / np.sqrt(n))
    if n == 20:
        bounds = scores.read(estimate, 1.0, 0.95)
        assert (bounds.low, bounds.high) == (pytest.approx(1 - T19 * estimate.error), pytest.approx(1 + T19 * estimate.error))
        assert bounds.how == "jackknife"


def test_groups_of_a_jackknife_are_every_twentieth_sample() -> None:
    seen: list[Any] = []

    def count(kept: Any) -> float:
        seen.append(kept)
        return float(len(seen))

    made = Scores(value=0.0, per_sample=None, n=50, without=count)
    still = Scores(value=0.0, per_sample=None, n=50, without=lambda _kept: 0.0)
    estimate = scores.spread(-1.0, 0.0, made, still)
    assert estimate.freedom == 19
    assert [list(np.flatnonzero(~kept)) for kept in seen] == [list(range(group, 50, 20)) for group in range(20)]
    assert estimate.error == pytest.approx(np.sqrt(19 / 20 * np.square(np.arange(20) - 9.5).sum()))


@pytest.mark.parametrize("lacking", ["baseline", "candidate", "samples"])
def test_a_whole_that_cannot_be_taken_apart_has_no_interval(lacking: str) -> None:
    base, other = whole([1.0, 2.0]), whole([2.0, 3.0])
    bare = Scores(value=1.0, per_sample=None, n=2)
    pairs = {"baseline": (bare, other), "candidate": (base, bare), "samples": (whole([1.0]), whole([2.0]))}
    assert scores.spread(1.0, 0.0, *pairs[lacking]) == Spread(how="none")


def test_many_samples_are_resampled_in_blocks_of_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """In as many blocks as fit; each draws as often as there are samples."""
    monkeypatch.setattr(scores, "_WEIGHTS_BYTES_MAX", 8 * 100 * 300)
    blocks = list(scores._resamples(100))
    assert [len(block) for block in blocks] == [300] * 6 + [200]
    assert all((block.sum(axis=1) == 100).all() for block in blocks)
    monkeypatch.setattr(scores, "_WEIGHTS_BYTES_MAX", 1)
    assert sum(1 for _ in scores._resamples(3)) == scores.RESAMPLES


def test_two_samples_are_resampled_and_hold_little() -> None:
    estimate = scores.spread(1.0, 1.5, scores.of(np.array([3.0, 3.0])), scores.of(np.array([1.0, 2.0])))
    assert (set(estimate.drops), estimate.freedom) == ({1.0, 1.5, 2.0}, 1)
    assert scores.read(estimate, 1.5, 0.95).high > 2.0


@pytest.mark.parametrize("turned", [False, True])
def test_samples_beside_a_whole_are_taken_as_a_whole(turned: bool) -> None:
    values = np.array([3.0, 1.0, 2.0])
    both = Scores(value=2.0, per_sample=values, n=3, without=lambda kept: float(values[kept].mean()))
    pair = (whole(values + 1), both) if turned else (both, whole(values + 1))
    assert scores.spread(1.0, 1.0, *pair) == Spread(how="jackknife", error=0.0, freedom=2)
