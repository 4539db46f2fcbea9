"""Labels that cannot be those of a model's outputs are told by shapes alone; what may fit is left to the metric."""

from __future__ import annotations

from typing import Any

import pytest

from mlpack.core.records import MetricSpec, TensorSpec
from mlpack.errors import RecipeError
from mlpack.evaluation.metrics import expectations


def output(name: str, *shape: int | str, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


LOGITS = (output("logits", "batch", 4),)
TOKENS = (output("logits", "batch", "length", 9),)
MAPS = (output("out", "batch", 3, 8, 8),)
LABEL = (output("label", "batch", dtype="int64"), output("probabilities", "batch", 3))
UNKNOWN = (output("logits"), output("h", "n", 7))
VARIED = (output("y", "batch", "width"),)


@pytest.mark.parametrize(
    ("spec", "outputs", "labels", "said"),
    [
        ({"name": "top1"}, LOGITS, None, "needs labels and the evaluation data has none"),
        ({"name": "top1"}, LOGITS, [[1, 0, 1, 0]], "lists, one a token.*multilabel_f1"),
        ({"name": "f1"}, TOKENS, [1, 2], "a class a sample: no output"),
        ({"name": "f1"}, LOGITS, [[[1, 2], [1, 2]]], "lists of lists.*mean_iou"),
        ({"name": "mae"}, LOGITS, [0.5, 1.5], "a label has 1 number, and no output as many"),
        ({"name": "rmse"}, LOGITS, [[0.5, 1.5]], "a label has 2 numbers"),
        ({"name": "mae"}, LOGITS, ["a"], "the labels are words"),
        ({"name": "multilabel_f1", "threshold": 0.5}, LOGITS, [1, 2], "are no lists"),
        ({"name": "multilabel_f1", "threshold": 0.5}, MAPS, [[1, 0]], "no output has a row"),
        ({"name": "mean_iou"}, MAPS, [[[1] * 16] * 16], r"maps \[16, 16\], and no output"),
        ({"name": "mean_iou"}, LOGITS, [[[1] * 8] * 8], "no output has a class or scores for each place"),
        ({"name": "mean_iou"}, MAPS, [1, 2], "are no maps"),
        ({"name": "fidelity", "output": "logit"}, LOGITS, None, "the model has no output 'logit'"),
    ],
)
def test_what_is_certain_is_said(spec: dict[str, Any], outputs: tuple[TensorSpec, ...], labels: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        expectations.check(MetricSpec(**spec), outputs, labels)


@pytest.mark.parametrize(
    ("spec", "outputs", "labels"),
    [
        ({"name": "top1"}, (), [[1, 2]]),
        ({"name": "top1"}, LABEL, [0, 1]),
        ({"name": "top1"}, (output("label", "batch", 1, dtype="string"),), ["a"]),
        ({"name": "f1", "threshold": 0.5}, (output("p", "batch"),), [0, 1]),
        ({"name": "f1"}, TOKENS, [[1, 2]]),
        ({"name": "mae"}, VARIED, [[1.0, 2.0, 3.0]]),
        ({"name": "mae", "column": 1}, LOGITS, [1.0]),
        ({"name": "mae"}, (output("y", "batch", 2, 2),), [[[1.0, 2.0], [3.0, 4.0]]]),
        ({"name": "multilabel_f1", "threshold": 0.5}, LOGITS, [[], [3]]),
        ({"name": "mean_iou"}, MAPS, [[[1] * 8] * 8]),
        ({"name": "mean_iou"}, (output("out", "batch", "height", "width", 3),), [[[1] * 9] * 7]),
        ({"name": "top1"}, UNKNOWN, [1]),
        ({"name": "f1"}, UNKNOWN, [[1, 2]]),
        ({"name": "mae"}, UNKNOWN, [1.0]),
        ({"name": "recall_at_1"}, LOGITS, [0, 0]),
        ({"name": "mine:score"}, LOGITS, [{"any": "thing"}]),
        ({"name": "fidelity"}, LOGITS, None),
        ({"name": "map_50"}, LOGITS, None),
    ],
)
def test_what_may_fit_passes(spec: dict[str, Any], outputs: tuple[TensorSpec, ...], labels: Any) -> None:
    expectations.check(MetricSpec(**spec), outputs, labels)


@pytest.mark.parametrize(
    ("spec", "outputs", "labels", "said"),
    [
        ({"name": "top1"}, LOGITS, [0, 9], r"1 labels are out of range \(0 to \d: .*by sample: 1: 9"),
        ({"name": "top1"}, LOGITS, [0, -1], "1 labels are out of range"),
        ({"name": "f1"}, LOGITS, [0.5, 1], "must be class numbers; 1 of 2 are not .first: sample 0, 0.5"),
        ({"name": "top1"}, LOGITS, [2**62], "out of range"),
        ({"name": "top1"}, LOGITS, ["cat", "dog"], "must be class numbers.*metric.classes"),
        ({"name": "top1", "threshold": 0.5}, (output("p", "batch", 1),), [0, 2], "1 labels are out of range .0 to 1:"),
        ({"name": "f1"}, TOKENS, [[0, -100], [99, -100]], "1 labels are out of range"),
        ({"name": "f1"}, TOKENS, [[0.25]], "must be class numbers"),
    ],
)
def test_class_that_no_output_has_is_said(spec: dict[str, Any], outputs: tuple[TensorSpec, ...], labels: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        expectations.check(MetricSpec(**spec), outputs, labels, None)


@pytest.mark.parametrize(
    ("spec", "outputs", "labels", "names"),
    [
        ({"name": "top1"}, LOGITS, ["cat"], ()),
        ({"name": "top1"}, LOGITS, ["cat"], ("cat", "dog")),
        ({"name": "top1", "classes": ("cat", "dog", "cow")}, LOGITS, ["cow"], None),
        ({"name": "top1", "classes": (1, 2, 3)}, LOGITS, [3], None),
        ({"name": "top1"}, LABEL, [7, "x"], None),
        ({"name": "top1"}, (output("p", "batch", "classes"),), [10**6], None),
        ({"name": "top1"}, LOGITS, [True, 2.0], None),
        ({"name": "f1"}, TOKENS, [[0, -100], [1, -100]], None),
        ({"name": "f1", "ignore_index": 99}, TOKENS, [[0, 99]], None),
    ],
)
def test_class_that_an_output_may_have_passes(
    spec: dict[str, Any], outputs: tuple[TensorSpec, ...], labels: Any, names: tuple[Any, ...] | None
) -> None:
    expectations.check(MetricSpec(**spec), outputs, labels, names)
