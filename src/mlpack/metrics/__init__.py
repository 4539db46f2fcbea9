"""How good a model's outputs are: the metrics, and the paired interval of a drop. Pure; numpy is loaded when something
is scored.

Promises: `METRICS` lists every metric with its direction and what it needs. A score keeps its per-sample values, so the
drop between two models is judged sample by sample on the same resamples (bootstrap, fixed seed: equal numbers
everywhere). Outputs that hold NaN are a `MeasureError`; labels that do not fit the outputs are a `RecipeError`. It runs
no model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.errors import MeasureError, RecipeError
from mlpack.metrics import scorers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Outputs = Sequence[Mapping[str, Array]]

RESAMPLES = 2_000
SEED = 20_260_101
JACKKNIFE_GROUPS = 20
_WEIGHTS_BYTES_MAX = 64 << 20
_T_19_TWO_SIDED_95 = 2.093
"""Student's t for 19 degrees of freedom: twenty jackknife groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A row of the table. `compares`: with the labels, or with the float baseline's outputs when there are none to
    need.

    `hook`: the user's own function, for `module:function`.
    """

    name: str
    doc: str
    compares: str = "labels"
    lower_is_better: bool = False
    hook: Callable[..., Any] | None = None


METRICS: dict[str, Metric] = {
    row.name: row
    for row in (
        Metric(name="top1", doc="share of samples whose largest output is the label (0 .. classes-1)"),
        Metric(name="f1", doc="macro F1: the mean over the classes of each one's F1, every class counting alike"),
        Metric(name="mae", doc="mean absolute error of the first output", lower_is_better=True),
        Metric(name="rmse", doc="root of the mean squared error of the first output", lower_is_better=True),
        Metric(
            name="cosine",
            doc="mean cosine similarity to the float baseline, over every output, the worst one counting",
            compares="baseline",
        ),
        Metric(
            name="agreement",
            doc="share of decisions (largest value along the last axis; for a single number, within 1 % of the baseline's"
            " range) equal to the float baseline's, over every output, the worst one counting",
            compares="baseline",
        ),
        Metric(
            name="recall_at_1",
            doc="each label stands on exactly two samples, first the query, then its answer: share of queries whose nearest"
            " answer by cosine is their own",
        ),
    )
}


_SCORERS = {
    "top1": scorers.top1,
    "f1": scorers.f1,
    "mae": scorers.errors,
    "rmse": scorers.errors,
    "recall_at_1": scorers.recall_at_1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """A metric's value, and what it is made of.

    `per_sample`: one row a sample (a query, for recall_at_1); None where the metric is the user's own and gives one
    number. `output`: the output it was computed on, empty for a user's metric. `without`: the value with some samples
    left out.
    """

    value: float
    per_sample: Array | None
    n: int
    output: str = ""
    without: Callable[[Array], float] | None = None


def find(name: str, load_hook: Callable[[str], Callable[..., Any]] | None = None) -> Metric:
    """The metric of this name. `module:function` is loaded by `load_hook`; its attribute `lower_is_better` says its
    direction.
    """
    if name in METRICS:
        return METRICS[name]
    if ":" in name and load_hook is not None:
        hook = load_hook(name)
        lower = bool(getattr(hook, "lower_is_better", False))
        return Metric(name=name, doc="the user's own", lower_is_better=lower, hook=hook)
    raise RecipeError(f"there is no metric {name!r} (known: {', '.join(METRICS)}, module:function)")


def evaluate(metric: Metric, outputs: Outputs, labels: Sequence[Any] | None, baseline_outputs: Outputs | None = None) -> Scores:
    """Scores one model's outputs, a mapping of names to arrays a call, in the order of the evaluation data.

    Labels stand in that order too, one a sample (the outputs' first axis). Raises RecipeError when labels are missing
    or do not fit, MeasureError when an output holds NaN where the baseline does not.
    """
    if not outputs:
        raise MeasureError("no outputs to score: the evaluation data holds no calls")
    if metric.compares == "baseline":
        return _against_baseline(metric, outputs, outputs if baseline_outputs is None else baseline_outputs)
    if labels is None:
        raise RecipeError(
            f"{metric.name} needs labels and the evaluation data has none: add an array named labels,"
            " or use cosine or agreement, which compare with the float baseline"
        )
    if metric.hook is not None:
        return _hooked(metric, metric.hook, outputs, labels)
    scorer = _SCORERS[metric.name]
    per_sample, output = scorer(metric.name, outputs, labels)
    return Scores(value=_reduced(metric, per_sample), per_sample=per_sample, n=len(per_sample), output=output)


def paired_drop(metric: Metric, baseline: Scores, candidate: Scores) -> tuple[float, float, float]:
    """How much worse the candidate is, and its 95 % interval; positive is worse whatever the metric's direction.

    Both are resampled together (2,000 times over samples), so what is hard for both cancels out. With no sample on
    which the two differ the interval has no width: n then bounds what was seen (3/n, roughly), and n stands beside it
    in every report. A user's metric that gives one number is judged by leaving out a twentieth of the samples at a time
    (grouped jackknife).
    """
    import numpy as np

    sign = -1.0 if metric.lower_is_better else 1.0
    drop = sign * float(baseline.value - candidate.value)
    if metric.compares == "baseline" and candidate.per_sample is not None:
        # The baseline agrees with itself everywhere, on whichever output is the candidate's worst.
        perfect = np.ones_like(candidate.per_sample)
        baseline = Scores(value=1.0, per_sample=perfect, n=candidate.n, output=candidate.output)
    if baseline.n != candidate.n:
        raise MeasureError(f"the baseline was scored on {baseline.n} samples and the candidate on {candidate.n}: not a pair")
    if baseline.per_sample is None or candidate.per_sample is None:
        return (drop, *_jackknife(sign, drop, baseline, candidate))
    if np.array_equal(baseline.per_sample, candidate.per_sample):
        return drop, drop, drop
    drops = [
        sign * (_weighted(metric, baseline, weights) - _weighted(metric, candidate, weights)) for weights in _resamples(candidate.n)
    ]
    low, high = np.percentile(np.concatenate(drops), [2.5, 97.5])
    return drop, float(low), float(high)


def _resamples(n: int) -> Iterator[Array]:
    """How often each of n samples stands in each resample, a block of rows at a time (bounded memory)."""
    import numpy as np

    random = np.random.Generator(np.random.PCG64(SEED))
    rows = max(1, min(RESAMPLES, _WEIGHTS_BYTES_MAX // (8 * n)))
    for start in range(0, RESAMPLES, rows):
        count = min(rows, RESAMPLES - start)
        drawn = random.integers(0, n, size=(count, n)) + n * np.arange(count)[:, None]
        yield np.bincount(drawn.reshape(-1), minlength=count * n).reshape(count, n).astype(np.float64)


def _weighted(metric: Metric, scores: Scores, weights: Array) -> Array:
    """The metric of every resample."""
    import numpy as np

    values = scores.per_sample
    assert values is not None
    if metric.name == "f1":
        truth, predicted = values[:, 0], values[:, 1]
        classes = np.unique(values)
        true = weights @ (truth[:, None] == classes).astype(np.float64)
        said = weights @ (predicted[:, None] == classes).astype(np.float64)
        both = weights @ ((truth[:, None] == classes) & (predicted[:, None] == classes)).astype(np.float64)
        present = (true + said) > 0
        f1 = np.where(present, 2 * both / np.where(present, true + said, 1.0), 0.0)
        return np.asarray(f1.sum(axis=1) / present.sum(axis=1))
    means = (weights @ values.astype(np.float64)) / weights.sum(axis=1)
    return np.asarray(np.sqrt(means) if metric.name == "rmse" else means)


def _reduced(metric: Metric, per_sample: Array) -> float:
    import numpy as np

    scores = Scores(value=0.0, per_sample=per_sample, n=len(per_sample))
    return float(_weighted(metric, scores, np.ones((1, len(per_sample))))[0])


def _against_baseline(metric: Metric, outputs: Outputs, baseline: Outputs) -> Scores:
    """The worst output's scores, a value a row."""
    import numpy as np

    if len(outputs) != len(baseline) or set(outputs[0]) != set(baseline[0]):
        raise MeasureError("the candidate and its baseline do not have the same calls and outputs, so they cannot be compared")
    score = scorers.cosines if metric.name == "cosine" else scorers.agreements
    worst: Scores | None = None
    for name in baseline[0]:
        pairs = [(np.atleast_1d(ours[name]), np.atleast_1d(theirs[name])) for ours, theirs in zip(outputs, baseline, strict=True)]
        for call, (ours, theirs) in enumerate(pairs):
            if ours.shape != theirs.shape:
                raise MeasureError(f"the output {name} has shape {ours.shape} in call {call}, its baseline {theirs.shape}")
            if ours.dtype.kind == "f" and bool((np.isnan(ours) & ~np.isnan(theirs)).any()):
                raise MeasureError(f"the output {name} holds NaN in call {call} where the float baseline does not")
        values = score(pairs)
        mean = float(values.mean())
        if worst is None or mean < worst.value:
            worst = Scores(value=mean, per_sample=values, n=len(values), output=name)
    assert worst is not None
    return worst


def _hooked(metric: Metric, hook: Callable[..., Any], outputs: Outputs, labels: Sequence[Any]) -> Scores:
    """The user's metric over all outputs joined: one number, or one a sample (whose mean is the value)."""
    import numpy as np

    joined = {name: scorers.joined(outputs, name) for name in outputs[0]}
    truth = np.asarray(labels)
    value = np.asarray(hook(dict(joined), truth), dtype=np.float64)
    if not np.isfinite(value).all():
        raise RecipeError(f"{metric.name} returned a number that is not finite")
    if value.ndim == 1 and len(value) == len(labels):
        return Scores(value=float(value.mean()), per_sample=value, n=len(value))
    if value.ndim != 0:
        raise RecipeError(f"{metric.name} must return one number, or one a sample ({len(labels)}), not shape {value.shape}")

    def without(keep: Array) -> float:
        part = {name: array[keep] if len(array) == len(truth) else array for name, array in joined.items()}
        return float(hook(part, truth[keep]))

    return Scores(value=float(value), per_sample=None, n=len(labels), without=without)


def _jackknife(sign: float, drop: float, baseline: Scores, candidate: Scores) -> tuple[float, float]:
    """The interval of a drop from leaving out one of twenty groups of samples at a time (every twentieth sample is a
    group).
    """
    import numpy as np

    if baseline.without is None or candidate.without is None or candidate.n < JACKKNIFE_GROUPS:
        return drop, drop
    places = np.arange(candidate.n) % JACKKNIFE_GROUPS
    left = [sign * (baseline.without(places != group) - candidate.without(places != group)) for group in range(JACKKNIFE_GROUPS)]
    spread = np.asarray(left) - np.mean(left)
    half = _T_19_TWO_SIDED_95 * math.sqrt((JACKKNIFE_GROUPS - 1) / JACKKNIFE_GROUPS * float(np.square(spread).sum()))
    return drop - half, drop + half
