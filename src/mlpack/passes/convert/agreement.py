"""Compares the graph's answers with the estimator's, row by row of the evaluation data, and names the rows that differ.

Promises:
- Labels are compared exactly, numbers relative to the largest value where that exceeds 1.
- Rows whose two best classes are nearer to each other than the tolerance are ties, which no rounding keeps: they are listed and
  are no error. Any other difference is one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlpack.core.records import Signature
from mlpack.errors import PassError
from mlpack.evaluation.data import reader
from mlpack.graphs import check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import onnx

    from mlpack.core.records import TensorSpec
    from mlpack.passes.convert.estimator import Estimator

_PIECE = 1000
_SHOWN = 10
_SCORES = ("predict_proba", "decision_function")


class EvaluationRows:
    """The evaluation data: every call, and all rows as one table if the first axis counts them."""

    def __init__(self, folder: Path, model_dir: Path, inputs: tuple[TensorSpec, ...]) -> None:
        import numpy as np

        calls = list(reader.read(folder, model_dir, Signature(inputs=inputs, outputs=())))
        self.whole = {spec.name: np.concatenate([call[spec.name] for call in calls]) for spec in inputs}
        lengths = {len(array) for array in self.whole.values()}
        if len(lengths) != 1:
            raise PassError(f"convert: the inputs have {sorted(lengths)} rows: a row of each is needed for every sample")
        (self.rows,) = lengths
        self._fixed = next((spec.shape[0] for spec in inputs if isinstance(spec.shape[0], int)), None)

    def pieces(self) -> Iterator[dict[str, Any]]:
        """One row, two, then many at a time, so that batches of several sizes are compared. Fixed batches stay."""
        at, sizes = 0, iter((1, 2))
        while at < self.rows:
            size = self._fixed or next(sizes, _PIECE)
            yield {name: array[at : at + size] for name, array in self.whole.items()}
            at += size


@dataclass(frozen=True)
class References:
    """The estimator's own answers, each computed once."""

    estimator: Estimator
    table: EvaluationRows

    @cached_property
    def answers(self) -> dict[str, Any]:
        """The answers by method, of the methods that work here; for several targets by method and target."""
        answers: dict[str, Any] = {}
        for method, ask in self.estimator.methods.items():
            try:
                answer = ask(self.table.whole)
            except PassError:
                if method == next(iter(self.estimator.methods)):
                    raise
                continue
            answers |= {f"{method}[{at}]": each for at, each in enumerate(answer)} if isinstance(answer, list) else {method: answer}
        return answers


@dataclass(slots=True)
class Agreement:
    """The result of a comparison. `ties`: rows whose label differs because two classes are equal in float32; `names`: new names of
    outputs whose names say something else; `turned`: outputs whose two columns are reversed."""

    rows: int
    difference: float = 0.0
    kept: tuple[str, ...] = ()
    dropped: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    turned: list[str] = field(default_factory=list)
    ties: list[int] = field(default_factory=list)


def compared(model: onnx.ModelProto, references: References, table: EvaluationRows, tolerance: float) -> Agreement:
    """Compare the graph's outputs with the estimator's methods. Raises PassError where an output that must agree differs."""
    outputs = _answers(model, table)
    comparison, answers = Agreement(rows=table.rows), dict(references.answers)
    first = next(iter(answers))
    covered: set[str] = set()
    names = []
    for name, got in outputs.items():
        gaps = {method: _gap(got, want) for method, want in answers.items()}
        if references.estimator.label and name == next(iter(outputs)):
            comparison.ties = _labels(name, got, answers, tolerance)
            covered.add(first)
            names.append(name)
            continue
        method = min(gaps, key=lambda each: gaps[each])
        if gaps[method] > tolerance:
            comparison.dropped[name] = f"is none of {', '.join(answers)}: nearest {method}, {gaps[method]:.1e} away"
            continue
        covered |= {each for each, gap in gaps.items() if gap <= tolerance}
        names.append(name)
        if _reversed(got, answers[method]):
            comparison.turned.append(name)
        if name == "probabilities" and not method.startswith("predict_proba"):
            comparison.names[name] = method  # converters call every score so
        comparison.difference = max(comparison.difference, gaps[method])
    must = {first} | (_scores_of(answers) if references.estimator.label else set())
    if lacking := sorted(must - covered):
        raise PassError(f"no output is {' or '.join(lacking)}: {_worst(outputs, answers, lacking[0], comparison.dropped)}")
    comparison.kept = tuple(names)
    return comparison


def _scores_of(answers: dict[str, Any]) -> set[str]:
    """The scores of a classifier beside its labels, which must agree as well: equal labels alone may be chance."""
    for method in _SCORES:
        if names := {name for name in answers if name.partition("[")[0] == method}:
            return names
    return set()


