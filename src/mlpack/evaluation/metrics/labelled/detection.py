"""Detection: mean average precision of boxes, as COCO defines it. numpy is imported when something is scored.

Promises, as in COCO:
- Detections of a class are matched greedily by score, each true box once, at most 100 a picture and class.
- Precision is interpolated at 101 points of recall. The result is the mean over the classes of the truth and over the IoU
  thresholds.
- Boxes are corners (x1, y1, x2, y2) in one unit, the same for both sides.

Will not: guess what raw heads mean. They need a decode hook.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.core.records import MetricSpec
from mlpack.errors import MlpackError, RecipeError
from mlpack.evaluation.metrics.answers import Answers, fitting, output_name, shown
from mlpack.evaluation.metrics.scores import Scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

DETECTIONS_MOST = 100
"""The most detections of one class in one picture, best first."""
RECALL_POINTS = 101
_PADDING = 0
"""Labels whose class is below this are padding."""
_FORM = "boxes [n, 4], scores [n] and classes [n]"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    """The boxes of one picture. The scores of true boxes are not used."""

    boxes: Array
    classes: Array
    scores: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class _Matches:
    """Detections of one class over all pictures, best first: their picture, and whether they are right at each threshold.

    `truths`: how many boxes of the class each picture has.
    """

    picture: Array
    score: Array
    right: Array
    truths: Array


def thresholds(spec: MetricSpec) -> tuple[float, ...]:
    """The IoU from which a box is right: one, or COCO's ten."""
    if spec.name == "map_50_95":
        return tuple((50 + 5 * step) / 100 for step in range(10))
    return (0.5 if spec.iou is None else spec.iou,)


def evaluate(
    spec: MetricSpec, answers: Answers, labels: Sequence[Any], baseline: Answers | None, decode: Callable[..., Any] | None
) -> Scores:
    """mAP over the pictures. Without labels (`baseline` is given) the float's own detections above the threshold are the truth."""
    import numpy as np

    pictures, source = _pictures(spec, answers, decode)
    if baseline is None:
        fitting(spec.name, len(pictures), labels)
        truth = [_truth(spec, index, label) for index, label in enumerate(labels)]
    elif spec.threshold is None:
        raise RecipeError(
            f"{spec.name}: the evaluation data has no labels: add them (for each picture a list of [class, x1, y1, x2, y2]), or say"
            " from which score on the float's own detections are the truth (metric.threshold)"
        )
    else:
        truth = [_above(picture, spec.threshold) for picture in _pictures(spec, baseline, decode)[0]]
    if not any(len(picture.boxes) for picture in truth):
        raise RecipeError(f"{spec.name}: there is no box in any picture's truth, so that there is nothing to find")
    limits = thresholds(spec)
    classes = np.unique(np.concatenate([picture.classes for picture in truth]))
    matched = [_matched(pictures, truth, each, limits) for each in classes]

    def value(keep: Array) -> float:
        each = [_average_precision(one, keep) for one in matched]
        precisions = [one for one in each if one is not None]
        return float(np.mean(precisions)) if precisions else 0.0

    everything = np.ones(len(truth), dtype=bool)
    return Scores(value=value(everything), per_sample=None, n=len(truth), output=source, threshold=spec.threshold, without=value)


def _above(picture: _Picture, least: float) -> _Picture:
    mask = picture.scores >= least
    return _Picture(boxes=picture.boxes[mask], classes=picture.classes[mask], scores=picture.scores[mask])


def _truth(spec: MetricSpec, index: int, label: Any) -> _Picture:
    """A picture's label: a list of [class, x1, y1, x2, y2], or one such; classes below 0 are padding."""
    import numpy as np

    try:
        rows = np.asarray(label, dtype=np.float64)
        rows = rows.reshape(-1, 5) if rows.size else rows.reshape(0, 5)
    except (TypeError, ValueError):
        raise RecipeError(f"{spec.name}: sample {index}: a label is a list of [class, x1, y1, x2, y2], a box each") from None
    rows = rows[rows[:, 0] >= _PADDING]
    crossed = np.flatnonzero((rows[:, 3] < rows[:, 1]) | (rows[:, 4] < rows[:, 2]))
    if len(crossed):
        raise RecipeError(
            f"{spec.name}: sample {index}: the box {rows[crossed[0]].tolist()} ends before it begins: labels are"
            " [class, x1, y1, x2, y2], corners and not sizes"
        )
    return _Picture(boxes=rows[:, 1:], classes=rows[:, 0].astype(np.int64), scores=np.ones(len(rows)))


