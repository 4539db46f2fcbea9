"""The table of metrics and one way into each: how good a model's outputs are. numpy is imported when something is scored.

Promises:
- `METRICS` lists every metric with its direction, what it needs and which keys of a recipe it takes.
- A score keeps its parts, so that the drop between two models is computed on the same resamples (see `scores`).
- Outputs with NaN are a `MeasureError`; labels that do not fit the outputs are a `RecipeError`.

Will not: run a model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mlpack.core import stats
from mlpack.core.records import Accuracy, MetricSpec, Spread
from mlpack.errors import RecipeError
from mlpack.evaluation.metrics import answers, hooks, scores
from mlpack.evaluation.metrics.fidelity import against, channels
from mlpack.evaluation.metrics.labelled import classes, detection, regression, retrieval, segmentation, several
from mlpack.evaluation.metrics.scores import Scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Outputs = Sequence[Mapping[str, NDArray[Any]]]

__all__ = ["DEFAULT", "METRICS", "Drop", "Metric", "Scores", "evaluate", "find", "paired_drop"]

Load = Callable[[str], Callable[..., Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A row of the table. `compares`: with the labels, with the float baseline's outputs, or with labels where there are
    any and else with the baseline (`either`).

    `score`: what computes it, from the recipe's `MetricSpec`, the candidate's `Answers`, and then by `compares`: the labels
    and what the model calls its classes (`labels`); the baseline's `Answers` (`baseline`); the labels, the baseline's `Answers`
    where there are none, and the user's decode hook (`either`). `takes`: the keys of a recipe that mean something to it; `needs`:
    those without which it means nothing. `share`: whether it is a mean of what is between 0 and 1 a sample. `spec`, `hook`,
    `decode`: what a recipe says of it, and the user's own functions.
    """

    name: str
    doc: str
    score: Callable[..., Scores] | None = None
    compares: str = "labels"
    lower_is_better: bool = False
    takes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    share: bool = True
    spec: MetricSpec | None = None
    hook: Callable[..., Any] | None = None
    decode: Callable[..., Any] | None = None