def _answers(model: onnx.ModelProto, table: EvaluationRows) -> dict[str, Any]:
    import numpy as np

    names = [value.name for value in model.graph.output]
    session = check.session_of(model.SerializeToString(), "ORT_DISABLE_ALL")
    pieces, lengths = [], []
    for piece in table.pieces():
        pieces.append(check.run(session, piece))
        lengths.append(len(next(iter(piece.values()))))
    for at, name in enumerate(names):
        shape = next(
            (array.shape for array, rows in zip((p[at] for p in pieces), lengths, strict=True) if array.shape[:1] != (rows,)), None
        )
        if shape is not None:
            raise PassError(
                f"output {name!r} of the graph has the shape {list(shape)} for {lengths[0]} rows, and not one answer a row"
            )
    return {name: np.concatenate([piece[at] for piece in pieces]) for at, name in enumerate(names)}


def _labels(name: str, got: Any, answers: dict[str, Any], tolerance: float) -> list[int]:
    """Rows that differ only because two classes are equal in float32. Raises PassError where any other label differs."""
    import numpy as np

    want = next(iter(answers.values()))
    mine, theirs = got.reshape(len(got), -1).astype(str), np.asarray(want).reshape(len(want), -1)
    if got.dtype.kind in "biuf" and theirs.dtype.kind in "biufb":
        mine, theirs = got.reshape(len(got), -1).astype(np.float64), theirs.astype(np.float64)
    else:
        theirs = theirs.astype(str)
    if mine.shape != theirs.shape:
        raise PassError(f"output {name!r} has {mine.shape[1]} labels a row, the estimator {theirs.shape[1]}")
    rows = np.flatnonzero((mine != theirs).any(axis=1))
    if not rows.size:
        return []
    margins = _margins(answers)
    clear = rows if margins is None else rows[margins[rows] > tolerance]
    if clear.size:
        examples = ", ".join(
            f"{row} ({mine[row].tolist()[0]} instead of {theirs[row].tolist()[0]})" for row in clear[:_SHOWN].tolist()
        )
        raise PassError(f"{clear.size} of {len(got)} labels differ from the estimator's, in rows {examples}")
    return [int(row) for row in rows]


def _margins(answers: dict[str, Any]) -> Any:
    """The distance between each row's best class and its second, None where the estimator has no scores."""
    import numpy as np

    for method in _SCORES:
        if method in answers and isinstance(answers[method], np.ndarray):
            scores = answers[method]
            if scores.ndim == 1 or scores.shape[1] == 1:
                return np.abs(scores.reshape(len(scores)))
            ordered = np.sort(scores, axis=1)
            return ordered[:, -1] - ordered[:, -2]
    return None


def _gap(got: Any, want: Any) -> float:
    """The largest difference, in the shape in which both agree best: a converter writes one column as [n, 1], or as two."""
    import numpy as np

    want = np.asarray(want)
    want = want.astype(np.int64) if want.dtype.kind == "b" else want
    if got.dtype.kind not in "biuf" or want.dtype.kind not in "biuf" or len(got) != len(want):
        return float("inf")
    flat = want.reshape(len(want), -1)
    forms = [flat]
    if flat.shape[1] == 1:
        forms += [np.hstack([-flat, flat]), np.hstack([1 - flat, flat]), np.hstack([flat, -flat])]
    ours = got.reshape(len(got), -1)
    return min((check.difference([ours], [form]) for form in forms if form.shape == ours.shape), default=float("inf"))


def _reversed(got: Any, want: Any) -> bool:
    """Whether two columns stand for one score with the first class first in value: the engine's SVMClassifier writes them so."""
    import numpy as np

    flat = np.asarray(want).reshape(len(got), -1).astype(np.float64)
    if got.reshape(len(got), -1).shape[1] != 2 or flat.shape[1] != 1:
        return False
    mine = got.reshape(len(got), -1).astype(np.float64)
    return bool(np.abs(mine - np.hstack([flat, -flat])).sum() < np.abs(mine - np.hstack([-flat, flat])).sum()) and not np.allclose(
        mine.sum(axis=1), 1.0
    )


def _worst(outputs: dict[str, Any], answers: dict[str, Any], method: str, dropped: dict[str, str]) -> str:
    """The rows in which the output that is nearest to a method differs most."""
    import numpy as np

    want = np.asarray(answers[method]).reshape(len(next(iter(answers.values()))), -1)
    fitting = [o.reshape(len(o), -1) for o in outputs.values() if o.dtype.kind == "f" and o.size == want.size]
    if not fitting or want.dtype.kind not in "biuf":
        return "; ".join(f"{name!r} {why}" for name, why in dropped.items()) or "the graph has no such output"
    gaps = np.abs(fitting[0].astype(np.float64) - want).max(axis=1)
    rows = np.argsort(-gaps)[:_SHOWN].tolist()
    return "the furthest rows: " + ", ".join(f"{row} (by {gaps[row]:.2e})" for row in rows)
