"""Outputs and labels turned into one value a sample, a metric at a time. numpy is loaded when something is scored.

Promises: which output a metric reads is decided here, by shape and kind, and said in the error when none fits. Outputs
that hold NaN are a `MeasureError`; labels that do not fit are a `RecipeError`. Directions, names and intervals are
`metrics`'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlpack.errors import MeasureError, RecipeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Outputs = Sequence[Mapping[str, Array]]

REGRESSION_TOLERANCE = 0.01
"""Two single numbers agree when they differ by no more than this share of the baseline's range."""


def joined(outputs: Outputs, name: str) -> Array:
    """One output over all calls, along its first axis. NaN is an error."""
    import numpy as np

    joined = np.concatenate([np.asarray(call[name]) for call in outputs])
    if joined.dtype.kind == "f" and np.isnan(joined).any():
        rows = np.unique(np.argwhere(np.isnan(joined))[:, 0])
        raise MeasureError(f"the output {name} holds NaN for {len(rows)} of {len(joined)} samples (first: {rows[0]})")
    return joined


def _fitting(metric: str, rows: int, labels: Sequence[Any]) -> None:
    if rows != len(labels):
        raise RecipeError(f"{metric}: {len(labels)} labels for {rows} rows of output: one label a sample is needed")


def _classes(metric: str, outputs: Outputs, labels: Sequence[Any]) -> tuple[Array, Array, str]:
    """The class of each sample by the labels and by the model, and the output it was read from.

    That is the first output of floats with a row a sample and a column a class, else the first of integers, the class
    itself.
    """
    import numpy as np

    shapes = {name: np.asarray(array) for name, array in outputs[0].items()}
    scores = [name for name, array in shapes.items() if array.ndim == 2 and array.dtype.kind == "f"]
    direct = [name for name, array in shapes.items() if array.dtype.kind in "iu" and array.size == array.shape[0]]
    if scores:
        name = scores[0]
        values = joined(outputs, name)
        if values.shape[1] == 1:
            raise RecipeError(
                f"{metric}: the output {name} has one column: whether it holds a logit or a probability cannot be seen;"
                " write a metric of your own (module:function)"
            )
        predicted, count = values.argmax(axis=1), values.shape[1]
    elif direct:
        name = direct[0]
        predicted, count = joined(outputs, name).reshape(-1), None
    else:
        raise RecipeError(f"{metric}: no output has a row a sample and a column a class ({', '.join(shapes)})")
    _fitting(metric, len(predicted), labels)
    return _class_labels(metric, labels, count), predicted.astype(np.int64), name


def _class_labels(metric: str, labels: Sequence[Any], count: int | None) -> Array:
    """The labels as class numbers. Raises RecipeError for others, or those outside 0 .. count-1."""
    import numpy as np

    wrong = [i for i, label in enumerate(labels) if isinstance(label, str | list) or label != math.floor(label)]
    if wrong:
        raise RecipeError(
            f"{metric}: labels must be class numbers; {len(wrong)} of {len(labels)} are not"
            f" (first: sample {wrong[0]}, {labels[wrong[0]]!r})"
        )
    truth = np.asarray(labels, dtype=np.int64)
    outside = np.flatnonzero((truth < 0) | (truth >= count)) if count is not None else np.flatnonzero(truth < 0)
    if len(outside):
        shown = ", ".join(f"{i}: {truth[i]}" for i in outside[:5])
        limit = f"0 to {count - 1}: the model has {count} classes" if count is not None else "0 upwards"
        raise RecipeError(f"{metric}: {len(outside)} labels are out of range ({limit}); the first, by sample: {shown}")
    return truth


def top1(metric: str, outputs: Outputs, labels: Sequence[Any]) -> tuple[Array, str]:
    truth, predicted, name = _classes(metric, outputs, labels)
    return truth == predicted, name


def f1(metric: str, outputs: Outputs, labels: Sequence[Any]) -> tuple[Array, str]:
    import numpy as np

    truth, predicted, name = _classes(metric, outputs, labels)
    return np.stack([truth, predicted], axis=1), name


