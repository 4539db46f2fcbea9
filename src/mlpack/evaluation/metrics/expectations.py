"""Checks, before anything is packed and measured, whether labels fit a model's outputs, by shapes and class numbers.

Promises:
- It refuses only what is certainly wrong. Where shapes leave a question open, it is answered after the model has run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mlpack.core.records import MetricSpec, TensorSpec
from mlpack.errors import RecipeError
from mlpack.evaluation.metrics import METRICS, unlabelled
from mlpack.evaluation.metrics.labelled import classes


def check(
    spec: MetricSpec, outputs: Sequence[TensorSpec], labels: Sequence[Any] | None, names: tuple[Any, ...] | None = ()
) -> None:
    """Raise RecipeError if the recipe's metric cannot be computed from these outputs and labels. `outputs`: empty where unknown,
    and without axes where only its name is known. `names`: the model's names of its classes; None: it has none, (): not known
    yet."""
    if spec.output is not None and outputs and spec.output not in {each.name for each in outputs}:
        raise RecipeError(f"metric.output: the model has no output {spec.output!r} ({_shown(outputs)})")
    if spec.name in METRICS and METRICS[spec.name].compares != "labels":
        return
    if labels is None:
        raise unlabelled(spec.name)
    candidates = [each for each in outputs if spec.output in (None, each.name)]
    if not all(each.shape for each in candidates):  # before its export only an output's name is known of some
        return
    checks = {"top1": _classes, "f1": _classes, "mae": _numbers, "rmse": _numbers, "mean_iou": _maps}
    checks |= {"multilabel_f1": _several, "multilabel_f1_micro": _several}
    if spec.name in checks and candidates and labels and (problem := checks[spec.name](spec, candidates, labels)):
        raise RecipeError(f"{spec.name}: {problem} ({_shown(outputs)})")
    if checks.get(spec.name) is _classes and candidates and labels:
        _check_values(spec, candidates, labels, names)


def _check_values(spec: MetricSpec, outputs: Sequence[TensorSpec], labels: Sequence[Any], names: tuple[Any, ...] | None) -> None:
    """Raise RecipeError for labels that are no classes of any output. An output that gives classes itself may number them
    otherwise, and so may the recipe."""
    depth = _depth(labels[0])
    columns = [each.shape[-1] for each in outputs if _real(each) and len(each.shape) == 2 + depth]
    if not columns or not all(map(_real, outputs)) or spec.classes is not None or spec.column is not None:
        return
    if depth and not all(isinstance(label, list) for label in labels):
        return
    ignored = str(classes.IGNORED if spec.ignore_index is None else spec.ignore_index)
    values = [one for label in labels for one in label if str(one) != ignored] if depth else list(labels)
    if names is not None and any(isinstance(label, str) for label in values):
        return
    widths = [2 if spec.threshold is not None else column for column in columns]
    most = max((width for width in widths if isinstance(width, int)), default=0)
    classes.check_numbers(spec.name, values, most if most > 1 and not any(isinstance(each, str) for each in widths) else None)


def _depth(label: Any) -> int:
    depth = 0
    while isinstance(label, list):
        depth, label = depth + 1, label[0] if label else None
    return depth


def _classes(spec: MetricSpec, outputs: Sequence[TensorSpec], labels: Sequence[Any]) -> str | None:
    depth = _depth(labels[0])
    if depth > 1:
        return "the labels are lists of lists: a class a sample is needed, or a list of one a token; for maps of classes: mean_iou"
    ranks = {len(each.shape) for each in outputs if _real(each)}
    whole = {len(each.shape) for each in outputs if not _real(each)}
    if depth == 1 and 3 not in ranks and 2 not in whole:
        more = "; for several classes at once: multilabel_f1" if 2 in ranks else ""
        return f"the labels are lists, one a token: no output has the axes [samples, tokens, classes]{more}"
    if depth == 0 and not whole and not ranks & ({1, 2} if spec.threshold is not None else {2}):
        return "the labels are a class a sample: no output has a row a sample and a column a class"
    return None


def _several(_spec: MetricSpec, outputs: Sequence[TensorSpec], labels: Sequence[Any]) -> str | None:
    if _depth(labels[0]) != 1:
        return "the labels are no lists, of 0 and 1 for each class or of the classes that a sample has; for one class a sample: f1"
    return None if any(len(each.shape) == 2 for each in outputs) else "no output has a row a sample and a column a class"


def _numbers(spec: MetricSpec, outputs: Sequence[TensorSpec], labels: Sequence[Any]) -> str | None:
    if isinstance(labels[0], str):
        return f"the labels are words (first: {labels[0]!r}), and errors of numbers are asked for"
    count = _count(labels[0])
    widths = [_width(each) for each in outputs if each.dtype not in ("string", "bool")]
    if not widths:
        return "no output holds numbers"
    if count is None or spec.column is not None or None in widths or count in widths:
        return None
    return f"a label has {count} number{'s' * (count != 1)}, and no output as many a sample"


def _maps(_spec: MetricSpec, outputs: Sequence[TensorSpec], labels: Sequence[Any]) -> str | None:
    if _depth(labels[0]) != 2:
        return "the labels are no maps [height, width] of class numbers"
    size = (len(labels[0]), len(labels[0][0]))
    fits = [each for each in outputs if len(each.shape) in (3, 4)]
    if not fits:
        return "no output has a class or scores for each place of a picture"
    if any(_may_be(each.shape[1:], size) for each in fits):
        return None
    return f"the labels are maps {list(size)}, and no output has a class or scores for each place of such a map"


def _may_be(shape: Sequence[int | str], size: tuple[int, int]) -> bool:
    forms = [shape] if len(shape) == 2 else [shape[1:], shape[:2]]
    return any(all(isinstance(a, str) or a == b for a, b in zip(form, size, strict=True)) for form in forms)


def _count(label: Any) -> int | None:
    """The number of values in a label; None where its lists have several lengths."""
    if not isinstance(label, list):
        return 1
    counts = {_count(one) for one in label}
    return len(label) * (counts.pop() or 0) if len(counts) == 1 and None not in counts else None


def _width(output: TensorSpec) -> int | None:
    """The number of values a sample; None where that varies."""
    axes = output.shape[1:]
    return None if any(isinstance(axis, str) for axis in axes) else math.prod(axis for axis in axes if isinstance(axis, int))


def _real(output: TensorSpec) -> bool:
    return output.dtype.startswith(("float", "bfloat"))


def _shown(outputs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{each.name} {each.dtype} [{', '.join(map(str, each.shape))}]" for each in outputs[:20])
