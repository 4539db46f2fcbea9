"""Tests of `mlpack.evaluation.data.labels`: what people yield as labels, and what becomes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlpack.evaluation.data import labels


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (3, [3]),
        ([1, 0], [1, 0]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.zeros((0, 5)), []),
        ([np.array([[0, 1, 2, 3, 4]]), np.zeros((0, 5))], [[[0, 1, 2, 3, 4]], []]),
        ([[1, 2], [3]], [[1, 2], [3]]),
        ([["B", "O"], ["O"]], [["B", "O"], ["O"]]),
        (None, None),
    ],
)
def test_labels_become_plain_values_one_a_sample(given: Any, plain: Any) -> None:
    assert labels.plain(labels.arrays(given)) == plain


@pytest.mark.parametrize("given", [[None, 1], [{"a": 1}], np.array([np.nan]), [[1, None], [2]], [1 + 2j]])
def test_what_is_no_label_is_said(given: Any) -> None:
    with pytest.raises(ValueError, match="labels must be finite numbers or strings"):
        labels.plain(labels.arrays(given))


def test_several_labels_of_one_sample_are_its_list() -> None:
    assert labels.a_sample([1, 2, 3], 1) == [[1, 2, 3]]
    assert labels.a_sample([], 1) == [[]]
    assert labels.a_sample([[1, 2]], 1) == [[1, 2]]
    assert labels.a_sample([1, 2, 3], 3) == [1, 2, 3]


@pytest.mark.parametrize("label", [1, 0.5, "a", [1, -100], ["B", -100], [[0, 1, 2, 3, 4.5]], []])
def test_line_of_json_may_hold_these(label: Any) -> None:
    assert labels.problem(label) is None


@pytest.mark.parametrize("label", [None, True, {"a": 1}, float("inf"), "\ud800", [None], [[[[1]]]], [{"a": 1}]])
def test_line_of_json_may_not_hold_these(label: Any) -> None:
    assert labels.problem(label)
