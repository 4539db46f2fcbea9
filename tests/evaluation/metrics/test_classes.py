"""Tests of `mlpack.evaluation.metrics.labelled.classes`: what is read of which output, and that nothing is guessed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mlpack.core.records import MetricSpec
from mlpack.errors import RecipeError
from mlpack.evaluation import metrics
from mlpack.evaluation.metrics import Scores

PROBABILITIES = np.array([[0.9], [0.2], [0.6], [0.4]], np.float32)


def _score(outputs: dict[str, Any] | list[dict[str, Any]], labels: list[Any], name: str = "top1", **spec: Any) -> Scores:
    names = spec.pop("names", None)
    samples = spec.pop("samples", None)
    metric = metrics.find(MetricSpec(name=name, **spec))
    return metrics.evaluate(metric, outputs if isinstance(outputs, list) else [outputs], labels, samples=samples, names=names)


def _eye(classes: list[int], count: int) -> Any:
    return np.eye(count, dtype=np.float32)[classes]


@pytest.mark.parametrize("array", [PROBABILITIES, PROBABILITIES[:, 0]], ids=["a column", "no axis of columns"])
def test_single_column_is_read_by_its_threshold(array: Any) -> None:
    found = _score({"p": array}, [1, 0, 1, 1], threshold=0.5)
    assert (found.value, found.output, found.threshold) == (0.75, "p", 0.5)
    # class 0: tp 1, fp 1 -> 2/3; class 1: tp 2, fn 1 -> 4/5.
    assert _score({"p": array}, [1, 0, 1, 1], "f1", threshold=0.5).value == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert _score({"p": np.log(array / (1 - array))}, [1, 0, 1, 1], threshold=0).value == 0.75


def test_threshold_is_of_the_second_of_two_columns_or_named() -> None:
    two = np.concatenate([1 - PROBABILITIES, PROBABILITIES], axis=1)
    assert _score({"p": two}, [1, 0, 0, 0], threshold=0.7).value == 1.0
    assert _score({"p": two}, [0, 1, 0, 0], threshold=0.7, column=0).value == 1.0
    with pytest.raises(RecipeError, match=r"has 3 columns: say which the threshold is of \(metric.column\)"):
        _score({"p": _eye([0, 1], 3)}, [0, 1], threshold=0.5)
    with pytest.raises(RecipeError, match="columns, 0 to 2, not 3"):
        _score({"p": _eye([0, 1], 3)}, [0, 1], threshold=0.5, column=3)


def test_second_head_is_read_where_it_is_named_or_alone_fits() -> None:
    heads = {"quality": np.zeros((3, 2), np.float32), "topic": _eye([4, 0, 2], 5)}
    assert _score(heads, [4, 0, 2], output="topic").value == 1.0
    assert _score(heads, [4, 0, 2]).output == "topic"
    with pytest.raises(RecipeError, match=r"quality, topic all fit the labels; say which is meant: metric.output"):
        _score(heads, [1, 0, 1])
    with pytest.raises(RecipeError, match=r"no output 'topics' \(quality \[3, 2\] float32, topic"):
        _score(heads, [4, 0, 2], output="topics")


def test_two_outputs_that_say_the_same_need_no_name() -> None:
    logits = _eye([0, 2, 1], 3)
    assert _score({"logits": logits, "probabilities": logits / 2}, [0, 2, 1]).output == "logits"


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_classes_that_do_not_start_at_0_go_by_the_models_own(kind: Any) -> None:
    scores = _eye([0, 1, 3, 2], 5)
    found = _score({"label": np.array([1, 2, 4, 3], kind), "probabilities": scores}, [1, 2, 4, 4])
    assert (found.output, found.value) == ("label", 0.75)
    assert _score({"probabilities": scores}, [1, 2, 4, 4], classes=(1, 2, 3, 4, 5)).value == 0.75


def test_scores_that_contradict_class_beside_them_are_refused() -> None:
    with pytest.raises(RecipeError, match="do not say the same class"):
        _score({"label": np.array([0, 1, 1]), "scores": _eye([0, 0, 1], 2)}, [0, 0, 1])
    assert _score({"label": np.array([0, 1, 1]), "scores": _eye([0, 0, 1], 2)}, [0, 0, 1], output="scores").value == 1.0


def test_names_of_classes_come_from_recipe_model_or_output() -> None:
    logits = {"logits": _eye([1, 0, 1], 2)}
    labels = ["positive", "negative", "negative"]
    assert _score(logits, labels, classes=("negative", "positive")).value == pytest.approx(2 / 3)
    assert _score(logits, labels, names=("negative", "positive")).value == pytest.approx(2 / 3)
    assert _score({"label": np.array(labels)}, labels).value == 1.0
    assert _score({"label": np.array([b"positive", b"x", b"negative"], object)}, labels).value == pytest.approx(2 / 3)
    with pytest.raises(RecipeError, match=r"metric\.classes"):
        _score(logits, labels)
    with pytest.raises(RecipeError, match=r"1 labels are no class of the model \(first: 'neutral'; it has 'negative'"):
        _score(logits, ["neutral", *labels[1:]], names=("negative", "positive"))
    with pytest.raises(RecipeError, match="names 3 classes, and the model has 2"):
        _score(logits, labels, classes=("a", "b", "c"))


def test_tokens_count_unless_they_are_ignored() -> None:
    calls = [{"logits": _eye([0, 1, 2], 3)[None]}, {"logits": _eye([1, 1, 1, 0], 3)[None]}]
    labels = [[-100, 1, 2], [-100, 1, 0, -100]]
    found = _score(calls, labels)
    assert (found.value, found.n) == (0.75, 2)
    # class 0: fn 1 -> 0; class 1: tp 2, fp 1 -> 4/5; class 2: tp 1 -> 1.
    assert _score(calls, labels, "f1").value == pytest.approx((0 + 4 / 5 + 1) / 3)
    assert _score(calls, [[9, 1, 2], [9, 1, 0, 9]], ignore_index=9).value == 0.75
    assert _score(calls, [[-100, "b", "c"], [-100, "b", "a", -100]], names=("a", "b", "c")).value == 0.75
    assert _score([{"tags": call["logits"].argmax(-1)} for call in calls], labels).value == 0.75


def test_labels_of_padded_tokens_may_be_left_out() -> None:
    logits = np.stack([_eye([0, 1, 2], 3), _eye([1, 2, 0], 3)])
    assert _score({"logits": logits}, [[0, 1, 2], [1]]).value == 1.0
    with pytest.raises(RecipeError, match="2 labels and the output logits 3 tokens: one label a token"):
        _score({"logits": logits}, [[0, 1], [1, 2]])
    with pytest.raises(RecipeError, match="nothing counts"):
        _score({"logits": logits}, [[-100] * 3] * 2)


def test_token_drop_is_resampled_by_sample() -> None:
    calls = [{"logits": _eye([i % 3, 1], 3)[None]} for i in range(60)]
    worse = [{"logits": _eye([i % 3, 1 if i % 6 else 0], 3)[None]} for i in range(60)]
    labels = [[i % 3, 1] for i in range(60)]
    for name in ("top1", "f1"):
        metric = metrics.find(name)
        drop, low, high, *_ = metrics.paired_drop(metric, _score(calls, labels, name), _score(worse, labels, name))
        assert 0 < low < drop < high < 0.3


def test_many_samples_of_many_classes_take_no_table_of_both() -> None:
    random = np.random.default_rng(0)
    said, labels = random.integers(0, 10**6, 20_000), random.integers(0, 10**6, 20_000)
    labels[:50] = said[:50]
    found = _score({"id": said}, labels.tolist(), "f1")
    assert 0 < found.value < 0.01
    small = random.integers(0, 50, 500), random.integers(0, 50, 500)
    expected = f1_score(small[1], small[0], average="macro", zero_division=0)
    assert _score({"id": small[0]}, small[1].tolist(), "f1").value == pytest.approx(expected)


@pytest.mark.parametrize("label", [10**30, -(2**63) - 1, 0.5, "a", None])
def test_labels_that_are_no_class_numbers_are_said(label: Any) -> None:
    with pytest.raises(RecipeError, match="labels must be class numbers; 1 of 2 are not"):
        _score({"y": _eye([0, 1], 2)}, [label, 1])


def test_lists_of_labels_for_columns_are_told_what_lists_are() -> None:
    with pytest.raises(RecipeError, match="labels that are lists are one a token"):
        _score({"y": _eye([0, 1], 2)}, [[1, 0], [0, 1]], threshold=0.5)
