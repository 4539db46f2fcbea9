"""Tests of `mlpack.evaluation.metrics.labelled.detection`, against small sums done by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlpack.core.records import MetricSpec
from mlpack.errors import RecipeError
from mlpack.evaluation import metrics
from mlpack.evaluation.metrics import Scores

BOX, FAR, LOW = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0], [0.0, 0.0, 10.0, 6.0]
"""The last covers 0.6 of the first."""


def _call(*rows: tuple[list[float], float, int]) -> dict[str, Any]:
    """A picture's boxes, as detectors with their own NMS give them."""
    return {
        "boxes": np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        "scores": np.array([row[1] for row in rows], np.float32),
        "labels": np.array([row[2] for row in rows], np.int64),
    }


def _score(calls: list[dict[str, Any]], labels: Any, name: str = "map_50", baseline: Any = None, **more: Any) -> Scores:
    load = (lambda _: more["hook"]) if "hook" in more else None
    spec = {key: value for key, value in more.items() if key != "hook"}
    metric = metrics.find(MetricSpec(name=name, **spec), load)
    return metrics.evaluate(metric, calls, labels, baseline, samples=[1] * len(calls))


def test_all_found_is_1_and_nothing_found_is_0() -> None:
    truth = [[[0, *BOX], [1, *FAR]], []]
    found = _score([_call((BOX, 0.9, 0), (FAR, 0.8, 1)), _call()], truth)
    assert (found.value, found.n, found.output) == (1.0, 2, "boxes, scores, labels")
    assert _score([_call(), _call()], truth).value == 0.0
    assert _score([_call((BOX, 0.9, 1), (FAR, 0.8, 0)), _call()], truth).value == 0.0


def test_precision_is_interpolated_at_101_points() -> None:
    # Best first: wrong, right, right of two truths: precision 1/2 at recall 0.5 and 2/3 at 1, so 2/3 everywhere.
    calls = [_call(([90, 90, 95, 95], 0.9, 0), (BOX, 0.8, 0), (FAR, 0.7, 0))]
    assert _score(calls, [[[0, *BOX], [0, *FAR]]]).value == pytest.approx(2 / 3)
    # Half found: precision 1 for the 51 points of recall 0 to 0.5, and 0 beyond.
    assert _score([_call((BOX, 0.9, 0))], [[[0, *BOX], [0, *FAR]]]).value == pytest.approx(51 / 101)
    # Found twice: the second is wrong, and comes after recall is complete.
    assert _score([_call((BOX, 0.9, 0), (BOX, 0.8, 0))], [[[0, *BOX]]]).value == 1.0


def test_thresholds_of_overlap() -> None:
    calls, truth = [_call((LOW, 0.9, 0))], [[[0, *BOX]]]
    assert _score(calls, truth).value == 1.0
    assert _score(calls, truth, iou=0.7).value == 0.0
    # 0.6 covers the thresholds 0.5, 0.55 and 0.6.
    assert _score(calls, truth, "map_50_95").value == pytest.approx(3 / 10)


def test_classes_count_alike_and_only_those_of_the_truth() -> None:
    calls = [_call((BOX, 0.9, 0), (FAR, 0.8, 7))]
    assert _score(calls, [[[0, *BOX], [3, *FAR]]]).value == pytest.approx(1 / 2)


def test_labels_padded_with_a_class_below_0_and_one_box_alone() -> None:
    calls = [_call((BOX, 0.9, 0)), _call((FAR, 0.9, 0))]
    assert _score(calls, [[[0, *BOX], [-1, 0, 0, 0, 0]], [[0, *FAR], [-1, 0, 0, 0, 0]]]).value == 1.0
    assert _score(calls, [[0, *BOX], [0, *FAR]]).value == 1.0


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([[[0, 5, 5, 3, 3]]], "ends before it begins"),
        ([[[0, 1, 2, 3]]], r"a label is a list of \[class, x1, y1, x2, y2\]"),
        ([["cat"]], r"a label is a list of \[class"),
        ([[]], "no box in any picture"),
        ([[], []], "2 labels for 1 rows"),
    ],
)
def test_labels_that_are_no_boxes_are_said(labels: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        _score([_call((BOX, 0.9, 0))], labels)


def test_rows_of_six_and_batches_of_pictures() -> None:
    rows = np.array([[[*BOX, 0.9, 0], [*FAR, 0.8, 1]], [[*FAR, 0.7, 1], [*LOW, 0.0, 5]]], np.float32)
    metric = metrics.find("map_50")
    assert metrics.evaluate(metric, [{"out": rows}], [[[0, *BOX], [1, *FAR]], [[1, *FAR]]], samples=[2]).value == 1.0


def test_raw_heads_need_a_hook_and_what_it_gives_is_checked() -> None:
    raw = [{"output0": np.zeros((1, 64, 11), np.float32)}]
    truth = [[[2, *BOX]]]
    with pytest.raises(RecipeError, match="decode: module:function"):
        _score(raw, truth)
    good = _score(raw, truth, decode="mine:boxes", hook=lambda outputs: [{"boxes": [BOX], "scores": [0.9], "classes": [2]}])
    assert (good.value, good.output) == (1.0, "mine:boxes")
    assert _score(raw, truth, decode="mine:boxes", hook=lambda outputs: [([BOX], [0.9], [2])]).value == 1.0
    for wrong in ([], None, [{"boxes": [BOX]}], [([BOX], [0.9, 0.8], [2])], 3):
        with pytest.raises(RecipeError, match="mine:boxes"):
            _score(raw, truth, decode="mine:boxes", hook=lambda outputs, wrong=wrong: wrong)


def test_without_labels_the_floats_own_detections_are_the_truth() -> None:
    theirs = [_call((BOX, 0.9, 0), (FAR, 0.2, 0))]
    found = _score([_call((BOX, 0.6, 0))], None, baseline=theirs, threshold=0.5)
    assert found.value == 1.0
    assert _score([_call()], None, baseline=theirs, threshold=0.5).value == 0.0
    with pytest.raises(RecipeError, match="from which score on"):
        _score([_call()], None, baseline=theirs)


def test_drop_has_an_interval_by_leaving_out_pictures() -> None:
    truth = [[[0, *BOX]] for _ in range(60)]
    good = _score([_call((BOX, 0.9, 0))] * 60, truth)
    worse = _score([_call((BOX, 0.9, 0)) if i >= 12 else _call() for i in range(60)], truth)
    drop, low, high, *_ = metrics.paired_drop(metrics.find("map_50"), good, worse)
    assert drop == pytest.approx(0.2, abs=0.01)
    assert 0.05 < low < drop < high < 0.35