DEFAULT = "fidelity"
"""The comparison for a recipe that names no metric."""
_CLASSES = ("output", "column", "threshold", "classes", "ignore_index")
_BOXES = ("output", "decode", "threshold")
_FOUND = (
    "share of queries with a relevant sample among the {k} nearest by cosine. Where each label stands on two samples, they are a"
    " query and its answer, and queries are searched among the answers. Else every sample is a query against all others, and those"
    " with its label are relevant"
)
METRICS: dict[str, Metric] = {
    row.name: row
    for row in (
        Metric(
            name="top1",
            score=classes.top1,
            doc="share of samples (of tokens, where labels are lists) whose predicted class is the label. The class is the largest"
            " column, a single column above `threshold`, or the class that the model itself gives",
            takes=_CLASSES,
        ),
        Metric(
            name="f1",
            score=classes.f1,
            doc="macro F1 of the classes that `top1` compares: the mean of the F1 of each class",
            takes=_CLASSES,
        ),
        Metric(
            name="multilabel_f1",
            score=several.macro,
            doc="macro F1 where a sample has several classes. Labels are rows of 0 and 1, or lists of classes. Each column of the"
            " output stands for a class, which is predicted above `threshold`",
            takes=("output", "threshold", "classes"),
        ),
        Metric(
            name="multilabel_f1_micro",
            score=several.micro,
            doc="micro F1 of the same classes: over the decisions of all columns together",
            takes=("output", "threshold", "classes"),
        ),
        Metric(
            name="mean_iou",
            score=segmentation.mean_iou,
            doc="mean over the classes of intersection over union, over all pictures, for segmentation. Labels: maps of classes"
            " [height, width] of the output's size; pixels of `ignore_index` (255) do not count",
            takes=("output", "threshold", "ignore_index"),
            share=False,
        ),
        Metric(
            name="mae",
            score=regression.mae,
            doc="mean absolute error of an output",
            lower_is_better=True,
            takes=("output", "column"),
            share=False,
        ),
        Metric(
            name="rmse",
            score=regression.rmse,
            doc="root of the mean squared error of an output",
            lower_is_better=True,
            takes=("output", "column"),
            share=False,
        ),
        Metric(
            name="fidelity",
            score=channels.fidelity,
            doc="1 minus the squared error against the float over the float's variance, of the worst channel of any output. 1: the"
            " same as the float; 0: no better than a constant",
            compares="baseline",
            takes=("output", "column"),
            share=False,
        ),
        Metric(
            name="cosine",
            score=against.cosine,
            doc="mean cosine similarity to the float baseline, of the worst output. For embeddings: it does not see small channels"
            " beside large ones",
            compares="baseline",
            takes=("output", "column"),
        ),
        Metric(
            name="agreement",
            score=against.agreement,
            doc="share of decisions that are the float baseline's, of the worst output. A decision is the largest value along the"
            " last axis; a single number agrees within 1 % of the baseline's range. For classifiers: it sees nothing but decisions",
            compares="baseline",
            takes=("output", "column"),
        ),
        Metric(name="recall_at_1", score=retrieval.recall, doc=_FOUND.format(k=1), takes=("output",)),
        Metric(name="recall_at_5", score=retrieval.recall, doc=_FOUND.format(k=5), takes=("output",)),
        Metric(name="recall_at_10", score=retrieval.recall, doc=_FOUND.format(k=10), takes=("output",)),
        Metric(name="recall_at_k", score=retrieval.recall, doc=_FOUND.format(k="`k`"), takes=("output", "k"), needs=("k",)),
        Metric(
            name="map_at_k",
            score=retrieval.mean_average_precision,
            doc="mean average precision over the `k` nearest: the mean, over a query's relevant samples (at most k), of the"
            " precision at the place of each",
            takes=("output", "k"),
            needs=("k",),
        ),
        Metric(
            name="map_50",
            score=detection.evaluate,
            doc="mean average precision of boxes, computed as COCO does; a box is right from an IoU of 0.5 (or `iou`) up. Labels:"
            " for each picture a list of [class, x1, y1, x2, y2]. Without labels: the float's own detections from `threshold` up",
            compares="either",
            takes=(*_BOXES, "iou"),
            share=False,
        ),
        Metric(
            name="map_50_95",
            score=detection.evaluate,
            doc="the same, averaged over IoUs of 0.5 to 0.95 in steps of 0.05",
            compares="either",
            takes=_BOXES,
            share=False,
        ),
    )
}


def find(metric_spec: str | MetricSpec, load: Load | None = None) -> Metric:
    """The metric that a recipe names. `module:function` is loaded by `load`, as is its decode hook; the function's
    attribute `lower_is_better` says its direction.
    """
    spec = MetricSpec(name=metric_spec) if isinstance(metric_spec, str) else metric_spec
    if spec.name in METRICS:
        decode = load(spec.decode) if spec.decode is not None and load is not None else None
        return dataclasses.replace(METRICS[spec.name], spec=spec, decode=decode)
    if ":" in spec.name and load is not None:
        hook = load(spec.name)
        lower = bool(getattr(hook, "lower_is_better", False))
        return Metric(name=spec.name, doc="the user's own", lower_is_better=lower, share=False, spec=spec, hook=hook)
    raise RecipeError(f"there is no metric {spec.name!r} (known: {', '.join(METRICS)}, module:function)")


