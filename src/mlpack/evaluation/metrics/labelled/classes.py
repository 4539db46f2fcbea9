"""Classification: the class of every sample (or token) by the model and by the labels. numpy is imported when something is scored.

Promises:
- The recipe names the output, or exactly one output fits the labels; otherwise the error lists the outputs that could be meant.
- A single column is not read without a threshold.
- Scores that contradict the class which the model itself gives are never taken for that class's scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.core.records import MetricSpec
from mlpack.errors import RecipeError
from mlpack.evaluation.metrics import scores
from mlpack.evaluation.metrics.answers import Answers, fitting, output_name, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_LARGEST = 2**63
IGNORED = -100
"""The label of tokens that do not count, as in torch and transformers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Labels:
    """The labels of one evaluation: `given` has one a sample; `names`: the names of the classes, by column."""

    spec: MetricSpec
    given: Sequence[Any]
    names: tuple[Any, ...] | None

    @property
    def metric(self) -> str:
        return self.spec.name

    @property
    def tokens(self) -> bool:
        """Whether a label is a list: one a token."""
        return bool(self.given) and isinstance(self.given[0], list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Predictions:
    """The classes that were read from one output: one a row (or token), in the labels' terms; `sample` is the sample of each."""

    output: str
    truth: Array
    predicted: Array
    sample: Array
    threshold: float | None = None
    column: int | None = None


def top1(spec: MetricSpec, answers: Answers, labels: Sequence[Any], names: tuple[Any, ...] | None) -> scores.Scores:
    """The share of samples, or of tokens that count, whose class is the label."""
    import numpy as np

    predictions = _read(_Labels(spec=spec, given=labels, names=names), answers)
    right = predictions.truth == predictions.predicted
    more: dict[str, Any] = {"output": predictions.output, "threshold": predictions.threshold, "column": predictions.column}
    if len(right) == len(labels) and np.array_equal(predictions.sample, np.arange(len(labels))):
        return scores.of(right, **more)
    each = np.stack(
        [np.bincount(predictions.sample, w, len(labels)) for w in (right.astype(np.float64), np.ones(len(right)))], axis=1
    )
    return scores.of(each, lambda weights: _ratio(weights @ each[:, 0], weights @ each[:, 1]), **more)


def f1(spec: MetricSpec, answers: Answers, labels: Sequence[Any], names: tuple[Any, ...] | None) -> scores.Scores:
    """Macro F1 over the classes that occur in labels or predictions."""
    import numpy as np

    predictions = _read(_Labels(spec=spec, given=labels, names=names), answers)
    classes, numbered = np.unique(np.concatenate([predictions.truth, predictions.predicted]), return_inverse=True)
    truth, predicted = numbered[: len(predictions.truth)], numbered[len(predictions.truth) :]
    hit = truth == predicted

    def one(weights: Array) -> float:
        true, counts, both = (
            np.bincount(kind[among], weights[predictions.sample[among]], len(classes))
            for kind, among in ((truth, slice(None)), (predicted, slice(None)), (truth, hit))
        )
        present = (true + counts) > 0
        return float((2 * both[present] / (true + counts)[present]).sum() / present.sum()) if present.any() else math.nan

    def reduce(weights: Array) -> Array:
        # A resample at a time: a table of samples by classes does not fit where there are many of both.
        return np.array([one(row) for row in weights])

    return scores.of(
        _by_sample(predictions, len(labels)),
        reduce,
        output=predictions.output,
        threshold=predictions.threshold,
        column=predictions.column,
    )


def _by_sample(predictions: _Predictions, samples: int) -> Array:
    """Each sample's classes by the labels and by the model, joined: equal arrays mean equal answers."""
    import numpy as np

    cuts = np.searchsorted(predictions.sample, np.arange(1, samples))
    objects = np.empty(samples, dtype=object)
    parts = zip(np.split(predictions.truth, cuts), np.split(predictions.predicted, cuts), strict=True)
    objects[:] = [(tuple(true.tolist()), tuple(part.tolist())) for true, part in parts]
    return objects


def _ratio(part: Array, whole: Array) -> Array:
    import numpy as np

    return np.asarray(np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan))