def errors(metric: str, outputs: Outputs, labels: Sequence[Any]) -> tuple[Array, str]:
    """Absolute or squared errors of the first output, a sample's mean where it has several numbers."""
    import numpy as np

    name = next(iter(outputs[0]))
    values = joined(outputs, name).astype(np.float64)
    _fitting(metric, len(values), labels)
    try:
        truth = np.asarray(labels, dtype=np.float64)
        differences = values.reshape(len(values), -1) - truth.reshape(len(truth), -1)
        if truth.size != values.size:
            raise ValueError(f"{truth.size} numbers in the labels, {values.size} in the output {name}")
    except ValueError as error:
        raise RecipeError(f"{metric}: the labels do not fit the output: {error}") from None
    powered = np.abs(differences) if metric == "mae" else np.square(differences)
    return powered.mean(axis=1), name


def recall_at_1(metric: str, outputs: Outputs, labels: Sequence[Any]) -> tuple[Array, str]:
    import numpy as np

    vectors, name = _embeddings(outputs)
    _fitting(metric, len(vectors), labels)
    if any(isinstance(label, list) for label in labels):
        raise RecipeError("recall_at_1: a label names a pair: one number or string a sample, not a list")
    places: dict[Any, list[int]] = {}
    for index, label in enumerate(labels):
        places.setdefault(label, []).append(index)
    wrong = [(label, found) for label, found in places.items() if len(found) != 2]
    if wrong:
        label, found = wrong[0]
        raise RecipeError(
            f"recall_at_1: every label must stand on exactly two samples, a query and its answer; {len(wrong)} do not"
            f" (first: {label!r}, on {len(found)}: samples {', '.join(map(str, found[:5]))})"
        )
    pairs = np.asarray(list(places.values()))
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1.0)
    queries, answers = unit[pairs[:, 0]], unit[pairs[:, 1]]
    nearest = np.concatenate([(queries[i : i + 512] @ answers.T).argmax(axis=1) for i in range(0, len(queries), 512)])
    return nearest == np.arange(len(pairs)), name


def _embeddings(outputs: Outputs) -> tuple[Array, str]:
    """One vector a sample: the first output of floats with two axes; else the mean over the tokens of one with three.

    A mean over tokens is right only without padding, so only for calls of one sample.
    """
    import numpy as np

    shapes = {name: np.asarray(array) for name, array in outputs[0].items()}
    for axes in (2, 3):
        for name, array in shapes.items():
            if array.ndim != axes or array.dtype.kind != "f":
                continue
            if axes == 2:
                return joined(outputs, name).astype(np.float64), name
            if all(np.asarray(call[name]).shape[0] == 1 for call in outputs):
                pooled = [{name: np.asarray(call[name], dtype=np.float64).mean(axis=1)} for call in outputs]
                return joined(pooled, name), name
            raise RecipeError(f"recall_at_1: the output {name} holds tokens, padded in calls of several samples: pool in the model")
    raise RecipeError(f"recall_at_1: no output holds one vector a sample ({', '.join(shapes)})")


def cosines(pairs: list[tuple[Array, Array]]) -> Array:
    import numpy as np

    rows = []
    for ours, theirs in pairs:
        a = np.nan_to_num(ours.reshape(len(ours), -1).astype(np.float64))
        b = np.nan_to_num(theirs.reshape(len(theirs), -1).astype(np.float64))
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        same = np.all(a == b, axis=1)
        cosine = (a * b).sum(axis=1) / np.where(norms > 0, norms, 1.0)
        rows.append(np.where(same, 1.0, np.clip(cosine, -1.0, 1.0)))
    return np.concatenate(rows)


def agreements(pairs: list[tuple[Array, Array]]) -> Array:
    import numpy as np

    rows = []
    spread = 0.0
    if pairs[0][1].dtype.kind == "f":
        spread = float(max(b.max(initial=-np.inf) for _, b in pairs) - min(b.min(initial=np.inf) for _, b in pairs))
    for ours, theirs in pairs:
        if theirs.dtype.kind == "f" and theirs.ndim > 1 and theirs.shape[-1] > 1:
            same = ours.argmax(axis=-1) == theirs.argmax(axis=-1)
        elif theirs.dtype.kind == "f":
            same = (np.abs(ours - theirs) <= REGRESSION_TOLERANCE * spread) | (ours == theirs)
        else:
            same = ours == theirs
        rows.append(same.reshape(len(same), -1).mean(axis=1))
    return np.concatenate(rows)
