"""The user's own metric: `module:function`. numpy is imported when something is scored.

Promises:
- A function with a parameter `calls` gets the outputs of every call as they are. Any other function gets them joined; ragged
  outputs are padded at their ends (NaN for floats, -100 for whole numbers), and so are labels that are lists.
- An exception or a wrong return value is a `RecipeError`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mlpack.core.records import MetricSpec
from mlpack.errors import MlpackError, RecipeError
from mlpack.evaluation.metrics.answers import Answers
from mlpack.evaluation.metrics.labelled.classes import IGNORED
from mlpack.evaluation.metrics.scores import Scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Hook = Callable[..., Any]


def evaluate(spec: MetricSpec, hook: Hook, answers: Answers, labels: Sequence[Any]) -> Scores:
    """The value of the function: one number, or one a sample (the value is then their mean)."""
    import numpy as np

    by_call = _takes_calls(hook)
    part = _calls if by_call else _joined
    value = _finite(spec, _call(spec, hook, part(answers, labels, None)))
    if value.ndim == 1 and len(value) in (answers.n, len(answers.calls)):
        return Scores(value=float(value.mean()), per_sample=value, n=len(value))
    if value.ndim != 0:
        raise RecipeError(f"{spec.name} must return one number, or one a sample ({answers.n}), not shape {list(value.shape)}")

    def without(keep: Array) -> float:
        return float(np.mean(_finite(spec, _call(spec, hook, part(answers, labels, keep)))))

    return Scores(value=float(value), per_sample=None, n=answers.n, without=without)


def _takes_calls(hook: Hook) -> bool:
    try:
        return "calls" in inspect.signature(hook).parameters
    except (TypeError, ValueError):
        return False


def _call(spec: MetricSpec, hook: Hook, arguments: tuple[Any, Any]) -> Any:
    try:
        return hook(*arguments)
    except MlpackError:
        raise
    except Exception as error:  # whatever somebody's function raises is said, with its words
        frame = _own_line(error)
        raise RecipeError(f"{spec.name} failed{frame}: {type(error).__name__}: {str(error)[:500]}") from error


def _own_line(error: Exception) -> str:
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    return f" at line {frames[-1].lineno} of {frames[-1].name}" if len(frames) > 1 else ""


def _finite(spec: MetricSpec, returned: Any) -> Array:
    import numpy as np

    try:
        value = np.asarray(returned, dtype=np.float64)
    except (TypeError, ValueError):
        raise RecipeError(f"{spec.name} must return one number, or one a sample, not {type(returned).__name__}") from None
    if not np.isfinite(value).all():
        raise RecipeError(
            f"{spec.name} returned a number that is not finite; outputs of several lengths are padded with NaN: leave out what"
            " labels do not cover, or take a parameter `calls`, which has the outputs of each call as they are"
        )
    return value


def _calls(answers: Answers, labels: Sequence[Any], keep: Array | None) -> tuple[Any, Any]:
    """Outputs and labels, an entry a call."""
    # A mask of samples has at least as many places as there are calls: a call uses the place of its number.
    numbers = [number for number in range(len(answers.calls)) if keep is None or keep[number]]
    starts = [sum(answers.samples[:number]) for number in range(len(answers.calls))]
    truth = [list(labels[starts[number] : starts[number] + answers.samples[number]]) for number in numbers]
    return [dict(answers.calls[number]) for number in numbers], truth


def _joined(answers: Answers, labels: Sequence[Any], keep: Array | None) -> tuple[Any, Any]:
    """Every output over all calls, and the labels, of the samples that are kept."""
    import numpy as np

    joined = {name: _padded(answers, name) for name in answers.names}
    truth = _rectangular(labels)
    if keep is None:
        return joined, truth
    return {name: array[_rows(answers, name, keep)] for name, array in joined.items()}, truth[np.flatnonzero(keep)]


def _rows(answers: Answers, name: str, keep: Array) -> Array:
    """The rows of a joined output that belong to the kept samples: a row each, or all of a call that is one sample."""
    import numpy as np

    rows = [len(np.atleast_1d(call[name])) for call in answers.calls]
    if sum(rows) == answers.n:
        return keep
    # The rows of a call with several samples cannot be assigned to samples: they follow its first one.
    firsts = np.cumsum([0, *answers.samples[:-1]])
    return np.repeat(keep[firsts], rows)


def _padded(answers: Answers, name: str) -> Array:
    """One output over all calls, padded at the ends of its axes to the longest of each where they differ."""
    import numpy as np

    arrays = [np.atleast_1d(array) for array in answers.each(name)]
    if len({array.shape[1:] for array in arrays}) == 1:
        return np.concatenate(arrays)
    if len({array.ndim for array in arrays}) > 1 or not answers.rows(name) or arrays[0].dtype.kind not in "fiub":
        raise RecipeError(
            f"the output {name} cannot be joined over the calls: its rows are no samples, or its axes differ in number;"
            " a function with a parameter `calls` in place of `outputs` gets a dictionary of arrays for each call"
        )
    longest = np.max([array.shape[1:] for array in arrays], axis=0)
    real = arrays[0].dtype.kind == "f"
    whole = np.full((answers.n, *longest), np.nan if real else IGNORED, dtype=arrays[0].dtype if real else np.int64)
    start = 0
    for array in arrays:
        whole[(slice(start, start + len(array)), *(slice(0, length) for length in array.shape[1:]))] = array
        start += len(array)
    return whole


def _rectangular(labels: Sequence[Any]) -> Array:
    """Labels as one array; lists of several lengths padded with -100, others one object a sample."""
    import numpy as np

    try:
        return np.asarray(labels)
    except ValueError:
        pass
    if all(isinstance(label, list) and all(isinstance(one, int | float) for one in label) for label in labels):
        longest = max(len(label) for label in labels)
        return np.asarray([[*label, *[IGNORED] * (longest - len(label))] for label in labels])
    objects = np.empty(len(labels), dtype=object)
    objects[:] = list(labels)
    return objects