# --- what the model found ---------------------------------------------------------------------------------------------


def _pictures(spec: MetricSpec, answers: Answers, decode: Callable[..., Any] | None) -> tuple[list[_Picture], str]:
    """Every picture's detections, and the output that they were read from."""
    results: list[_Picture] = []
    reader = _decoded if decode is not None else _read
    source = spec.decode or ""
    names = None if decode is not None else _outputs(spec, answers)
    for number, (call, samples) in enumerate(zip(answers.calls, answers.samples, strict=True)):
        pictures = reader(spec, decode or names, call)
        if len(pictures) != samples:
            raise RecipeError(
                f"{spec.name}: call {number} holds {samples} pictures, and {spec.decode or 'its outputs'} gave {len(pictures)}"
            )
        results += pictures
    return results, source or ", ".join(names or ())


def _decoded(spec: MetricSpec, decode: Any, call: Any) -> list[_Picture]:
    """The result of the user's function for a call's outputs: for each picture its boxes, scores and classes."""
    try:
        returned = list(decode(dict(call)))
        return [_picture(one) for one in returned]
    except MlpackError:
        raise
    except Exception as error:  # whatever somebody's function raises or returns is said, with its words
        raise RecipeError(
            f"{spec.decode} must give, for each picture of a call, {_FORM}, as a dictionary or in this order:"
            f" {type(error).__name__}: {str(error)[:300]}"
        ) from error


def _picture(one: Any) -> _Picture:
    import numpy as np

    parts = [one[key] for key in ("boxes", "scores", "classes")] if isinstance(one, dict) else list(one)
    boxes, scores, classes = (np.asarray(part, dtype=np.float64) for part in parts)
    boxes, scores, classes = boxes.reshape(-1, 4), scores.reshape(-1), classes.reshape(-1)
    if not len(boxes) == len(scores) == len(classes):
        raise ValueError(f"{len(boxes)} boxes, {len(scores)} scores and {len(classes)} classes")
    mask = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    return _Picture(boxes=boxes[mask], scores=scores[mask], classes=classes[mask].astype(np.int64))


def _outputs(spec: MetricSpec, answers: Answers) -> tuple[str, ...]:
    """The outputs that hold boxes, scores and classes, in this order, by shape and name; or the one that holds rows of six."""
    import numpy as np

    first = {name: np.asarray(array) for name, array in answers.calls[0].items()}
    name = output_name(spec, answers)
    rows = [each for each, array in first.items() if array.dtype.kind == "f" and array.ndim in (2, 3) and array.shape[-1] == 6]
    if name is not None or (len(rows) == 1 and len(first) == 1):
        if (name or rows[0]) in rows:
            return (name or rows[0],)
        raise _unread(spec, answers)
    boxes = [each for each, array in first.items() if array.dtype.kind == "f" and array.ndim in (2, 3) and array.shape[-1] == 4]
    if len(boxes) != 1:
        raise _unread(spec, answers)
    beside = {each: array for each, array in first.items() if array.shape == first[boxes[0]].shape[:-1]}
    called = [each for each, array in beside.items() if array.dtype.kind in "iu" or re.search("class|label", each.lower())]
    scored = [each for each, array in beside.items() if array.dtype.kind == "f" and each not in called]
    if len(called) != 1 or len(scored) != 1:
        raise _unread(spec, answers)
    return (boxes[0], scored[0], called[0])


