"""Tests of the mean intersection over union: every form of output, by counting places one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlpack.core.records import MetricSpec
from mlpack.errors import RecipeError
from mlpack.evaluation import metrics
from mlpack.evaluation.metrics import Scores

RANDOM = np.random.default_rng(1)
TRUTH = RANDOM.integers(0, 3, (6, 4, 5))
RAW = (np.eye(3)[TRUTH] + RANDOM.random((6, 4, 5, 3)) * 1.6).astype(np.float32)


def score(outputs: Any, labels: Any, **spec: Any) -> Scores:
    metric = metrics.find(MetricSpec(name="mean_iou", **spec))
    return metrics.evaluate(metric, outputs if isinstance(outputs, list) else [outputs], np.asarray(labels).tolist())


def counted(truth: Any, said: Any, ignored: int = 255) -> float:
    found = []
    for one in range(max(truth[truth != ignored].max(), said.max()) + 1):
        pairs = [(int(a), int(b)) for a, b in zip(truth.ravel(), said.ravel(), strict=True) if a != ignored]
        either = sum(one in pair for pair in pairs)
        if either:
            found.append(sum(pair == (one, one) for pair in pairs) / either)
    return sum(found) / len(found)


@pytest.mark.parametrize("form", ["last", "first", "classes", "calls"])
def test_every_form_of_output(form: str) -> None:
    outputs: Any = {
        "last": {"y": RAW},
        "first": {"y": RAW.transpose(0, 3, 1, 2)},
        "classes": {"y": RAW.argmax(axis=3).astype(np.int32)},
        "calls": [{"y": RAW[:2]}, {"y": RAW[2:5]}, {"y": RAW[5:]}],
    }[form]
    assert score(outputs, TRUTH).value == pytest.approx(counted(TRUTH, RAW.argmax(axis=3)))


@pytest.mark.parametrize("shape", [(6, 4, 5), (6, 1, 4, 5), (6, 4, 5, 1)])
def test_one_number_a_place_is_read_by_its_threshold(shape: tuple[int, ...]) -> None:
    truth, values = (TRUTH > 0).astype(int), RAW[..., 1]
    found = score({"y": values.reshape(shape)}, truth, threshold=0.8)
    assert found.value == pytest.approx(counted(truth, (values > np.float32(0.8)).astype(int)))
    with pytest.raises(RecipeError, match="has one number a place"):
        score({"y": values.reshape(shape)}, truth)


@pytest.mark.parametrize("ignored", [255, 0, -1])
def test_places_that_do_not_count(ignored: int) -> None:
    truth = np.where(RANDOM.random(TRUTH.shape) < 0.3, ignored, TRUTH)
    more = {} if ignored == 255 else {"ignore_index": ignored}
    assert score({"y": RAW}, truth, **more).value == pytest.approx(counted(truth, RAW.argmax(axis=3), ignored))


def test_a_drop_is_paired_by_picture() -> None:
    metric = metrics.find("mean_iou")
    worse = np.where(RANDOM.random(RAW.shape) < 0.5, RAW[..., ::-1], RAW)
    best, other = (metrics.evaluate(metric, [{"y": array}], TRUTH.tolist()) for array in (RAW, worse))
    drop, low, high, *_ = metrics.paired_drop(metric, best, other)
    assert low < drop < high


@pytest.mark.parametrize(
    ("outputs", "labels", "said"),
    [
        ({"y": RAW}, TRUTH[:, :2], "no output has a class or scores for each place of maps .2, 5."),
        ({"y": RAW[..., :2]}, TRUTH, "has the class 2, and the output y classes of 0 to 1"),
        ({"y": RAW}, TRUTH[:, 0], "is no map"),
        ({"y": RAW, "z": RAW}, TRUTH, "y, z all fit the labels"),
        ({"y": RAW}, TRUTH + 0.5, "is no map"),
    ],
)
def test_what_does_not_fit_is_said(outputs: Any, labels: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        score(outputs, labels)
