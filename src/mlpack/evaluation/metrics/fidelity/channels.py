"""Fidelity: how much of each channel of each output the candidate reproduces, on the channel's own scale. numpy is imported when
something is scored.

A channel's value is the coefficient of determination: 1 minus its squared error over its own variance, both taken over the
whole evaluation data. 1 is the float itself; 0 is a channel that might as well be constant. The worst channel counts. The data
tells channels from places: of the last axis and axis 1 (transposed layouts), the one along which scales differ more is judged
strictly, each index on its own scale. The indices of the other axis are places of one kind, judged on no smaller scale than a
share of their median.

Promises:
- Bounded memory: a call at a time, then one channel alone.
- A channel that is constant in the candidate and not in the float is worth 0, however small it is beside others (its error is
  its variance, or more).
- A channel that is constant in the float is judged by its own size.
- Whole numbers, booleans and strings are compared for equality.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.core.records import MetricSpec
from mlpack.errors import RecipeError
from mlpack.evaluation.metrics import scores
from mlpack.evaluation.metrics.answers import Answers
from mlpack.evaluation.metrics.fidelity import against

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Pairs = Sequence[against.Pair | None]

CONSTANT = 1e-5
"""A channel counts as constant if its spread is below this share of its own size: single precision computes no finer."""
SILENT = 1e-7
"""A channel also counts as constant if its spread is below this share of the whole output's."""
PLACE_SCALE = 0.05
"""The smallest scale of a place, as a share of the median place's."""
PLACES_LEAST = 1024
"""Indices of an axis from which it holds places (time, say) where there is another axis to choose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """One way to read an output: the scale of every channel along `axis` (None: there is one channel).

    `mean`, `wrong`: the mean of the float, and the mean squared error; `scale`: the value of 1; `fixed`: whether that is not the
    variance, because there is none or it is a place's and too small.
    """

    axis: int | None
    mean: Array
    wrong: Array
    spread: Array
    scale: Array
    fixed: Array

    @property
    def values(self) -> Array:
        import numpy as np

        return _values(self.wrong, np.where(self.fixed, self.scale, self.spread))


def fidelity(spec: MetricSpec, answers: Answers, baseline: Answers) -> scores.Scores:
    """The worst channel's scores."""
    import numpy as np

    # Squares beyond double precision are infinite, and count as an infinite error.
    with np.errstate(over="ignore", invalid="ignore"):
        return against.worst(spec, answers, baseline, lambda name, pairs: _of_output(spec, name, pairs, answers.samples))


def similarity_loss(pairs: Sequence[against.Pair]) -> float:
    """The loss of an output's worst channel: its error over its scale, 0 for equal outputs. It is not capped as the metric is: 2 is
    worse than 1. For types other than float, the share of values that differ."""
    import numpy as np

    compared = [pair for pair in pairs if pair[1].size]
    if not compared or compared[0][1].dtype.kind != "f":
        return max((float(np.mean(ours != theirs)) for ours, theirs in compared), default=0.0)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        layouts = _with_places([_layout(compared, axis) for axis in _axes(compared)])
        scales = [np.where(layout.fixed, layout.scale, layout.spread) for layout in layouts]
        shares = [np.where(layout.wrong == 0, 0.0, layout.wrong / scale) for layout, scale in zip(layouts, scales, strict=True)]
    worst = max(float(np.nan_to_num(share, nan=np.inf).max()) for share in shares)
    return worst if np.isfinite(worst) else float("inf")


def _of_output(spec: MetricSpec, name: str, pairs: Pairs, samples: tuple[int, ...]) -> scores.Scores:
    import numpy as np

    compared = [pair for pair in pairs if pair is not None and pair[1].size]
    if not compared or compared[0][1].dtype.kind != "f":
        shares = [
            np.zeros(n) if pair is None else against.a_sample(against.same(*pair), n)
            for pair, n in zip(pairs, samples, strict=True)
        ]
        return scores.of(np.concatenate(shares), output=name)
    axes = _axes(compared)
    if spec.column is not None:
        if axes[-1] is None or spec.column >= compared[0][1].shape[-1]:
            raise RecipeError(f"metric.column: the output {name} has no column {spec.column} in every call")
        axes = axes[-1:]
    layout, channel = _worst(_with_places([_layout(compared, axis) for axis in axes]), spec.column)
    return _scored(name, pairs, samples, layout, channel)


def _axes(pairs: Sequence[against.Pair]) -> list[int | None]:
    """The axes that may hold channels: axis 1 and the last, where every call has the same length."""
    shapes = [theirs.shape for _, theirs in pairs]
    rank = len(shapes[0])
    if any(len(shape) != rank for shape in shapes):
        return [None]
    candidates = [1] if rank == 2 else [1, rank - 1] if rank > 2 else []
    axes: list[int | None] = [axis for axis in candidates if len({shape[axis] for shape in shapes}) == 1]
    return axes or [None]