def _unread(spec: MetricSpec, answers: Answers) -> RecipeError:
    return RecipeError(
        f"{spec.name}: no outputs hold {_FORM}, or rows of [x1, y1, x2, y2, score, class] ({shown(answers)}): say how they are"
        " read, metric: {name: ..., decode: module:function}, a function from a call's outputs to those of each picture"
    )


def _read(_spec: MetricSpec, names: Any, call: Any) -> list[_Picture]:
    import numpy as np

    arrays = [np.asarray(call[name], dtype=np.float64) for name in names]
    if len(arrays) == 1:
        rows = arrays[0]
        arrays = [rows[..., :4], rows[..., 4], rows[..., 5]]
    if arrays[0].ndim == 2:
        arrays = [array[None] for array in arrays]
    return [_picture(parts) for parts in zip(*arrays, strict=True)]


# --- the sums ---------------------------------------------------------------------------------------------------------


def _matched(pictures: Sequence[_Picture], truth: Sequence[_Picture], each: int, limits: tuple[float, ...]) -> _Matches:
    import numpy as np

    picture, score, right = [], [], []
    for index, (ours, theirs) in enumerate(zip(pictures, truth, strict=True)):
        mine = np.flatnonzero(ours.classes == each)
        mine = mine[np.argsort(-ours.scores[mine], kind="stable")][:DETECTIONS_MOST]
        boxes = theirs.boxes[theirs.classes == each]
        picture.append(np.full(len(mine), index))
        score.append(ours.scores[mine])
        right.append(_greedy(_overlaps(ours.boxes[mine], boxes), limits))
    scores = np.concatenate(score)
    order = np.argsort(-scores, kind="stable")
    return _Matches(
        picture=np.concatenate(picture)[order],
        score=scores[order],
        right=np.concatenate(right, axis=1)[:, order],
        truths=np.asarray([int((theirs.classes == each).sum()) for theirs in truth]),
    )


def _overlaps(ours: Array, theirs: Array) -> Array:
    """Intersection over union of every detection with every box of the truth."""
    import numpy as np

    low = np.maximum(ours[:, None, :2], theirs[None, :, :2])
    high = np.minimum(ours[:, None, 2:], theirs[None, :, 2:])
    inside = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1) for boxes in (ours, theirs)]
    union = areas[0][:, None] + areas[1][None] - inside
    return np.asarray(np.where(union > 0, inside / np.where(union > 0, union, 1.0), 0.0))


def _greedy(overlaps: Array, limits: tuple[float, ...]) -> Array:
    """Whether each detection is right at each threshold: best first, each takes the free box that it covers best."""
    import numpy as np

    right = np.zeros((len(limits), len(overlaps)), dtype=bool)
    if not overlaps.size or overlaps.max() < min(limits):
        return right
    for place, limit in enumerate(limits):
        free = np.ones(overlaps.shape[1], dtype=bool)
        for row, line in enumerate(overlaps):
            open_ = np.where(free, line, -1.0)
            # Of equal ones the last counts, as in COCO's own code.
            best = len(open_) - 1 - int(np.argmax(open_[::-1])) if len(open_) else -1
            if best >= 0 and open_[best] >= min(limit, 1 - 1e-10):
                free[best] = False
                right[place, row] = True
    return right


def _average_precision(matched: _Matches, keep: Array) -> float | None:
    """The mean over the thresholds for one class over the pictures kept; None where they hold no box of it."""
    import numpy as np

    truths = int(matched.truths[keep].sum())
    if not truths:
        return None
    right = matched.right[:, keep[matched.picture]]
    if not right.shape[1]:
        return 0.0
    hits = np.cumsum(right, axis=1)
    recall = hits / truths
    precision = hits / np.arange(1, right.shape[1] + 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    points = np.linspace(0, 1, RECALL_POINTS)
    precisions = []
    for line, heights in zip(recall, precision, strict=True):
        places = np.searchsorted(line, points, side="left")
        precisions.append(np.where(places < len(heights), heights[np.minimum(places, len(heights) - 1)], 0.0).mean())
    return float(np.mean(precisions))