def evaluate(
    metric: Metric,
    outputs: Outputs,
    labels: Sequence[Any] | None,
    baseline_outputs: Outputs | None = None,
    samples: Sequence[int] | None = None,
    names: tuple[Any, ...] | None = None,
) -> Scores:
    """Score one model's outputs, a mapping of names to arrays a call, in the order of the evaluation data.

    Labels are in that order too, one a sample; `samples`: the number in each call, by default the first axis of its first
    output; `names`: the model's names of its classes, by column. Raises RecipeError when labels are missing or do not fit,
    MeasureError when an output holds NaN where the baseline does not.
    """
    spec = metric.spec if metric.spec is not None else MetricSpec(name=metric.name)
    ours = answers.of(outputs, samples)
    theirs = ours if baseline_outputs is None else answers.of(baseline_outputs, samples)
    if metric.score is not None and metric.compares == "baseline":
        return metric.score(spec, ours, theirs)
    if metric.score is not None and metric.compares == "either":
        return metric.score(spec, ours, labels or (), theirs if labels is None else None, metric.decode)
    if labels is None:
        raise unlabelled(metric.name)
    if metric.hook is not None:
        return hooks.evaluate(spec, metric.hook, ours, labels)
    assert metric.score is not None  # a metric without a hook is a row of the table, and each has one
    return metric.score(spec, ours, labels, names)


def unlabelled(name: str) -> RecipeError:
    """The message for a metric that needs labels where there are none."""
    return RecipeError(
        f"{name} needs labels and the evaluation data has none: add an array named labels, or use fidelity, cosine or"
        " agreement, which compare with the float baseline"
    )


class Drop(NamedTuple):
    """How much worse a candidate is than its baseline (positive: worse), and the interval of that (`how`: see `scores.Range`)."""

    value: float
    low: float
    high: float
    how: str
    spread: Spread | None = None


def paired_drop(metric: Metric, baseline: Scores, candidate: Scores, confidence: float = stats.CONFIDENCE) -> Drop:
    """How much worse the candidate is, whatever the metric's direction, and the two-sided interval of that confidence.

    Both are resampled together, so samples that are hard for both cancel out. The baseline's own drop is 0, and certain. Where
    no sample differs, the interval of a metric that is a share still includes what other samples may lose.
    """
    import numpy as np

    if candidate is baseline:
        return Drop(value=0.0, low=0.0, high=0.0, how="none")
    sign = -1.0 if metric.lower_is_better else 1.0
    drop = sign * float(baseline.value - candidate.value)
    if metric.compares == "baseline" and candidate.per_sample is not None:
        # The baseline agrees with itself everywhere, on whichever output is the candidate's worst.
        perfect = np.ones(len(candidate.per_sample))
        alike = candidate.value == 1.0
        per_sample = perfect if alike else candidate.per_sample
        candidate = dataclasses.replace(candidate, per_sample=per_sample, reduce=None if alike else candidate.reduce)
        baseline = dataclasses.replace(candidate, value=1.0, per_sample=perfect, reduce=None)
    share = metric.share or (metric.hook is not None and all(map(_is_hit_or_miss, (baseline, candidate))))
    estimate = scores.spread(sign, drop, baseline, candidate, share=share)
    # No candidate is closer to the float than the float itself, and no sample is lost more than once.
    least = 0.0 if metric.compares == "baseline" else -1.0 if share else None
    estimate = dataclasses.replace(estimate, least=least, most=1.0 if metric.compares == "baseline" or share else None)
    interval = scores.read(estimate, drop, confidence)
    return Drop(value=drop, low=interval.low, high=interval.high, how=interval.how, spread=estimate)


def at(accuracy: Accuracy, confidence: float) -> Accuracy:
    """The same accuracy with its drop's interval at another confidence."""
    if accuracy.spread is None:
        return dataclasses.replace(accuracy, confidence=confidence)
    interval = scores.read(accuracy.spread, accuracy.drop, confidence)
    return dataclasses.replace(accuracy, confidence=confidence, ci_low=interval.low, ci_high=interval.high, interval=interval.how)


def _is_hit_or_miss(result: Scores) -> bool:
    """Whether every sample's score is 0 or 1, so that the user's own metric is a share."""
    import numpy as np

    return result.per_sample is not None and result.reduce is None and bool(np.isin(result.per_sample, (0, 1)).all())
