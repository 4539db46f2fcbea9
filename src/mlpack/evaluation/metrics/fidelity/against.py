"""Comparison with the float baseline where there are no labels: cosine and agreement. numpy is imported when something is scored.

Promises:
- The worst output alone counts. There is one value a sample, whatever number of rows an output has for it.
- A call for which the candidate returns another number of rows counts as a disagreement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mlpack.core.records import MetricSpec
from mlpack.errors import MeasureError, RecipeError
from mlpack.evaluation.metrics import scores
from mlpack.evaluation.metrics.answers import Answers, output_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Pair = tuple[Array, Array]

REGRESSION_TOLERANCE = 0.01
"""Two single numbers agree when they differ by no more than this share of the baseline's range."""


def cosine(spec: MetricSpec, answers: Answers, baseline: Answers) -> scores.Scores:
    return _a_value_a_sample(spec, answers, baseline, _cosines)


def agreement(spec: MetricSpec, answers: Answers, baseline: Answers) -> scores.Scores:
    return _a_value_a_sample(spec, answers, baseline, _agreements)


def pairs_of(answers: Answers, baseline: Answers, name: str) -> list[Pair | None]:
    """One output of both models, a pair a call; None for a call in which they have different numbers of rows.

    MeasureError where the candidate's has another form altogether, or holds NaN where the baseline does not.
    """
    import numpy as np

    both = [
        (np.atleast_1d(ours[name]), np.atleast_1d(theirs[name])) for ours, theirs in zip(answers.calls, baseline.calls, strict=True)
    ]
    last = [{pair[side].shape[-1] for pair in both} for side in (0, 1)]
    other = all(len(lengths) == 1 for lengths in last) and last[0] != last[1]
    pairs: list[Pair | None] = []
    for call, (ours, theirs) in enumerate(both):
        if ours.ndim != theirs.ndim or other:
            raise MeasureError(f"the output {name} has shape {ours.shape} in call {call}, its baseline {theirs.shape}")
        if ours.shape != theirs.shape:
            pairs.append(None)
            continue
        if ours.dtype.kind == "f" and bool((np.isnan(ours) & ~np.isnan(theirs)).any()):
            raise MeasureError(f"the output {name} holds NaN in call {call} where the float baseline does not")
        pairs.append((ours, theirs))
    return pairs


def outputs_of(spec: MetricSpec, answers: Answers, baseline: Answers) -> tuple[str, ...]:
    """The outputs to compare: the named one, or all. MeasureError where the two models have different outputs."""
    if len(answers.calls) != len(baseline.calls) or set(answers.names) != set(baseline.names):
        raise MeasureError("the candidate and its baseline do not have the same calls and outputs, so they cannot be compared")
    name = output_name(spec, baseline)
    return baseline.names if name is None else (name,)


def worst(
    spec: MetricSpec, answers: Answers, baseline: Answers, scored: Callable[[str, list[Pair | None]], scores.Scores]
) -> scores.Scores:
    """The scores of the output with the lowest value; `scored` scores one output, a pair a call."""
    names = outputs_of(spec, answers, baseline)
    return min((scored(name, pairs_of(answers, baseline, name)) for name in names), key=lambda result: result.value)


def _a_value_a_sample(
    spec: MetricSpec, answers: Answers, baseline: Answers, score: Callable[[list[Pair]], list[Array]]
) -> scores.Scores:
    import numpy as np

    def scored(name: str, whole: list[Pair | None]) -> scores.Scores:
        pairs = [None if pair is None else _cut(spec, name, pair) for pair in whole]
        rows = iter(score([pair for pair in pairs if pair is not None]))
        per_call = [
            np.zeros(samples) if pair is None else a_sample(next(rows), samples)
            for pair, samples in zip(pairs, answers.samples, strict=True)
        ]
        return scores.of(np.concatenate(per_call), output=name, column=spec.column)

    return worst(spec, answers, baseline, scored)


def _cut(spec: MetricSpec, name: str, pair: Pair) -> Pair:
    if spec.column is None:
        return pair
    if spec.column >= pair[1].shape[-1]:
        raise RecipeError(f"metric.column: the output {name} has shape {list(pair[1].shape)}, and no column {spec.column}")
    return pair[0][..., [spec.column]], pair[1][..., [spec.column]]


def a_sample(rows: Array, samples: int) -> Array:
    """A value a sample: the row's where there is one row a sample, else the mean of the call's; without any row the value is 1."""
    import numpy as np

    if len(rows) == samples:
        return np.asarray(rows, dtype=np.float64)
    return np.full(samples, rows.mean() if len(rows) else 1.0)


def flat(array: Array) -> Array:
    """Each row as one row of all its values. (numpy's -1 fails where there are none.)"""
    return array.reshape(len(array), math.prod(array.shape[1:]))


def _cosines(pairs: Sequence[Pair]) -> list[Array]:
    import numpy as np

    rows = []
    for ours, theirs in pairs:
        if theirs.dtype.kind not in "fiub":
            rows.append(same(ours, theirs))
            continue
        a = np.nan_to_num(flat(ours).astype(np.float64))
        b = np.nan_to_num(flat(theirs).astype(np.float64))
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        equal = np.all(a == b, axis=1)
        cosines = (a * b).sum(axis=1) / np.where(norms > 0, norms, 1.0)
        rows.append(np.where(equal, 1.0, np.clip(cosines, -1.0, 1.0)))
    return rows


def _agreements(pairs: Sequence[Pair]) -> list[Array]:
    import numpy as np

    spread = 0.0
    if pairs and pairs[0][1].dtype.kind == "f":
        spread = float(max(b.max(initial=-np.inf) for _, b in pairs) - min(b.min(initial=np.inf) for _, b in pairs))
    return [_decisions(ours, theirs, spread) for ours, theirs in pairs]


def _decisions(ours: Array, theirs: Array, spread: float) -> Array:
    """The share of each row's decisions that equal the baseline's."""
    import numpy as np

    if theirs.dtype.kind == "f" and theirs.ndim > 1 and theirs.shape[-1] > 1:
        alike = ours.argmax(axis=-1) == theirs.argmax(axis=-1)
    elif theirs.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            near = np.abs(ours - theirs) <= REGRESSION_TOLERANCE * spread
        alike = near | (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    else:
        return same(ours, theirs)
    return _shares(alike)


def same(ours: Array, theirs: Array) -> Array:
    """The share of each row's values that are equal."""
    return _shares(ours == theirs)


def _shares(alike: Array) -> Array:
    import numpy as np

    return np.asarray(flat(alike).mean(axis=1)) if alike.size else np.ones(len(alike))