# --- which output -----------------------------------------------------------------------------------------------------


def _read(labels: _Labels, answers: Answers) -> _Predictions:
    """The classes of the named output, or of the only one that fits."""
    import numpy as np

    name = output_name(labels.spec, answers)
    if name is not None:
        return _of_output(labels, answers, name)
    direct = [each for each in answers.names if _holds_classes(answers, each, labels)]
    floats = [each for each in answers.names if _holds_scores(answers, each, labels)]
    if not floats and not direct:
        lists = "; labels that are lists are one a token: [samples, tokens, classes]" if labels.tokens else ""
        raise RecipeError(f"{labels.metric}: no output has a row a sample and a column a class ({shown(answers)}){lists}")
    classes_read, refused = _readable(labels, answers, floats)
    if not classes_read and refused and not direct:
        raise refused[0]
    if len(classes_read) > 1 and any(not np.array_equal(each.predicted, classes_read[0].predicted) for each in classes_read[1:]):
        fit = ", ".join(each.output for each in classes_read)
        raise RecipeError(f"{labels.metric}: the outputs {fit} all fit the labels; say which is meant: metric.output")
    if labels.spec.threshold is not None and classes_read:
        return classes_read[0]
    direct_read, more = _readable(labels, answers, direct)
    if len(direct_read) > 1 and any(not np.array_equal(each.predicted, direct_read[0].predicted) for each in direct_read[1:]):
        fit = ", ".join(each.output for each in direct_read)
        raise RecipeError(f"{labels.metric}: the outputs {fit} all hold a class a sample; say which is meant: metric.output")
    if classes_read and direct_read:
        return _reconciled(labels, classes_read[0], direct_read[0], answers)
    if classes_read or direct_read:
        return (classes_read or direct_read)[0]
    raise (refused + more)[0]


def _readable(labels: _Labels, answers: Answers, candidates: Sequence[str]) -> tuple[list[_Predictions], list[RecipeError]]:
    predictions, refused = [], []
    for each in candidates:
        try:
            predictions.append(_of_output(labels, answers, each))
        except RecipeError as error:
            refused.append(error)
    return predictions, refused


def _reconciled(labels: _Labels, best: _Predictions, predictions: _Predictions, answers: Answers) -> _Predictions:
    """The model's own class beside scores: that class, where each largest column stands for one class alone."""
    import numpy as np

    if best.predicted.dtype.kind == predictions.predicted.dtype.kind and np.array_equal(best.predicted, predictions.predicted):
        return best
    columns = np.concatenate([array.argmax(axis=-1).reshape(-1) for array in answers.each(best.output)])
    classes = np.concatenate([array.reshape(-1) for array in answers.each(predictions.output)])
    pairs = {(int(column), str(label)) for column, label in zip(columns, classes, strict=False)}
    one_to_one = len({c for c, _ in pairs}) == len(pairs) == len({label for _, label in pairs})
    if len(columns) != len(classes) or not one_to_one:
        raise RecipeError(
            f"{labels.metric}: the largest column of {best.output} and the output {predictions.output} do not say the same class;"
            f" say which one the labels are of: metric.output ({shown(answers)})"
        )
    return predictions


def _holds_classes(answers: Answers, name: str, labels: _Labels) -> bool:
    """Whether it may hold a class a row (a token, for lists of labels): whole numbers or strings."""
    import numpy as np

    first = np.asarray(answers.calls[0][name])
    if first.dtype.kind not in "biuSUO" or not answers.rows(name):
        return False
    return first.ndim == 2 if labels.tokens else first.size == first.shape[0]


def _holds_scores(answers: Answers, name: str, labels: _Labels) -> bool:
    """Whether it may hold scores: a row a sample and a column a class, with the tokens between them for lists of labels."""
    import numpy as np

    first = np.asarray(answers.calls[0][name])
    if first.dtype.kind != "f" or not answers.rows(name):
        return False
    if labels.tokens:
        return first.ndim == 3
    return first.ndim == 2 or (first.ndim == 1 and labels.spec.threshold is not None)


