"""Retrieval: whether the answer to a query is among the nearest samples by cosine. numpy is imported when something is scored.

Promises:
- When every label stands on exactly two samples, the first is a query and the second its answer, and queries are compared with
  answers only. Otherwise every sample is a query against all others, and those with its label are relevant.
- Equal similarities are ranked in the order of the data, the same on every machine.
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

_BLOCK = 256
"""Queries whose similarities are held at a time."""


def recall(spec: MetricSpec, answers: Answers, labels: Sequence[Any], _names: tuple[Any, ...] | None) -> scores.Scores:
    """A query's value: whether a relevant one is among the k nearest."""
    hits, name, _, _ = _ranked(spec, answers, labels)
    return scores.of(hits.max(axis=1), output=name)


def mean_average_precision(
    spec: MetricSpec, answers: Answers, labels: Sequence[Any], _names: tuple[Any, ...] | None
) -> scores.Scores:
    """A query's value: the mean, over the relevant ones that k places could hold, of the precision where each stands."""
    import numpy as np

    hits, name, relevant, k = _ranked(spec, answers, labels)
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return scores.of((precision * hits).sum(axis=1) / np.minimum(relevant, k), output=name)


def _ranked(spec: MetricSpec, answers: Answers, labels: Sequence[Any]) -> tuple[Array, str, Array, int]:
    """Whether each of a query's k nearest is relevant, the output, how many relevant ones each query has, and k."""
    import numpy as np

    vectors, name = _embeddings(spec, answers)
    fitting(spec.name, len(vectors), labels)
    if any(isinstance(label, list) for label in labels):
        raise RecipeError(f"{spec.name}: a label names a group: one number or string a sample, not a list")
    k = spec.k if spec.k is not None else int(spec.name.rpartition("_")[2])
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1.0)
    places: dict[Any, list[int]] = {}
    for index, label in enumerate(labels):
        places.setdefault(label, []).append(index)
    if all(len(place) == 2 for place in places.values()):
        pairs = np.asarray(list(places.values()))
        queries, gallery = unit[pairs[:, 0]], unit[pairs[:, 1]]
        groups = np.arange(len(pairs))
        return _nearest(queries, gallery, (groups, groups), k, None), name, np.ones(len(pairs), dtype=np.int64), k
    numbered = {label: number for number, label in enumerate(places)}
    group = np.asarray([numbered[label] for label in labels])
    sizes = np.bincount(group)[group]
    asking = np.flatnonzero(sizes > 1)
    if not len(asking):
        raise RecipeError(f"{spec.name}: no label stands on two samples, so that no query has anything to find")
    hits = _nearest(unit[asking], unit, (group[asking], group), k, asking)
    return hits, name, sizes[asking] - 1, k


def _nearest(queries: Array, gallery: Array, groups: tuple[Array, Array], k: int, own: Array | None) -> Array:
    """For each query, whether its 1st .. k-th nearest are of its group. `own`: its own place, which is left out."""
    import numpy as np

    k = min(k, len(gallery) - (own is not None))
    hits = []
    for start in range(0, len(queries), _BLOCK):
        near = queries[start : start + _BLOCK] @ gallery.T
        if own is not None:
            near[np.arange(len(near)), own[start : start + _BLOCK]] = -np.inf
        order = np.argsort(-near, axis=1, kind="stable")[:, :k]
        hits.append(groups[1][order] == groups[0][start : start + _BLOCK, None])
    return np.concatenate(hits)


def _embeddings(spec: MetricSpec, answers: Answers) -> tuple[Array, str]:
    """One vector a sample: the output that is named, or the first of floats with two axes; else the mean over the tokens
    of one with three.

    A mean over tokens is right only without padding, so only for calls of one sample.
    """
    import numpy as np

    name = output_name(spec, answers)
    shapes = {each: np.asarray(array) for each, array in answers.calls[0].items() if name in (None, each)}
    for axes in (2, 3):
        for each, array in shapes.items():
            if array.ndim != axes or array.dtype.kind != "f":
                continue
            if axes == 2:
                return answers.joined(each).astype(np.float64), each
            if all(np.shape(call[each])[0] == 1 for call in answers.calls):
                return np.concatenate([array.astype(np.float64).mean(axis=1) for array in answers.each(each)]), each
            raise RecipeError(f"{spec.name}: the output {each} holds tokens, padded in calls of several samples: pool in the model")
    raise RecipeError(f"{spec.name}: no output holds one vector a sample ({shown(answers)})")
