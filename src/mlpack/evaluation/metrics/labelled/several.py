"""Several classes at once: each column of an output is a yes or no of its own, above a threshold. numpy is imported when something
is scored.

Promises:
- Labels are rows of 0 and 1, one for each column, or lists of a sample's classes, by number or by name. All labels together
  tell which of the two. A label that fits neither is refused by its sample.
- A float output is not read without a threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlpack.core.records import MetricSpec
from mlpack.errors import RecipeError
from mlpack.evaluation.metrics import scores
from mlpack.evaluation.metrics.answers import Answers, fitting, output_name, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


def macro(spec: MetricSpec, answers: Answers, labels: Sequence[Any], names: tuple[Any, ...] | None) -> scores.Scores:
    """The mean over the columns of each one's F1; columns that neither labels nor predictions have do not count."""
    return _scored(spec, answers, labels, names, each=True)


def micro(spec: MetricSpec, answers: Answers, labels: Sequence[Any], names: tuple[Any, ...] | None) -> scores.Scores:
    """F1 over all decisions of all columns together."""
    return _scored(spec, answers, labels, names, each=False)


def _scored(
    spec: MetricSpec, answers: Answers, labels: Sequence[Any], names: tuple[Any, ...] | None, *, each: bool
) -> scores.Scores:
    import numpy as np

    name, decisions = _decisions(spec, answers)
    fitting(spec.name, len(decisions), labels)
    truth = _truth(spec, labels, decisions.shape[1], names)
    # By sample and column: right, predicted, true. Equal predictions of two models are equal in all three.
    counts = np.stack([decisions & truth, decisions, truth], axis=2).astype(np.float64)

    def reduce(weights: Array) -> Array:
        summed = np.tensordot(weights, counts if each else counts.sum(axis=1, keepdims=True), axes=1)
        both, of = 2 * summed[..., 0], summed[..., 1] + summed[..., 2]
        some = of > 0
        return np.asarray(np.where(some, both / np.where(some, of, 1.0), 0.0).sum(axis=1) / np.maximum(some.sum(axis=1), 1))

    return scores.of(counts, reduce, output=name, threshold=spec.threshold)


def _decisions(spec: MetricSpec, answers: Answers) -> tuple[str, Array]:
    """The output that is read, and which columns each sample has: booleans [samples, columns]."""
    import numpy as np

    name = output_name(spec, answers)
    if name is None:
        wide = [each for each in answers.names if np.ndim(answers.calls[0][each]) == 2 and answers.rows(each)]
        numbers = [each for each in wide if np.asarray(answers.calls[0][each]).dtype.kind in "fiub"]
        # Decisions beside scores: use the scores if there is a threshold for them.
        floats = [each for each in numbers if np.asarray(answers.calls[0][each]).dtype.kind == "f"]
        whole = [each for each in numbers if each not in floats]
        candidates = (floats if spec.threshold is not None else whole) or numbers
        if not candidates:
            raise RecipeError(f"{spec.name}: no output has a row a sample and a column a class ({shown(answers)})")
        if len(candidates) > 1:
            raise RecipeError(f"{spec.name}: the outputs {', '.join(candidates)} may be meant; say which one: metric.output")
        name = candidates[0]
    values = answers.joined(name)
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise RecipeError(f"{spec.name}: the output {name} has shape {list(values.shape)}: [samples, classes] of numbers is needed")
    if values.dtype.kind != "f" and spec.threshold is None:
        return name, values > 0
    if spec.threshold is None:
        raise RecipeError(
            f"{spec.name}: whether the output {name} holds logits or probabilities cannot be seen: say above which value a sample"
            f" has a class (metric: {{name: {spec.name}, threshold: 0.5}} for probabilities, 0 for logits)"
        )
    kind = np.float64 if values.dtype == np.float64 else np.float32
    return name, values > kind(spec.threshold)


def _truth(spec: MetricSpec, labels: Sequence[Any], columns: int, names: tuple[Any, ...] | None) -> Array:
    import numpy as np

    wrong = next((index for index, label in enumerate(labels) if not isinstance(label, list)), None)
    if wrong is not None:
        raise RecipeError(
            f"{spec.name}: sample {wrong} has the label {labels[wrong]!r}: a list is needed, of 0 and 1 for each of {columns}"
            " classes, or of those that it has; for one class a sample: f1"
        )
    if all(len(label) == columns and all(one in (0, 1) for one in label) for label in labels):
        return np.asarray(labels, dtype=bool).reshape(len(labels), columns)
    called = spec.classes or (names if names is not None and len(names) == columns else None)
    if spec.classes is not None and len(spec.classes) != columns:
        raise RecipeError(f"metric.classes names {len(spec.classes)} classes, and the output has {columns} columns")
    places = {one: column for column, one in enumerate(called or range(columns))}
    truth = np.zeros((len(labels), columns), dtype=bool)
    for index, label in enumerate(labels):
        for one in label:
            if isinstance(one, list) or one not in places:
                listed = ", ".join(map(repr, list(places)[:10])) + (", ..." if len(places) > 10 else "")
                raise RecipeError(
                    f"{spec.name}: sample {index} has the label {one!r}, which is no class of the output's {columns} ({listed})."
                    " Labels are rows of 0 and 1, or lists of classes; others are named by metric.classes"
                )
            truth[index, places[one]] = True
    return truth