# --- what an output says ----------------------------------------------------------------------------------------------


def _of_output(labels: _Labels, answers: Answers, name: str) -> _Predictions:
    import numpy as np

    arrays = answers.each(name)
    if not answers.rows(name):
        mismatch = f"{answers.n} samples, and the output {name} has {sum(len(np.atleast_1d(a)) for a in arrays)} rows"
        raise RecipeError(f"{labels.metric}: {mismatch}: a class a sample is needed ({shown(answers)})")
    fitting(labels.metric, answers.n, labels.given)
    threshold = column = None
    if arrays[0].dtype.kind == "f":
        predicted, columns, column = _decided(labels, name, arrays)
        threshold = labels.spec.threshold
    else:
        predicted, columns = [array.reshape(len(array), -1) if not labels.tokens else array for array in arrays], None
    rows = [row for array in predicted for row in array]
    if labels.tokens:
        return _of_tokens(labels, name, rows, columns)
    flat = np.array([row.reshape(-1)[0] if np.size(row) == 1 else _refuse(labels, name) for row in rows])
    names = _names(labels, columns, labels.given)
    truth, flat = _compared(labels, list(labels.given), flat, columns, names)
    sample = np.arange(len(rows))
    return _Predictions(output=name, truth=truth, predicted=flat, sample=sample, threshold=threshold, column=column)


def _refuse(labels: _Labels, name: str) -> Any:
    raise RecipeError(f"{labels.metric}: the output {name} holds several values a sample, and the labels are one a sample")


def _decided(labels: _Labels, name: str, arrays: list[Array]) -> tuple[list[Array], int, int | None]:
    """The class of each row of scores: its largest column, or whether the column is above the threshold."""
    import numpy as np

    spec = labels.spec
    rank = 3 if labels.tokens else 2
    if arrays[0].ndim == rank - 1 and spec.threshold is not None:
        arrays = [array[..., None] for array in arrays]
    if arrays[0].ndim != rank:
        axes = "[samples, tokens, classes] for labels that are lists" if labels.tokens else "[samples, classes]"
        raise RecipeError(f"{labels.metric}: the output {name} has shape {list(arrays[0].shape)}: {axes} is needed")
    widths = {array.shape[-1] for array in arrays}
    if len(widths) > 1 or 0 in widths:
        raise RecipeError(f"{labels.metric}: the output {name} has {sorted(widths)} columns from call to call")
    (count,) = widths
    if spec.threshold is None and spec.column is None and count > 1:
        return [array.argmax(axis=-1) for array in arrays], count, None
    if spec.threshold is None:
        raise RecipeError(
            f"{labels.metric}: the output {name} has one column: whether it holds a logit or a probability cannot be seen;"
            " say above which value a sample is of class 1 (metric: {name: ..., threshold: 0.5} for a probability, 0 for a logit)"
        )
    if count > 2 and spec.column is None:
        raise RecipeError(f"{labels.metric}: the output {name} has {count} columns: say which the threshold is of (metric.column)")
    column = count - 1 if spec.column is None else spec.column
    if column >= count:
        raise RecipeError(f"metric.column: the output {name} has {count} columns, 0 to {count - 1}, not {column}")
    kind = np.float64 if arrays[0].dtype == np.float64 else np.float32
    return [(array[..., column] > kind(spec.threshold)).astype(np.int64) for array in arrays], 2, column


