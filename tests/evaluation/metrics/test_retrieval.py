"""Tests of `mlpack.evaluation.metrics.labelled.retrieval`, against small sums done by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mlpack.core.records import MetricSpec
from mlpack.errors import RecipeError
from mlpack.evaluation import metrics
from mlpack.evaluation.metrics import Scores


def _score(vectors: Any, labels: list[Any], name: str, **spec: Any) -> Scores:
    return metrics.evaluate(metrics.find(MetricSpec(name=name, **spec)), [{"e": np.asarray(vectors, np.float32)}], labels)


ANGLES = np.radians([0, 10, 20, 90, 100, 31])
"""Of 31 degrees the nearest is 20 (not its own), then 10; its own is at 90: the fourth."""
ROUND = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
GROUPS = ["a", "a", "a", "b", "b", "b"]


def test_every_sample_asks_all_others() -> None:
    found = _score(ROUND, GROUPS, "recall_at_1")
    assert found.per_sample is not None
    assert found.per_sample.tolist() == [True, True, True, True, True, False]
    assert (found.n, found.value) == (6, pytest.approx(5 / 6))
    assert _score(ROUND, GROUPS, "recall_at_k", k=3).value == pytest.approx(5 / 6)
    assert _score(ROUND, GROUPS, "recall_at_k", k=4).value == 1.0
    assert _score(ROUND, GROUPS, "recall_at_10").value == 1.0


def test_mean_average_precision_by_hand() -> None:
    # Ranks of the relevant two: 0: 1, 2; 10: 1, 2; 20: 1, 3 (31 between); 90: 1, 2; 100: 1, 2; 31: 4, 5.
    whole = [1, 1, (1 + 2 / 3) / 2, 1, 1, (1 / 4 + 2 / 5) / 2]
    found = _score(ROUND, GROUPS, "map_at_k", k=5)
    assert found.per_sample is not None
    assert found.per_sample == pytest.approx(whole)
    assert _score(ROUND, GROUPS, "map_at_k", k=2).per_sample == pytest.approx([1, 1, 1 / 2, 1, 1, 0])


def test_mean_average_precision_is_scikit_learns() -> None:
    random = np.random.default_rng(4)
    vectors, labels = random.normal(size=(40, 6)), random.integers(0, 5, 40)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = unit.astype(np.float32).astype(np.float64) @ unit.astype(np.float32).astype(np.float64).T
    expected = [
        average_precision_score(np.delete(labels == labels[i], i), np.delete(near[i], i))
        for i in range(40)
        if (labels == labels[i]).sum() > 1
    ]
    assert _score(unit, labels.tolist(), "map_at_k", k=39).value == pytest.approx(np.mean(expected), abs=1e-6)


def test_pairs_ask_answers_only() -> None:
    """A query that lies beside another query finds its answer all the same."""
    vectors = [[1, 0], [1, 0.01], [1, 0.3], [1, 0.4]]
    assert _score(vectors, ["x", "y", "x", "y"], "recall_at_1").n == 2
    assert _score(vectors, ["x", "y", "x", "y"], "recall_at_k", k=2).value == 1.0


def test_labels_that_stand_alone_ask_nothing_of_retrieval() -> None:
    assert _score([*ROUND, [0.9, 0.1]], [*GROUPS, "alone"], "recall_at_5").n == 6
    with pytest.raises(RecipeError, match="has anything to find"):
        _score(ROUND, list(range(6)), "recall_at_5")


def test_equal_vectors_are_ranked_in_the_order_of_the_data() -> None:
    assert _score(np.ones((6, 3)), GROUPS, "recall_at_1").value == pytest.approx(3 / 6)
