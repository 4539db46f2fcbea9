"""Tests of metrics of several classes at once: as scikit-learn has them, whatever the form of the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mlpack.core.records import MetricSpec
from mlpack.errors import RecipeError
from mlpack.evaluation import metrics
from mlpack.evaluation.metrics import Scores

RANDOM = np.random.default_rng(0)
TRUTH = (RANDOM.random((60, 5)) < 0.3).astype(int)
SCORES = (TRUTH * 0.5 + RANDOM.random((60, 5)) * 0.6).astype(np.float32)
NAMES = ("a", "b", "c", "d", "e")


def score(outputs: Any, labels: list[Any], name: str = "multilabel_f1", names: Any = None, **spec: Any) -> Scores:
    metric = metrics.find(MetricSpec(name=name, **spec))
    return metrics.evaluate(metric, outputs if isinstance(outputs, list) else [outputs], labels, names=names)


@pytest.mark.parametrize("form", ["rows", "numbers", "names", "of the model"])
@pytest.mark.parametrize(("name", "average"), [("multilabel_f1", "macro"), ("multilabel_f1_micro", "micro")])
def test_as_scikit_learn_has_it(form: str, name: str, average: str) -> None:
    labels = TRUTH.tolist() if form == "rows" else [np.flatnonzero(row).tolist() for row in TRUTH]
    if form in ("names", "of the model"):
        labels = [[NAMES[one] for one in row] for row in labels]
    more: dict[str, Any] = {"names": {"classes": NAMES}, "of the model": {"names": NAMES}}.get(form, {})
    calls = [{"p": SCORES[at : at + 7]} for at in range(0, 60, 7)]
    found = score(calls, labels, name, threshold=0.5, **more)
    decided = np.float32(0.5) < SCORES
    assert found.value == pytest.approx(f1_score(TRUTH, decided, average=average))
    assert (found.output, found.threshold, found.n) == ("p", 0.5, 60)


def test_a_class_that_nobody_has_does_not_count() -> None:
    truth, said = np.array([[1, 0, 0], [0, 1, 0]]), np.array([[1.0, 0, 0], [1, 1, 0]], np.float32)
    assert score({"p": said}, truth.tolist(), threshold=0.5).value == pytest.approx((2 / 3 + 1) / 2)


def test_decisions_of_the_model_need_no_threshold() -> None:
    both = {"label": TRUTH.astype(np.int64), "probabilities": SCORES}
    assert score(both, TRUTH.tolist()).output == "label"
    assert score(both, TRUTH.tolist(), threshold=0.5).output == "probabilities"
    assert score({"label": TRUTH.astype(bool)}, TRUTH.tolist()).value == 1.0


def test_a_drop_has_an_interval_and_equal_models_none() -> None:
    metric = metrics.find(MetricSpec(name="multilabel_f1", threshold=0.5))
    worse = np.where(RANDOM.random(SCORES.shape) < 0.2, 1 - SCORES, SCORES).astype(np.float32)
    best, other = (metrics.evaluate(metric, [{"p": array}], TRUTH.tolist()) for array in (SCORES, worse))
    drop, low, high, *_ = metrics.paired_drop(metric, best, other)
    assert low < drop < high
    assert drop > 0
    assert metrics.paired_drop(metric, best, best)[:3] == (0, 0, 0)


@pytest.mark.parametrize(
    ("outputs", "labels", "spec", "said"),
    [
        ({"p": SCORES}, TRUTH.tolist(), {}, "logits or probabilities cannot be seen"),
        ({"p": SCORES}, [1] * 60, {"threshold": 0.5}, "sample 0 has the label 1: a list is needed"),
        ({"p": SCORES}, [[9]] * 60, {"threshold": 0.5}, "the label 9, which is no class of the output's 5"),
        ({"p": SCORES}, [["x"]] * 60, {"threshold": 0.5}, "the label 'x', which is no class"),
        ({"p": SCORES}, TRUTH.tolist()[:9], {"threshold": 0.5}, "9 labels for 60 rows"),
        ({"p": SCORES[:, :, None]}, TRUTH.tolist(), {"threshold": 0.5}, "no output has a row a sample and a column a class"),
        ({"p": SCORES, "q": SCORES}, TRUTH.tolist(), {"threshold": 0.5}, "p, q may be meant"),
        ({"p": SCORES}, TRUTH.tolist(), {"threshold": 0.5, "classes": ("a", "b")}, None),
        ({"p": SCORES}, [["a"]] * 60, {"threshold": 0.5, "classes": ("a", "b")}, "names 2 classes, and the output has 5"),
    ],
)
def test_what_does_not_fit_is_said(outputs: Any, labels: list[Any], spec: dict[str, Any], said: str | None) -> None:
    if said is None:
        assert score(outputs, labels, **spec).n == 60
        return
    with pytest.raises(RecipeError, match=said):
        score(outputs, labels, **spec)