def _of_tokens(labels: _Labels, name: str, rows: list[Array], columns: int | None) -> _Predictions:
    """A class a token: labels are lists, in which some tokens are ignored."""
    import numpy as np

    ignored = IGNORED if labels.spec.ignore_index is None else labels.spec.ignore_index
    longest = max(len(label) if isinstance(label, list) else 0 for label in labels.given)
    truth: list[Any] = []
    labels_read, sample = [], []
    for index, (row, label) in enumerate(zip(rows, labels.given, strict=True)):
        if not isinstance(label, list):
            raise RecipeError(f"{labels.metric}: sample {index} has the label {label!r}, and the first a list: one kind is needed")
        padded = len(label) < len(row) <= longest
        if len(label) != len(row) and not padded:
            raise RecipeError(
                f"{labels.metric}: sample {index} has {len(label)} labels and the output {name} {len(row)} tokens: one"
                f" label a token of the model is needed, special tokens included; {ignored} for those that do not count"
            )
        places = [place for place, one in enumerate(label) if str(one) != str(ignored)]
        truth += [label[place] for place in places]
        labels_read.append(row[places])
        sample += [index] * len(places)
    if not truth:
        raise RecipeError(f"{labels.metric}: every label is {ignored}, so that nothing counts")
    flat = np.concatenate(labels_read)
    names = _names(labels, columns, truth)
    compared, flat = _compared(labels, truth, flat, columns, names)
    return _Predictions(
        output=name,
        truth=compared,
        predicted=flat,
        sample=np.asarray(sample),
        threshold=labels.spec.threshold,
        column=labels.spec.column,
    )


# --- labels -----------------------------------------------------------------------------------------------------------


def _names(labels: _Labels, columns: int | None, values: Sequence[Any]) -> tuple[Any, ...] | None:
    """The names of the columns: the recipe's `classes`, or for labels that are strings the model's own names."""
    if labels.spec.classes is not None and columns is not None:
        if len(labels.spec.classes) != columns:
            raise RecipeError(f"metric.classes names {len(labels.spec.classes)} classes, and the model has {columns}")
        return labels.spec.classes
    if labels.names is not None and len(labels.names) == columns and any(isinstance(label, str) for label in values):
        return labels.names
    return None


def _compared(
    labels: _Labels, values: list[Any], predicted: Array, columns: int | None, names: tuple[Any, ...] | None
) -> tuple[Array, Array]:
    """Labels and predictions in one form: class numbers, or strings where the model gives strings."""
    import numpy as np

    if predicted.dtype.kind == "U":
        if not any(isinstance(label, str) for label in values) and not {str(label) for label in values} & set(predicted.tolist()):
            problem = f"the output says names (first: {str(predicted[0])!r}), and the labels are numbers (first: {values[0]!r})"
            raise RecipeError(f"{labels.metric}: {problem}: nothing says which number stands for which name")
        return np.asarray([str(label) for label in values], dtype=np.str_), predicted
    if names is not None:
        places = {name: index for index, name in enumerate(names)}
        unknown = [label for label in values if isinstance(label, list) or label not in places]
        if unknown:
            listed = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
            problem = f"{len(unknown)} labels are no class of the model"
            raise RecipeError(f"{labels.metric}: {problem} (first: {unknown[0]!r}; it has {listed})")
        return np.asarray([places[label] for label in values], dtype=np.int64), predicted.astype(np.int64)
    check_numbers(labels.metric, values, columns)
    return np.asarray(values, dtype=np.int64), predicted.astype(np.int64)


def _whole(label: Any) -> bool:
    return isinstance(label, int | float) and abs(label) < _LARGEST and label == math.floor(label)


def check_numbers(metric: str, values: Sequence[Any], columns: int | None) -> None:
    """Raise RecipeError for labels that are no class numbers, or are outside 0 .. columns-1."""
    wrong = [i for i, label in enumerate(values) if not _whole(label)]
    if wrong:
        text = any(isinstance(values[i], str) for i in wrong)
        raise RecipeError(
            f"{metric}: labels must be class numbers; {len(wrong)} of {len(values)} are not"
            f" (first: sample {wrong[0]}, {values[wrong[0]]!r})"
            + ("; say what the model's columns are called, in their order: metric.classes" if text else "")
        )
    outside = [] if columns is None else [i for i, label in enumerate(values) if not 0 <= label < columns]
    if outside:
        listed = ", ".join(f"{i}: {int(values[i])}" for i in outside[:5])
        raise RecipeError(
            f"{metric}: {len(outside)} labels are out of range (0 to {columns - 1 if columns else 0}: the model has"
            f" {columns} classes); the first, by sample: {listed}. Classes that are numbered otherwise: metric.classes"
        )
