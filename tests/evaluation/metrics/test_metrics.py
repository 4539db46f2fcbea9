"""Tests of `mlpack.evaluation.metrics` and its scorers, against small sums done by hand and against scikit-learn's definitions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpack.errors import MeasureError, RecipeError
from mlpack.evaluation import metrics
from mlpack.evaluation.metrics import METRICS, Scores


def _logits(classes: list[int], count: int = 3) -> list[dict[str, Any]]:
    """One call a sample, whose largest output is the class."""
    return [{"logits": np.eye(count, dtype=np.float32)[[label]]} for label in classes]


def _score(name: str, outputs: Any, labels: Any = None, baseline: Any = None) -> Scores:
    return metrics.evaluate(METRICS[name], outputs, labels, baseline)


def test_top1_is_the_share_that_is_right() -> None:
    scores = _score("top1", _logits([0, 1, 2, 2]), [0, 1, 2, 0])
    assert scores.value == 0.75
    assert scores.per_sample is not None
    assert scores.per_sample.tolist() == [True, True, True, False]
    assert (scores.n, scores.output) == (4, "logits")


def test_top1_reads_calls_of_several_samples() -> None:
    outputs = [{"logits": np.eye(3, dtype=np.float32)[[0, 1]]}, {"logits": np.eye(3, dtype=np.float32)[[2]]}]
    assert _score("top1", outputs, [0, 1, 2]).value == 1.0


def test_top1_reads_classes_where_no_output_has_columns() -> None:
    assert _score("top1", [{"label": np.array([1, 0, 5])}], [1, 1, 5]).value == pytest.approx(2 / 3)


def test_top1_goes_by_the_class_beside_scores_of_other_order() -> None:
    scores = np.array([[0.1, 0.9], [0.8, 0.2]], np.float32)
    assert _score("top1", [{"label": np.array([1, 0]), "scores": scores}], [1, 0]).output == "scores"
    found = _score("top1", [{"label": np.array([7, 3]), "scores": scores}], [7, 3])
    assert (found.output, found.value) == ("label", 1.0)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 1, 3, -1], r"2 labels are out of range \(0 to 2: the model has 3 classes\); the first, by sample: 2: 3, 3: -1"),
        ([0, 1, 2], "3 labels for 4 rows of output"),
        (["cat", "dog", "cat", "dog"], "labels must be class numbers; 4 of 4 are not"),
        ([0, 1, 0.5, 1], r"1 of 4 are not \(first: sample 2, 0.5\)"),
        ([[0], [1], [0], [1]], "no output has a row a sample and a column a class"),
        (None, "top1 needs labels"),
    ],
)
def test_labels_that_do_not_fit_are_a_recipe_error(labels: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        _score("top1", _logits([0, 1, 2, 2]), labels)


def test_one_column_is_not_guessed_about() -> None:
    with pytest.raises(RecipeError, match="has one column"):
        _score("top1", [{"y": np.zeros((4, 1), np.float32)}], [0, 1, 0, 1])


def test_f1_is_the_mean_over_classes() -> None:
    # class 0: tp 1, fp 1, fn 0 -> 2/3; class 1: tp 1, fp 0, fn 1 -> 2/3; class 2: tp 1 -> 1.
    assert _score("f1", _logits([0, 0, 1, 2]), [0, 1, 1, 2]).value == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def test_errors_are_of_the_first_output() -> None:
    outputs = [{"y": np.array([[1.0], [4.0]], np.float32)}]
    assert _score("mae", outputs, [0.0, 1.0]).value == pytest.approx(2.0)
    assert _score("rmse", outputs, [0.0, 1.0]).value == pytest.approx(np.sqrt((1 + 9) / 2))
    with pytest.raises(RecipeError, match="do not fit"):
        _score("mae", outputs, [[0.0, 1.0], [1.0, 2.0]])


def test_recall_is_of_queries_that_find_their_own_answer() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 1], [0.9, 0.1], [1, 0.9], [0.1, 1]], np.float32)
    scores = _score("recall_at_1", [{"embedding": row[None]} for row in vectors], [0, 1, 2, 0, 1, 2])
    assert scores.per_sample is not None
    assert scores.per_sample.tolist() == [True, False, False]
    assert scores.n == 3


def test_recall_averages_tokens_of_single_samples_only() -> None:
    tokens = [{"hidden": np.stack([row, row])[None]} for row in np.eye(4, dtype=np.float32)[[0, 1, 0, 1]]]
    assert _score("recall_at_1", tokens, ["a", "b", "a", "b"]).value == 1.0
    with pytest.raises(RecipeError, match="pool in the model"):
        _score("recall_at_1", [{"hidden": np.ones((4, 2, 4), np.float32)}], ["a", "b", "a", "b"])


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [[0], [0], [1], [1]]])
def test_recall_needs_something_to_find(labels: list[Any]) -> None:
    with pytest.raises(RecipeError, match="recall_at_1"):
        _score("recall_at_1", _logits([0, 1, 2, 2]), labels)


def test_cosine_takes_the_worst_output() -> None:
    baseline = [{"a": np.array([[1.0, 0.0]]), "b": np.array([[1.0, 0.0]])}] * 3
    ours = [{"a": np.array([[1.0, 0.0]]), "b": np.array([[1.0, 1.0]])}] * 3
    scores = _score("cosine", ours, None, baseline)
    assert (scores.output, scores.n) == ("b", 3)
    assert scores.value == pytest.approx(np.sqrt(0.5))


def test_agreement_compares_decisions() -> None:
    assert _score("agreement", _logits([0, 1, 2, 2]), None, _logits([0, 1, 1, 2])).value == 0.75


def test_agreement_of_single_numbers_is_closeness() -> None:
    baseline = [{"y": np.array([[value]], np.float32)} for value in (0.0, 50.0, 100.0)]
    ours = [{"y": np.array([[value]], np.float32)} for value in (0.5, 52.0, 100.0)]
    assert _score("agreement", ours, None, baseline).value == pytest.approx(2 / 3)


def test_baseline_agrees_with_itself() -> None:
    for name in ("cosine", "agreement", "fidelity"):
        assert _score(name, _logits([0, 1, 2])).value == 1.0


@pytest.mark.parametrize("name", ["top1", "cosine", "agreement", "fidelity"])
def test_nan_is_a_failed_candidate(name: str) -> None:
    ours = [{"logits": np.array([[np.nan, 1.0, 0.0]], np.float32)}, *_logits([1])]
    with pytest.raises(MeasureError, match="NaN"):
        _score(name, ours, [1, 1], _logits([1, 1]))


def test_other_shapes_than_the_baselines_are_a_failed_candidate() -> None:
    with pytest.raises(MeasureError, match="shape"):
        _score("cosine", _logits([1], count=4), None, _logits([1]))
    with pytest.raises(MeasureError, match="same calls"):
        _score("cosine", _logits([1, 1]), None, _logits([1]))


def test_paired_drop_has_the_sign_of_worse() -> None:
    labels = list(range(3)) * 40
    wrong = [0 if index < 12 else label for index, label in enumerate(labels)]
    better, worse = _score("top1", _logits(labels), labels), _score("top1", _logits(wrong), labels)
    drop, low, high, *_ = metrics.paired_drop(METRICS["top1"], better, worse)
    assert drop == pytest.approx(8 / 120)
    assert 0 < low < drop < high < 0.14
    assert metrics.paired_drop(METRICS["top1"], worse, better)[0] == pytest.approx(-drop)
    truth = [float(label) for label in labels]
    exact = _score("mae", [{"y": np.array(truth, np.float32)}], truth)
    off = _score("mae", [{"y": np.array(truth, np.float32) + 1}], truth)
    assert metrics.paired_drop(METRICS["mae"], exact, off)[0] == pytest.approx(1.0)


def test_paired_drop_is_same_every_time_and_zero_for_same_model() -> None:
    labels = [0, 1, 2] * 50
    one, two = _score("f1", _logits(labels), labels), _score("f1", _logits([0, *labels[1:-1], 0]), labels)
    assert metrics.paired_drop(METRICS["f1"], one, two) == metrics.paired_drop(METRICS["f1"], one, two)
    assert metrics.paired_drop(METRICS["f1"], one, one)[:3] == (0.0, 0.0, 0.0)


def test_paired_drop_pairs_samples() -> None:
    """What is hard for both cancels out: the interval is far narrower than that of two separate models."""
    random = np.random.default_rng(1)
    truth = random.normal(size=500)
    noise = random.normal(size=500)
    one = _score("mae", [{"y": truth + noise}], truth.tolist())
    two = _score("mae", [{"y": truth + noise * 1.01}], truth.tolist())
    _, low, high, *_ = metrics.paired_drop(METRICS["mae"], one, two)
    assert 0 < low < high < 0.02


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    hits = 0
    for _ in range(40):
        baseline, candidate = random.random(400) < 0.9, random.random(400) < 0.85
        scores = [Scores(value=float(each.mean()), per_sample=each, n=400) for each in (baseline, candidate)]
        _, low, high, *_ = metrics.paired_drop(METRICS["top1"], *scores)
        hits += low <= 0.05 <= high
    assert hits >= 34


@pytest.mark.parametrize(
    ("n", "rate", "confidence"), [(12, 0.3, 0.95), (40, 0.03, 0.95), (200, 0.01, 0.95), (25, 0.5, 0.8), (60, 0.05, 0.5)]
)
def test_interval_of_few_samples_covers_as_often_as_it_says(n: int, rate: float, confidence: float) -> None:
    """Where resamples alone do not: a bootstrap of 40 samples that none of 3 % struck says 0 to 0."""
    random = np.random.default_rng(n)
    hits = 0
    for _ in range(200):
        kept = (random.random(n) >= rate).astype(float)
        whole, part = (Scores(value=float(each.mean()), per_sample=each, n=n) for each in (np.ones(n), kept))
        _, low, high, *_ = metrics.paired_drop(METRICS["top1"], whole, part, confidence)
        hits += low <= rate <= high
    assert hits >= 200 * confidence - 8


def test_no_sample_that_differs_bounds_those_that_were_not_seen() -> None:
    labels = [0, 1, 2] * 20
    one, two = (_score("top1", _logits(labels), labels) for _ in range(2))
    drop = metrics.paired_drop(METRICS["top1"], one, two)
    assert (drop.value, drop.low, drop.how) == (0.0, pytest.approx(-drop.high), "exact")
    assert drop.high == pytest.approx(1 - 0.025 ** (1 / 60))
    assert metrics.paired_drop(METRICS["top1"], one, two, 0.5).high < drop.high
    assert metrics.paired_drop(METRICS["top1"], one, two, 0.999).high > drop.high
    agreement = metrics.paired_drop(METRICS["agreement"], one, two)
    assert (agreement.low, agreement.high) == (0.0, drop.high)  # nobody agrees more than the float itself


@pytest.mark.parametrize("name", ["mae", "fidelity"])
def test_a_metric_without_bounds_says_nothing_of_unseen_samples(name: str) -> None:
    outputs = [{"y": np.arange(8.0)[:, None]}]
    one, two = (_score(name, outputs, list(map(float, range(8)))) for _ in range(2))
    assert metrics.paired_drop(METRICS[name], one, two)[:3] == (0.0, 0.0, 0.0)


def test_a_users_hits_and_misses_are_a_share() -> None:
    metric = _hook(lambda outputs, labels: outputs["logits"].argmax(axis=1) == labels)
    one, two = (metrics.evaluate(metric, _logits([0, 1, 2]), [0, 1, 2]) for _ in range(2))
    assert metrics.paired_drop(metric, one, two).how == "exact"
    assert metrics.paired_drop(metric, one, two).high == pytest.approx(1 - 0.025 ** (1 / 3))


def test_one_sample_or_one_number_has_no_interval() -> None:
    far = [_score("mae", [{"y": np.array([[y]])}], [0.0]) for y in (1.0, 3.0)]
    assert metrics.paired_drop(METRICS["mae"], *far)[:4] == (2.0, 2.0, 2.0, "none")
    whole = [Scores(value=value, per_sample=None, n=9) for value in (0.9, 0.8)]
    assert metrics.paired_drop(_hook(lambda outputs, labels: 1.0), *whole).how == "none"


def test_a_higher_confidence_is_a_wider_interval() -> None:
    random = np.random.default_rng(3)
    truth = random.normal(size=80)
    one, two = (_score("mae", [{"y": truth + random.normal(size=80)}], truth.tolist()) for _ in range(2))
    assert metrics.paired_drop(METRICS["mae"], one, two).how == "bootstrap"
    ends = [metrics.paired_drop(METRICS["mae"], one, two, each)[1:3] for each in (0.5, 0.9, 0.95, 0.99)]
    assert all(wide[0] <= narrow[0] and narrow[1] <= wide[1] for narrow, wide in pairwise(ends))


def test_paired_drop_refuses_what_is_no_pair() -> None:
    with pytest.raises(MeasureError, match="not a pair"):
        metrics.paired_drop(METRICS["top1"], _score("top1", _logits([0]), [0]), _score("top1", _logits([0, 0]), [0, 0]))


def test_agreement_drop_is_of_the_candidates_worst_output() -> None:
    baseline = [{"state": np.ones((2, 2)), "y": np.eye(2)[[0]]}] * 30
    ours = [{"state": np.ones((2, 2)), "y": np.eye(2)[[index % 2]]} for index in range(30)]
    metric = METRICS["agreement"]
    drop, low, high, *_ = metrics.paired_drop(
        metric, metrics.evaluate(metric, baseline, None), metrics.evaluate(metric, ours, None, baseline)
    )
    assert drop == 0.5
    assert low < 0.5 < high


def _hook(function: Callable[..., Any]) -> metrics.Metric:
    return metrics.find("mine:score", lambda reference: function)


def test_users_metric_gives_one_number_judged_by_leaving_out() -> None:
    def score(outputs: dict[str, Any], labels: Any) -> float:
        return float((outputs["logits"].argmax(axis=1) == labels).mean())

    labels = [0, 1, 2] * 40
    metric = _hook(score)
    one = metrics.evaluate(metric, _logits(labels), labels)
    two = metrics.evaluate(metric, _logits([0] * 12 + labels[12:]), labels)
    drop, low, high, *_ = metrics.paired_drop(metric, one, two)
    assert drop == pytest.approx(8 / 120)
    assert low < drop < high


def test_users_metric_gives_a_number_a_sample_and_a_direction() -> None:
    def distance(outputs: dict[str, Any], labels: Any) -> Any:
        return np.abs(outputs["y"] - labels)

    distance.lower_is_better = True  # type: ignore[attr-defined]
    metric = _hook(distance)
    assert metric.lower_is_better
    scores = metrics.evaluate(metric, [{"y": np.array([1.0, 2.0])}], [0.0, 0.0])
    assert (scores.value, scores.n) == (1.5, 2)


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "not finite"), ([[1.0]], "one number, or one a sample")])
def test_users_metric_that_gives_nonsense_is_a_recipe_error(value: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        metrics.evaluate(_hook(lambda outputs, labels: value), _logits([0, 1]), [0, 1])


def test_unknown_metric_is_a_recipe_error() -> None:
    with pytest.raises(RecipeError, match="there is no metric"):
        metrics.find("accuracy")


@settings(max_examples=settings().max_examples * 2 // 5, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_f1_is_scikit_learns_macro(pairs: list[tuple[int, int]]) -> None:
    from sklearn.metrics import f1_score

    truth, said = [a for a, _ in pairs], [b for _, b in pairs]
    expected = f1_score(truth, said, average="macro", zero_division=0)
    assert _score("f1", _logits(said, 4), truth).value == pytest.approx(expected)


RAGGED = [{"logits": np.eye(3, dtype=np.float32)[row][None]} for row in ([0, 1], [1, 2, 0], [2])]
TAGS = [[-100, 1], [1, 2, -100], [2]]


def test_users_metric_gets_ragged_outputs_padded() -> None:
    def score(outputs: dict[str, Any], labels: Any) -> float:
        said, want = outputs["logits"].argmax(-1), np.asarray(labels)
        keep = want != -100
        return float((said[keep] == want[keep]).mean())

    assert metrics.evaluate(_hook(score), RAGGED, TAGS).value == 1.0
    worse = [*RAGGED[:2], {"logits": np.eye(3, dtype=np.float32)[[0]][None]}]
    assert metrics.evaluate(_hook(score), worse, TAGS).value == 0.75


def test_users_metric_may_take_calls() -> None:
    def score(calls: list[dict[str, Any]], labels: list[list[Any]]) -> float:
        return float(np.mean([len(call["boxes"]) == label for call, (label,) in zip(calls, labels, strict=True)]))

    calls = [{"boxes": np.zeros((n, 4), np.float32)} for n in (0, 3, 7, 1)]
    metric = _hook(score)
    one = metrics.evaluate(metric, calls, [0, 3, 7, 2], samples=[1] * 4)
    assert (one.value, one.n) == (0.75, 4)
    two = metrics.evaluate(metric, calls, [0, 3, 7, 1], samples=[1] * 4)
    drop, low, high, *_ = metrics.paired_drop(metric, two, one)
    assert low < drop < high


def test_users_metric_is_told_of_calls_that_cannot_be_joined() -> None:
    boxes = [{"boxes": np.zeros((n, n)), "n": np.array([n])} for n in (2, 3)]
    with pytest.raises(RecipeError, match="a parameter `calls`"):
        metrics.evaluate(_hook(lambda outputs, labels: 1.0), boxes, [0, 0], samples=[1, 1])


@pytest.mark.parametrize("error", [KeyError("logit"), ZeroDivisionError("x"), SystemError("y")])
def test_users_metric_that_raises_is_quoted(error: Exception) -> None:
    def score(outputs: dict[str, Any], labels: Any) -> float:
        raise error

    with pytest.raises(RecipeError, match=type(error).__name__):
        metrics.evaluate(_hook(score), _logits([0, 1]), [0, 1])


@pytest.mark.parametrize("name", ["top1", "mae", "recall_at_1"])
def test_ragged_outputs_are_never_numpys_exception(name: str) -> None:
    with pytest.raises(RecipeError):
        _score(name, RAGGED, [0, 1, 2])


@pytest.mark.parametrize("name", ["agreement", "cosine"])
def test_another_number_of_rows_is_a_disagreement_of_that_call(name: str) -> None:
    theirs = [{"boxes": np.ones((n, 4), np.float32), "scores": np.ones(n, np.float32)} for n in (3, 5, 0, 2)]
    ours = [*theirs[:1], {"boxes": np.ones((4, 4), np.float32), "scores": np.ones(4, np.float32)}, *theirs[2:]]
    metric = METRICS[name]
    found = metrics.evaluate(metric, ours, None, theirs, samples=[1] * 4)
    assert (found.value, found.n) == (0.75, 4)
    assert metrics.evaluate(metric, theirs, None, samples=[1] * 4).value == 1.0


def test_users_metric_of_rows_not_samples_has_an_interval_too() -> None:
    random = np.random.default_rng(2)
    theirs = [{"boxes": random.normal(size=(n, 4))} for n in random.integers(0, 9, 60)]
    ours = [{"boxes": call["boxes"] + random.normal(1, 0.5, size=call["boxes"].shape)} for call in theirs]
    metric = _hook(lambda outputs, labels: float(outputs["boxes"].mean()))
    scores = [metrics.evaluate(metric, calls, [0] * 60, samples=[1] * 60) for calls in (theirs, ours)]
    drop, low, high, *_ = metrics.paired_drop(metric, *scores)
    assert low < drop < high
