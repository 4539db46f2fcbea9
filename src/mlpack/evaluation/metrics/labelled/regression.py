"""Regression: absolute and squared errors. numpy is imported when something is scored."""

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


def mae(spec: MetricSpec, answers: Answers, labels: Sequence[Any], _names: tuple[Any, ...] | None) -> scores.Scores:
    import numpy as np

    name, differences = _differences(spec, answers, labels)
    return scores.of(np.abs(differences).mean(axis=1), output=name, column=spec.column)


def rmse(spec: MetricSpec, answers: Answers, labels: Sequence[Any], _names: tuple[Any, ...] | None) -> scores.Scores:
    import numpy as np

    name, differences = _differences(spec, answers, labels)
    squared = np.square(differences).mean(axis=1)
    return scores.of(squared, lambda weights: np.sqrt((weights @ squared) / weights.sum(axis=1)), output=name, column=spec.column)


def _differences(spec: MetricSpec, answers: Answers, labels: Sequence[Any]) -> tuple[str, Array]:
    """The difference between every number of the output and the label: a row a sample."""
    import numpy as np

    name = output_name(spec, answers)
    if name is not None:
        return name, _of_output(spec, answers, labels, name)
    numbers = [each for each in answers.names if np.asarray(answers.calls[0][each]).dtype.kind in "fiu"]
    floats = [each for each in numbers if np.asarray(answers.calls[0][each]).dtype.kind == "f"] or numbers
    if not floats:
        raise RecipeError(f"{spec.name}: no output holds numbers ({shown(answers)})")
    fits, refused = {}, []
    for each in floats:
        try:
            fits[each] = _of_output(spec, answers, labels, each)
        except RecipeError as error:
            refused.append(error)
    if len(fits) > 1:
        raise RecipeError(f"{spec.name}: the outputs {', '.join(fits)} all fit the labels; say which is meant: metric.output")
    if not fits:
        raise refused[0]
    return next(iter(fits.items()))


def _of_output(spec: MetricSpec, answers: Answers, labels: Sequence[Any], name: str) -> Array:
    import numpy as np

    values = answers.joined(name)
    if values.dtype.kind not in "fiub":
        raise RecipeError(f"{spec.name}: the output {name} holds {values.dtype.name}, no numbers")
    values = values.astype(np.float64)
    fitting(spec.name, len(values), labels)
    if spec.column is not None:
        if values.ndim < 2 or spec.column >= values.shape[-1]:
            raise RecipeError(f"metric.column: the output {name} has shape {list(values.shape)}, and no column {spec.column}")
        values = values[..., spec.column]
    try:
        truth = np.asarray(labels, dtype=np.float64)
        differences = values.reshape(len(values), -1) - truth.reshape(len(truth), -1)
        if truth.size != values.size:
            raise ValueError(f"{truth.size} numbers in the labels, {values.size} in the output {name}")
    except ValueError as error:
        raise RecipeError(f"{spec.name}: the labels do not fit the output: {error}") from None
    return np.asarray(differences)