def _layout(pairs: Sequence[against.Pair], axis: int | None) -> _Layout:
    """The sums of every channel along an axis, over all calls; in two passes, so that means far from 0 cost no digits."""
    import numpy as np

    total: Any = 0.0
    count = 0
    for pair in pairs:
        theirs = _clean(pair)[1]
        total = total + _sums(theirs, axis)
        count += theirs.size // (1 if axis is None else theirs.shape[axis])
    mean = total / count
    wrong: Any = 0.0
    spread: Any = 0.0
    for pair in pairs:
        ours, theirs = _clean(pair)
        around = mean if axis is None else mean.reshape([-1 if each == axis else 1 for each in range(theirs.ndim)])
        wrong = wrong + _sums(np.square(ours - theirs), axis)
        spread = spread + _sums(np.square(theirs - around), axis)
    wrong, spread = wrong / count, spread / count
    size = spread + np.square(mean)
    constant = spread <= np.maximum(CONSTANT**2 * size, SILENT**2 * size.max())
    scale = np.where(constant, np.where(size > 0, size, size.max()), spread)
    return _Layout(axis=axis, mean=mean, wrong=wrong, spread=spread, scale=scale, fixed=constant)


def _with_places(layouts: list[_Layout]) -> list[_Layout]:
    """Of two layouts, the one whose scales differ less, or that is too long, is one of places: their scales have a floor."""
    import numpy as np

    if len(layouts) < 2:
        return layouts

    def uneven(layout: _Layout) -> tuple[bool, float]:
        logs = np.log(layout.spread[~layout.fixed]) if (~layout.fixed).any() else np.zeros(1)
        return len(layout.mean) < PLACES_LEAST, float(logs.std())

    strict = max(layouts, key=uneven)
    results = []
    for layout in layouts:
        if layout is not strict:
            floor = PLACE_SCALE**2 * float(np.median(layout.spread))
            small = layout.spread < floor
            scale = np.where(small, np.maximum(layout.scale, floor), layout.scale)
            layout = dataclasses.replace(layout, scale=scale, fixed=layout.fixed | small)
        results.append(layout)
    return results


def _worst(layouts: list[_Layout], column: int | None) -> tuple[_Layout, int]:
    """The layout and channel of the lowest value."""
    import numpy as np

    places = [int(np.argmin(layout.values)) if column is None else column for layout in layouts]
    best = min(range(len(layouts)), key=lambda index: float(layouts[index].values[places[index]]))
    return layouts[best], places[best]


def _scored(name: str, pairs: Pairs, samples: tuple[int, ...], layout: _Layout, channel: int) -> scores.Scores:
    """One channel's scores: a row a sample of error, sum, squares, count, and whether it could be compared at all."""
    import numpy as np

    axis, mean = layout.axis, float(layout.mean[channel])
    rows = []
    for pair, n in zip(pairs, samples, strict=True):
        if pair is None:
            rows.append(np.zeros((n, 5)))
            continue
        ours, theirs = _clean(pair)
        if axis is not None and theirs.size:
            ours, theirs = ours.take([channel], axis), theirs.take([channel], axis)
        whole = len(theirs) == n
        ours, theirs = (against.flat(each if whole else each[None]) for each in (ours, theirs - mean))
        error = np.square(ours - mean - theirs)
        sums = np.stack([each.sum(axis=1) for each in (error, theirs, np.square(theirs), np.ones_like(theirs))], axis=1)
        sums = sums if whole else np.repeat(sums / n, n, axis=0)
        rows.append(np.concatenate([sums, np.ones((n, 1))], axis=1))
    each = np.concatenate(rows)
    scale = float(layout.scale[channel]) if bool(layout.fixed[channel]) else None

    def reduce(weights: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            error, total, squares, count, compared = (weights @ each).T
        n = np.where(count > 0, count, 1.0)
        variance = np.maximum(squares / n - np.square(total / n), 0.0) if scale is None else np.full(len(n), scale)
        return np.asarray(_values(error / n, variance) * compared / weights.sum(axis=1))

    return scores.of(each, reduce, output=name, column=channel if axis is not None else None)


def _values(wrong: Array, scale: Array) -> Array:
    """1 minus the error over the scale, not below 0. Without any error it is 1 whatever the scale."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        agreement = np.where(wrong > 0, 1.0 - wrong / scale, 1.0)
    return np.asarray(np.clip(np.nan_to_num(agreement, nan=0.0, neginf=0.0), 0.0, 1.0))


def _sums(array: Array, axis: int | None) -> Array:
    """Sums over all axes but the channels'."""
    import numpy as np

    return np.atleast_1d(array.sum(axis=None if axis is None else tuple(each for each in range(array.ndim) if each != axis)))


def _clean(pair: against.Pair) -> tuple[Array, Array]:
    """Candidate and baseline in double precision. Where the baseline is not finite, the candidate is right if it is the same."""
    import numpy as np

    ours, theirs = (each.astype(np.float64) for each in pair)
    odd = ~np.isfinite(theirs)
    if odd.any():
        alike = odd & ((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)))
        ours, theirs = np.where(alike, 0.0, ours), np.where(odd, 0.0, theirs)
    return ours, theirs
